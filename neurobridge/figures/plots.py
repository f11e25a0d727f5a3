"""Figures: an axis in, the same axis out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import xarray as xr

from neurobridge.figures.styles import STYLES
from neurobridge.points.options import require_count
from neurobridge.store.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _axis(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    # Imported here: pyplot picks a display backend, which importing the package must not do.
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.5, 3.4), layout="constrained")[1]


def learning_curve(
    curves: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    *,
    ax: Axes | None = None,
    ylabel: str = "Pearson r on held-out stimuli",
    null: float | None = None,
    ceiling: float | None = None,
    title: str = "",
) -> Axes:
    """Draw one line a method against the number of pairs.

    Parameters
    ----------
    curves : mapping of method to (n_pairs, values)
        ``n_pairs`` of length k and, for each, the values of every seed; the line is their mean, the bar their range.
    null : float, optional
        95th percentile of the permutation null, drawn as the chance line.
    ceiling : float, optional
        Largest r in reach, drawn as a dotted line.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    ylabel, title : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from neurobridge import figures
    >>> ax = figures.learning_curve({"ridge": ([5, 50], [[0.1, 0.2], [0.3, 0.4]])}, null=0.05)
    >>> ax.get_xlabel()
    'paired stimuli (count, log scale)'
    """
    ax = _axis(ax)
    for method, (n_pairs, values) in curves.items():
        mean = np.array([np.mean(v) for v in values])
        spread = np.array([[np.mean(v) - np.min(v), np.max(v) - np.mean(v)] for v in values]).T
        ax.errorbar(n_pairs, mean, yerr=spread, capsize=2, markersize=5, label=method, **STYLES.get(method, {}))
    _reference_lines(ax, null, ceiling)
    ax.set_xscale("log")
    ticks = sorted({int(n) for counts, _ in curves.values() for n in counts})
    ax.set_xticks(ticks, labels=[str(n) for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel("paired stimuli (count, log scale)")
    ax.set_ylabel(ylabel)
    ax.set_title(title, fontsize="medium")
    ax.legend(fontsize="small", framealpha=0.9, edgecolor="none")
    return ax


def _reference_lines(ax: Axes, null: float | None, ceiling: float | None, *, chance: str = "chance") -> None:
    if ceiling is not None and np.isfinite(ceiling):
        ax.axhline(ceiling, color="black", linestyle=":", linewidth=1, label=f"ceiling {ceiling:.2f}")
    if null is not None and np.isfinite(null):
        ax.axhline(null, color="0.5", linestyle="--", linewidth=1, label=f"{chance} (95th pct.) {null:.2f}")


def sites(
    scores: Mapping[str, xr.Dataset], *, ax: Axes | None = None, null: float | None = None, title: str = ""
) -> Axes:
    """Draw every site's correlation against its own ceiling, one marker a method.

    Parameters
    ----------
    scores : mapping of method to Score
        Datasets with ``raw`` (split, neuroid) and ``ceiling`` (neuroid), a reliability: the largest correlation
        that a perfect model can reach is its square root, drawn as the black line. Without ceilings, sites are ranked by their
        mean over methods: every method has a site at the same place.
    null : float, optional
        Chance line: 95th percentile of the permutation null of a single site, above that of the median over sites. By default the
        largest ``null_site_95`` of the scores; no line where they have none.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Scores without ceilings and without ``neuroid_id`` that have different numbers of sites.

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> score = xr.Dataset(
    ...     {"raw": (("split", "neuroid"), [[0.1, 0.5]]), "ceiling": ("neuroid", [0.4, 0.9]), "null_site_95": 0.2}
    ... )
    >>> ax = figures.sites({"ridge": score})
    >>> ax.get_xlabel()
    'reliability of the site (Spearman-Brown)'
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['ridge', 'ceiling on r', 'chance of one site (95th pct.) 0.20']
    """
    ax = _axis(ax)
    reliable = all(bool(np.isfinite(score["ceiling"].values).any()) for score in scores.values())
    place_of = {} if reliable else _shared_order(scores)
    for method, score in scores.items():
        style = {"marker": ".", **STYLES.get(method, {}), "linestyle": "none"}
        r = score["raw"].mean("split").values
        places = score["ceiling"].values if reliable else np.array([place_of[site] for site in _site_names(score)])
        order = np.arange(len(r)) if reliable else np.argsort(places)
        ax.plot(places[order], r[order], markersize=4, alpha=0.75, label=method, **style)
    if reliable:
        grid = np.linspace(0, 1, 100)
        ax.plot(grid, np.sqrt(grid), color="black", linestyle=":", linewidth=1, label="ceiling on r")
        ax.set_xlabel("reliability of the site (Spearman-Brown)")
    else:
        ax.set_xlabel("site, ranked by the mean over methods (count)" if len(scores) > 1 else "site, ranked (count)")
    if null is None:
        of_sites = [float(score["null_site_95"]) for score in scores.values() if "null_site_95" in score]
        null = max((value for value in of_sites if np.isfinite(value)), default=None)
    _reference_lines(ax, null, None, chance="chance of one site")
    ax.set_ylabel("Pearson r on held-out stimuli")
    ax.set_title(title, fontsize="medium")
    ax.legend(fontsize="small", framealpha=0.9, edgecolor="none")
    return ax


def _site_names(score: xr.Dataset) -> list[Any]:
    """Return what tells the sites of a score apart: their ids, or their numbers where they have none."""
    if "neuroid_id" in score.coords:
        return list(score["neuroid_id"].values.tolist())
    return list(range(score["raw"].shape[-1]))


def _shared_order(scores: Mapping[str, xr.Dataset]) -> dict[Any, int]:
    """Rank the sites of all methods by their mean r over methods, the best first: place of each from 1."""
    counts = {score["raw"].shape[-1] for score in scores.values()}
    if len(counts) > 1 and any("neuroid_id" not in score.coords for score in scores.values()):
        raise ValueError(
            f"figures: found {sorted(counts)} sites in scores without neuroid_id; expected ids, or the same sites in every score. "
            "Mend: draw the scores as they were returned, or select the same sites in all."
        )
    values: dict[Any, list[float]] = {}
    for score in scores.values():
        for site, r in zip(_site_names(score), score["raw"].mean("split").values.tolist(), strict=True):
            values.setdefault(site, []).append(r)
    mean = {site: float(np.mean([r for r in each if not np.isnan(r)] or [-np.inf])) for site, each in values.items()}
    return {site: place for place, site in enumerate(sorted(mean, key=lambda site: -mean[site]), start=1)}


def layer_profile(
    scores: Mapping[str, xr.Dataset], *, ax: Axes | None = None, ceiling: float | None = None, title: str = ""
) -> Axes:
    """Draw predictivity by depth, one line a model or region; the chosen layer is ringed.

    Parameters
    ----------
    scores : mapping of name to Dataset
        ``LayerChoice.scores``: ``raw`` (layer, split, neuroid), ``null`` (layer, permutation). The line is the median over
        neuroids, mean over splits; the bar is the standard deviation over splits. Layers follow each other in the model's order;
        those of several models stand side by side.
    ceiling : float, optional
        Largest r that a perfect model can reach, drawn dotted.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> table = xr.Dataset(
    ...     {
    ...         "raw": (("layer", "split", "neuroid"), [[[0.1, 0.2]], [[0.3, 0.4]]]),
    ...         "null": (("layer", "permutation"), [[0.0, 0.1], [0.0, 0.1]]),
    ...     },
    ...     coords={"layer": ["conv1", "conv2"]},
    ...     attrs={"layer": "conv2"},
    ... )
    >>> ax = figures.layer_profile({"IT": table})
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['conv1', 'conv2']
    """
    ax = _axis(ax)
    ticks: list[str] = []
    null = -np.inf
    styles = [STYLES[name] for name in ("fused", "ridge", "procrustes", "pairs-flow", "fused-flow", "bridge-flow")]
    same = len({tuple(table["layer"].values.tolist()) for table in scores.values()}) == 1
    for k, (name, table) in enumerate(scores.items()):
        by_split = np.median(table["raw"].values, axis=2)
        names = table["layer"].values.tolist()
        start = 0 if same else len(ticks)
        places = start + np.arange(len(names))
        if k == 0 or not same:
            ticks += names
        mean, style = by_split.mean(axis=1), styles[k % len(styles)]
        ax.errorbar(places, mean, yerr=by_split.std(axis=1), capsize=2, markersize=5, label=name, **style)
        chosen = names.index(table.attrs["layer"])
        ax.plot(places[chosen], mean[chosen], "o", markersize=12, fillstyle="none", color="black",
                label="chosen on these stimuli" if k == 0 else None)  # fmt: skip
        null = max(null, float(np.quantile(table["null"].values, 0.95))) if table["null"].size else null
    _reference_lines(ax, null, ceiling)
    slant: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(ticks) > 4 else {}
    ax.set_xticks(range(len(ticks)), labels=ticks, **slant)
    ax.set_xlabel("layer, by depth")
    ax.set_ylabel("Pearson r on held-out folds")
    ax.set_title(title, fontsize="medium")
    ax.legend(fontsize="small", framealpha=0.9, edgecolor="none")
    return ax


def accuracies(
    rows: Sequence[Mapping[str, Any]], *, ax: Axes | None = None, title: str = "", label: str = "category"
) -> Axes:
    """Draw decoding accuracies as bars, each with its own chance level.

    Parameters
    ----------
    rows : sequence of mappings
        Each with ``name``, ``accuracy`` (values of every seed) and ``chance``.
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
    ax = _axis(ax)
    places = np.arange(len(rows))
    means = [float(np.mean(row["accuracy"])) for row in rows]
    spread = np.array(
        [[m - np.min(r["accuracy"]), np.max(r["accuracy"]) - m] for m, r in zip(means, rows, strict=True)]
    )
    ax.barh(places, means, xerr=spread.T, color="0.75", edgecolor="black", capsize=2)
    for place, row in zip(places, rows, strict=True):
        ax.plot([row["chance"]] * 2, [place - 0.45, place + 0.45], color="#D55E00", linestyle="--", linewidth=1.5,
                label="chance (permutation)" if place == 0 else None)  # fmt: skip
    ax.set_yticks(places, labels=[row["name"] for row in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.02)
    ax.set_xlabel(f"accuracy, {label} (fraction correct)")
    ax.set_title(title, fontsize="medium")
    ax.legend(fontsize="small", frameon=True, loc="lower right")
    return ax


def contact_sheet(images: xr.DataArray, *, ax: Axes | None = None, n_columns: int = 6, title: str = "") -> Axes:
    """Draw images side by side.

    Parameters
    ----------
    images : xarray.DataArray
        Dims ``(presentation, row, column[, channel])``, uint8.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    n_columns : int
        Images a row.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Not images of bytes, or no column.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> images = xr.DataArray(np.zeros((5, 4, 4), dtype=np.uint8), dims=("presentation", "row", "column"))
    >>> figures.contact_sheet(images, n_columns=3).images[0].get_array().shape
    (8, 12)
    """
    pixels = np.asarray(images.values)
    if pixels.ndim not in (3, 4) or 0 in pixels.shape or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3, 4)):
        raise ValueError(
            f"figures: found images of shape {pixels.shape}; expected (presentation, row, column[, channel]), none zero, one, "
            "three or four channels. Mend: pass Experiment.images."
        )
    if pixels.dtype != np.uint8:
        raise ValueError(
            f"figures: found images of {pixels.dtype}; expected uint8 pixels. Mend: images.astype('uint8')."
        )
    if pixels.shape[-1] == 1 and pixels.ndim == 4:
        pixels = pixels[..., 0]
    require_count(n_columns, name="n_columns")
    ax = _axis(ax)
    n_rows = -(-len(pixels) // n_columns)
    blank = np.full((n_rows * n_columns - len(pixels), *pixels.shape[1:]), 255, dtype=pixels.dtype)
    grid = np.concatenate([pixels, blank]).reshape(n_rows, n_columns, *pixels.shape[1:])
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in grid], axis=0)
    ax.imshow(sheet, cmap="gray" if sheet.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, fontsize="medium")
    return ax


def save_figure(figure: Figure, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write a figure as PNG and SVG, with text kept as text, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : path
        An existing folder.
    name : str
        Of the files, without suffix.

    Returns
    -------
    list of pathlib.Path
        The PNG and the SVG; the same figure gives the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> from neurobridge import figures
    >>> ax = figures.accuracies([{"name": "ridge", "accuracy": [0.5], "chance": 0.25}])
    >>> [path.name for path in figures.save_figure(ax.figure, tempfile.mkdtemp(), "bars")]
    ['bars.png', 'bars.svg']
    """
    import matplotlib.pyplot as plt

    paths = []
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "neurobridge"}):
        for suffix in ("png", "svg"):
            path = Path(folder) / f"{name}.{suffix}"
            # Without a date in it, the same numbers give the same file.
            metadata = {"Date": None} if suffix == "svg" else None
            with atomic_path(path) as partial:
                figure.savefig(partial, dpi=150, format=suffix, metadata=metadata)
            paths.append(path)
    plt.close(figure)
    return paths
