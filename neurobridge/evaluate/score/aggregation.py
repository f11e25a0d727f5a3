"""Reduction of a Score to single numbers, by Brain-Score's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID
from neurobridge.evaluate.score.normalization import normalise
from neurobridge.evaluate.score.schema import SMALLER_IS_BETTER, leading_dims, reduce_raw
from neurobridge.points.options import require_options, require_share

#: Numbers of a summary that differ from cell to cell of a Score with leading dims.
NUMBERS = (
    "raw",
    "raw_sem",
    "raw_low",
    "raw_high",
    "ceiling",
    "normalized",
    "normalized_low",
    "normalized_high",
    "normalized_median",
    "null_mean",
    "null_95",
    "p_value",
)


def aggregate(score: xr.Dataset, *, confidence: float = 0.95, n_bootstrap: int = 1000, seed: int = 0) -> Any:
    """Reduce a Score to single numbers, by Brain-Score's rule: median over neuroids, mean over splits.

    The interval is a bootstrap over neuroids *and* splits (or draws), both drawn with replacement. Splits that share
    stimuli are not independent: the interval says how much the number would move with other sites and other splits
    of these stimuli, not with other stimuli.

    Parameters
    ----------
    score : xarray.Dataset
        From any scorer: a metric, `predictivity`, `correlate`, `decode`, `learning_curve`, `overlap` and all others.
    confidence : float
        Of the interval, in (0, 1).
    n_bootstrap : int
        Draws of the interval; 0 leaves it out.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict, or xarray.Dataset for a Score with leading dims
        ``raw``, NaN where a site or a split is NaN, which nothing here leaves out; ``raw_sem`` over splits; ``raw_low`` and
        ``raw_high``, or None where there is one split and no neuroids; ``ceiling``, the median over neuroids, or None;
        ``normalized``, by the score's rule, of these two, or None; ``normalized_low``, ``normalized_high``, likewise of the
        interval; ``normalized_median`` of the single neuroids, or None;
        ``null_mean``, or None without permutations; ``null_95``, the value that 95 % of the permutations do not reach: the 95 %
        quantile of the null, or the 5 % quantile where smaller is better; ``p_value``, or None; ``n_stimuli``, ``n_neuroids``,
        ``n_splits``, ``seed``, ``metric``, ``normalization``.

        A Score of many cells, with leading dims such as (aligner, n_pairs, seed) or (measure), gives a Dataset on these dims: the
        same numbers as variables, NaN for None, and the rest as attributes. Its ``to_dataframe()`` is the table, a row a cell.

    Raises
    ------
    ValueError
        Not a Score, or a confidence outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import aggregate, predictivity
    >>> rng = np.random.default_rng(0)  # simulated: ten sites that are linear in six features
    >>> features = rng.normal(size=(100, 6))
    >>> responses = features @ rng.normal(size=(6, 10)) + rng.normal(size=(100, 10))
    >>> stimuli = {"stimulus_id": [f"s{k}" for k in range(100)]}
    >>> model = make_assembly(features, presentation=stimuli, neuroid={"neuroid_id": range(6)})
    >>> brain = make_assembly(responses, presentation=stimuli, neuroid={"neuroid_id": range(10)})
    >>> summary = aggregate(predictivity(model, brain, "ridge", n_permutations=99), n_bootstrap=100)
    >>> summary["raw"] > summary["null_95"], summary["p_value"], summary["n_splits"]
    (True, 0.01, 10)
    """
    require_options(n_bootstrap=n_bootstrap, seed=seed)
    require_share(confidence, name="confidence")
    leading = leading_dims(score)
    smaller = score.coords.get(SMALLER_IS_BETTER, score.attrs.get(SMALLER_IS_BETTER, 0))
    rule = str(score.attrs.get("normalization", "explained_variance"))
    by_site = NEUROID in score["raw"].dims
    facts: dict[str, Any] = {
        "n_neuroids": int(score.sizes[NEUROID]) if by_site else 0,
        "n_splits": int(score.attrs["n_splits"]),
        "seed": int(score.attrs["seed"]),
        "normalization": rule,
    }
    shape = score["p_value"].shape
    whole = xr.zeros_like(score["p_value"], dtype=float)
    parts = {
        "raw": score["raw"].values,
        "null": score["null"].values,
        "normalized": score["normalized"].values,
        "ceiling": (whole + score["ceiling"]).values,
        "p_value": score["p_value"].values,
        "smaller": np.broadcast_to(np.asarray(smaller), shape),
    }
    cells = {
        cell: _cell({name: array[cell] for name, array in parts.items()}, by_site, rule, confidence, n_bootstrap, seed)
        for cell in np.ndindex(shape)
    }
    metric = str(score.attrs["metric"])
    if not leading:
        return {"metric": metric, **cells[()], "n_stimuli": _count(score.attrs["n_stimuli"]), **facts}
    data = {}
    for name in NUMBERS:
        column = [np.nan if numbers[name] is None else numbers[name] for numbers in cells.values()]
        data[name] = (leading, np.array(column, dtype=np.float64).reshape(shape))
    coords = {name: coord for name, coord in score.coords.items() if set(coord.dims) <= set(leading)}
    return xr.Dataset(
        data, coords=coords, attrs={"metric": metric, "n_stimuli": _count(score.attrs["n_stimuli"]), **facts}
    )


def _count(n_stimuli: Any) -> int | list[int]:
    """Return a number of stimuli, or the list of those of the cells, which netCDF gives back as an array."""
    counts = [int(n) for n in np.atleast_1d(n_stimuli)]
    return counts if np.ndim(n_stimuli) else counts[0]


def _cell(
    part: dict[str, np.ndarray], by_site: bool, rule: str, confidence: float, n_bootstrap: int, seed: int
) -> dict[str, float | None]:
    """Reduce one cell: raw ([n_repeats][, n_neuroids]), ceiling and normalized ([n_neuroids]), null (n_permutations,)."""
    raw, normalised = part["raw"], part["normalized"]
    by_split = np.atleast_1d(np.median(raw, axis=-1) if by_site else raw)
    value, reliability = reduce_raw(raw, by_site), np.atleast_1d(part["ceiling"])
    ceiling = float(np.median(reliability)) if np.isfinite(reliability).all() else None
    low, high = _interval(raw if raw.ndim else raw[None], by_site, confidence, n_bootstrap, seed)
    known = bool(np.isfinite(normalised).any()) and not np.isnan(value)

    def in_units(x: float | None) -> float | None:
        if x is None or ceiling is None or not ceiling > 0 or not known:
            return None
        return float(normalise(np.asarray(x), np.asarray(ceiling), rule))

    null = part["null"][~np.isnan(part["null"])]
    return {
        "raw": value,
        "raw_sem": float(by_split.std(ddof=1) / np.sqrt(len(by_split))) if len(by_split) > 1 else None,
        "raw_low": low,
        "raw_high": high,
        "ceiling": ceiling,
        "normalized": in_units(value),
        "normalized_low": in_units(low),
        "normalized_high": in_units(high),
        "normalized_median": float(np.nanmedian(normalised)) if known else None,
        "null_mean": float(null.mean()) if null.size else None,
        "null_95": float(np.quantile(null, 0.05 if part["smaller"] else 0.95)) if null.size else None,
        # Version 0.1 wrote p-values of scores that are NaN.
        "p_value": None if np.isnan(part["p_value"]) or np.isnan(value) else float(part["p_value"]),
    }


def _interval(
    raw: np.ndarray, by_site: bool, confidence: float, n_bootstrap: int, seed: int
) -> tuple[float | None, float | None]:
    if not n_bootstrap or raw.size < 2 or np.isnan(raw).any():
        return None, None
    rng = np.random.default_rng(seed)
    draws = np.empty(n_bootstrap)
    for k in range(n_bootstrap):
        rows = raw[rng.integers(0, len(raw), len(raw))]
        if by_site:
            rows = np.median(rows[:, rng.integers(0, raw.shape[1], raw.shape[1])], axis=1)
        draws[k] = rows.mean()
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
