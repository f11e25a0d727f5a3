"""Figure of a comparison of models: scores with intervals, and which pairs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neurobridge.figures.layout import legend_beside, new_axes
from neurobridge.figures.styles import CEILING, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVEL = 0.05


def compared_models(
    comparison: xr.Dataset, metric: str | None = None, *, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw the score of every model under one metric, the best first, with its interval, and join those that do not differ.

    Beside the points, a line joins models between which no corrected p-value is below 0.05. The ceiling is dotted.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `compare_models`.
    metric : str, optional
        Default: the first.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A metric that was not compared.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> models = {"metric": ["ridge"], "model": ["a", "b"], "other": ["a", "b"]}
    >>> numbers = {"value": [[0.3, 0.5]], "value_low": [[0.2, 0.4]], "value_high": [[0.4, 0.6]], "rank": [[2, 1]]}
    >>> p = np.array([[[np.nan, 0.01], [0.01, np.nan]]])
    >>> comparison = xr.Dataset(
    ...     {
    ...         **{name: (("metric", "model"), values) for name, values in numbers.items()},
    ...         "p_corrected": (("metric", "model", "other"), p),
    ...         "ceiling": ("metric", [0.8]),
    ...     },
    ...     coords=models,
    ... )
    >>> ax = figures.compared_models(comparison)
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['b', 'a']
    """
    known = comparison["metric"].values.tolist()
    metric = known[0] if metric is None else metric
    if metric not in known:
        raise ValueError(f"figures: found metric {metric!r:.60}; expected one of {known}. Mend: metric={known[0]!r}.")
    of_metric = comparison.sel(metric=metric)
    order = np.argsort(of_metric["rank"].values, kind="stable")
    names = of_metric["model"].values[order].tolist()
    value, low, high = (of_metric[key].values[order] for key in ("value", "value_low", "value_high"))
    ax = new_axes(ax, size=(6.6, 1.2 + 0.32 * len(names)))
    places = np.arange(len(names))
    spread = np.maximum(np.nan_to_num([value - low, high - value]), 0)
    confidence = 100 * float(comparison.attrs.get("confidence", 0.95))
    label = None if np.isnan(low).all() else f"{confidence:g} % interval"
    ax.errorbar(value, places, xerr=spread, fmt="o", color=PALETTE["ridge"], capsize=2, markersize=5, label=label)
    ceiling = float(of_metric["ceiling"]) if "ceiling" in of_metric else float("nan")
    if np.isfinite(ceiling) and ceiling > 0:
        by_site = bool(np.isfinite(of_metric["site_value"]).any()) if "site_value" in of_metric else False
        reach = np.sqrt(ceiling) if by_site else ceiling
        ax.axvline(reach, label=f"ceiling {reach:.2f}", **CEILING)
    p = of_metric["p_corrected"].values[np.ix_(order, order)]
    groups = _level_groups(p)
    for number, (first, last) in enumerate(groups):
        x = 1.02 + 0.02 * number
        ax.plot([x, x], [first - 0.15, last + 0.15], transform=ax.get_yaxis_transform(), color="0.4", linewidth=2,
                clip_on=False, label="no difference (corrected p >= 0.05)" if number == 0 else None)  # fmt: skip
    ax.set_yticks(places, labels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(f"{metric} on held-out stimuli")
    ax.set_title(title, fontsize="medium")
    # Right of the lines that join models.
    legend_beside(ax, bbox_to_anchor=(1.02 + 0.02 * len(groups), 1.0))
    return ax


def _level_groups(p: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last place of every run of ranked models of which no two differ, without runs within others."""
    runs: list[tuple[int, int]] = []
    for first in range(len(p)):
        last = first
        while last + 1 < len(p) and (p[first : last + 1, last + 1] >= _LEVEL).all():
            last += 1
        if last > first and not any(last <= end for _, end in runs):
            runs.append((first, last))
    return runs
