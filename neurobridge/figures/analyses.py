"""Figures of retrieval, of the ceiling of decoding and of a common space, and how results of analyses are told from each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.aligners import CommonSpace
from neurobridge.assemblies.schema import TIME_BIN
from neurobridge.evaluate.retrieval import DIRECTION, MEASURE
from neurobridge.evaluate.score.schema import DRAW, is_score
from neurobridge.evaluate.time_bins.courses import TESTED, TRAINED
from neurobridge.figures.layout import legend_beside, new_axes
from neurobridge.figures.models.partition import variance_parts
from neurobridge.figures.models.rsa import rsa_models
from neurobridge.figures.styles import PALETTE
from neurobridge.figures.time import accuracy_by_sites, time_courses, time_generalisation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (5.2, 3.4)
_COLOURS = PALETTE["ridge"], PALETTE["fused"]
#: A direction of a search in words.
SOUGHT = {"forward": "partners in the target", "backward": "partners in the source"}


def retrieval(score: xr.Dataset, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the shares of queries whose partner is among the k nearest, in both directions, with intervals and chance.

    Parameters
    ----------
    score : xarray.Dataset
        From `neurobridge.retrieve`.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> values = np.random.default_rng(0).normal(size=(30, 5))  # simulated
    >>> names = {"presentation": {"stimulus_id": range(30)}, "neuroid": {"neuroid_id": range(5)}}
    >>> space = nb.make_assembly(values, **names)
    >>> score = nb.retrieve(space, space, n_permutations=9, n_bootstrap=20)
    >>> [label.get_text() for label in nb.figures.retrieval(score).get_xticklabels()]
    ['R@1', 'R@5', 'R@10', 'identification']
    """
    ax = new_axes(ax, size=_SIZE)
    shares = [name for name in score[MEASURE].values.tolist() if name.startswith("R@") or name == "identification"]
    places = np.arange(len(shares))
    for k, direction in enumerate(score[DIRECTION].values.tolist()):
        cell = score.sel({DIRECTION: direction, MEASURE: shares})
        value = cell["raw"].values
        bars = np.nan_to_num([value - cell["raw_low"].values, cell["raw_high"].values - value]).clip(0)
        ax.bar(places + 0.38 * k - 0.19, value, width=0.36, color=_COLOURS[k], label=SOUGHT[direction], zorder=2)
        ax.errorbar(places + 0.38 * k - 0.19, value, yerr=bars, fmt="none", ecolor="black", capsize=2, zorder=3)
        for place, chance in zip(places, cell["chance"].values, strict=True):
            left = place + 0.38 * k - 0.38
            label = "chance" if k == 0 and place == 0 else None
            ax.plot([left, left + 0.38], [chance, chance], color="black", linestyle=":", zorder=4, label=label)
    ax.set_xticks(places, labels=shares)
    ax.set_xlabel("measure of retrieval")
    ax.set_ylabel("share of queries (accuracy of identification)")
    ax.set_ylim(0, 1.02)
    ax.set_title(title, fontsize="medium")
    legend_beside(ax)
    return ax


