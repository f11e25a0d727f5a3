"""Rank correlation of overlap with alignment over encoder pairs, with interval and null."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from neurobridge.evaluate.similarity.relations import MEASURES as STANDARD
from neurobridge.study.harness import Record
from neurobridge.study.tables import select_records

N_PAIRS, N_DRAWS = 50, 2000
MEASURES = (*STANDARD, "rsa", "procrustes")
#: Measures of which a small value means more overlap.
DISTANCES = ("sliced_wasserstein", "procrustes")


def signed_overlap(records: list[Record], measure: str) -> np.ndarray:
    """Return the overlap of encoder pairs, signed so that large is more."""
    return np.array([r["overlap"][measure] for r in records]) * (-1 if measure in DISTANCES else 1)


def alignment_quality(records: list[Record], aligner: str, value: str = "r") -> np.ndarray:
    """Return the mean over draws of a score of an aligner, for each encoder pair."""
    return np.array([np.mean([draw[value] for draw in r["alignment"][aligner]]) for r in records])


def centred_ranks(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return ranks within each group, scaled to its size and centred.

    With one group they are Spearman's ranks.
    """
    out = np.zeros(len(values))
    for group in np.unique(groups):
        rows = groups == group
        out[rows] = (rankdata(values[rows]) - (rows.sum() + 1) / 2) / max(rows.sum(), 1)
    return out


def grouped_rank_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Return the correlation of ranks within groups."""
    a, b = centred_ranks(x, groups), centred_ranks(y, groups)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def relabellings(records: list[Record], n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Relabel the encoders of each set at random and follow the pairs (Mantel 1967).

    Each array gives, for every pair, the row of the pair that it becomes.
    """
    row_of = {(r["set"], *sorted((r["first"], r["second"]))): k for k, r in enumerate(records)}
    names = {
        name: sorted({r[side] for r in select_records(records, set=name) for side in ("first", "second")})
        for name in dict.fromkeys(r["set"] for r in records)
    }
    out = []
    for _ in range(n):
        new = {name: dict(zip(old, rng.permutation(old).tolist(), strict=True)) for name, old in names.items()}
        pairs = [(r["set"], *sorted(new[r["set"]][r[side]] for side in ("first", "second"))) for r in records]
        out.append(np.array([row_of[pair] for pair in pairs]))
    return out


def rank_agreement(
    records: list[Record], measure: str, y: np.ndarray, *, within: bool, seed: int, draws: int
) -> Record:
    """Return a rank correlation, its bootstrap interval over encoder pairs, and a one-sided p."""
    x = signed_overlap(records, measure)
    groups = np.array([r["set"] for r in records]) if within else np.zeros(len(records), dtype=int)
    rng = np.random.default_rng(seed)
    rho = grouped_rank_correlation(x, y, groups)
    rows = [rng.integers(len(x), size=len(x)) for _ in range(draws)]
    bootstrap = [grouped_rank_correlation(x[k], y[k], groups[k]) for k in rows]
    shuffles = relabellings(records, draws, rng) if within else [rng.permutation(len(x)) for _ in range(draws)]
    null = np.array([grouped_rank_correlation(x, y[k], groups) for k in shuffles])
    low, high = np.quantile(bootstrap, [0.025, 0.975])
    return {
        "measure": measure, "rho": rho, "low": float(low), "high": float(high), "null_95": float(np.quantile(null, 0.95)),
        "p": float((1 + (null >= rho).sum()) / (1 + len(null))), "n": len(x),
    }  # fmt: skip


def repeatability(records: list[Record]) -> str:
    """Format the rank correlation of the bridge's r between two draws."""
    if len(records[0]["alignment"]["bridge"]) < 2 or len(records) < 3:
        return "n/a"
    first, second = ([r["alignment"]["bridge"][k]["r"] for r in records] for k in (0, 1))
    return f"{grouped_rank_correlation(np.array(first), np.array(second), np.zeros(len(records))):.2f}"
