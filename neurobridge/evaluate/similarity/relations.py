"""How much two spaces agree before or after alignment, each measure beside what strangers would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurobridge.assemblies import AssemblyError, Pairs, as_matrix, match_stimuli, validate
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.scores import p_value, score_attrs
from neurobridge.evaluate.similarity.arrays import Scorer, cka_scorer
from neurobridge.evaluate.similarity.distribution import sliced_wasserstein
from neurobridge.evaluate.similarity.rdms import DISTANCES, rdm_scorer
from neurobridge.evaluate.splits import shuffle_splits

MEASURES = ("mutual_neighbours", "cka", "calibration", "sliced_wasserstein")


def overlap(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    k: int = 10,
    aligner: Any = None,
    n_permutations: int = 200,
    n_alignments: int = 20,
    n_projections: int = 200,
    seed: int = 0,
    memory_limit: float = 2e9,
) -> xr.Dataset:
    """Measure the overlap of two spaces on the stimuli they share.

    - ``mutual_neighbours``: mean share of a stimulus's k nearest neighbours (cosine distance, centred) that are the same in
      both spaces; by chance k / (n - 1). Huh, Cheung, Wang & Isola 2024 (arXiv 2405.07987).
    - ``cka``: linear centred kernel alignment, without bias (Song et al. 2012; Kornblith et al. 2019); 0 for strangers.
    - ``calibration``: Spearman correlation, over all pairs of stimuli, of their Euclidean distances in the two spaces: whether
      distances to anchors, which the bridge cost adds up, order things alike. With the shared stimuli as anchors it is the
      number that `neurobridge.bridge.diagnose` gives.
    - ``sliced_wasserstein``: sliced Wasserstein-2 distance between held-out target responses and what an alignment fitted on
      the other half of the stimuli makes of the held-out source, every neuroid in units of its standard deviation: smaller is
      more overlap, a map that says the mean scores about 1. It compares clouds, not stimuli: it sees whether transported points
      lie where target points lie, not whether each is in its place.

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies, dims ``(presentation, neuroid)``, one presentation a stimulus; the shared stimuli are used.
    k : int
        Neighbours, below the number of shared stimuli less one.
    aligner : aligner, optional
        Unfitted, with ``fit(source, target, pairs)`` and ``transform``; used for ``sliced_wasserstein`` only. Default: ridge
        regression.
    n_permutations : int
        Null of the first three: stimuli of the target shuffled.
    n_alignments : int
        Null of the last: the alignment fitted on shuffled pairs, so many times.
    n_projections : int
        Directions of ``sliced_wasserstein``.
    seed : int
    memory_limit : float
        Bytes of the n x n distances, and of what `cka_scorer` needs, above which it refuses.

    Returns
    -------
    xarray.Dataset
        On (measure): ``raw``; ``null_mean`` and ``null_sd``; ``null_bound``, the 95 % quantile of the null, or the 5 % quantile
        where smaller is more overlap; ``p_value``; ``effect``, raw less null mean in standard deviations of the null, positive
        for more overlap. ``floor``, the sliced Wasserstein distance between the target's own halves: what sampling alone
        leaves.

    Raises
    ------
    AssemblyError
        Bad assemblies, nothing shared, k out of range, fewer than eight shared stimuli.
    ValueError
        A space without variance, or whose distances are all equal.
    MemoryError
        More stimuli than ``memory_limit`` allows.
    """
    for role, space in (("source", source), ("target", target)):
        validate(space, role=role)
    matched = match_stimuli(source, target)
    n = matched.source.sizes[PRESENTATION]
    if n < 8 or not 1 <= k < n - 1:
        raise AssemblyError(
            f"found {n} shared stimuli and k={k}; expected at least 8, and 1 to n - 2 neighbours. "
            "Mend: more stimuli, or a smaller k."
        )
    needed = 6 * 8.0 * n * n
    if needed > memory_limit:
        raise MemoryError(
            f"found {n} shared stimuli, whose distances need {needed / 1e9:.2f} GB; expected at most {memory_limit / 1e9:.2f} GB. "
            "Mend: draw some of the stimuli, or raise memory_limit."
        )
    X, Y = as_matrix(matched.source, role="source"), as_matrix(matched.target, role="target")
    scorers: dict[str, Callable[[np.ndarray], float]] = {
        "mutual_neighbours": neighbour_scorer(X, Y, k),
        "cka": cka_scorer(X, Y, memory_limit=memory_limit),
        "calibration": calibration_scorer(X, Y),
    }
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(n_permutations)]
    observed, nulls = {}, {}
    for name, score in scorers.items():
        observed[name] = score(np.arange(n))
        nulls[name] = np.array([score(order) for order in orders])
    clouds = _Aligned(matched.source, matched.target, aligner, n_projections, seed)
    last = "sliced_wasserstein"
    observed[last] = clouds.distance(None)
    nulls[last] = np.array([clouds.distance(rng) for _ in range(n_alignments)])
    columns = [_beside(observed[name], nulls[name], smaller=name == last) for name in MEASURES]
    attrs = {"metric": "overlap", "splits": "half of the stimuli for alignment", "n_stimuli": n, "k": k,
             "n_alignments": n_alignments, "aligner": "ridge" if aligner is None else type(aligner).__name__}  # fmt: skip
    return xr.Dataset(
        {
            **{key: ("measure", np.array([column[key] for column in columns])) for key in columns[0]},
            "floor": clouds.floor(),
        },
        coords={"measure": list(MEASURES)},
        attrs=score_attrs(attrs, 1, n_permutations, seed, (source, target)),
    )


def _beside(observed: float, null: np.ndarray, *, smaller: bool) -> dict[str, float]:
    """A value beside its null; ``smaller`` where a small value is more overlap."""
    sign, known = (-1.0 if smaller else 1.0), null.size > 1
    sd = float(null.std(ddof=1)) if known else np.nan
    return {
        "raw": observed,
        "null_mean": float(null.mean()) if null.size else np.nan,
        "null_sd": sd,
        "null_bound": float(np.quantile(null, 0.05 if smaller else 0.95)) if null.size else np.nan,
        "p_value": p_value(sign * observed, sign * null),
        "effect": sign * (observed - float(null.mean())) / sd if known and sd > 0 else np.nan,
    }


def neighbour_scorer(X: np.ndarray, Y: np.ndarray, k: int) -> Callable[[np.ndarray], float]:
    """Mean share of common k nearest neighbours, as a function of the order of Y's rows.

    Parameters
    ----------
    X : array of shape (n, d)
    Y : array of shape (n, e)
    k : int

    Returns
    -------
    callable
        ``score(order)``, in [0, 1].
    """
    left, right = _neighbours(X, k), _neighbours(Y, k)

    def score(order: np.ndarray) -> float:
        # Neighbours of the reordered cloud: rows and names both move.
        return float((left & right[np.ix_(order, order)]).sum() / (k * len(left)))

    return score


def _neighbours(X: np.ndarray, k: int) -> np.ndarray:
    """Boolean matrix of shape (n, n): whether the column is among the k nearest of the row, itself left out."""
    centred = X - X.mean(axis=0)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(norm > 0, norm, 1)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    out = np.zeros(similarity.shape, dtype=bool)
    np.put_along_axis(out, nearest, True, axis=1)
    return out


def calibration_scorer(X: np.ndarray, Y: np.ndarray) -> Scorer:
    """Spearman correlation of the distances within X and within Y, as a function of the order of Y's rows.

    Parameters
    ----------
    X : array of shape (n, d)
    Y : array of shape (n, e)

    Returns
    -------
    callable
        ``score(order)``, in [-1, 1].

    Raises
    ------
    ValueError
        All distances within one of them are equal.
    """
    distance = DISTANCES["euclidean"]
    return rdm_scorer(distance(X), distance(Y), len(X))


class _Aligned:
    """Held-out clouds after an alignment fitted on half of the stimuli, on true or on shuffled pairs."""

    def __init__(self, source: xr.DataArray, target: xr.DataArray, aligner: Any, n_projections: int, seed: int) -> None:
        n = source.sizes[PRESENTATION]
        ((train, test),) = shuffle_splits(n, n_splits=1, train_size=0.5, seed=seed)
        self.train = source.isel({PRESENTATION: train}), target.isel({PRESENTATION: train})
        self.test = source.isel({PRESENTATION: test}), target.isel({PRESENTATION: test})
        self.aligner = aligner
        self.options: dict[str, Any] = {"n_projections": n_projections, "seed": seed}
        values = as_matrix(self.train[1])
        sd = values.std(axis=0)
        # A column that is constant up to rounding has no unit of its own.
        varied = sd > 1e-6 * np.abs(values).max(axis=0)
        self.mean, self.sd = values.mean(axis=0), np.where(varied, sd, 1)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.sd

    def floor(self) -> float:
        return sliced_wasserstein(
            *(self._scaled(as_matrix(half[1])) for half in (self.train, self.test)), **self.options
        )

    def distance(self, rng: np.random.Generator | None) -> float:
        left, right = self.train
        order = np.arange(left.sizes[PRESENTATION]) if rng is None else rng.permutation(left.sizes[PRESENTATION])
        if self.aligner is None:
            X, Y = as_matrix(left), as_matrix(right)[order]
            moved = np.asarray(REGRESSIONS["ridge"](X, self._scaled(Y))(as_matrix(self.test[0])))
            moved = moved.reshape(self.test[0].sizes[PRESENTATION], -1)
        else:
            pairs = Pairs(left[STIMULUS_ID].values, right[STIMULUS_ID].values[order])
            moved = self._scaled(as_matrix(clone(self.aligner).fit(left, right, pairs).transform(self.test[0])))
        return sliced_wasserstein(moved, self._scaled(as_matrix(self.test[1])), **self.options)
