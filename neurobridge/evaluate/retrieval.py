"""Retrieval: is the partner of a stimulus among the nearest stimuli of another space?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import gammaln

from neurobridge.assemblies import AssemblyError, Pairs, as_matrix, resolve_pairs, validate
from neurobridge.assemblies.ids import show_ids
from neurobridge.assemblies.schema import NEUROID, STIMULUS_ID
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.points.blocks import row_blocks
from neurobridge.points.memory import check_memory
from neurobridge.points.options import (
    is_choice,
    is_sequence_of,
    is_whole,
    require_count,
    require_options,
    require_share,
)
from neurobridge.points.ranks import HUB_NEIGHBORS, SIMILARITIES, partner_ranks

DIRECTION, MEASURE = "direction", "measure"
#: Directions of a search: of the target's stimuli from the source's, and of the source's from the target's.
DIRECTIONS = ("forward", "backward")
#: Corrections for hubs, by name.
HUB_CORRECTIONS = ("csls",)
MEDIAN_RANK, IDENTIFICATION = "median_rank", "identification"
# Bytes of the permuted ranks that are held.
_MEMORY_LIMIT = 4e9
# Ranks that are measured at a time.
_VALUES = 1 << 20


class _Search(NamedTuple):
    """One direction of a search.

    Attributes
    ----------
    queries, points : arrays of shape (n_queries, n_dims) and (n_points, n_dims)
    partners : int array of shape (n_queries, n_partners)
        Rows of ``points``, -1 where a query has fewer.
    """

    queries: np.ndarray
    points: np.ndarray
    partners: np.ndarray

    @property
    def n_partners(self) -> np.ndarray:
        return np.asarray((self.partners >= 0).sum(axis=1))


def retrieve(
    source: xr.DataArray,
    target: xr.DataArray,
    pairs: Pairs | pd.DataFrame | Mapping[str, npt.ArrayLike] | Sequence[Any] | np.ndarray | int | float | None = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    similarity: str = "cosine",
    hub_correction: str | None = None,
    n_permutations: int = 1000,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    r"""Rank the partner of every stimulus among the stimuli of the other space, in both directions.

    Both assemblies are in one space: recordings, and activations that an aligner has moved there. The rank of a partner is
    1 and the number of other stimuli that are more similar to the query; those equally similar count half, so that a constant
    prediction is at chance or below it. Of a query with several partners (an image and its captions) the best counts, and
    the others do not compete with it. Then, over the n queries among m stimuli,

    - ``R@k`` is the share of queries whose partner has a rank of at most k; ``k / m`` by chance;
    - ``median_rank``; ``(m + 1) / 2`` by chance;
    - ``identification`` is the mean share of the other stimuli that are less similar to the query than its partner: the accuracy
      in a choice between two; 0.5 by chance.

    Similarities are computed in blocks of rows: memory grows with the number of stimuli, not with its square.

    Parameters
    ----------
    source, target : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus, the same number of neuroids.
    pairs : optional
        Which stimuli are partners, in any form that `resolve_pairs` takes. Default: those with the same ``stimulus_id``. Searched
        are the stimuli that are in a pair. Pairs that the alignment was fitted on are to be left out.
    ks : sequence of int
        Of ``R@k``.
    similarity : {"cosine", "correlation", "euclidean"}
        Correlation is over neuroids.
    hub_correction : {None, "csls"}
        Cross-domain similarity local scaling, ``2 s(x, y) - r(x) - r(y)`` with r the mean similarity to the ten nearest of the
        other side (Conneau et al. 2018). It looks at the whole test set: a query is answered with the help of all other queries,
        which a search for one stimulus does not have. Report it as corrected.
    n_permutations : int
        Size of the null: the partners are dealt to the queries at random.
    n_bootstrap : int
        Draws of the queries, with replacement, for the intervals; 0 for none.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of the permutations and the draws.

    Returns
    -------
    xarray.Dataset
        Score with the leading dims ``direction`` ("forward": the target's stimuli are searched) and ``measure``; beside the
        schema's variables ``chance`` (of points in random order; the null is what shuffled partners give, which differs where the
        partners of a stimulus are alike) and the bounds ``raw_low``, ``raw_high`` on the same dims, ``forward_rank``
        (source_stimulus) and ``backward_rank`` (target_stimulus). A smaller median rank is better, of the others a larger value.

    Raises
    ------
    AssemblyError
        Bad assemblies or pairs, different numbers of neuroids, a stimulus without a direction, unknown similarity or correction.
    MemoryError
        The permuted ranks need more than 4 GB.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> rng = np.random.default_rng(0)  # simulated: as much noise as signal
    >>> responses = rng.normal(size=(60, 20))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(20)}}
    >>> recordings = nb.make_assembly(responses, **names)
    >>> aligned = nb.make_assembly(responses + rng.normal(size=(60, 20)), **names)
    >>> score = nb.retrieve(aligned, recordings, n_permutations=99)
    >>> score["raw"].sizes["direction"], score["measure"].values.tolist()
    (2, ['R@1', 'R@5', 'R@10', 'median_rank', 'identification'])
    >>> forward = score.sel(direction="forward", measure="R@5")
    >>> round(float(forward["chance"]), 3), float(forward["p_value"]), bool(forward["raw_low"] > forward["chance"])
    (0.083, 0.01, True)
    """
    counts = _checked_options(ks, similarity, hub_correction, confidence, n_permutations, n_bootstrap, seed)
    for role, assembly in (("source", source), ("target", target)):
        validate(assembly, role=role)
    if source.sizes[NEUROID] != target.sizes[NEUROID]:
        raise AssemblyError(
            f"retrieve: found {source.sizes[NEUROID]} neuroids of the source and {target.sizes[NEUROID]} of the target; expected "
            "both in one space. Mend: aligned = neurobridge.BridgeAligner().fit(source, target, pairs=20).transform(source)."
        )
    resolved = resolve_pairs(source, target, pairs, seed=seed)
    sides = resolved.indices(source, target)
    n_points, n_neuroids = sum(len(np.unique(side)) for side in sides), source.sizes[NEUROID]
    check_memory(
        4 * 8.0 * n_points * n_neuroids, np.inf, f"a retrieval among {n_points} stimuli of {n_neuroids} neuroids",
        mend="pairs=1000 seeks a thousand stimuli among as many; neurobridge road seeks some among all, read from files",
    )  # fmt: skip
    stimuli, rows = zip(*(np.unique(side, return_inverse=True) for side in sides), strict=True)
    spaces = [
        as_matrix(assembly, role=role)[kept]
        for role, assembly, kept in (("source", source, stimuli[0]), ("target", target, stimuli[1]))
    ]
    ids = [assembly[STIMULUS_ID].values[kept] for assembly, kept in ((source, stimuli[0]), (target, stimuli[1]))]
    for role, space, names in zip(("source", "target"), spaces, ids, strict=True):
        _refuse_without_direction(space, similarity, role, names)
    searches = [
        _Search(spaces[0], spaces[1], _table(rows[0], rows[1], len(spaces[0]))),
        _Search(spaces[1], spaces[0], _table(rows[1], rows[0], len(spaces[1]))),
    ]
    measures = [*(f"R@{k}" for k in counts), MEDIAN_RANK, IDENTIFICATION]
    rng = np.random.default_rng(seed)
    raw, null, chance, bounds, ranks = [], [], [], [], []
    for search in searches:
        n, m = len(search.queries), len(search.points)
        check_memory(
            4.0 * n * n_permutations + 8.0 * n * n_permutations,
            _MEMORY_LIMIT,
            f"{n_permutations} permutations of {n} ranks",
            mend=f"n_permutations={max(1, int(_MEMORY_LIMIT / (12 * n)))}",
        )
        permutations = np.array([rng.permutation(n) for _ in range(n_permutations)]).reshape(n_permutations, n)
        ranked = partner_ranks(
            search.queries,
            search.points,
            search.partners,
            similarity=similarity,
            hub_neighbors=HUB_NEIGHBORS if hub_correction else 0,
            permutations=permutations if n_permutations else None,
        )
        others = m - search.n_partners
        raw.append(_measure(ranked.rank[None], others[None], counts)[0])
        sets = row_blocks(n_permutations, n, budget=_VALUES)
        drawn = [_measure(ranked.permuted[part], others[permutations[part]], counts) for part in sets]
        null.append(np.concatenate([np.empty((0, len(measures))), *drawn]).T)
        chance.append(_chance(search.n_partners, m, counts))
        bounds.append(_bounds(ranked.rank, others, counts, confidence, n_bootstrap, rng))
        ranks.append(ranked.rank)
    leading = (DIRECTION, MEASURE)
    smaller = np.tile([measure == MEDIAN_RANK for measure in measures], (2, 1))
    corrected = f", hub-corrected ({hub_correction}: reads all queries)" if hub_correction else ""
    return make_score(
        np.array(raw),
        leading,
        null=np.array(null),
        smaller_is_better=smaller,
        extra={
            "chance": (leading, np.array(chance)),
            "raw_low": (leading, np.array(bounds)[..., 0]),
            "raw_high": (leading, np.array(bounds)[..., 1]),
            "forward_rank": ("source_stimulus", ranks[0]),
            "backward_rank": ("target_stimulus", ranks[1]),
        },
        coords={
            DIRECTION: list(DIRECTIONS),
            MEASURE: measures,
            "source_stimulus": ids[0],
            "target_stimulus": ids[1],
        },
        attrs=score_attrs(
            {
                "metric": f"retrieval, {similarity}{corrected}",
                "splits": "one, given",
                "n_stimuli": len(resolved),
                "similarity": similarity,
                "hub_correction": hub_correction or "none",
                "n_bootstrap": n_bootstrap,
                "confidence": confidence,
            },
            1,
            n_permutations,
            seed,
            (source, target),
        ),
    )


def _checked_options(
    ks: Sequence[int],
    similarity: str,
    hub_correction: str | None,
    confidence: float,
    n_permutations: int,
    n_bootstrap: int,
    seed: int,
) -> list[int]:
    """Refuse what is no option, and return the ks, each once."""
    if similarity is None or not is_choice(similarity, SIMILARITIES):
        raise AssemblyError(
            f"retrieve: found similarity={similarity!r:.60}; expected one of {list(SIMILARITIES)}. Mend: similarity='cosine'."
        )
    if not is_choice(hub_correction, (None, *HUB_CORRECTIONS)):
        raise AssemblyError(
            f"retrieve: found hub_correction={hub_correction!r:.60}; expected None or one of {list(HUB_CORRECTIONS)}. "
            "Mend: hub_correction='csls', or leave it out."
        )
    require_share(confidence, name="confidence", error=AssemblyError)
    require_options(n_permutations=n_permutations, n_bootstrap=n_bootstrap, seed=seed, error=AssemblyError)
    if not is_sequence_of(is_whole, ks):
        raise AssemblyError(
            f"retrieve: found ks={ks!r:.60}; expected a sequence of whole numbers. Mend: ks=(1, 5, 10)."
        )
    return list(dict.fromkeys(require_count(k, name="k", error=AssemblyError) for k in ks))


def _refuse_without_direction(space: np.ndarray, similarity: str, role: str, ids: np.ndarray) -> None:
    if similarity == "euclidean":
        return
    centred = space - space.mean(axis=1, keepdims=True) if similarity == "correlation" else space
    flat = np.linalg.norm(centred, axis=1) <= 1e-13 * np.sqrt(space.shape[1]) * np.abs(space).max(axis=1)
    if flat.any():
        what = "the same value in all neuroids" if similarity == "correlation" else "no response in any neuroid"
        raise AssemblyError(
            f"retrieve: found {int(flat.sum())} stimuli of the {role} with {what}, e.g. {show_ids(ids[flat])}; expected responses "
            f"with a direction: their {similarity} is not defined. Mend: similarity='euclidean', or leave these stimuli out."
        )


def _table(queries: np.ndarray, points: np.ndarray, n_queries: int) -> np.ndarray:
    """Return the points that each query is paired with, array of shape (n_queries, most), -1 where it has fewer."""
    order = np.argsort(queries, kind="stable")
    counts = np.bincount(queries, minlength=n_queries)
    place = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((n_queries, counts.max()), -1)
    table[queries[order], place] = points[order]
    return table


def _measure(ranks: np.ndarray, others: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Return all measures of sets of ranks, arrays (n_sets, n_queries) -> (n_sets, n_measures).

    ``others``, of the same shape, is the number of stimuli that compete with the partner of each query.
    """
    shares = [(ranks <= k).mean(axis=1) for k in ks]
    beaten = 1 - (ranks - 1) / np.where(others > 0, others, np.nan)
    with warnings.catch_warnings():
        # Where everything is a partner of everything, nothing is identified.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.stack([*shares, np.median(ranks, axis=1), np.nanmean(beaten, axis=1)], axis=1)


