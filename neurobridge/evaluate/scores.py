"""What a Score is: an ``xarray.Dataset`` of raw, ceiling, normalized, null and p_value; and how it becomes one number."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import AssemblyError, coords_of
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID

SPLIT, PERMUTATION = "split", "permutation"


def _explained_variance(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw * np.abs(raw) / ceiling


def _squared_ratio(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw * np.abs(raw) / ceiling**2


def _ratio(raw: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    return raw / ceiling


#: How a raw score and its ceiling become one: ``explained_variance`` is ``r |r| / ceiling``, Brain-Score's rule today;
#: ``squared_ratio`` is ``r |r| / ceiling^2``, its rule before vision pull request 2169; ``ratio`` is ``raw / ceiling``, for scores
#: that are not correlations with a noisy response.
NORMALIZATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "explained_variance": _explained_variance,
    "squared_ratio": _squared_ratio,
    "ratio": _ratio,
}


def normalise(raw: np.ndarray, ceiling: np.ndarray, rule: str) -> np.ndarray:
    """Raw scores in units of their ceilings; NaN where the ceiling is unknown or not positive, which is never clipped.

    Raises
    ------
    AssemblyError
        Unknown rule.
    """
    if rule not in NORMALIZATIONS:
        raise AssemblyError(
            f"found normalization {rule!r}; expected one of {sorted(NORMALIZATIONS)}. Mend: choose one of them."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ceiling > 0, NORMALIZATIONS[rule](np.asarray(raw), np.asarray(ceiling)), np.nan)


def warn_low_ceilings(ceiling: np.ndarray, *, stacklevel: int) -> int:
    """Say how many ceilings are not above zero, and return the number."""
    n_low = int((ceiling <= 0).sum())
    if n_low:
        warnings.warn(
            f"found {n_low} of {ceiling.size} ceiling(s) not above zero, the lowest {np.nanmin(ceiling):.3f}; nothing "
            "can be normalised by "
            "them: their normalized score is NaN. Leave out sites without a reliable response.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return n_low


def fold_null(
    n_folds: int, n_permutations: int, seed: int, draw: Callable[[int, np.random.Generator, int], np.ndarray]
) -> np.ndarray:
    """Draw a permutation null, each permutation from one fold in turn.

    Held-out sets of different folds overlap, so averaging independent shuffles over folds would make the null too narrow. The null
    of single folds is wider than that of their mean: p-values are conservative.
    """
    rng = np.random.default_rng(seed)
    share = [len(range(k, n_permutations, n_folds)) for k in range(n_folds)]
    return np.concatenate([draw(k, rng, n) for k, n in enumerate(share) if n] or [np.empty(0)])


def p_value(observed: float, null: np.ndarray) -> float:
    """One-sided permutation p-value, ``(1 + #{null >= observed}) / (1 + n)`` (Phipson & Smyth 2010)."""
    return float((1 + (null >= observed).sum()) / (1 + null.size))


def score_attrs(
    attrs: dict[str, Any], n_splits: int, n_permutations: int, seed: int, sources: tuple[xr.DataArray, ...]
) -> dict[str, Any]:
    """Attributes of a Score: plain values, so that it can be written as netCDF."""
    digests = {key: value for source in sources for key, value in dict(source.attrs.get("digests", {})).items()}
    return {
        **attrs,
        "n_splits": n_splits,
        "n_permutations": n_permutations,
        "seed": seed,
        "digests": json.dumps(digests, sort_keys=True),
        "neurobridge": __version__,
    }


def reliability_of(ceiling: xr.DataArray | None, like: xr.DataArray) -> np.ndarray:
    """Ceiling of each neuroid of ``like``, array of shape (n_neuroids,); NaN if there is none.

    Raises
    ------
    AssemblyError
        The ceiling is of other neuroids.
    """
    if ceiling is None:
        return np.full(like.sizes[NEUROID], np.nan)
    if ceiling.dims != (NEUROID,) or NEUROID_ID not in ceiling.coords:
        raise AssemblyError(
            f"ceiling: found dims {ceiling.dims} and coordinates {sorted(map(str, ceiling.coords))}; expected ('neuroid',) with "
            "neuroid_id. Mend: ceiling=internal_consistency(recordings)['ceiling']."
        )
    if not np.array_equal(ceiling[NEUROID_ID].values, like[NEUROID_ID].values):
        raise AssemblyError(
            f"ceiling: found {ceiling.sizes[NEUROID]} neuroids; expected the {like.sizes[NEUROID]} that are scored, in the same "
            "order. Mend: select the same neuroids in the ceiling."
        )
    return np.asarray(ceiling.values, dtype=np.float64)


def neuroid_score(
    raw: np.ndarray,
    null: np.ndarray,
    *,
    like: xr.DataArray,
    ceiling: xr.DataArray | None,
    normalization: str,
    attrs: dict[str, Any],
    stacklevel: int,
) -> xr.Dataset:
    """Make a Score from one value a split and neuroid, array (n_splits, n_neuroids)."""
    reliability = reliability_of(ceiling, like)
    normalised = normalise(raw.mean(axis=0), reliability, normalization)
    n_low = warn_low_ceilings(reliability, stacklevel=stacklevel + 1)
    return xr.Dataset(
        {
            "raw": ((SPLIT, NEUROID), raw),
            "ceiling": (NEUROID, reliability),
            "normalized": (NEUROID, normalised),
            "null": (PERMUTATION, null),
            "p_value": p_value(float(np.mean(np.median(raw, axis=1))), null),
        },
        coords=coords_of(like, NEUROID),
        attrs={**attrs, "normalization": normalization, "n_ceilings_not_positive": n_low},
    )


def split_score(
    raw: np.ndarray,
    null: np.ndarray,
    *,
    ceiling: float | None,
    normalization: str,
    attrs: dict[str, Any],
    smaller_is_better: bool = False,
    stacklevel: int,
) -> xr.Dataset:
    """Make a Score from one value a split, array (n_splits,): `raw` (split), the others without dims but for the null."""
    reliability = np.asarray(np.nan if ceiling is None else float(ceiling))
    normalised = normalise(raw.mean(), reliability, normalization)
    n_low = warn_low_ceilings(reliability, stacklevel=stacklevel + 1)
    sign = -1 if smaller_is_better else 1
    return xr.Dataset(
        {
            "raw": (SPLIT, raw),
            "ceiling": float(reliability),
            "normalized": float(normalised),
            "null": (PERMUTATION, null),
            "p_value": p_value(sign * float(raw.mean()), sign * null),
        },
        attrs={
            **attrs,
            "normalization": normalization,
            "smaller_is_better": int(smaller_is_better),
            "n_ceilings_not_positive": n_low,
        },
    )


def aggregate(score: xr.Dataset, *, confidence: float = 0.95, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Reduce a Score to single numbers, by Brain-Score's rule: median over neuroids, mean over splits.

    The interval is a bootstrap over neuroids *and* splits, both drawn with replacement. Splits that share stimuli are not
    independent: it says how much the number would move with other sites and other splits of these stimuli, not with other stimuli.

    Parameters
    ----------
    score : xarray.Dataset
        From any metric, `predictivity` or `correlate`; a score without neuroids is its mean over splits.
    confidence : float
        Of the interval, in (0, 1).
    n_bootstrap : int
        Draws of the interval; 0 leaves it out.
    seed : int

    Returns
    -------
    dict
        ``raw``; ``raw_sem`` over splits; ``raw_low`` and ``raw_high``, or None where there is one split and no neuroids;
        ``ceiling``, the median over neuroids, or None; ``normalized``, by the score's rule, of these two, or None;
        ``normalized_low``, ``normalized_high``, likewise of the interval; ``normalized_median`` of the single neuroids, or None;
        ``null_mean`` and ``null_95``; ``p_value``; ``n_stimuli``, ``n_neuroids``, ``n_splits``, ``seed``, ``metric``,
        ``normalization``.

    Raises
    ------
    ValueError
        Not a Score, or a confidence outside (0, 1).
    """
    missing = [name for name in ("raw", "ceiling", "normalized", "null", "p_value") if name not in score]
    if missing or score["raw"].dims not in ((SPLIT,), (SPLIT, NEUROID)):
        dims = None if "raw" in missing else score["raw"].dims
        raise ValueError(
            f"aggregate: found variables {sorted(map(str, score.data_vars))}, raw with dims {dims}; expected a Score, with raw on "
            "(split[, neuroid]), ceiling, normalized, null and p_value. Mend: pass what a metric of METRICS returned."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"aggregate: found confidence={confidence}; expected a share in (0, 1). Mend: e.g. 0.95.")
    raw = score["raw"].values
    by_site = raw.ndim == 2
    by_split = np.median(raw, axis=1) if by_site else raw
    value, reliability = float(by_split.mean()), np.atleast_1d(score["ceiling"].values)
    ceiling = float(np.median(reliability)) if np.isfinite(reliability).all() else None
    rule = str(score.attrs.get("normalization", "explained_variance"))
    low, high = _interval(raw, confidence, n_bootstrap, seed)

    def in_units(x: float | None) -> float | None:
        return (
            float(normalise(np.asarray(x), np.asarray(ceiling), rule))
            if ceiling and ceiling > 0 and x is not None
            else None
        )

    null, normalised = score["null"].values, score["normalized"].values
    return {
        "metric": str(score.attrs["metric"]),
        "raw": value,
        "raw_sem": float(by_split.std(ddof=1) / np.sqrt(len(by_split))) if len(by_split) > 1 else None,
        "raw_low": low,
        "raw_high": high,
        "ceiling": ceiling,
        "normalized": in_units(value),
        "normalized_low": in_units(low),
        "normalized_high": in_units(high),
        "normalized_median": float(np.nanmedian(normalised)) if np.isfinite(normalised).any() else None,
        "null_mean": float(null.mean()) if null.size else None,
        "null_95": float(np.quantile(null, 0.95)) if null.size else None,
        "p_value": float(score["p_value"]),
        "n_stimuli": int(score.attrs["n_stimuli"]),
        "n_neuroids": int(score.sizes[NEUROID]) if by_site else 0,
        "n_splits": int(score.attrs["n_splits"]),
        "seed": int(score.attrs["seed"]),
        "normalization": rule,
    }


def _interval(raw: np.ndarray, confidence: float, n_bootstrap: int, seed: int) -> tuple[float | None, float | None]:
    if not n_bootstrap or raw.size < 2:
        return None, None
    rng = np.random.default_rng(seed)
    draws = np.empty(n_bootstrap)
    for k in range(n_bootstrap):
        rows = raw[rng.integers(0, len(raw), len(raw))]
        if raw.ndim == 2:
            rows = np.median(rows[:, rng.integers(0, raw.shape[1], raw.shape[1])], axis=1)
        draws[k] = rows.mean()
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
