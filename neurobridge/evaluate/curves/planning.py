"""Planning of an experiment: the number of shared stimuli that a wanted score needs, from a pilot."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.aligners import BridgeAligner
from neurobridge.assemblies import AssemblyError, match_stimuli
from neurobridge.assemblies.schema import PRESENTATION
from neurobridge.evaluate.curves.extrapolation import PowerLaws, fit_power_laws, resampled_means, weights_of
from neurobridge.evaluate.curves.folds import Unpaired
from neurobridge.evaluate.curves.learning import learning_curve
from neurobridge.evaluate.curves.records import COUNT, METHOD, SEED
from neurobridge.points.display import Displayed
from neurobridge.points.options import require_count

# Numbers of pairs of a pilot: as many, evenly spaced on a logarithmic axis, from the least to all training stimuli.
_N_COUNTS, _FEWEST = 7, 6
# A power law has three parameters.
_FEWEST_COUNTS, _FEWEST_DRAWS = 4, 3
#: Share of the plateau that is planned for where no score is given.
SHARE_OF_PLATEAU = 0.9


@dataclass(frozen=True, eq=False, repr=False)
class PairsPlan(Displayed):
    """Number of pairs that a score needs, extrapolated from the learning curve of a pilot.

    Attributes
    ----------
    score : float
        Wanted score: median r over sites on held-out stimuli.
    n_pairs, low, high : float
        Number of pairs and the bounds of its interval; infinite where the curve stays below the score.
    level : float
        Of the interval.
    plateau, plateau_low, plateau_high : float
        Score with unlimited pairs.
    n_largest : int
        Largest number of pairs of the pilot.
    n_draws : int
        Draws of the pilot.
    curve : xarray.Dataset
        The pilot's learning curve, of one aligner.
    fitted, resampled : PowerLaws
        Curve of the mean over draws, and curves of the bootstrap.

    Examples
    --------
    See `plan_pairs`.
    """

    score: float
    n_pairs: float
    low: float
    high: float
    level: float
    plateau: float
    plateau_low: float
    plateau_high: float
    n_largest: int
    n_draws: int
    curve: xr.Dataset
    fitted: PowerLaws
    resampled: PowerLaws

    def predict(self, n_pairs: int | Sequence[int] | npt.NDArray[np.integer[Any]]) -> xr.Dataset:
        """Return the score that is expected with other numbers of pairs.

        Parameters
        ----------
        n_pairs : int or sequence of int

        Returns
        -------
        xarray.Dataset
            ``mean``, ``low`` and ``high`` on the dimension ``n_pairs``; the bounds are of the expected score, not of one draw.

        Raises
        ------
        ValueError
            A number of pairs is below two.
        """
        counts = [require_count(n, name="n_pairs", at_least=2) for n in np.atleast_1d(np.asarray(n_pairs)).tolist()]
        low, high = _bounds(self.resampled.at(np.array(counts)), self.level)
        values = {"mean": self.fitted.at(np.array(counts))[0], "low": low, "high": high}
        return xr.Dataset({name: (COUNT, each) for name, each in values.items()}, coords={COUNT: counts})

    def summary(self) -> str:
        """Return the plan in sentences.

        Examples
        --------
        See `plan_pairs`.
        """
        reached = self.score <= float(self.curve["mean"].max())
        how = "The pilot reaches it" if reached else "The pilot does not reach it"
        far = self.n_pairs / self.n_largest
        extrapolated = (
            "; by this curve no number of pairs does"
            if math.isinf(self.n_pairs)
            else f"; {far:.1f} times as many pairs as it had"
            if far > 1
            else ""
        )
        return (
            f"For a score of {self.score:.3f}: {_shown(self.n_pairs)} pairs ({self.level:.0%} interval {_shown(self.low)} to "
            f"{_shown(self.high)}). {how} with {self.n_largest}{extrapolated}. With unlimited pairs: {self.plateau:.3f} "
            f"({self.plateau_low:.3f} to {self.plateau_high:.3f}). {self.n_draws} draws."
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "score": self.score,
            "n_pairs": _rounded(self.n_pairs),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "plateau": self.plateau,
            "n_largest": self.n_largest,
            "n_draws": self.n_draws,
        }


def plan_pairs(
    recordings: xr.DataArray,
    model: xr.DataArray,
    score: float | None = None,
    *,
    aligner: Any = None,
    n_pairs: Sequence[int] | None = None,
    n_seeds: int = 10,
    held_out: float = 0.2,
    unpaired: Unpaired = "disjoint",
    stratify: str | None = None,
    ceiling: xr.DataArray | None = None,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
    journal: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> PairsPlan:
    r"""Estimate from a pilot how many shared stimuli a wanted score needs.

    1. The learning curve of the pilot is computed (`learning_curve`): the model is transported, the recordings are predicted.
    2. A power law is fitted to the means over draws, weighted by one over their variance (Hestness et al. 2017, arXiv 1712.00409;
       Viering & Loog 2022, IEEE TPAMI 45:7799):

           score(P) = a - b P^(-c),   a <= 1 or the ceiling,   b >= 0.

    3. The number of pairs is that at which the curve reaches the score.
    4. Whole draws are resampled and fitted again; their deviations are widened, as all draws share the pilot's stimuli (Nadeau
       & Bengio 2003). The interval holds the error of the pilot, not that of the power law.

    The pilot says nothing of another animal or another kind of stimuli. On six real sets, intervals of 95 % for the score held the
    truth in 83 % of plans at two times the pilot's largest number of pairs, 80 % at four and 70 % at eight times (on
    recordings of V4 and IT in 87, 90 and 87 %): curves that flatten faster than a power law are foretold too high.

    Parameters
    ----------
    recordings : xarray.DataArray
        Pilot responses, dims ``(presentation, neuroid)``, averaged over repetitions. To plan for the opposite direction, exchange
        the first two arguments.
    model : xarray.DataArray
        Activations of the same stimuli, joined on ``stimulus_id``.
    score : float, optional
        Wanted median r over sites, on held-out stimuli. Default: nine tenths of the plateau.
    aligner : aligner, optional
        Unfitted. Default: ``BridgeAligner()``; ``RidgeAligner()`` is a hundred times as fast.
    n_pairs : sequence of int, optional
        Numbers of pairs of the pilot, at least four, rising. Default: seven, evenly spaced in their logarithm, up to all
        training stimuli.
    n_seeds : int
        Draws, at least three.
    held_out, unpaired, stratify, ceiling, journal, progress
        As in `learning_curve`. The ceiling bounds the plateau by the root of the median reliability.
    level : float
        Of the intervals, in (0, 1).
    n_bootstrap : int
        Resampled curves.
    seed : int
        First seed.

    Returns
    -------
    PairsPlan

    Raises
    ------
    AssemblyError
        Bad assemblies, or fewer shared stimuli than a pilot needs.
    ValueError
        Fewer than three draws or four numbers of pairs, or a score, level or number that is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> rng = np.random.default_rng(0)  # simulated: four noisy sites that are linear in ten features
    >>> features = rng.normal(size=(200, 10))
    >>> responses = features @ rng.normal(size=(10, 4)) + 3 * rng.normal(size=(200, 4))
    >>> model = nb.make_assembly(features, presentation={"stimulus_id": range(200)}, neuroid={"neuroid_id": range(10)})
    >>> pilot = nb.make_assembly(responses, presentation={"stimulus_id": range(200)}, neuroid={"neuroid_id": range(4)})
    >>> plan = nb.plan_pairs(pilot, model, 0.6, aligner=nb.aligners.RidgeAligner(), progress=False)
    >>> plan.low < plan.n_pairs < plan.high
    True
    >>> plan.predict([100, 400])["mean"].dims
    ('n_pairs',)
    """
    counts = _pilot_counts(recordings, model, held_out) if n_pairs is None else n_pairs
    curve = learning_curve(
        model,
        recordings,
        {"planned": BridgeAligner() if aligner is None else aligner},
        n_pairs=counts,
        n_seeds=n_seeds,
        held_out=held_out,
        unpaired=unpaired,
        stratify=stratify,
        ceiling=ceiling,
        n_permutations=0,
        seed=seed,
        journal=journal,
        progress=progress,
    )
    return plan_from_curve(curve, score, held_out=held_out, level=level, n_bootstrap=n_bootstrap, seed=seed)


def plan_from_curve(
    curve: xr.Dataset,
    score: float | None = None,
    *,
    aligner: str | None = None,
    held_out: float = 0.2,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> PairsPlan:
    """Extrapolate a learning curve that is at hand; `plan_pairs` computes one and does the same.

    Parameters
    ----------
    curve : xarray.Dataset
        Of `learning_curve`, with at least four numbers of pairs and three draws.
    score : float, optional
        Wanted median r. Default: nine tenths of the plateau.
    aligner : str, optional
        Which of the curve's aligners; needed where there are several.
    held_out : float
        Share of the stimuli that the curve held out.
    level, n_bootstrap, seed
        As in `plan_pairs`.

    Returns
    -------
    PairsPlan

    Raises
    ------
    ValueError
        As `plan_pairs`; or the curve has several aligners and none is named, or not the named one, or a score that is NaN.

    Examples
    --------
    Of a curve that follows the law, with a little noise (simulated):

    >>> import numpy as np
    >>> from neurobridge.evaluate import CurveSettings, curve_dataset, plan_from_curve
    >>> rng, counts = np.random.default_rng(0), (10, 20, 40, 80)
    >>> records = [
    ...     {"aligner": "ridge", "n_pairs": n, "seed": k, "raw": 0.8 - n**-0.5 + 0.01 * rng.normal(), "n_stimuli": 25}
    ...     for n in counts for k in range(8)
    ... ]
    >>> curve = curve_dataset(records, ["ridge"], CurveSettings(n_pairs=counts, n_seeds=8))
    >>> plan = plan_from_curve(curve, 0.75)
    >>> plan.low < 400 < plan.high
    True
    """
    name = _one_aligner(curve, aligner)
    chosen = curve.sel({METHOD: name})
    draws = np.asarray(chosen["raw"].transpose(SEED, COUNT).values, dtype=np.float64)
    counts = np.asarray(chosen[COUNT].values)
    _check(draws, counts, score, held_out, level)
    require_count(n_bootstrap, name="n_bootstrap", at_least=100)
    bound = float(curve["ceiling"]) if "ceiling" in curve else math.nan
    most = bound if 0 < bound <= 1 else 1.0
    weights = weights_of(draws)
    fitted = fit_power_laws(counts, draws.mean(axis=0)[None], weights, most=most)
    means = resampled_means(draws, n_bootstrap=n_bootstrap, overlap=held_out / (1 - held_out), seed=seed)
    resampled = fit_power_laws(counts, means, weights, most=most)
    plateau_low, plateau_high = _bounds(resampled.plateau, level)
    wanted = SHARE_OF_PLATEAU * float(fitted.plateau[0]) if score is None else float(score)
    # A share of the plateau is of each curve's own plateau.
    of_each = SHARE_OF_PLATEAU * resampled.plateau if score is None else wanted
    low, high = _bounds(np.maximum(resampled.pairs_for(of_each), 2.0), level)
    return PairsPlan(
        score=wanted,
        n_pairs=max(float(fitted.pairs_for(wanted)[0]), 2.0),
        low=float(low),
        high=float(high),
        level=float(level),
        plateau=float(fitted.plateau[0]),
        plateau_low=float(plateau_low),
        plateau_high=float(plateau_high),
        n_largest=int(counts[-1]),
        n_draws=len(draws),
        curve=curve.isel({METHOD: [curve[METHOD].values.tolist().index(name)]}),
        fitted=fitted,
        resampled=resampled,
    )


def _pilot_counts(recordings: xr.DataArray, model: xr.DataArray, held_out: float) -> list[int]:
    """Return numbers of pairs from a few to all training stimuli."""
    n_shared = match_stimuli(model, recordings).source.sizes[PRESENTATION]
    largest = int(n_shared * (1 - held_out)) if isinstance(held_out, Real) and 0 < held_out < 1 else 0
    counts = sorted({round(n) for n in np.geomspace(_FEWEST, max(largest, _FEWEST), _N_COUNTS)})
    if len(counts) < _FEWEST_COUNTS:
        raise AssemblyError(
            f"found {n_shared} shared stimuli, of which {held_out!r} are held out; expected a pilot with at least "
            f"{_FEWEST_COUNTS} numbers of pairs from {_FEWEST} on. Mend: record more stimuli, or give n_pairs=(2, 4, 6, 8)."
        )
    return counts


def _one_aligner(curve: xr.Dataset, aligner: str | None) -> str:
    if not isinstance(curve, xr.Dataset) or not {METHOD, COUNT, SEED} <= set(curve.dims) or "raw" not in curve:
        raise ValueError(
            f"found {curve!r:.60}; expected the Dataset of learning_curve. Mend: "
            "plan_from_curve(nb.learning_curve(source, target, aligners))."
        )
    names = [str(name) for name in curve[METHOD].values]
    if aligner is None and len(names) == 1:
        return names[0]
    if aligner not in names:
        raise ValueError(
            f"found aligner={aligner!r}; expected one of {names}. Mend: plan_from_curve(curve, aligner={names[0]!r})."
        )
    return str(aligner)


def _check(draws: np.ndarray, counts: np.ndarray, score: Any, held_out: Any, level: Any) -> None:
    if len(counts) < _FEWEST_COUNTS or len(draws) < _FEWEST_DRAWS:
        raise ValueError(
            f"found {len(counts)} numbers of pairs and {len(draws)} draws; expected at least {_FEWEST_COUNTS} and "
            f"{_FEWEST_DRAWS}, for a curve of three parameters and its interval. Mend: n_pairs=(10, 20, 40, 80), n_seeds=10."
        )
    if not np.isfinite(draws).all():
        raise ValueError(
            f"found {int((~np.isfinite(draws)).sum())} of {draws.size} scores that are not finite; expected a number for every "
            "draw. Mend: hold out more stimuli, or leave constant sites out with drop_constant(recordings)."
        )
    for name, value, least in (("held_out", held_out, 0), ("level", level, 0), ("score", score, -1)):
        if name == "score" and value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool) or not least < float(value) < 1:
            raise ValueError(f"found {name}={value!r:.40}; expected a number in ({least}, 1). Mend: e.g. {name}=0.5.")


def _bounds(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both quantiles over the first axis; values may be infinite, so that nothing is interpolated."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return np.asarray(low), np.asarray(high)


def _rounded(number: float) -> float | int:
    return number if math.isinf(number) else math.ceil(number)


def _shown(number: float) -> str:
    return "unlimited" if math.isinf(number) else f"{math.ceil(number):,}" if number < 1e7 else f"{number:.1e}"
