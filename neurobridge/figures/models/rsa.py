"""Figure of models that are compared by their RDMs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neurobridge.figures.layout import legend_beside, new_axes
from neurobridge.figures.styles import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def rsa_models(score: xr.Dataset, *, ax: Axes | None = None, level: float = 0.05, title: str = "") -> Axes:
    """Draw the models of `compare_rsa_models` as bars, with the noise ceiling and what is significant.

    Parameters
    ----------
    score : xarray.Dataset
        As `neurobridge.similarity.compare_rsa_models` gives it.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    level : float
        False discovery rate below which something is marked.
    title : str
        By default what was compared, and what the marks say.

    Returns
    -------
    matplotlib.axes.Axes
        A bar a model, with its standard error and a dot a subject; the band of the noise ceiling; a star under a bar that is
        above zero, a dagger under one that is below the lower ceiling; a bracket over every two models that differ.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.spatial.distance import pdist, squareform
    >>> from neurobridge import figures, similarity
    >>> rng = np.random.default_rng(0)  # simulated
    >>> clouds = [rng.normal(size=(9, 4)) for _ in range(5)]
    >>> rdms = np.stack([squareform(pdist(cloud, "sqeuclidean")) for cloud in clouds])
    >>> score = similarity.compare_rsa_models({"first": rdms[0], "second": rdms[1]}, rdms[2:], n_bootstrap=20)
    >>> [label.get_text() for label in figures.rsa_models(score).get_xticklabels()]
    ['first', 'second']
    """
    ax = new_axes(ax, size=(6.2, 3.4))
    names = [str(name) for name in score["model"].values]
    at, raw, sem = np.arange(len(names)), score["raw"].values, score["sem"].values
    ax.bar(
        at,
        raw,
        yerr=np.nan_to_num(sem),
        width=0.6,
        color=PALETTE["bridge"],
        edgecolor=PALETTE["ridge"],
        capsize=3,
        zorder=2,
    )
    subjects = score["raw_by_subject"].transpose("model", "subject").values
    spread = np.linspace(-0.18, 0.18, subjects.shape[1]) if subjects.shape[1] > 1 else np.zeros(1)
    for x, values in zip(at, subjects, strict=True):
        ax.plot(x + spread, values, ".", color="black", markersize=3, zorder=3)
    lower, upper = float(score["ceiling"].max()), float(score["ceiling_upper"])
    if np.isfinite(lower):
        ax.axhspan(lower, upper, color="0.85", zorder=1, label=f"noise ceiling {lower:.2f} to {upper:.2f}")
    ax.axhline(0, color="black", linewidth=0.8)
    marks = []
    for name in names:
        cell = score.sel(model=name)
        star = "*" if float(cell["p_value_fdr"]) < level else ""
        dagger = "\u2020" if float(cell["p_ceiling_fdr"]) < level and float(cell["raw"]) < lower else ""
        marks.append(star + dagger)
    bottom = min(0.0, float(np.nanmin(subjects)))
    top = float(np.nanmax([np.nanmax(subjects), float(np.nanmax(raw + np.nan_to_num(sem))), upper]))
    height = top - bottom
    for x, mark in zip(at, marks, strict=True):
        ax.text(float(x), bottom - 0.02 * height, mark, ha="center", va="top")
    different = score["p_difference_fdr"].values < level
    brackets = [pair for pair in combinations(at, 2) if different[pair]]
    for row, (left, right) in enumerate(sorted(brackets, key=lambda pair: (pair[1] - pair[0], pair[0]))):
        y = top + (0.05 + 0.05 * row) * height
        ax.plot(
            [left, left, right, right], [y - 0.015 * height, y, y, y - 0.015 * height], color="black", linewidth=0.8
        )
    ax.set_ylim(bottom - 0.12 * height, top + (0.1 + 0.05 * len(brackets)) * height)
    ax.set_xticks(
        at,
        names,
        rotation=0 if sum(map(len, names)) < 30 else 30,
        ha="center" if sum(map(len, names)) < 30 else "right",
    )
    ax.set_ylabel(f"similarity of RDMs ({score.attrs['comparator']})")
    ax.set_title(
        title
        or f"{score.attrs['n_subjects']} subjects, {score.attrs['n_stimuli']} stimuli, {score.attrs['n_bootstrap']} draws of "
        f"{score.attrs['bootstrap']}, seed {score.attrs['seed']}\n* above 0, \u2020 below the ceiling, brackets: differ "
        f"(FDR {level:g}); bars: SEM",
        fontsize="small",
    )
    legend_beside(ax)
    return ax
