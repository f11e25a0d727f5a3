"""Figures of scores in time, of pairs of times, and by number of sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neurobridge.evaluate.score.schema import DRAW
from neurobridge.evaluate.time_bins.courses import TESTED, TRAINED, find_clusters, time_course
from neurobridge.figures.layout import legend_beside, new_axes, reference_lines
from neurobridge.figures.styles import styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of a new figure, in inches.
_SIZE = (6.0, 3.4)
# Of a line in time, at most.
_MOST_MARKERS = 8


def time_courses(
    scores: Mapping[str, xr.Dataset],
    *,
    ax: Axes | None = None,
    forming: float = 0.05,
    alpha: float = 0.05,
    ylabel: str = "",
    unit: str = "ms",
    title: str = "",
) -> Axes:
    """Draw scores against time, one line a score, with chance and bars under the bins of significant clusters.

    Parameters
    ----------
    scores : mapping of name to Score
        With the leading dim ``time_bin``. Bands are the standard error over splits, of which those that share stimuli are not
        independent.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    forming, alpha : float
        As in `time_course`; scores without a null have no bars.
    ylabel : str
        By default the metric of the first score.
    unit : str
        Of ``time_bin_start`` and ``time_bin_end``.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> raw = np.array([[0.5, 0.4], [0.9, 0.8], [0.9, 1.0]])  # simulated
    >>> null = np.random.default_rng(0).normal(0.5, 0.1, size=(3, 99))
    >>> score = make_score(
    ...     raw,
    ...     ("time_bin", "split"),
    ...     null=null,
    ...     coords={"time_bin_start": ("time_bin", [0, 50, 100]), "time_bin_end": ("time_bin", [50, 100, 150])},
    ...     attrs=score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20}, 2, 99, 0),
    ... )
    >>> figures.time_courses({"IT": score}).get_xlabel()
    'time, middle of the bin (ms)'
    """
    ax = new_axes(ax, size=_SIZE)
    marks = []
    styles = styles_of(scores)
    for name, score in scores.items():
        style = styles[str(name)]
        colour = style["color"]
        with_null = score["null"].shape[-1] > 0
        course = time_course(score if with_null else _without_null(score), forming=forming, alpha=alpha)
        time, value = course["time"].values, course["value"].values
        splits = score["raw"].median("neuroid") if "neuroid" in score["raw"].dims else score["raw"]
        n = splits.shape[-1] if splits.ndim > 1 else 1
        spread = splits.std(str(splits.dims[-1]), ddof=1).values / np.sqrt(n) if n > 1 else np.zeros_like(value)
        ax.fill_between(time, value - spread, value + spread, color=colour, alpha=0.2, linewidth=0)
        every = -(-len(time) // _MOST_MARKERS)
        ax.plot(time, value, label=name, markevery=every, **{"linewidth": 1.5, "markersize": 4, **style})
        if with_null:
            ax.plot(time, course["chance"].values, color=colour, linewidth=0.8, linestyle=":", alpha=0.8)
            marks.append((course, colour))
    low, high = ax.get_ylim()
    for row, (course, colour) in enumerate(marks):
        kept, time = course["significant"].values, course["time"].values
        half = np.diff(time).min() / 2 if len(time) > 1 else 0.5
        place = low - (row + 1) * 0.035 * (high - low)
        for number in np.unique(course["cluster"].values[kept]):
            inside = time[course["cluster"].values == number]
            ax.plot(
                [inside[0] - half, inside[-1] + half], [place, place], color=colour, linewidth=3, solid_capstyle="butt"
            )
    named = "time_bin_start" in next(iter(scores.values())).coords
    ax.set_xlabel(f"time, middle of the bin ({unit})" if named else "time bin (number)")
    ax.set_ylabel(ylabel or str(next(iter(scores.values())).attrs["metric"]))
    ax.set_title(title, fontsize="medium")
    if len(scores) > 1:
        legend_beside(ax)
    return ax


def _without_null(score: xr.Dataset) -> xr.Dataset:
    """Give a score that has no null one of NaN-free zeros, so that its course can be reduced; nothing of it is drawn."""
    null = xr.DataArray(np.zeros((*score["p_value"].shape, 1)), dims=(*score["p_value"].dims, "permutation"))
    return score.drop_vars("null").assign(null=null)


def time_generalisation(
    score: xr.Dataset,
    *,
    ax: Axes | None = None,
    forming: float = 0.05,
    alpha: float = 0.05,
    unit: str = "ms",
    title: str = "",
) -> Axes:
    """Draw accuracies by time of training and time of test, with outlines round significant clusters.

    Parameters
    ----------
    score : xarray.Dataset
        From `generalise_time`.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    forming, alpha : float
        As in `find_clusters`; no outlines without a null.
    unit : str
        Of the time bins.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> score = make_score(
    ...     np.eye(3)[:, :, None],  # simulated
    ...     ("trained", "tested", "split"),
    ...     coords={"trained": [25.0, 75.0, 125.0], "tested": [25.0, 75.0, 125.0]},
    ...     attrs=score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20}, 1, 0, 0),
    ... )
    >>> figures.time_generalisation(score).get_ylabel()
    'time of training (ms)'
    """
    ax = new_axes(ax, size=_SIZE)
    value = score["raw"].mean("split").values
    trained, tested = score[TRAINED].values, score[TESTED].values
    chance = float(score["null"].mean()) if score["null"].size else float(value.min())
    reach = max(float(np.abs(value - chance).max()), 1e-9)
    image = ax.pcolormesh(
        tested, trained, value, cmap="RdBu_r", vmin=chance - reach, vmax=chance + reach, shading="nearest"
    )
    if score["null"].size:
        kept = find_clusters(score, forming=forming, alpha=alpha)["significant"].values
        if kept.any() and not kept.all():
            ax.contour(tested, trained, kept.astype(float), levels=[0.5], colors="black", linewidths=1)
    ax.plot([tested[0], tested[-1]], [trained[0], trained[-1]], color="0.3", linewidth=0.8, linestyle=":")
    ax.set_aspect("equal")
    ax.figure.colorbar(image, ax=ax, label="accuracy (fraction correct)")
    unit = unit if f"{TRAINED}_start" in score.coords or not np.array_equal(trained, np.arange(len(trained))) else "bin"
    ax.set_xlabel(f"time of test ({unit})")
    ax.set_ylabel(f"time of training ({unit})")
    ax.set_title(title, fontsize="medium")
    return ax


def accuracy_by_sites(scores: Mapping[str, xr.Dataset], *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw accuracy by number of sites, one line a score, with the range of 95 % of the draws and the chance level.

    Parameters
    ----------
    scores : mapping of name to Score
        From `decode_pseudo_population`, or of one ``n_train`` of `decoding_curve`: leading dim ``n_sites``, repeats ``draw``.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from neurobridge import figures
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> score = make_score(
    ...     [[0.5, 0.6], [0.8, 0.9]],  # simulated
    ...     ("n_sites", "draw"),
    ...     coords={"n_sites": [8, 64]},
    ...     attrs=score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20}, 2, 0, 0),
    ... )
    >>> figures.accuracy_by_sites({"IT": score}).get_xlabel()
    'sites (count, log scale)'
    """
    ax = new_axes(ax, size=_SIZE)
    sizes: set[int] = set()
    chance: list[float] = []
    styles = styles_of(scores)
    for name, score in scores.items():
        n_sites, raw = score["n_sites"].values, score["raw"].values
        style: dict[str, Any] = {"markersize": 4, **styles[str(name)]}
        mean = score["raw"].mean(DRAW).values
        low, high = np.quantile(raw, [0.025, 0.975], axis=-1)
        ax.errorbar(n_sites, mean, yerr=[mean - low, high - mean], capsize=2, label=name, **style)
        sizes |= {int(n) for n in n_sites}
        if score["null"].size:
            chance.append(float(np.nanquantile(score["null"].values, 0.95)))
    reference_lines(ax, max(chance, default=None), None)
    ax.set_xscale("log")
    ax.set_xticks(sorted(sizes), labels=[str(n) for n in sorted(sizes)])
    ax.minorticks_off()
    ax.set_xlabel("sites (count, log scale)")
    ax.set_ylabel("accuracy (fraction correct)")
    ax.set_title(title, fontsize="medium")
    legend_beside(ax)
    return ax
