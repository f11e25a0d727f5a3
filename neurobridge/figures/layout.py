"""Axes, legends, panel letters, sizes of journals, and files of figures."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl

from neurobridge.figures.styles import CEILING, CHANCE
from neurobridge.points.options import is_choice
from neurobridge.store.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG = logging.getLogger(__name__)
_MM = 1 / 25.4
_TEXT_OF_PRINT = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "lines.markersize": 3.5,
    "lines.linewidth": 1.0,
    "axes.linewidth": 0.6,
    "savefig.dpi": 300,
}
#: Size of a figure -> settings of matplotlib: "nature" is one column of 89 mm, "wide" two columns of 183 mm, both with text of
#: 6 and 7 points, as Nature asks for; other journals of the field differ by a few millimetres.
JOURNALS: dict[str, dict[str, Any]] = {
    "nature": {**_TEXT_OF_PRINT, "figure.figsize": (89 * _MM, 68 * _MM)},
    "wide": {**_TEXT_OF_PRINT, "figure.figsize": (183 * _MM, 80 * _MM)},
}
FORMATS = ("png", "svg", "pdf")
_SCREEN = (6.0, 3.6)
_REFERENCE = "reference"


@contextlib.contextmanager
def journal(style: str | None) -> Iterator[None]:
    """Draw figures of a journal's width and size of text inside a ``with`` block.

    Parameters
    ----------
    style : {"nature", "wide"} or None
        A key of `JOURNALS`; None leaves matplotlib's settings as they are.

    Raises
    ------
    ValueError
        Another style.

    Examples
    --------
    >>> from neurobridge import figures
    >>> with figures.journal("nature"):
    ...     ax = figures.learning_curve({"ridge": ([5, 50], [[0.1], [0.3]])})
    >>> round(25.4 * ax.figure.get_figwidth())
    89
    """
    if style is not None and not is_choice(style, JOURNALS):
        raise ValueError(
            f"figures: found style={style!r}; expected one of {list(JOURNALS)}. Mend: style='nature' for one column."
        )
    settings: Any = {} if style is None else JOURNALS[style]
    with mpl.rc_context(settings):
        yield


def new_axes(ax: Axes | None = None, *, size: tuple[float, float] = _SCREEN) -> Axes:
    """Return the axes given, or those of a new figure of ``size`` in inches, scaled to the width that a journal asks for."""
    return ax if ax is not None else new_panels(1, size=size)[0]


def new_panels(n_panels: int, *, size: tuple[float, float] = _SCREEN, **options: Any) -> list[Axes]:
    """Return the axes of a new figure, side by side."""
    # Imported here: pyplot picks a display backend, which importing the package must not do.
    import matplotlib.pyplot as plt

    width, height = size
    if list(mpl.rcParams["figure.figsize"]) != list(mpl.rcParamsDefault["figure.figsize"]):
        # The width that a journal or the user asks for, in the proportions of this figure.
        width = mpl.rcParams["figure.figsize"][0]
        height *= width / size[0]
    figure = plt.figure(figsize=(width, height), layout="constrained")
    return list(figure.subplots(1, n_panels, squeeze=False, **options)[0])


def is_beyond(ceiling: float, top: float) -> bool:
    """Tell whether a ceiling is so high that data up to ``top`` would be left with less than 60 % of the axis."""
    return bool(0 < top < 0.6 * ceiling)


def reference_lines(ax: Axes, null: float | None, ceiling: float | None, *, chance: str = "chance") -> None:
    """Draw chance and ceiling as lines that the legend names with their values.

    A ceiling so high that the data would be left with less than 60 % of the axis is a mark at the upper edge.
    """
    if ceiling is not None and ceiling == ceiling:
        if not is_beyond(ceiling, ax.dataLim.y1):
            line = ax.axhline(ceiling, **CEILING, label=f"ceiling {ceiling:.2f}")
        else:
            # In the units of the axes, so that it does not stretch the scale.
            (line,) = ax.plot(
                [0.5], [1.0], transform=ax.transAxes, clip_on=False, marker="^", markersize=5, color="black",
                linestyle="none", label=f"ceiling {ceiling:.2f}, beyond the axis",
            )  # fmt: skip
        line.set_gid(_REFERENCE)
    if null is not None and null == null:
        ax.axhline(null, **CHANCE, label=f"{chance} (95th pct.) {null:.2f}").set_gid(_REFERENCE)


def legend_beside(ax: Axes, **options: Any) -> None:
    """Put the legend to the right of the axes, where it covers no data; chance and ceiling stand last in it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    **options
        Of `matplotlib.axes.Axes.legend`; they replace those chosen here.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from neurobridge import figures
    >>> _, ax = plt.subplots(layout="constrained")
    >>> _ = ax.plot([1, 2], label="mine")
    >>> figures.legend_beside(ax)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['mine']
    """
    entries = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: _is_reference(entry[0]))
    if entries:
        handles, labels = [list(column) for column in zip(*entries, strict=True)]
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
        ax.legend(handles, labels, **{**place, "fontsize": _small(), "frameon": False, **options})


def _is_reference(handle: Any) -> bool:
    return bool(getattr(handle, "get_gid", lambda: None)() == _REFERENCE)


def _small() -> Any:
    return (
        min(mpl.rcParams["legend.fontsize"], 8) if isinstance(mpl.rcParams["legend.fontsize"], int | float) else "small"
    )


def shared_legend(axes: Iterable[Axes], **options: Any) -> None:
    """Put one legend beside all panels of a figure; chance and ceiling of each panel are named below its title.

    Parameters
    ----------
    axes : iterable of matplotlib.axes.Axes
        Of one figure, made with ``layout="constrained"``.
    **options
        Of `matplotlib.figure.Figure.legend`; they replace those chosen here.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from neurobridge import figures
    >>> figure, axes = plt.subplots(1, 2, layout="constrained")
    >>> for ax in axes:
    ...     _ = figures.learning_curve({"ridge": ([5, 50], [[0.1], [0.3]])}, ax=ax, null=0.05)
    >>> figures.shared_legend(axes)
    >>> [text.get_text() for text in figure.legends[0].get_texts()], axes[0].get_title()
    (['ridge'], 'chance (95th pct.) 0.05')
    """
    axes = list(axes)
    methods: dict[str, Any] = {}
    for ax in axes:
        lines: list[str] = []
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if _is_reference(handle):
                lines.append(label)
            else:
                methods.setdefault(label, handle)
        title = "\n".join(filter(None, [ax.get_title(), "; ".join(lines)]))
        ax.set_title(title, fontsize="small" if lines else None)
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
    if methods:
        chosen = {"loc": "outside right upper", "fontsize": _small(), "frameon": False, **options}
        cast("Figure", axes[0].figure).legend(list(methods.values()), list(methods), **chosen)


def panel_letters(axes: Iterable[Axes], *, first: str = "a") -> None:
    """Write bold letters at the upper left of panels, from ``a`` on.

    Parameters
    ----------
    axes : iterable of matplotlib.axes.Axes
        In reading order.
    first : str
        Letter of the first panel.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from neurobridge import figures
    >>> _, axes = plt.subplots(1, 2)
    >>> figures.panel_letters(axes)
    >>> [ax.get_title(loc="left") for ax in axes]
    ['a', 'b']
    """
    for number, ax in enumerate(axes):
        ax.set_title(chr(ord(first) + number), loc="left", fontweight="bold")


def save_figure(figure: Figure | Axes, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write a figure as PNG, SVG and PDF, with text kept as text, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or matplotlib.axes.Axes
    folder : path
        Made where it is missing.
    name : str
        Of the files, without suffix.

    Returns
    -------
    list of pathlib.Path
        The PNG, the SVG and the PDF, each written whole or not at all; the same figure gives the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> from neurobridge import figures
    >>> ax = figures.accuracies([{"name": "ridge", "accuracy": [0.5], "chance": 0.25}])
    >>> [path.name for path in figures.save_figure(ax, f"{tempfile.mkdtemp()}/new", "bars")]
    ['bars.png', 'bars.svg', 'bars.pdf']
    """
    import matplotlib.pyplot as plt

    # Of axes in a subfigure the second step is needed; a figure is its own.
    drawn: Any = figure.figure.figure
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    dpi = max(150, mpl.rcParams["savefig.dpi"]) if isinstance(mpl.rcParams["savefig.dpi"], int | float) else 150
    # Text that an editor can change; without a date in it, the same numbers give the same file.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "neurobridge", "pdf.fonttype": 42, "ps.fonttype": 42}
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    # A layout engine keeps everything inside the figure, whose width is the one that was asked for.
    tight = "tight" if drawn.get_layout_engine() is None else None
    with mpl.rc_context(settings):
        for suffix in FORMATS:
            path = folder / f"{name}.{suffix}"
            with atomic_path(path) as partial:
                drawn.savefig(partial, dpi=dpi, format=suffix, metadata=undated.get(suffix), bbox_inches=tight)
            paths.append(path)
            _LOG.info("wrote %s", path)
    plt.close(drawn)
    return paths
