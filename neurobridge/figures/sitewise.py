"""Figures of single sites: each against its ceiling, and two methods against one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID
from neurobridge.figures.layout import legend_beside, new_axes, reference_lines
from neurobridge.figures.styles import CEILING, CHANCE, PALETTE, styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sites(
    scores: xr.Dataset | Mapping[str, xr.Dataset], *, ax: Axes | None = None, null: float | None = None, title: str = ""
) -> Axes:
    """Draw every site's correlation against its own ceiling, one marker a method.

    Parameters
    ----------
    scores : Score, or mapping of method to Score
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
        Scores that are not by site, or without ceilings and without ``neuroid_id`` that have different numbers of sites.

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
    scores = scores_by_site(scores)
    ax = new_axes(ax)
    styles = styles_of(scores)
    reliable = all(bool(np.isfinite(score["ceiling"].values).any()) for score in scores.values())
    place_of = {} if reliable else _shared_order(scores)
    for method, score in scores.items():
        style = {**styles[str(method)], "linestyle": "none"}
        r = score["raw"].mean("split").values
        places = score["ceiling"].values if reliable else np.array([place_of[site] for site in _site_names(score)])
        order = np.arange(len(r)) if reliable else np.argsort(places)
        ax.plot(places[order], r[order], label=method, **{"markersize": 4, "alpha": 0.75, **style})
    if reliable:
        grid = np.linspace(0, 1, 100)
        ax.plot(grid, np.sqrt(grid), label="ceiling on r", **CEILING)
        ax.set_xlabel("reliability of the site (Spearman-Brown)")
    else:
        ax.set_xlabel("site, ranked by the mean over methods (count)" if len(scores) > 1 else "site, ranked (count)")
    if null is None:
        of_sites = [float(score["null_site_95"]) for score in scores.values() if "null_site_95" in score]
        null = max((value for value in of_sites if np.isfinite(value)), default=None)
    reference_lines(ax, null, None, chance="chance of one site")
    ax.set_ylabel("Pearson r on held-out stimuli")
    ax.set_title(title)
    legend_beside(ax)
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


def scores_by_site(scores: Any) -> dict[str, xr.Dataset]:
    """Return scores with sites by method: those of a mapping, or one Score under the name of its metric.

    Raises
    ------
    ValueError
        Not Scores, or Scores without sites.
    """
    given = {_metric_of(scores): scores} if isinstance(scores, xr.Dataset) else dict(scores)
    for name, score in given.items():
        dims = tuple(score["raw"].dims) if isinstance(score, xr.Dataset) and "raw" in score else None
        if dims != ("split", NEUROID):
            raise ValueError(
                f"figures: found {name!r} with raw on {dims}; expected scores by site, ('split', 'neuroid'). "
                "Mend: figures.plot(score) draws any Score."
            )
    return {str(name): score for name, score in given.items()}


def _metric_of(score: xr.Dataset) -> str:
    return str(score.attrs.get("metric", "score")).partition(",")[0]


def paired(
    scores: Mapping[str, xr.Dataset],
    *,
    ax: Axes | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> Axes:
    r"""Draw two methods against one another, a point a site, with the identity line and the share of sites above it.

    Parameters
    ----------
    scores : mapping of two methods to Score
        With ``raw`` (split, neuroid), the mean over splits is drawn; the first method is on the horizontal axis. Sites are matched
        by ``neuroid_id``, or by their places where scores have no ids.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    limits : tuple of two float, optional
        Of both axes; by default those of the data.
    title : str

    Returns
    -------
    matplotlib.axes.Axes
        Its title names the share of sites above the line, n, and the median difference.

    Raises
    ------
    ValueError
        Not two scores by site, or scores without a site in common.

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> def score(r):
    ...     ids = {"neuroid_id": ("neuroid", ["a", "b", "c"])}
    ...     return xr.Dataset({"raw": (("split", "neuroid"), [r]), "ceiling": ("neuroid", [0.9] * 3)}, coords=ids)
    >>> ax = figures.paired({"ridge": score([0.1, 0.2, 0.3]), "fused": score([0.2, 0.4, 0.2])})
    >>> ax.get_title()
    'fused above ridge: 67 % of 3 sites,\nmedian difference +0.10'
    """
    names, first, second = paired_values(scores)
    ax = new_axes(ax, size=(4.2, 4.2))
    difference = second - first
    above = difference > 0
    for chosen, method, style in ((above, names[1], {}), (~above, names[0], {"facecolors": "white"})):
        colour = styles_of(names)[method]["color"]
        marker = {"marker": "o" if method == names[1] else "s", "edgecolors": colour}
        ax.scatter(first[chosen], second[chosen], s=18, linewidths=0.9, **{"facecolors": colour, **marker, **style})
    values = np.concatenate([first, second])
    edge = 0.04 * max(float(np.ptp(values)), 1e-3)
    low, high = limits if limits is not None else (float(values.min()) - edge, float(values.max()) + edge)
    ax.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=0)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_aspect("equal")
    ax.set_xlabel(f"{names[0]}, Pearson r on held-out stimuli")
    ax.set_ylabel(f"{names[1]}, Pearson r on held-out stimuli")
    share = f"{names[1]} above {names[0]}: {above.mean():.0%} of {len(first)} sites".replace("%", " %")
    ax.set_title(title or f"{share},\nmedian difference {np.median(difference):+.2f}")
    return ax


