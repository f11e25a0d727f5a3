"""Overlap of two spaces before or after alignment: four measures, each with its null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurobridge.assemblies import AssemblyError, Pairs, as_matrix, match_stimuli, validate
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.correlation import unit_rows
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.evaluate.similarity.arrays import Scorer, cka_scorer
from neurobridge.evaluate.similarity.comparators import rdm_scorer
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.evaluate.similarity.distribution import sliced_wasserstein
from neurobridge.evaluate.splits import shuffle_splits
from neurobridge.points.memory import check_memory

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
      more overlap, a map that predicts the mean scores about 1. It compares clouds, not stimuli: whether transported points
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
        Score with the leading dim ``measure``; the coordinate ``smaller_is_better`` marks ``sliced_wasserstein``, whose shorter
        null ends in NaN. And ``effect`` (measure), raw less the mean of the null in standard deviations of the null, positive
        for more overlap; ``floor``, the sliced Wasserstein distance between the two halves of the target: the distance that
        sampling alone leaves.

    Raises
    ------
    AssemblyError
        Bad assemblies, nothing shared, k out of range, fewer than eight shared stimuli.
    ValueError
        A space without variance, or whose distances are all equal.
    MemoryError
        More stimuli than ``memory_limit`` allows.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import aggregate, overlap
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(60, 4))  # simulated: two spaces that differ by a rotation and a little noise
    >>> turned = latents @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 0.1 * rng.normal(size=(60, 4))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(4)}}
    >>> options = {"n_permutations": 50, "n_alignments": 10, "n_projections": 50}
    >>> score = overlap(make_assembly(latents, **names), make_assembly(turned, **names), **options)
    >>> score["measure"].values.tolist()
    ['mutual_neighbours', 'cka', 'calibration', 'sliced_wasserstein']
    >>> table = aggregate(score, n_bootstrap=0)
    >>> float(table["raw"].sel(measure="cka")) > float(table["null_95"].sel(measure="cka"))
    True
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
    check_memory(
        6 * 8.0 * n * n, memory_limit, f"distances of {n} shared stimuli", mend="overlap(source[:2000], target)"
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
    null = np.full((len(MEASURES), max(map(len, nulls.values()))), np.nan)
    for row, name in enumerate(MEASURES):
        null[row, : len(nulls[name])] = nulls[name]
    smaller = [name == last for name in MEASURES]
    effect = [_effect(observed[name], nulls[name], -1.0 if name == last else 1.0) for name in MEASURES]
    attrs = {"metric": "overlap", "splits": "half of the stimuli for alignment", "n_stimuli": n, "k": k,
             "n_alignments": n_alignments, "aligner": "ridge" if aligner is None else type(aligner).__name__}  # fmt: skip
    return make_score(
        [observed[name] for name in MEASURES],
        ("measure",),
        null=null,
        smaller_is_better=smaller,
        extra={"effect": ("measure", np.array(effect)), "floor": clouds.floor()},
        coords={"measure": list(MEASURES)},
        attrs=score_attrs(attrs, 1, n_permutations, seed, (source, target)),
    )


def _effect(observed: float, null: np.ndarray, sign: float) -> float:
    """Return the distance from the null's mean in its standard deviations; the sign is -1 where smaller is more overlap."""
    sd = float(null.std(ddof=1)) if null.size > 1 else np.nan
    return sign * (observed - float(null.mean())) / sd if sd > 0 else np.nan


def neighbour_scorer(X: np.ndarray, Y: np.ndarray, k: int) -> Callable[[np.ndarray], float]:
    """Prepare the mean share of common k nearest neighbours, as a function of the order of Y's rows.

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
    near_x, near_y = _neighbours(X, k), _neighbours(Y, k)

    def score(order: np.ndarray) -> float:
        # In the reordered cloud the neighbours are renumbered too.
        return float((near_x & near_y[np.ix_(order, order)]).sum() / (k * len(near_x)))

    return score


def _neighbours(X: np.ndarray, k: int) -> np.ndarray:
    """Return a boolean matrix of shape (n, n), true where the column is among the k nearest of the row, itself left out."""
    unit = unit_rows(X - X.mean(axis=0))[0]
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    out = np.zeros(similarity.shape, dtype=bool)
    np.put_along_axis(out, nearest, True, axis=1)
    return out


def calibration_scorer(X: np.ndarray, Y: np.ndarray) -> Scorer:
    """Prepare the Spearman correlation of the distances within X and within Y, as a function of the order of Y's rows.

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
        source, target = self.train
        order = np.arange(source.sizes[PRESENTATION]) if rng is None else rng.permutation(source.sizes[PRESENTATION])
        if self.aligner is None:
            X, Y = as_matrix(source), as_matrix(target)[order]
            transported = np.asarray(REGRESSIONS["ridge"](X, self._scaled(Y))(as_matrix(self.test[0])))
            transported = transported.reshape(self.test[0].sizes[PRESENTATION], -1)
        else:
            pairs = Pairs(source[STIMULUS_ID].values, target[STIMULUS_ID].values[order])
            transported = self._scaled(
                as_matrix(clone(self.aligner).fit(source, target, pairs).transform(self.test[0]))
            )
        return sliced_wasserstein(transported, self._scaled(as_matrix(self.test[1])), **self.options)
