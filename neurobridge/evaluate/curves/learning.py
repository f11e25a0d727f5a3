"""Learning curves: held-out predictivity of transported responses as a function of the number of pairs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import integrate, stats

from neurobridge.assemblies import validate
from neurobridge.evaluate.curves.folds import N_PAIRS, CurveSettings, Unpaired
from neurobridge.evaluate.curves.journal import Journal, curve_header
from neurobridge.evaluate.curves.records import COUNT, METHOD, SEED, Record, curve_records, require_records
from neurobridge.evaluate.score.schema import make_score, score_attrs


def learning_curve(
    source: xr.DataArray,
    target: xr.DataArray,
    aligners: Mapping[str, Any],
    *,
    n_pairs: Sequence[int] = N_PAIRS,
    n_seeds: int = 5,
    held_out: float = 0.2,
    unpaired: Unpaired = "disjoint",
    stratify: str | None = None,
    ceiling: xr.DataArray | None = None,
    n_permutations: int = 200,
    seed: int = 0,
    known: Sequence[Record] = (),
    journal: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Score every method on the same pairs, the same pools and the same held-out stimuli, from few pairs to many.

    Each method is fitted on the pools and pairs of `draw_curve_fold`; the transported held-out source stimuli are correlated
    with the held-out target responses, neuroid by neuroid, median over neuroids (`correlate`). The area under the curve is over
    the logarithm of the number of pairs, divided by its range: the mean r of a curve that is read evenly on a logarithmic axis.

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies, dims ``(presentation, neuroid)``, one presentation a stimulus; the source is transported, the target
        predicted. Target stimuli with a missing value (NaN) train no aligner; held out, they count for the sites that have one.
    aligners : mapping of str to aligner
        Unfitted; anything with scikit-learn's ``get_params`` and ``set_params``, ``fit(source, target, pairs)`` and
        ``transform``. Each fit works on a clone, with its ``seed`` set if it has one.
    n_pairs : sequence of int
        Rising.
    n_seeds : int
        Independent draws of held-out stimuli, pairs and pools.
    held_out, unpaired, stratify
        As in `draw_curve_fold`.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid.
    n_permutations : int
        Size of the null of every score.
    seed : int
        First seed.
    known : sequence of dict
        Records of an earlier run with the same data and settings; they are not computed again. See `curve_records`.
    journal : path, optional
        File that keeps every record as it comes, a line of JSON each. A run that was interrupted goes on from it, and one with
        more numbers of pairs, seeds or methods computes these alone; other data or settings are refused.
    progress : bool
        Show a progress bar, on a terminal.

    Returns
    -------
    xarray.Dataset
        Score with the leading dims (aligner, n_pairs, seed): ``raw``, the median r; ``normalized``, the median of
        ``r |r| / reliability`` (NaN without a ceiling); ``null``, of r with shuffled stimuli; ``p_value``; ``ceiling`` (no dims),
        the root of the median reliability: the largest r in reach. `aggregate` gives ``null_mean`` and ``null_95`` on these dims.

        And ``seconds`` of fit and transport, and ``n_neuroids``. Over seeds (aligner, n_pairs): ``mean``, ``low`` and ``high``.
        Areas: ``auc`` (aligner, seed), ``auc_mean``, ``auc_low`` and ``auc_high`` (aligner). Bounds are 95 % t intervals over
        seeds, NaN with one seed; held-out sets of different seeds overlap, so they are of this dataset's stimuli, not of new
        ones.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimuli, or more pairs than training stimuli.
    ValueError
        No aligner, counts that do not rise, fewer than one seed, or a journal of another run.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import RidgeAligner
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import learning_curve
    >>> rng = np.random.default_rng(0)  # simulated: four sites that are linear in six features
    >>> features = rng.normal(size=(80, 6))
    >>> responses = features @ rng.normal(size=(6, 4)) + rng.normal(size=(80, 4))
    >>> source = make_assembly(features, presentation={"stimulus_id": range(80)}, neuroid={"neuroid_id": range(6)})
    >>> target = make_assembly(responses, presentation={"stimulus_id": range(80)}, neuroid={"neuroid_id": range(4)})
    >>> curve = learning_curve(
    ...     source, target, {"ridge": RidgeAligner()}, n_pairs=(5, 50), n_seeds=2, n_permutations=20, progress=False
    ... )
    >>> few, many = curve["mean"].sel(aligner="ridge").values
    >>> bool(few < many), curve["raw"].dims
    (True, ('aligner', 'n_pairs', 'seed'))
    """
    settings = CurveSettings(
        n_pairs=n_pairs,
        n_seeds=n_seeds,
        held_out=held_out,
        unpaired=unpaired,
        stratify=stratify,
        n_permutations=n_permutations,
        seed=seed,
    )
    require_records(known)
    kept = None
    if journal is not None:
        if not isinstance(journal, (str, os.PathLike)):
            raise ValueError(
                f"found journal={journal!r:.60}; expected a path, or None. Mend: e.g. journal='curve/records.jsonl'."
            )
        for role, space in (("source", source), ("target", target)):
            validate(space, role=role, allow_missing=True)
        kept = Journal(journal, curve_header(source, target, aligners, settings, ceiling))
        known = [*known, *kept.records]
    new = curve_records(source, target, aligners, settings, ceiling=ceiling, known=known, progress=progress)
    records = [*known, *new] if kept is None else [*known, *kept.keep_all(new)]
    return curve_dataset(records, list(aligners), settings, ceiling=ceiling, sources=(source, target))


