"""Figures of stimuli: side by side, and beside the partners that a coupling gives them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neurobridge.bridge import Coupling
from neurobridge.figures.layout import new_axes
from neurobridge.points.options import require_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    pixels = _pixels(images)
    require_count(n_columns, name="n_columns")
    ax = new_axes(ax, size=(4.5, 3.4))
    n_rows = -(-len(pixels) // n_columns)
    blank = np.full((n_rows * n_columns - len(pixels), *pixels.shape[1:]), 255, dtype=pixels.dtype)
    grid = np.concatenate([pixels, blank]).reshape(n_rows, n_columns, *pixels.shape[1:])
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in grid], axis=0)
    ax.imshow(sheet, cmap="gray" if sheet.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(_in_lines(title, ax))
    return ax


def _in_lines(title: str, ax: Axes) -> str:
    """Break a title that is wider than its axes. Matplotlib does so itself, but then leaves no room for the lines."""
    figure: Any = ax.figure.figure
    width = 72 * figure.get_figwidth() * ax.get_position().width
    letters = max(12, int(width / (0.55 * float(ax.title.get_fontsize()))))
    return "\n".join(textwrap.fill(line, letters) for line in title.splitlines())


def partners(
    coupling: Coupling,
    source: xr.DataArray,
    target: xr.DataArray | None = None,
    *,
    ax: Axes | None = None,
    rows: Sequence[int] | None = None,
    n_partners: int = 3,
    title: str = "",
) -> Axes:
    """Draw stimuli beside the partners that a plan gives them, the likeliest first.

    Parameters
    ----------
    coupling : Coupling
        E.g. ``aligner.coupling_``.
    source, target : xarray.DataArray
        Images of the source and of the target points, in their order: dims ``(presentation, row, column[, channel])``, uint8, of
        one size. The target's are the source's by default.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    rows : sequence of int, optional
        Source points that are drawn; eight, evenly spaced, by default.
    n_partners : int
        Target points beside each.
    title : str

    Returns
    -------
    matplotlib.axes.Axes
        A row a stimulus: its image, then the partners with their share of its mass.

    Raises
    ------
    ValueError
        Not a coupling, or not one image a point.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> from neurobridge.bridge import Coupling
    >>> images = xr.DataArray(np.zeros((6, 4, 4), dtype=np.uint8), dims=("presentation", "row", "column"))
    >>> pairs = Coupling.of_pairs((np.arange(6), np.arange(6)), (6, 6))
    >>> figures.partners(pairs, images, rows=[0, 5], n_partners=2).images[0].get_array().shape
    (12, 15)
    """
    target = source if target is None else target
    if not isinstance(coupling, Coupling) or coupling.shape != (len(source), len(target)):
        shape = coupling.shape if isinstance(coupling, Coupling) else type(coupling).__name__
        raise ValueError(
            f"figures: found a coupling of {shape} and {len(source)} and {len(target)} images; expected one image a point. "
            "Mend: partners(aligner.coupling_, source_images, target_images) with the images of the rows that were fitted."
        )
    left, right = _pixels(source), _pixels(target)
    require_count(n_partners, name="n_partners")
    drawn = (
        np.linspace(0, len(left) - 1, min(8, len(left))).astype(int) if rows is None else np.asarray(rows, dtype=int)
    )
    shares = np.nan_to_num(np.atleast_2d(coupling.conditional(drawn)))
    best = np.argsort(-shares, axis=1, kind="stable")[:, :n_partners]
    height, width, gap = left.shape[1], left.shape[2], max(1, left.shape[2] // 6)
    if right.shape[1:3] != (height, width) or left.ndim != right.ndim:
        raise ValueError(
            f"figures: found images of {left.shape[1:]} and {right.shape[1:]}; expected one size. Mend: resize the target's images."
        )
    room = max(2, height // 5)
    step, step_down = width + gap, height + room
    across = width + 2 * gap + n_partners * step - gap
    sheet = np.full((len(drawn) * step_down, across, *left.shape[3:]), 255, dtype=np.uint8)
    ax = new_axes(ax, size=(1.2 * (n_partners + 1) + 0.6, 1.15 * len(drawn) + 0.6))
    for line, row in enumerate(drawn):
        top = line * step_down
        sheet[top : top + height, :width] = left[row]
        for column, j in enumerate(best[line]):
            start = width + 2 * gap + column * step
            sheet[top : top + height, start : start + width] = right[j]
            ax.text(
                start + width / 2, top + height, f"{shares[line, j]:.0%}", ha="center", va="top", fontsize="x-small"
            )
    ax.imshow(sheet, cmap="gray" if sheet.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title or "stimulus, and its likeliest partners with their share of the mass")
    return ax


def _pixels(images: xr.DataArray) -> np.ndarray:
    """Return images as (n, row, column) or (n, row, column, 3 or 4), uint8.

    Raises
    ------
    ValueError
        Not images of bytes.
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
    return pixels[..., 0] if pixels.ndim == 4 and pixels.shape[-1] == 1 else pixels
