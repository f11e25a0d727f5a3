"""Figure of a variance partition: a Venn diagram of two or three spaces, or bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neurobridge.figures.layout import new_axes
from neurobridge.figures.styles import styles_of
from neurobridge.points.options import is_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AND = " + "
# Centres of the circles of radius 1, and of what is written in each part, by the places of its spaces.
_TWO = ([(-0.55, 0.0), (0.55, 0.0)], {(0,): (-1.0, 0.0), (1,): (1.0, 0.0), (0, 1): (0.0, 0.0)})
_THREE = (
    [(-0.55, 0.35), (0.55, 0.35), (0.0, -0.6)],
    {
        (0,): (-1.0, 0.6), (1,): (1.0, 0.6), (2,): (0.0, -1.15), (0, 1): (0.0, 0.8), (0, 2): (-0.6, -0.25),
        (1, 2): (0.6, -0.25), (0, 1, 2): (0.0, 0.05),
    },
)  # fmt: skip


def variance_parts(score: xr.Dataset, *, kind: str = "auto", ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the unique and shared parts of a variance partition: medians over sites, with their intervals.

    Values are in units of the ceiling where the score has one. The circles of the Venn diagram are of one size: the numbers in
    them are the result, for parts may be negative and then have no area.

    Parameters
    ----------
    score : xarray.Dataset
        From `partition_variance`.
    kind : {"auto", "venn", "bars"}
        "auto" draws circles for two or three spaces and bars for four.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        An unknown kind, or a Venn diagram of four spaces.

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> parts = ["A", "B", "A + B"]
    >>> numbers = {"median": [0.2, 0.1, 0.3], "median_low": [0.1, 0.0, 0.2], "median_high": [0.3, 0.2, 0.4]}
    >>> score = xr.Dataset({name: ("part", values) for name, values in numbers.items()}, coords={"part": parts})
    >>> ax = figures.variance_parts(score, kind="bars")
    >>> ax.get_xlabel()
    'held-out variance explained, R$^2$ (median over sites)'
    """
    parts = [tuple(str(part).split(_AND)) for part in score["part"].values]
    names = [part[0] for part in parts if len(part) == 1]
    if kind is None or not is_choice(kind, ("auto", "venn", "bars")) or (kind == "venn" and len(names) > 3):
        raise ValueError(
            f"figures: found kind={kind!r:.40} for {len(names)} spaces; expected 'auto', 'bars', or 'venn' of two or three. "
            "Mend: kind='bars'."
        )
    in_units = "normalized_median" in score and bool(np.isfinite(score["normalized_median"]).all())
    stem = "normalized_" if in_units else "median_"
    middle = score[f"{stem}median" if in_units else "median"].values
    low, high = score[f"{stem}low"].values, score[f"{stem}high"].values
    label = "explainable variance, R$^2$ / ceiling" if in_units else "variance explained, R$^2$"
    ax = new_axes(ax, size=(4.8, 4.0))
    if kind == "bars" or len(names) > 3:
        _bars(ax, [_AND.join(part) for part in parts], middle, low, high)
        ax.set_xlabel(f"held-out {label} (median over sites)")
    else:
        _venn(ax, names, parts, middle, low, high)
        ax.set_xlabel(f"held-out {label}\n(median over sites, interval below)")
    ax.set_title(title, fontsize="medium")
    return ax


def _bars(ax: Axes, labels: list[str], middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    places = np.arange(len(labels))
    spread = np.nan_to_num([middle - low, high - middle])
    styles = styles_of(label for label in labels if _AND not in label)
    colors = [styles[label]["color"] if label in styles else "0.7" for label in labels]
    # The median over sites of the drawn values need not lie on both sides of the median itself.
    ax.barh(places, middle, xerr=np.maximum(spread, 0), color=colors, edgecolor="black", capsize=2)
    ax.axvline(0, color="black", linewidth=1)
    unique = [f"{label} (unique)" if _AND not in label else f"{label} (shared)" for label in labels]
    ax.set_yticks(places, labels=unique)
    ax.invert_yaxis()


def _venn(
    ax: Axes, names: list[str], parts: list[tuple[str, ...]], middle: np.ndarray, low: np.ndarray, high: np.ndarray
) -> None:
    from matplotlib.patches import Circle

    centres, places = _TWO if len(names) == 2 else _THREE
    styles = styles_of(names)
    for name, (x, y) in zip(names, centres, strict=True):
        color = styles[name]["color"]
        ax.add_patch(Circle((x, y), 1.0, facecolor=color, edgecolor=color, alpha=0.3, linewidth=1.5))
        above = y >= 0
        ax.text(
            1.45 * x, y + (1.12 if above else -1.12), name, ha="center", va="bottom" if above else "top", weight="bold"
        )
    for part, value, bottom, top in zip(parts, middle, low, high, strict=True):
        x, y = places[tuple(sorted(names.index(name) for name in part))]
        bounds = f"\n[{bottom:.2f}, {top:.2f}]" if np.isfinite(bottom) else ""
        ax.text(x, y, f"{value:.3f}{bounds}", ha="center", va="center", fontsize="small")
    ax.set_xlim(-1.75, 1.75)
    ax.set_ylim(-2.0, 1.75) if len(names) == 3 else ax.set_ylim(-1.2, 1.4)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