def curve_dataset(
    records: Sequence[Record],
    methods: Sequence[str],
    settings: CurveSettings | Sequence[int],
    seeds: Sequence[int] | None = None,
    *,
    ceiling: xr.DataArray | None = None,
    sources: Sequence[xr.DataArray] = (),
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make the Score that `learning_curve` describes from records.

    Parameters
    ----------
    records : sequence of dict
        From `curve_records`, or read from the file that kept them. Records of version 0.1 hold no ``null``: it is NaN.
    methods : sequence of str
        Aligners that are wanted; records of others are left out.
    settings : CurveSettings
        Numbers of pairs and seeds that are wanted; records of others are left out. The numbers of pairs alone, with ``seeds``
        as the next argument, are deprecated.
    seeds : sequence of int, optional
        Deprecated: a part of `settings`.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid.
    sources : sequence of xarray.DataArray
        Assemblies whose digests go into the attributes.
    attrs : mapping, optional
        More attributes.

    Returns
    -------
    xarray.Dataset
        As `learning_curve`.

    Raises
    ------
    ValueError
        A method, number of pairs or seed has no record.

    Examples
    --------
    >>> from neurobridge.evaluate import CurveSettings, curve_dataset
    >>> numbers = {"normalized": None, "p_value": None, "seconds": 0.1, "n_neuroids": 3, "n_stimuli": 20, "null": []}
    >>> records = [  # simulated
    ...     {"aligner": "ridge", "n_pairs": n, "seed": seed, "raw": 0.1 * n + 0.01 * seed, **numbers}
    ...     for n in (2, 4) for seed in (0, 1)
    ... ]
    >>> curve = curve_dataset(records, ["ridge"], CurveSettings(n_pairs=(2, 4), n_seeds=2))
    >>> curve["mean"].values.round(3).tolist(), round(float(curve["auc_mean"].item()), 3)
    ([[0.205, 0.405]], 0.305)
    """
    if not isinstance(settings, CurveSettings):
        warnings.warn(
            "curve_dataset: found numbers of pairs and seeds; expected CurveSettings. "
            "Mend: curve_dataset(records, methods, CurveSettings(n_pairs=..., n_seeds=..., seed=...)).",
            DeprecationWarning,
            stacklevel=2,
        )
        n_pairs, wanted_seeds = tuple(settings), list(seeds or ())
        settings = CurveSettings(n_pairs=n_pairs, n_seeds=len(wanted_seeds), seed=min(wanted_seeds, default=0))
    else:
        n_pairs, wanted_seeds = tuple(settings.n_pairs), list(settings.seeds)
    lacking = {
        field for record in records for field in (METHOD, COUNT, SEED, "raw", "n_stimuli") if field not in record
    }
    if lacking:
        raise ValueError(
            f"found records without {sorted(lacking)}; expected those of curve_records. "
            "Mend: records = list(curve_records(source, target, aligners, settings))."
        )
    table = {(r[METHOD], r[COUNT], r[SEED]): r for r in records}
    wanted = [(m, n, s) for m in methods for n in n_pairs for s in wanted_seeds]
    missing = [key for key in wanted if key not in table]
    if missing:
        raise ValueError(
            f"found no record of {len(missing)} cells, e.g. (aligner, n_pairs, seed) = {missing[0]}; expected all. "
            "Mend: run curve_records to the end with known=records."
        )
    shape, dims = (len(methods), len(n_pairs), len(wanted_seeds)), (METHOD, COUNT, SEED)

    def cube(name: str) -> np.ndarray:
        return np.array([table[key].get(name) for key in wanted], dtype=np.float64).reshape(shape)

    nulls = [table[key].get("null", ()) for key in wanted]
    null = np.full((len(wanted), max(map(len, nulls))), np.nan)
    for row, values in zip(null, nulls, strict=True):
        row[: len(values)] = values
    raw = cube("raw")
    auc = area_under_curve(n_pairs, raw.transpose(0, 2, 1))
    extra: dict[str, Any] = {name: (dims, cube(name)) for name in ("seconds", "n_neuroids")}
    for prefix, array, kept in (("", raw, (METHOD, COUNT)), ("auc_", auc, (METHOD,))):
        mean, half = array.mean(axis=-1), interval(array)
        extra |= {
            f"{prefix}mean": (kept, mean),
            f"{prefix}low": (kept, mean - half),
            f"{prefix}high": (kept, mean + half),
        }
    extra["auc"] = ((METHOD, SEED), auc)
    reliability = np.nan if ceiling is None else float(np.median(ceiling.values))
    stimuli = sorted({int(table[key]["n_stimuli"]) for key in wanted})
    facts = {
        "metric": "bridge predictivity, pearson",
        "splits": f"{len(wanted_seeds)} draws, {settings.held_out:.0%} held out",
        "unpaired": settings.unpaired,
        "n_stimuli": stimuli[0] if len(stimuli) == 1 else stimuli,
        **(attrs or {}),
    }
    return make_score(
        raw,
        dims,
        null=null.reshape(*shape, -1) if null.size else np.empty((*shape, 0)),
        ceiling=np.sqrt(reliability) if reliability > 0 else np.nan,
        normalized=cube("normalized"),
        # Version 0.1 wrote p = 1 where nothing was permuted.
        p_values=cube("p_value") if settings.n_permutations else np.full(shape, np.nan),
        normalization="squared_ratio",
        extra=extra,
        coords={METHOD: list(methods), COUNT: list(n_pairs), SEED: wanted_seeds},
        attrs=score_attrs(facts, len(wanted_seeds), settings.n_permutations, settings.seed, sources),
    )


def area_under_curve(n_pairs: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Average curves over log n_pairs, by the trapezoidal rule.

    Parameters
    ----------
    n_pairs : sequence of int, rising, length k
    values : array of shape (..., k)

    Returns
    -------
    array of shape (...)
        In the units of the values: a constant curve's area is its value. With one number of pairs, that value.
    """
    if len(n_pairs) == 1:
        return values[..., 0]
    log_n = np.log(np.asarray(n_pairs, dtype=np.float64))
    return np.asarray(integrate.trapezoid(values, log_n, axis=-1) / (log_n[-1] - log_n[0]))


def interval(values: np.ndarray) -> np.ndarray:
    """Return the half width of the 95 % t interval of the mean over the last axis; NaN with one value."""
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(stats.t.ppf(0.975, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n))
