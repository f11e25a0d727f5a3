"""The score of a fitted aligner on held-out stimuli."""

from __future__ import annotations

import numpy as np

from neurobridge.assemblies import AssemblyError, Pairs


def refuse_fitted(scored: Pairs, fitted: Pairs) -> None:
    """Refuse stimuli that were pairs of a fit, whose targets it knows.

    Raises
    ------
    AssemblyError
        Counts them and names the first.
    """
    known = np.isin(scored.source_id, fitted.source_id)
    if known.any():
        raise AssemblyError(
            f"found {int(known.sum())} of {len(scored)} stimuli that were pairs in fitting, e.g. "
            f"{str(scored.source_id[known][0])!r}; expected held-out ones. "
            "Mend: leave them out, or fitted_pairs='allow' for the fit's own error."
        )


def refuse_constant(truth: np.ndarray) -> None:
    """Refuse targets, shape (n_stimuli, n_dims), that have no variance to explain.

    Raises
    ------
    AssemblyError
        All stimuli have the same responses.
    """
    if (truth == truth[0]).all():
        raise AssemblyError(
            f"target: found {len(truth)} stimuli with the same responses; expected targets that vary. Mend: score more stimuli."
        )


def explained_share(moved: np.ndarray, truth: np.ndarray) -> float:
    """Return ``1 - sum |moved - truth|^2 / sum |truth - mean|^2`` of arrays of shape (n_stimuli, n_dims)."""
    total = float(np.square(truth - truth.mean(axis=0)).sum())
    return 1 - float(np.square(moved - truth).sum()) / total