def _chance(n_partners: np.ndarray, m: int, ks: Sequence[int]) -> list[float]:
    """Return what ranks by chance give: the best of q partners is at rank r or before with 1 - C(m - q, r) / C(m, r)."""
    sizes, counts = np.unique(n_partners, return_counts=True)
    ranks = np.arange(1, m + 1)
    reached = np.zeros(m)
    for q, count in zip(sizes, counts, strict=True):
        free = np.maximum(m - q - ranks, 0)
        missed = np.exp(gammaln(m - q + 1) - gammaln(free + 1) - gammaln(m + 1) + gammaln(m - ranks + 1))
        reached += count / len(n_partners) * (1 - np.where(ranks <= m - q, missed, 0.0))
    # The median of an even number of values lies between the two in the middle.
    low, high = (int(np.searchsorted(reached, 0.5 + sign * 1e-9)) + 1 for sign in (-1, 1))
    competed = n_partners < m
    identified = float((1 - 1 / (n_partners[competed] + 1)).mean()) if competed.any() else np.nan
    return [*(float(reached[min(k, m) - 1]) for k in ks), (low + high) / 2, identified]


def _bounds(
    rank: np.ndarray,
    others: np.ndarray,
    ks: Sequence[int],
    confidence: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the bounds of each measure, array of shape (n_measures, 2), from queries drawn with replacement."""
    if not n_bootstrap:
        return np.full((len(ks) + 2, 2), np.nan)
    n = len(rank)
    drawn = np.empty((n_bootstrap, len(ks) + 2))
    for sets in row_blocks(n_bootstrap, n, budget=_VALUES):
        rows = rng.integers(0, n, (sets.stop - sets.start, n))
        drawn[sets] = _measure(rank[rows], others[rows], ks)
    return np.asarray(np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0).T)
