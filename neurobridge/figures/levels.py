"""Levels: accuracies and scores of cells beside chance and ceiling, and a score within its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neurobridge.evaluate import aggregate
from neurobridge.figures.layout import legend_beside, new_axes
from neurobridge.figures.styles import CEILING, CHANCE, PALETTE, styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracies(
    rows: Sequence[Mapping[str, Any]] | Mapping[str, xr.Dataset],
    *,
    ax: Axes | None = None,
    title: str = "",
    label: str = "category",
) -> Axes:
    """Draw decoding accuracies as bars, each with its own chance level.

    Parameters
    ----------
    rows : sequence of mappings, or mapping of name to Score
        Each with ``name``, ``accuracy`` (values of every seed) and ``chance``; or what `neurobridge.decode` returned, whose
        chance is the mean of its null and whose bar is the range over splits.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str
    label : str
        What is decoded, for the axis label.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from neurobridge import figures
    >>> ax = figures.accuracies([{"name": "ridge", "accuracy": [0.5, 0.7], "chance": 0.25}])
    >>> ax.get_xlabel()
    'accuracy, category (fraction correct)'
    """
    rows = _rows_of(rows)
    ax = new_axes(ax, size=(6.0, 1.2 + 0.3 * max(len(rows), 3)))
    places = np.arange(len(rows))
    means = [float(np.mean(row["accuracy"])) for row in rows]
    spread = np.array(
        [[m - np.min(r["accuracy"]), np.max(r["accuracy"]) - m] for m, r in zip(means, rows, strict=True)]
    )
    ax.barh(places, means, xerr=spread.T, color="0.8", edgecolor="black", capsize=2)
    for place, row in zip(places, rows, strict=True):
        ax.plot([row["chance"]] * 2, [place - 0.45, place + 0.45], color="black", linestyle="--", linewidth=1.5,
                label="chance (permutation)" if place == 0 else None)  # fmt: skip
    ax.set_yticks(places, labels=[row["name"] for row in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.02)
    ax.set_xlabel(f"accuracy, {label} (fraction correct)")
    ax.set_title(title)
    legend_beside(ax)
    return ax


def _rows_of(rows: Any) -> list[Mapping[str, Any]]:
    if not isinstance(rows, Mapping):
        return list(rows)
    return [
        {"name": name, "accuracy": np.atleast_1d(score["raw"].values), "chance": float(score["null"].mean())}
        for name, score in rows.items()
    ]


def cells(score: xr.Dataset, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw each cell of a Score with leading dims: a line along a numeric dim, otherwise a row a cell.

    Parameters
    ----------
    score : xarray.Dataset
        A Score with at least one leading dim, e.g. ``reading`` of `cross_space_decode`, ``measure`` of `overlap`, or times. The
        point is `aggregate`'s ``raw``, the bar its bootstrap interval, the tick its ``null_95``.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Not a Score, or one without leading dims.

    Examples
    --------
    >>> from neurobridge import figures
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> attrs = score_attrs({"metric": "overlap", "splits": "none", "n_stimuli": 40}, n_splits=1, n_permutations=3, seed=0)
    >>> null = [[0.0, 0.1, 0.2], [0.1, 0.2, 0.3]]
    >>> score = make_score([0.8, 0.2], ("measure",), null=null, coords={"measure": ["cka", "rsa"]}, attrs=attrs)
    >>> [text.get_text() for text in figures.cells(score).get_yticklabels()]
    ['cka', 'rsa']
    """
    table = aggregate(score, n_bootstrap=200)
    if not isinstance(table, xr.Dataset):
        raise ValueError(
            "figures: found a Score of one cell; expected leading dims. Mend: figures.plot(score) draws any Score."
        )
    (*across, along) = table["raw"].dims
    numeric = (
        np.issubdtype(table[along].dtype, np.number) and table.sizes[along] > 2 if along in table.coords else False
    )
    if numeric:
        return _cells_as_lines(table, list(map(str, across)), str(along), ax, title)
    names, values, spread, null = cell_table(table)
    ax = new_axes(ax, size=(6.0, 1.2 + 0.3 * max(len(names), 3)))
    places = np.arange(len(names))
    ax.errorbar(values, places, xerr=spread, fmt="o", color=PALETTE["ridge"], capsize=2, markersize=5, label="score")
    for k, (place, level) in enumerate(zip(places, null, strict=True)):
        if np.isfinite(level):
            ax.plot(
                [level] * 2, [place - 0.4, place + 0.4], **CHANCE, label="chance (95 % of the null)" if k == 0 else None
            )
    ax.set_yticks(places, labels=names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(str(table.attrs["metric"]))
    ax.set_title(title)
    legend_beside(ax)
    return ax


def cell_table(table: xr.Dataset) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Return names of the cells of an aggregated Score, values, bars below and above (2, n), and the 95 % level of the null."""
    frame = table[["raw", "raw_low", "raw_high", "null_95"]].reset_coords(drop=True).to_dataframe().reset_index()
    dims = list(map(str, table["raw"].dims))
    names = [", ".join(str(row[dim]) for dim in dims) for _, row in frame.iterrows()]
    values = frame["raw"].to_numpy(dtype=float)
    bars = np.stack([values - frame["raw_low"], frame["raw_high"] - values]).astype(float)
    return names, values, np.clip(np.nan_to_num(bars), 0, None), frame["null_95"].to_numpy(dtype=float)


def _cells_as_lines(table: xr.Dataset, across: list[str], along: str, ax: Axes | None, title: str) -> Axes:
    ax = new_axes(ax)
    stacked = table if across else table.expand_dims(score=["score"])
    dims = across or ["score"]
    shape = [stacked.sizes[dim] for dim in dims]
    lines = {}
    for place in np.ndindex(*shape):
        cell = stacked.isel(dict(zip(dims, place, strict=True)))
        lines[
            ", ".join(
                str(cell[dim].item()) if dim in cell.coords else str(k) for dim, k in zip(dims, place, strict=True)
            )
        ] = cell
    styles = styles_of(lines)
    x = table[along].values
    for name, cell in lines.items():
        low, high = cell["raw_low"].values, cell["raw_high"].values
        ax.fill_between(x, low, high, color=styles[name]["color"], alpha=0.15, linewidth=0)
        ax.plot(x, cell["raw"].values, label=name, **{"markersize": 4, **styles[name]})
    null = table["null_95"].max(dim=across).values if across else table["null_95"].values
    if np.isfinite(null).any():
        ax.plot(x, null, label="chance (95 % of the null)", **CHANCE)
    ax.set_xlabel(along.replace("_", " "))
    ax.set_ylabel(str(table.attrs["metric"]))
    ax.set_title(title)
    legend_beside(ax)
    return ax


def null_distribution(score: xr.Dataset, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw a Score of one cell beside what permuted data give: the histogram of its null, and its ceiling.

    Parameters
    ----------
    score : xarray.Dataset
        A Score without leading dims: of `decode`, `predictivity`, a similarity, and others.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Not a Score, or one with leading dims.

    Examples
    --------
    >>> from neurobridge import figures
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> attrs = score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 40}, n_splits=2, n_permutations=3, seed=0)
    >>> ax = figures.null_distribution(make_score([0.8, 0.9], ("split",), null=[0.4, 0.5, 0.6], attrs=attrs))
    >>> ax.get_xlabel()
    'accuracy'
    """
    summary = aggregate(score, n_bootstrap=200)
    if isinstance(summary, xr.Dataset):
        raise ValueError(
            f"figures: found a Score on {tuple(summary['raw'].dims)}; expected one cell. Mend: figures.cells(score)."
        )
    ax = new_axes(ax, size=(6.0, 2.6))
    null = score["null"].values[np.isfinite(score["null"].values)]
    if null.size:
        label = f"{null.size} permutations, 95 % below {summary['null_95']:.3f}"
        ax.hist(null, bins=min(30, max(5, null.size // 20)), color="0.8", edgecolor="0.4", label=label)
    ax.axvline(summary["raw"], color=PALETTE["fused"], linewidth=2, label=f"score {summary['raw']:.3f}")
    if summary["raw_low"] is not None:
        band: dict[str, Any] = {"color": PALETTE["fused"], "alpha": 0.2, "linewidth": 0}
        ax.axvspan(summary["raw_low"], summary["raw_high"], label="its 95 % interval", **band)
    if summary["ceiling"] is not None and score.attrs.get("normalization") == "ratio":
        ax.axvline(summary["ceiling"], label=f"ceiling {summary['ceiling']:.2f}", **CEILING)
    ax.set_xlabel(str(score.attrs["metric"]))
    ax.set_ylabel("permutations (count)" if null.size else "")
    if not null.size:
        ax.set_yticks([])
    ax.set_title(title)
    legend_beside(ax)
    return ax
