"""Bridge predictivity: held-out prediction by what was transported, as a function of the number of pairs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy import integrate, stats
from sklearn.base import clone
from tqdm.auto import tqdm

from neurobridge.assemblies import (
    AssemblyError,
    Pairs,
    drop_constant,
    match_stimuli,
    require_varying_neuroids,
    validate,
)
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.correlation import correlate, score_attrs
from neurobridge.evaluate.splits import shuffle_splits, stratified_splits

N_PAIRS = (5, 10, 20, 50, 100, 200, 500)
# Not "method": a dimension of that name could not be selected by it.
METHOD, COUNT, SEED = "aligner", "n_pairs", "seed"
Unpaired = Literal["disjoint", "shared", "none"]
Record = dict[str, Any]
_VALUES = ("raw", "normalized", "null_mean", "null_95", "p_value", "seconds", "n_neuroids")


class CurveFold(NamedTuple):
    """One draw: both pools that an aligner is fitted on, the pairs, and the held-out stimuli of both spaces."""

    source_train: xr.DataArray
    target_train: xr.DataArray
    source_test: xr.DataArray
    target_test: xr.DataArray
    pairs: Pairs


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
        Assemblies, dims ``(presentation, neuroid)``, one presentation a stimulus.
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
    """
    if unpaired not in ("disjoint", "shared", "none"):
        raise ValueError(
            f"found unpaired={unpaired!r}; expected 'disjoint', 'shared' or 'none'. Mend: choose one of them."
        )
    if not 0 < held_out < 1:
        raise ValueError(f"found held_out={held_out}; expected a share in (0, 1). Mend: e.g. 0.2.")
    matched = match_stimuli(source, target)
    n_shared = matched.source.sizes[PRESENTATION]
    options: dict[str, Any] = {"n_splits": 1, "train_size": 1 - held_out, "seed": seed}
    if stratify is None:
        ((train, test),) = shuffle_splits(n_shared, **options)
    else:
        ((train, test),) = stratified_splits(matched.source[stratify].values, **options)
    if not 2 <= n_pairs <= len(train):
        raise AssemblyError(
            f"found a request for {n_pairs} pairs; expected 2 to {len(train)}, the training stimuli of {n_shared} shared ones. "
            "Mend: ask for fewer, or hold out a smaller share."
        )
    order = np.random.default_rng([seed, 2]).permutation(train)
    paired, rest = order[:n_pairs], order[n_pairs:]
    deal = {"disjoint": (rest[0::2], rest[1::2]), "shared": (rest, rest), "none": (rest[:0], rest[:0])}[unpaired]
    ids = matched.source[STIMULUS_ID].values
    alone: list[Any] = [[], []] if unpaired == "none" else [matched.dropped_source, matched.dropped_target]
    pools = [
        # Of no common dtype: an id of one space alone may be longer than any of the source.
        _rows(space, [*ids[np.sort(np.concatenate([paired, extra]))], *lone])
        for space, extra, lone in zip((source, target), deal, alone, strict=True)
    ]
    pairs = Pairs(ids[paired], ids[paired])
    return CurveFold(pools[0], pools[1], _rows(source, ids[test]), _rows(target, ids[test]), pairs)