def paired_values(scores: Mapping[str, xr.Dataset]) -> tuple[tuple[str, str], np.ndarray, np.ndarray]:
    """Return the names of two methods and the mean r over splits of the sites that both have.

    Raises
    ------
    ValueError
        As `paired`.
    """
    by_method = scores_by_site(scores)
    if len(by_method) != 2:
        raise ValueError(
            f"figures: found {len(by_method)} methods {list(by_method)}; expected two to draw against one another. "
            "Mend: paired({'ridge': first, 'fused': second})."
        )
    means = [
        dict(zip(_site_names(score), score["raw"].mean("split").values.tolist(), strict=True))
        for score in by_method.values()
    ]
    shared = [site for site in means[0] if site in means[1] and np.isfinite([means[0][site], means[1][site]]).all()]
    if not shared:
        raise ValueError(
            f"figures: found {len(means[0])} and {len(means[1])} sites, none of them in both; expected the same sites. "
            "Mend: score both methods on the same recordings."
        )
    first, second = (np.array([values[site] for site in shared]) for values in means)
    names = list(by_method)
    return (names[0], names[1]), first, second


def reliability(ceiling: xr.Dataset, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw the reliability of every site with its interval, the best first.

    Parameters
    ----------
    ceiling : xarray.Dataset
        What `neurobridge.internal_consistency` returned: ``ceiling`` (neuroid), and ``ceiling_low`` and ``ceiling_high`` where it
        was bootstrapped.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str
        By default the median over sites and n.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No ceiling by site.

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> ax = figures.reliability(xr.Dataset({"ceiling": ("neuroid", [0.4, 0.9, 0.8])}))
    >>> ax.get_title()
    'median reliability 0.80 of 3 sites'
    """
    if not isinstance(ceiling, xr.Dataset) or "ceiling" not in ceiling or ceiling["ceiling"].dims != (NEUROID,):
        raise ValueError(
            f"figures: found {type(ceiling).__name__} without a ceiling on 'neuroid'; expected reliabilities by site. "
            "Mend: reliability(internal_consistency(recordings))."
        )
    values = np.asarray(ceiling["ceiling"].values, dtype=float)
    order = np.argsort(-values)
    ax = new_axes(ax, size=(6.0, 3.0))
    places = np.arange(1, len(values) + 1)
    if "ceiling_low" in ceiling:
        low, high = (np.asarray(ceiling[f"ceiling_{end}"].values, dtype=float)[order] for end in ("low", "high"))
        ax.vlines(places, low, high, color="0.6", linewidth=0.8, label="interval over stimuli")
    ax.plot(places, values[order], "o", markersize=3.5, color=PALETTE["ridge"], label="site")
    median = float(np.nanmedian(values))
    ax.axhline(median, **CEILING, label=f"median {median:.2f}")
    ax.axhline(0, **CHANCE, label="no reliable response")
    ax.set_xlabel("site, ranked (count)")
    ax.set_ylabel("reliability (Spearman-Brown)")
    ax.set_title(title or f"median reliability {median:.2f} of {len(values)} sites")
    legend_beside(ax)
    return ax
