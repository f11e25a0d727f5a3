"""Rules that divide a raw score by its ceiling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurobridge.assemblies import AssemblyError
from neurobridge.points.options import is_choice


def _explained_variance(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw * np.abs(raw) / ceiling


def _squared_ratio(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw * np.abs(raw) / ceiling**2


def _noise_corrected(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw / np.sqrt(ceiling)


def _ratio(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw / ceiling


#: Rules that divide a raw score by its ceiling: ``explained_variance`` is ``r |r| / ceiling``, Brain-Score's rule today;
#: ``squared_ratio`` is ``r |r| / ceiling^2``, its rule before vision pull request 2169; ``noise_corrected`` is
#: ``r / sqrt(ceiling)``, the correlation with responses without noise (Spearman 1904, Am J Psychol 15:72); ``ratio`` is
#: ``raw / ceiling``, for scores that are not correlations with a noisy response.
NORMALIZATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "explained_variance": _explained_variance,
    "squared_ratio": _squared_ratio,
    "noise_corrected": _noise_corrected,
    "ratio": _ratio,
}


def normalise(raw: np.ndarray, ceiling: np.ndarray, rule: str) -> np.ndarray:
    """Divide raw scores by their ceilings; NaN where the ceiling is unknown or not positive, which is never clipped.

    Parameters
    ----------
    raw, ceiling : arrays of the same shape
    rule : str
        A key of `NORMALIZATIONS`.

    Returns
    -------
    array of the same shape

    Raises
    ------
    AssemblyError
        Unknown rule.
    """
    if not is_choice(rule, NORMALIZATIONS):
        raise AssemblyError(
            f"found normalization {rule!r}; expected one of {sorted(NORMALIZATIONS)}. Mend: choose one of them."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ceiling > 0, NORMALIZATIONS[rule](np.asarray(raw), np.asarray(ceiling)), np.nan)