def _rows(space: xr.DataArray, ids: Iterable[Any]) -> xr.DataArray:
    place = {stimulus: row for row, stimulus in enumerate(space[STIMULUS_ID].values)}
    return space.isel({PRESENTATION: [place[stimulus] for stimulus in ids]})


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
    progress: bool = True,
) -> xr.Dataset:
    """Score every method on the same pairs, the same pools and the same held-out stimuli, from few pairs to many.

    Each method is fitted on the pools and pairs of `draw_curve_fold`; what it makes of the held-out source stimuli is
    correlated with the held-out target responses, neuroid by neuroid, median over neuroids (`correlate`). The area under the
    curve is over the logarithm of the number of pairs, divided by its range: the mean r of a curve that is read evenly on a
    logarithmic axis.

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies, dims ``(presentation, neuroid)``, one presentation a stimulus; the source is transported, the target
        predicted.
    aligners : mapping of str to aligner
        Unfitted; anything with scikit-learn's ``get_params`` and ``set_params``, ``fit(source, target, pairs)`` and
        ``transform``. Each fit works on a clone, with its ``seed`` set if it has one.
    n_pairs : sequence of int
        Rising.
    n_seeds : int
        Independent draws of held-out stimuli, pairs and pools.
    held_out, unpaired, stratify : see `draw_curve_fold`
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid.
    n_permutations : int
        Size of the null of every score.
    seed : int
        First seed.
    known : sequence of dict
        Records of an earlier run with the same data and settings; they are not computed again. See `curve_records`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims (aligner, n_pairs, seed): ``raw``, the median r; ``normalized``, the median of ``r |r| / reliability`` (NaN without
        a ceiling); ``null_mean`` and ``null_95``, mean and 95 % quantile of r with shuffled stimuli; ``p_value``; ``seconds``
        of fit and transport; ``n_neuroids``. Over seeds (aligner, n_pairs): ``mean``, ``low`` and ``high``. Areas: ``auc``
        (aligner, seed), ``auc_mean``, ``auc_low`` and ``auc_high`` (aligner). Bounds are 95 % t intervals over seeds, NaN with
        one seed; held-out sets of different seeds overlap, so they are of this dataset's stimuli, not of new ones. ``ceiling``,
        the root of the median reliability: the largest r in reach.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimuli, or more pairs than training stimuli.
    ValueError
        No aligner, counts that do not rise, fewer than one seed.
    """
    records = [
        *known,
        *curve_records(
            source, target, aligners, n_pairs=n_pairs, n_seeds=n_seeds, held_out=held_out, unpaired=unpaired, stratify=stratify,
            ceiling=ceiling, n_permutations=n_permutations, seed=seed, known=known, progress=progress,
        ),
    ]  # fmt: skip
    seeds = range(seed, seed + n_seeds)
    attrs = {
        "metric": "bridge predictivity, pearson",
        "splits": f"{n_seeds} draws, {held_out:.0%} held out",
        "unpaired": unpaired,
    }
    return curve_dataset(
        records, list(aligners), n_pairs, list(seeds), ceiling=ceiling,
        attrs=score_attrs(attrs, n_seeds, n_permutations, seed, (source, target)),
    )  # fmt: skip


def curve_records(
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
    progress: bool = True,
) -> Iterator[Record]:
    """Yield one plain record a method, number of pairs and seed as it is computed, to be kept and gone on from.

    Parameters
    ----------
    source, target, aligners, n_pairs, n_seeds, held_out, unpaired, stratify, ceiling, n_permutations, seed, known, progress
        As in `learning_curve`, which makes a Dataset of the records; cells with a record in ``known`` are passed over.

    Yields
    ------
    dict
        ``aligner``, ``n_pairs`` and ``seed``, which name the cell; ``raw``, ``normalized``, ``null_mean``, ``null_95``,
        ``p_value`` and ``seconds`` as there, None where undefined; ``n_stimuli`` held out; ``n_neuroids`` scored. Plain numbers:
        it can be written as JSON.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimuli, or more pairs than training stimuli.
    ValueError
        No aligner, counts that do not rise, fewer than one seed.
    """
    counts = _checked(source, target, aligners, n_pairs, n_seeds)
    done = {(r[METHOD], r[COUNT], r[SEED]) for r in known}
    cells = [
        (method, count, s) for s in range(seed, seed + n_seeds) for count in counts for method in aligners
        if (method, count, s) not in done
    ]  # fmt: skip
    fold, drawn = None, None
    for method, count, s in tqdm(cells, desc="learning curve", disable=not progress):
        if fold is None or drawn != (count, s):
            fold, drawn = (
                draw_curve_fold(source, target, count, seed=s, held_out=held_out, unpaired=unpaired, stratify=stratify),
                (count, s),
            )
            fold = _varying(fold)
        aligner = clone(aligners[method])
        if "seed" in aligner.get_params():
            aligner.set_params(seed=s)
        started = time.perf_counter()
        moved = aligner.fit(fold.source_train, fold.target_train, fold.pairs).transform(fold.source_test)
        seconds = time.perf_counter() - started
        row = _score(moved, fold, ceiling, n_permutations, s)
        yield {METHOD: method, COUNT: count, SEED: s, "seconds": seconds, **row}


def _checked(
    source: xr.DataArray, target: xr.DataArray, aligners: Mapping[str, Any], n_pairs: Sequence[int], n_seeds: int
) -> list[int]:
    for role, space in (("source", source), ("target", target)):
        validate(space, role=role)
        require_varying_neuroids(space, role=role)
    counts = [int(n) for n in n_pairs]
    if not aligners or n_seeds < 1 or not counts or any(b <= a for a, b in pairwise(counts)):
        raise ValueError(
            f"found {len(aligners)} aligner(s), n_seeds={n_seeds}, n_pairs={counts}; expected at least one of each, and numbers of "
            "pairs that rise. Mend: e.g. {'ridge': RidgeAligner()}, n_pairs=(5, 50, 500)."
        )
    return counts


