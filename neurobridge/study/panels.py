"""Figures of experiments: panels of one size, bars of seeds, captions, files in the results folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.tables import mean_ci, select_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: From this number of values on the bars are intervals; of fewer values they are ranges.
LEAST_FOR_INTERVAL = 5
#: States what `error_bars` gives, for captions.
BARS = "mean; bars: 95 % CI over five seeds, the range of fewer"


def error_bars(series: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the lengths of error bars below and above the mean of each series.

    Parameters
    ----------
    series : sequence of n sequences of float

    Returns
    -------
    array of shape (2, n)
        Half of the 95 % Student interval from five values on, the range of fewer.

    Examples
    --------
    >>> from neurobridge.study import error_bars
    >>> error_bars([[1.0, 2.0, 6.0]]).tolist()
    [[2.0], [3.0]]
    """
    lengths = []
    for values in series:
        mean, half = mean_ci(values)
        lengths.append((half, half) if len(values) >= LEAST_FOR_INTERVAL else (mean - min(values), max(values) - mean))
    return np.array(lengths).T


def curves_of(
    records: Sequence[Record], value: str, *, columns: str = "n_pairs"
) -> dict[str, tuple[list[float], list[list[float]]]]:
    """Gather records into the curves that `neurobridge.figures.learning_curve` draws.

    Parameters
    ----------
    records : sequence of dict
        With the fields ``method``, `columns` and `value`.
    value : str
        Field on the vertical axis.
    columns : str
        Field on the horizontal axis.

    Returns
    -------
    dict of method to (counts, values)
        ``counts`` of length k, and the k lists of the values of every seed.

    Examples
    --------
    >>> from neurobridge.study import curves_of
    >>> curves_of([{"method": "ridge", "n_pairs": n, "r": n / 100} for n in (5, 50)], "r")
    {'ridge': ([5, 50], [[0.05], [0.5]])}
    """
    curves = {}
    for name in dict.fromkeys(record["method"] for record in records):
        of_method = select_records(records, method=name)
        across = sorted({record[columns] for record in of_method})
        curves[name] = across, [[r[value] for r in select_records(of_method, **{columns: key})] for key in across]
    return curves


def make_panels(
    n_panels: int, width: float = 5.0, height: float = 3.8, *, columns: int | None = None
) -> tuple[Figure, np.ndarray]:
    """Make axes of one size, in one row or in rows of a number of columns.

    Parameters
    ----------
    n_panels : int
    width, height : float
        Of one panel, in inches.
    columns : int, optional
        Panels a row; all of them by default.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : array of Axes, shape (n_panels,)

    Examples
    --------
    >>> from neurobridge.study import make_panels
    >>> figure, axes = make_panels(3, columns=2)
    >>> len(axes), figure.get_size_inches().tolist()
    (3, [10.0, 7.6])
    """
    # Imported here: pyplot picks a display backend, which importing the package must not do.
    from matplotlib import pyplot as plt

    across = min(n_panels, columns or n_panels)
    down = -(-n_panels // across)
    size = (width * across, height * down)
    figure, axes = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat[n_panels:]:
        ax.set_axis_off()
    return figure, axes.flat[:n_panels]


def count_ticks(ax: Axes, counts: Sequence[int]) -> None:
    """Put one tick at each number of pairs, and no other.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    counts : sequence of int

    Examples
    --------
    >>> from neurobridge.study import count_ticks, make_panels
    >>> _, (ax,) = make_panels(1)
    >>> count_ticks(ax, [5, 50])
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['5', '50']
    """
    ax.set_xticks(counts, labels=[str(n) for n in counts])
    ax.minorticks_off()


def save_panels(figure: Figure, run: Run, name: str, caption: str) -> dict[str, str]:
    """Write the caption under the panels and save them as PNG and SVG in the results folder.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    run : Run
        Its ``out`` is the results folder.
    name : str
        Of the files, without suffix.
    caption : str
        States the data, n and the seeds.

    Returns
    -------
    dict
        ``file`` and ``caption``, as the results list their figures.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.study import Run, make_panels, save_panels
    >>> figure, axes = make_panels(1)
    >>> run = Run(quick=True, seed=0, n_seeds=1, out=Path(tempfile.mkdtemp()))
    >>> save_panels(figure, run, "empty", "Simulated; n = 0; seed 0")["file"]
    'empty.png'
    """
    figure.supxlabel(caption, fontsize="x-small")
    figures.save_figure(figure, run.out, name)
    return {"file": f"{name}.png", "caption": caption}
