"""Curves: held-out scores by number of pairs, by depth of a layer, by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neurobridge.evaluate import aggregate
from neurobridge.figures.layout import legend_beside, new_axes, reference_lines
from neurobridge.figures.styles import styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]]
#: From this number of draws on the bars of a learning curve are 95 % intervals; of fewer draws they are ranges.
LEAST_FOR_INTERVAL = 5


def learning_curve(
    curves: xr.Dataset | Curves,
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
    curves : xarray.Dataset, or mapping of method to (n_pairs, values)
        What `neurobridge.learning_curve` returned: the line is the mean over seeds, the bar its 95 % t interval, or with fewer
        than five seeds their range. Or ``n_pairs`` of length k and, for each, the values of every seed: the bar is their range.
    null : float, optional
        95th percentile of the permutation null, drawn as the chance line. Of a Dataset by default the largest of its cells.
    ceiling : float, optional
        Largest r in reach, drawn as a dotted line; far above the data, as a mark at the upper edge. Of a Dataset by default its
        own.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    ylabel, title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A Dataset that is no learning curve.

    Examples
    --------
    >>> from neurobridge import figures
    >>> ax = figures.learning_curve({"ridge": ([5, 50], [[0.1, 0.2], [0.3, 0.4]])}, null=0.05)
    >>> ax.get_xlabel()
    'paired stimuli (count, log scale)'
    """
    if isinstance(curves, xr.Dataset):
        lines = curve_lines(curves)
        null = _chance_of(curves) if null is None else null
        ceiling = float(curves["ceiling"]) if ceiling is None and "ceiling" in curves else ceiling
    else:
        lines = {str(method): _line_of(*line) for method, line in curves.items()}
    ax = new_axes(ax)
    styles = styles_of(lines)
    for (method, (_, mean, spread)), places in zip(lines.items(), set_apart(lines), strict=True):
        # Of equal values the mean may lie outside by rounding.
        spread = np.maximum(spread, 0)
        ax.errorbar(places, mean, yerr=spread, capsize=2, label=method, **{"markersize": 5, **styles[method]})
    reference_lines(ax, null, ceiling)
    ax.set_xscale("log")
    ticks = sorted({float(n) for counts, *_ in lines.values() for n in counts})
    ax.set_xticks(ticks, labels=[f"{n:.0f}" for n in ticks])
    ax.minorticks_off()
    ax.set_xlabel("paired stimuli (count, log scale)")
    ax.set_ylabel(ylabel)
    ax.set_title(title)
    legend_beside(ax)
    return ax


Line = tuple[np.ndarray, np.ndarray, np.ndarray]
# Decades of the log axis between two methods at one number of pairs, and between the first and the last of many.
_STEP, _WIDTH = 0.012, 0.08


def set_apart(lines: Mapping[str, Line]) -> list[np.ndarray]:
    """Return the places of each line, shifted so that the bars of two methods at one number of pairs do not hide each other.

    Lines without bars stay where they are. A shift is at most a quarter of the way to the next number of pairs.
    """
    counts = np.unique(np.concatenate([counts for counts, *_ in lines.values()])) if lines else np.empty(0)
    gaps = np.diff(np.log10(counts[counts > 0]))
    width = min(_WIDTH, 0.5 * float(gaps.min())) if gaps.size else _WIDTH
    step = min(_STEP, width / max(len(lines), 1))
    has_bars = any(np.any(spread) for _, _, spread in lines.values())
    shifts = (np.arange(len(lines)) - (len(lines) - 1) / 2) * step if has_bars else np.zeros(len(lines))
    return [counts * 10**shift for (counts, *_), shift in zip(lines.values(), shifts, strict=True)]


def curve_lines(curve: xr.Dataset) -> dict[str, Line]:
    """Return of each method of a learning curve the counts (k,), the means (k,) and the bars below and above them (2, k).

    Raises
    ------
    ValueError
        Not a learning curve.
    """
    if not is_learning_curve(curve):
        raise ValueError(
            f"figures: found a Dataset with raw on {tuple(curve['raw'].dims) if 'raw' in curve else 'no raw'}; expected a learning "
            "curve, (aligner, n_pairs, seed). Mend: pass what neurobridge.learning_curve returned; figures.plot draws any Score."
        )
    out = {}
    for method in curve["aligner"].values:
        values = curve["raw"].sel(aligner=method).values
        counts, mean, spread = _line_of(curve["n_pairs"].values, values)
        if values.shape[1] >= LEAST_FOR_INTERVAL:
            of_method = curve.sel(aligner=method)
            spread = np.array([mean - of_method["low"].values, of_method["high"].values - mean])
        out[str(method)] = counts, mean, spread
    return out


def is_learning_curve(thing: Any) -> bool:
    """Tell whether something is what `neurobridge.learning_curve` returns."""
    return isinstance(thing, xr.Dataset) and "raw" in thing and thing["raw"].dims == ("aligner", "n_pairs", "seed")


def _line_of(counts: Any, values: Any) -> Line:
    mean = np.array([np.mean(v) for v in values])
    spread = np.array([[np.mean(v) - np.min(v), np.max(v) - np.mean(v)] for v in values]).T
    return np.asarray(counts, dtype=float), mean, spread


def _chance_of(score: xr.Dataset) -> float | None:
    """Return the largest 95 % quantile of the nulls of all cells, None without permutations."""
    if not score["null"].size or not bool(score["null"].notnull().any()):
        return None
    return float(aggregate(score, n_bootstrap=0)["null_95"].max())


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
    ax = new_axes(ax)
    ticks: list[str] = []
    null = -np.inf
    styles = styles_of(scores)
    same = len({tuple(table["layer"].values.tolist()) for table in scores.values()}) == 1
    for k, (name, table) in enumerate(scores.items()):
        by_split = np.median(table["raw"].values, axis=2)
        names = table["layer"].values.tolist()
        start = 0 if same else len(ticks)
        places = start + np.arange(len(names))
        if k == 0 or not same:
            ticks += names
        mean, style = by_split.mean(axis=1), {"markersize": 5, **styles[str(name)]}
        ax.errorbar(places, mean, yerr=by_split.std(axis=1), capsize=2, label=name, **style)
        chosen = names.index(table.attrs["layer"])
        ax.plot(places[chosen], mean[chosen], "o", markersize=12, fillstyle="none", color="black",
                label="chosen on these stimuli" if k == 0 else None)  # fmt: skip
        null = max(null, float(np.quantile(table["null"].values, 0.95))) if table["null"].size else null
    reference_lines(ax, null, ceiling)
    slant: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(ticks) > 4 else {}
    ax.set_xticks(range(len(ticks)), labels=ticks, **slant)
    ax.set_xlabel("layer, by depth")
    ax.set_ylabel("Pearson r on held-out folds")
    ax.set_title(title)
    legend_beside(ax)
    return ax