def _varying(fold: CurveFold) -> CurveFold:
    """Leave out neuroids that happen to be constant in a pool: no aligner can scale them."""
    pools = []
    for train, test in ((fold.source_train, fold.source_test), (fold.target_train, fold.target_test)):
        kept = drop_constant(train)
        pools.append((kept, test.isel({NEUROID: np.isin(test[NEUROID_ID].values, kept[NEUROID_ID].values)})))
    return CurveFold(pools[0][0], pools[1][0], pools[0][1], pools[1][1], fold.pairs)


def _score(
    moved: xr.DataArray, fold: CurveFold, ceiling: xr.DataArray | None, n_permutations: int, seed: int
) -> Record:
    truth = drop_constant(fold.target_test)
    ids = truth[NEUROID_ID].values
    score = correlate(
        moved.isel({NEUROID: np.isin(moved[NEUROID_ID].values, ids)}),
        truth,
        ceiling=None if ceiling is None else ceiling.isel({NEUROID: np.isin(ceiling[NEUROID_ID].values, ids)}),
        n_permutations=n_permutations,
        seed=seed,
    )
    null, normalised = score["null"].values, score["normalized"].values
    return {
        "raw": float(np.median(score["raw"].values)),
        "normalized": float(np.nanmedian(normalised)) if np.isfinite(normalised).any() else None,
        "null_mean": float(null.mean()) if null.size else None,
        "null_95": float(np.quantile(null, 0.95)) if null.size else None,
        "p_value": float(score["p_value"]),
        "n_stimuli": int(score.attrs["n_stimuli"]),
        "n_neuroids": len(ids),
    }


def curve_dataset(
    records: Sequence[Record],
    methods: Sequence[str],
    n_pairs: Sequence[int],
    seeds: Sequence[int],
    *,
    ceiling: xr.DataArray | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make the Dataset that `learning_curve` describes from records.

    Parameters
    ----------
    records : sequence of dict
        From `curve_records`, or read from where they were kept.
    methods : sequence of str
    n_pairs, seeds : sequence of int
        Cells that are wanted; records of others are left out.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid.
    attrs : mapping, optional
        Of the Dataset.

    Returns
    -------
    xarray.Dataset
        As `learning_curve`.

    Raises
    ------
    ValueError
        A method, number of pairs or seed has no record.
    """
    table = {(r[METHOD], r[COUNT], r[SEED]): r for r in records}
    wanted = [(m, n, s) for m in methods for n in n_pairs for s in seeds]
    missing = [key for key in wanted if key not in table]
    if missing:
        raise ValueError(
            f"found no record of {len(missing)} cells, e.g. (aligner, n_pairs, seed) = {missing[0]}; expected all. "
            "Mend: run curve_records to the end with known=records."
        )

    def cube(name: str) -> np.ndarray:
        cells = [[[table[m, n, s].get(name) for s in seeds] for n in n_pairs] for m in methods]
        return np.array(cells, dtype=np.float64)

    values = {name: cube(name) for name in _VALUES}
    auc = area_under_curve(n_pairs, values["raw"].transpose(0, 2, 1))
    data: dict[str, Any] = {name: ((METHOD, COUNT, SEED), array) for name, array in values.items()}
    for name, array, dims in (("", values["raw"], (METHOD, COUNT)), ("auc_", auc, (METHOD,))):
        mean, half = array.mean(axis=-1), interval(array)
        data |= {f"{name}mean": (dims, mean), f"{name}low": (dims, mean - half), f"{name}high": (dims, mean + half)}
    data["auc"] = ((METHOD, SEED), auc)
    reliability = np.nan if ceiling is None else float(np.median(ceiling.values))
    data["ceiling"] = np.sqrt(reliability) if reliability > 0 else np.nan
    coords = {METHOD: list(methods), COUNT: list(n_pairs), SEED: list(seeds)}
    stimuli = sorted({int(table[key]["n_stimuli"]) for key in wanted})
    return xr.Dataset(
        data, coords=coords, attrs={**(attrs or {}), "n_stimuli": stimuli[0] if len(stimuli) == 1 else stimuli}
    )


def area_under_curve(n_pairs: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Mean of curves over log n_pairs, by the trapezoidal rule.

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
    place = np.log(np.asarray(n_pairs, dtype=np.float64))
    return np.asarray(integrate.trapezoid(values, place, axis=-1) / (place[-1] - place[0]))


def interval(values: np.ndarray) -> np.ndarray:
    """Half width of the 95 % t interval of the mean over the last axis; NaN with one value."""
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(stats.t.ppf(0.975, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n))
