"""Settings and draws of a learning curve: held-out stimuli, pairs, and pools without leakage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, Pairs, match_stimuli, missing_values
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.splits import shuffle_splits, stratified_splits
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.options import is_choice, require_count, require_seed

N_PAIRS = (5, 10, 20, 50, 100, 200, 500)
Unpaired = Literal["disjoint", "shared", "none"]


@dataclass(frozen=True, kw_only=True)
class CurveSettings:
    """Settings of a learning curve, shared by `learning_curve`, `curve_records` and `curve_dataset`.

    Attributes
    ----------
    n_pairs : sequence of int
        Numbers of pairs, rising.
    n_seeds : int
        Independent draws of held-out stimuli, pairs and pools.
    held_out : float
        Share of the shared stimuli that is held out, in (0, 1).
    unpaired : {"disjoint", "shared", "none"}
        Pools of the training stimuli that are not pairs; see `draw_curve_fold`.
    stratify : str, optional
        Presentation coordinate of the source whose classes are held out in proportion.
    n_permutations : int
        Size of the null of every score.
    seed : int
        First seed.

    Raises
    ------
    ValueError
        Numbers that are not whole or too small, numbers of pairs that do not rise, an unknown ``unpaired``, or a ``stratify``
        that is no name.

    Examples
    --------
    >>> from neurobridge.evaluate import CurveSettings
    >>> settings = CurveSettings(n_pairs=(10, 20), n_seeds=3, seed=5)
    >>> list(settings.seeds)
    [5, 6, 7]
    """

    n_pairs: Sequence[int] = N_PAIRS
    n_seeds: int = 5
    held_out: float = 0.2
    unpaired: Unpaired = "disjoint"
    stratify: str | None = None
    n_permutations: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        given = self.n_pairs if isinstance(self.n_pairs, Iterable) else (self.n_pairs,)
        counts = tuple(require_count(n, name="n_pairs") for n in given)
        require_count(self.n_permutations, name="n_permutations", at_least=0)
        require_seed(self.seed)
        if not isinstance(self.held_out, Real) or not 0 < self.held_out < 1:
            raise ValueError(
                f"found held_out={self.held_out!r:.40}; expected a share in (0, 1). Mend: e.g. held_out=0.2."
            )
        if not counts or any(b <= a for a, b in pairwise(counts)) or not self._has_seeds():
            raise ValueError(
                f"found n_seeds={self.n_seeds}, n_pairs={list(counts)}; expected at least one seed and numbers of pairs that rise. "
                "Mend: e.g. n_seeds=5, n_pairs=(5, 50, 500)."
            )
        _check_unpaired(self.unpaired)
        if not isinstance(self.stratify, str | None):
            raise ValueError(
                f"found stratify={self.stratify!r:.40}; expected the name of a coordinate, or None. "
                "Mend: e.g. stratify='object_name'."
            )
        object.__setattr__(self, "n_pairs", counts)

    def _has_seeds(self) -> bool:
        return isinstance(self.n_seeds, Integral) and int(self.n_seeds) >= 1

    @property
    def seeds(self) -> range:
        """Return the seeds of the draws."""
        return range(self.seed, self.seed + self.n_seeds)


def _check_unpaired(unpaired: Any) -> None:
    if not is_choice(unpaired, get_args(Unpaired)):
        raise ValueError(
            f"found unpaired={unpaired!r:.40}; expected 'disjoint', 'shared' or 'none'. Mend: choose one of them."
        )


class CurveFold(NamedTuple):
    """Draw of a learning curve.

    Attributes
    ----------
    source_train, target_train : xarray.DataArray
        Pools that an aligner is fitted on, dims ``(presentation, neuroid)``.
    source_test, target_test : xarray.DataArray
        Held-out stimuli of both spaces, in the same order.
    pairs : Pairs
        Known pairs among the pools.

    Examples
    --------
    See `draw_curve_fold`.
    """

    source_train: xr.DataArray
    target_train: xr.DataArray
    source_test: xr.DataArray
    target_test: xr.DataArray
    pairs: Pairs

    def __repr__(self) -> str:
        return short_repr("CurveFold", **self._facts())

    def _repr_html_(self) -> str:
        return html_repr("CurveFold", self._facts())

    def _facts(self) -> dict[str, int]:
        return {
            "n_pairs": len(self.pairs),
            "n_source_train": self.source_train.sizes[PRESENTATION],
            "n_target_train": self.target_train.sizes[PRESENTATION],
            "n_test": self.source_test.sizes[PRESENTATION],
        }


def draw_curve_fold(
    source: xr.DataArray,
    target: xr.DataArray,
    n_pairs: int,
    *,
    seed: int,
    held_out: float = 0.2,
    unpaired: Unpaired = "disjoint",
    stratify: str | None = None,
) -> CurveFold:
    """Hold out a share of the shared stimuli, pair some of the others, and deal the rest to the two spaces.

    With one seed the held-out stimuli are the same for every ``n_pairs``, and fewer pairs are among more pairs. Stimuli that
    only one space has are in its pool (unless ``unpaired="none"``).

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies, dims ``(presentation, neuroid)``, one presentation a stimulus. Stimuli that miss a value (NaN) of any target
        site are in no pool, for aligners need a value of every site; held out, they keep the values that they have.
    n_pairs : int
    seed : int
    held_out : float
        Share of the shared stimuli, in (0, 1).
    unpaired : {"disjoint", "shared", "none"}
        Training stimuli that are not pairs: each in one pool only, so that none can be matched with itself; in both pools,
        without saying that they are the same; or in neither.
    stratify : str, optional
        Presentation coordinate of the source whose classes are held out in proportion.

    Returns
    -------
    CurveFold
        Both pools, the pairs among them, and the held-out stimuli of both spaces in the same order.

    Raises
    ------
    AssemblyError
        More pairs are asked for than there are training stimuli, or fewer than two; nothing is shared.
    ValueError
        An unknown ``unpaired``, or a held-out share outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import draw_curve_fold
    >>> values = np.random.default_rng(0).normal(size=(50, 3))  # simulated: both spaces are the same here
    >>> space = make_assembly(values, presentation={"stimulus_id": range(50)}, neuroid={"neuroid_id": range(3)})
    >>> draw_curve_fold(space, space, 10, seed=0)
    CurveFold(n_pairs=10, n_source_train=25, n_target_train=25, n_test=10)
    """
    _check_unpaired(unpaired)
    if not 0 < held_out < 1:
        raise ValueError(f"found held_out={held_out}; expected a share in (0, 1). Mend: e.g. 0.2.")
    matched = match_stimuli(source, target)
    n_shared = matched.source.sizes[PRESENTATION]
    options: dict[str, Any] = {"n_splits": 1, "train_size": 1 - held_out, "seed": seed}
    if stratify is not None and stratify not in matched.source.coords:
        raise AssemblyError(
            f"found stratify={stratify!r} and a source with {sorted(map(str, matched.source.coords))}; expected one of its "
            "coordinates, on presentation. Mend: name one of them, or leave stratify out."
        )
    if stratify is None:
        ((train, test),) = shuffle_splits(n_shared, **options)
    else:
        ((train, test),) = stratified_splits(matched.source[stratify].values, **options)
    incomplete = missing_values(target).any(axis=1)
    n_incomplete = 0
    if incomplete.any():
        lacking = np.isin(matched.target[STIMULUS_ID].values[train], target[STIMULUS_ID].values[incomplete])
        train, n_incomplete = train[~lacking], int(lacking.sum())
    if not 2 <= n_pairs <= len(train):
        raise AssemblyError(
            f"found a request for {n_pairs} pairs; expected 2 to {len(train)}, the training stimuli of {n_shared} shared ones"
            f"{_incomplete_mend(n_incomplete)}Mend: ask for fewer, or hold out a smaller share."
        )
    order = np.random.default_rng([seed, 2]).permutation(train)
    paired, rest = order[:n_pairs], order[n_pairs:]
    deal = {"disjoint": (rest[0::2], rest[1::2]), "shared": (rest, rest), "none": (rest[:0], rest[:0])}[unpaired]
    ids = matched.source[STIMULUS_ID].values
    unshared: list[Any] = (
        [[], []]
        if unpaired == "none"
        else [
            matched.dropped_source,
            matched.dropped_target[~np.isin(matched.dropped_target, target[STIMULUS_ID].values[incomplete])],
        ]
    )
    pools = [
        # A list, not an array of one dtype: an id of one space alone may be longer than any of the source.
        _rows(space, [*ids[np.sort(np.concatenate([paired, extra]))], *only_here])
        for space, extra, only_here in zip((source, target), deal, unshared, strict=True)
    ]
    pairs = Pairs(ids[paired], ids[paired])
    return CurveFold(pools[0], pools[1], _rows(source, ids[test]), _rows(target, ids[test]), pairs)


def _incomplete_mend(n_incomplete: int) -> str:
    if not n_incomplete:
        return ". "
    return (
        f" ({n_incomplete} more miss a value of a target site). Where few sites miss many, "
        "target = neurobridge.assemblies.drop_incomplete(target, presentations=False) leaves these sites out. "
    )


def _rows(space: xr.DataArray, ids: Iterable[Any]) -> xr.DataArray:
    row_of = {stimulus: row for row, stimulus in enumerate(space[STIMULUS_ID].values)}
    return space.isel({PRESENTATION: [row_of[stimulus] for stimulus in ids]})