def accuracy_by_trials(score: xr.Dataset, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the accuracy on averages of more and more trials, and the ceiling that they are extrapolated to.

    Parameters
    ----------
    score : xarray.Dataset
        From `neurobridge.decoding.decoding_ceiling`, of one time bin.
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
    ...     [0.7, 0.8],  # simulated
    ...     ("split",),
    ...     ceiling=0.9,
    ...     extra={"accuracy": ("n_averaged", [0.6, 0.7]), "ceiling_low": 0.8, "ceiling_high": 1.0},
    ...     coords={"n_averaged": [1, 4]},
    ...     attrs=score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20, "n_classes": 2}, 2, 0, 0),
    ... )
    >>> figures.accuracy_by_trials(score).get_xlabel()
    'trials averaged (count, log scale)'
    """
    ax = new_axes(ax, size=_SIZE)
    counts, ceiling = score["n_averaged"].values, float(score["ceiling"])
    chance = 1 / int(score.attrs["n_classes"])
    ax.plot(counts, score["accuracy"].values, marker="o", color=_COLOURS[0], label="averages of trials")
    ax.axhline(ceiling, color="black", linestyle="-.", linewidth=1.2, label=f"ceiling, without noise {ceiling:.2f}")
    bounds = [float(score[name]) for name in ("ceiling_low", "ceiling_high")]
    if np.isfinite(bounds).all():
        ax.axhspan(*bounds, color="0.85", zorder=0)
    ax.axhline(chance, color="0.5", linestyle="--", linewidth=1, label=f"one of {score.attrs['n_classes']} classes")
    ax.set_xscale("log")
    ax.set_xticks(counts, labels=[str(n) for n in counts])
    ax.minorticks_off()
    ax.set_xlabel("trials averaged (count, log scale)")
    ax.set_ylabel("accuracy (fraction correct)")
    ax.set_title(title, fontsize="medium")
    legend_beside(ax)
    return ax


def routes_of(space: CommonSpace) -> pd.DataFrame:
    """Return what leads from each space to each other: a row an ordered pair, with the weights of its routes.

    Parameters
    ----------
    space : CommonSpace
        Fitted.

    Returns
    -------
    pandas.DataFrame
        source, target, stimuli (seen in both), the weights direct, path and common, NaN where there is no such route, and
        explained, the share of the variance of held-out shared stimuli, NaN where too few are shared.
    """
    rows = []
    for (source, target), weights in space.weights_.items():
        explained = space.explained_.get((source, target), {}).get("together", np.nan)
        parts = {route: weights.get(route, np.nan) for route in ("direct", "path", "common")}
        seen = space.n_seen_in_both_[source, target]
        rows.append({"source": source, "target": target, "stimuli": seen, **parts, "explained": explained})
    return pd.DataFrame(rows)


def common_space(space: CommonSpace, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the share of variance of held-out shared stimuli that the maps between any two spaces explain.

    Parameters
    ----------
    space : CommonSpace
        Fitted.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes
        A row a space that is mapped, a column a space that is predicted, and in each cell the share; of spaces that share fewer
        than ten stimuli "no pairs" or the number of them.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.aligners import CommonSpace
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> figures.common_space(CommonSpace(2).fit({"a": X, "b": 2 * X})).get_xlabel()
    'space that is predicted'
    """
    ax = new_axes(ax, size=(4.4, 3.8))
    names = list(space.scales_)
    shares = np.full((len(names), len(names)), np.nan)
    for source, target in space.weights_:
        i, j, seen = names.index(source), names.index(target), space.n_seen_in_both_[source, target]
        shares[i, j] = share = space.explained_.get((source, target), {}).get("together", np.nan)
        few = f"{seen} pairs" if seen else "no pairs"
        text = few if np.isnan(share) else f"{share:.2f}"
        ax.text(j, i, text, ha="center", va="center", fontsize="small", color="white" if share > 0.6 else "black")
    image = ax.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    ax.figure.colorbar(image, ax=ax, label="share of variance explained, held out")
    ax.set_xticks(range(len(names)), labels=names)
    ax.set_yticks(range(len(names)), labels=names)
    ax.set_xlabel("space that is predicted")
    ax.set_ylabel("space that is mapped")
    ax.set_title(title, fontsize="medium")
    return ax


def _score_on(*dims: str) -> Callable[[Any], bool]:
    return lambda thing: is_score(thing) and tuple(thing["p_value"].dims) == dims


is_course = _score_on(TIME_BIN)


def all_are(thing: Any, fits: Callable[[Any], bool]) -> bool:
    """Tell whether something is a mapping of names to things that are all of one kind."""
    return isinstance(thing, Mapping) and bool(thing) and all(fits(value) for value in thing.values())


def _course(score: xr.Dataset, **options: Any) -> Axes:
    return time_courses({str(score.attrs["metric"]): score}, **options)


def _by_sites(score: xr.Dataset, **options: Any) -> Axes:
    return accuracy_by_sites({str(score.attrs["metric"]): score}, **options)


#: Kinds of analyses: name, how a result is told from others, and its figure.
ANALYSES: tuple[tuple[str, Callable[[Any], bool], Callable[..., Axes]], ...] = (
    ("course in time", is_course, _course),
    ("courses in time", lambda thing: all_are(thing, is_course),
     lambda scores, **options: time_courses(dict(scores), **options)),
    ("generalisation in time", lambda thing: _score_on(TRAINED, TESTED)(thing) and "n_trained" not in thing, time_generalisation),
    ("number of sites", lambda thing: _score_on("n_sites")(thing) and DRAW in thing["raw"].dims, _by_sites),
    ("retrieval", _score_on(DIRECTION, MEASURE), retrieval),
    ("parts of variance", lambda thing: isinstance(thing, xr.Dataset) and "part" in thing.dims and "median" in thing,
     variance_parts),
    ("models by their RDMs", lambda thing: _score_on("model")(thing) and "p_difference_fdr" in thing, rsa_models),
    ("common space", lambda thing: isinstance(thing, CommonSpace), common_space),
    ("ceiling of decoding", lambda thing: _score_on()(thing) and "n_averaged" in thing.coords, accuracy_by_trials),
)  # fmt: skip
