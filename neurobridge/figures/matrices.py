"""Matrices: confusions, pairs of dissimilarity matrices with their noise ceiling, and plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neurobridge.bridge import Coupling
from neurobridge.evaluate.similarity import compare_rdms
from neurobridge.figures.layout import legend_beside, new_axes, new_panels
from neurobridge.figures.styles import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of matrices: lightness rises with the value, so that they read in greyscale as well.
COLOURS = "cividis"
# Rows and columns of a plan that are drawn, at most; a page has no room for more.
_MOST_DRAWN = 400
_MOST_NUMBERS = 12


def confusion(score: xr.Dataset | xr.DataArray, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw how often each class was chosen when each was true, as shares of the rows.

    Parameters
    ----------
    score : Score or xarray.DataArray
        A Score of `neurobridge.decode` or `cross_decode`, with ``confusion`` (truth, choice), or what
        `neurobridge.decoding.confusion` returned.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str
        By default the mean share of right choices over the classes, and chance.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Nothing on (truth, choice).

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> classes = {"truth": ["car", "face"], "choice": ["car", "face"]}
    >>> ax = figures.confusion(xr.DataArray([[8, 2], [5, 5]], dims=("truth", "choice"), coords=classes))
    >>> ax.get_title()
    'mean over classes 0.65, chance 0.50'
    """
    shares, classes = confusion_shares(score)
    ax = new_axes(ax, size=(1.9 + 0.36 * max(len(classes), 5), 1.4 + 0.32 * max(len(classes), 5)))
    picture = ax.imshow(shares, cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
    if len(classes) <= _MOST_NUMBERS:
        for row, column in np.ndindex(shares.shape):
            colour = "black" if shares[row, column] > 0.5 else "white"
            ax.text(
                column,
                row,
                f"{shares[row, column]:.2f}".lstrip("0"),
                ha="center",
                va="center",
                color=colour,
                fontsize="x-small",
            )
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(classes)), labels=classes, **slant)
    ax.set_yticks(range(len(classes)), labels=classes)
    ax.set_xlabel("choice")
    ax.set_ylabel("truth")
    ax.figure.colorbar(picture, ax=ax, label="share of the choices")
    right = float(np.nanmean(np.diag(shares)))
    ax.set_title(title or f"mean over classes {right:.2f}, chance {1 / len(classes):.2f}")
    return ax


def confusion_shares(score: Any) -> tuple[np.ndarray, list[str]]:
    """Return the shares of choices, rows summing to 1, and the classes.

    Raises
    ------
    ValueError
        Nothing on (truth, choice).
    """
    counts = score.get("confusion") if isinstance(score, xr.Dataset) else score
    if not isinstance(counts, xr.DataArray) or counts.dims != ("truth", "choice"):
        raise ValueError(
            f"figures: found {None if counts is None else getattr(counts, 'dims', type(counts).__name__)}; expected confusions on "
            "('truth', 'choice'). Mend: pass the Score of decode, or score['confusion'].sel(...) of one cell."
        )
    values = np.asarray(counts.values, dtype=float)
    total = values.sum(axis=1, keepdims=True)
    return values / np.where(total > 0, total, np.nan), [str(name) for name in counts["truth"].values]


def rdms(
    first: xr.DataArray,
    second: xr.DataArray,
    *,
    names: tuple[str, str] = ("first", "second"),
    comparator: str = "spearman",
    noise_ceiling: tuple[float, float] | None = None,
) -> list[Axes]:
    """Draw two dissimilarity matrices side by side, and their similarity beside its noise ceiling.

    Parameters
    ----------
    first, second : xarray.DataArray
        Square, from `neurobridge.similarity.rdm`, of the same stimuli in the same order. Dissimilarities are drawn as ranks from
        0 to 1, as Spearman's rho sees them.
    names : tuple of two str
    comparator : str
        A key of `neurobridge.similarity.COMPARATORS`.
    noise_ceiling : tuple of two float, optional
        Lower and upper bound, from `neurobridge.similarity.rdm_noise_ceiling`; adds a third panel.

    Returns
    -------
    list of matplotlib.axes.Axes
        Two, or three with a noise ceiling.

    Raises
    ------
    ValueError
        Matrices that are not square or not of the same size.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures, make_assembly
    >>> from neurobridge.similarity import rdm
    >>> X = np.random.default_rng(0).normal(size=(12, 5))  # simulated
    >>> spaces = [
    ...     make_assembly(values, presentation={"stimulus_id": range(12)}, neuroid={"neuroid_id": range(5)})
    ...     for values in (X, X + 0.1)
    ... ]
    >>> axes = figures.rdms(rdm(spaces[0]), rdm(spaces[1]), names=("model", "IT"), noise_ceiling=(0.6, 0.8))
    >>> [ax.get_title() for ax in axes]
    ['model', 'IT', 'similarity']
    """
    shapes = [np.shape(matrix) for matrix in (first, second)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1]:
        raise ValueError(
            f"figures: found matrices of shape {shapes[0]} and {shapes[1]}; expected two square ones of the same stimuli. "
            "Mend: rdm(matched.source), rdm(matched.target) with matched = match_stimuli(source, target)."
        )
    axes = new_panels(
        3 if noise_ceiling else 2,
        size=(9.0 if noise_ceiling else 7.2, 3.2),
        width_ratios=[1, 1, 0.35][: 3 if noise_ceiling else 2],
    )
    upper = np.triu_indices(shapes[0][0], k=1)
    condensed = [np.asarray(matrix, dtype=float)[upper] for matrix in (first, second)]
    picture: Any = None
    for ax, name, matrix in zip(axes, names, (first, second), strict=False):
        picture = ax.imshow(rank_matrix(matrix), cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
        ax.set(title=name, xlabel="stimulus", ylabel="stimulus")
    axes[0].figure.colorbar(picture, ax=axes[:2], label="dissimilarity (rank)", shrink=0.8)
    if noise_ceiling:
        similarity = compare_rdms(condensed[0], condensed[1], comparator=comparator)
        lower, top = noise_ceiling
        axes[2].axhspan(lower, top, color="0.85", label=f"noise ceiling {lower:.2f} to {top:.2f}")
        axes[2].bar(
            [0],
            [similarity],
            width=0.6,
            color=PALETTE["bridge"],
            edgecolor="black",
            label=f"{comparator} {similarity:.2f}",
        )
        axes[2].axhline(0, color="black", linewidth=0.8)
        axes[2].set(title="similarity", xlim=(-0.8, 0.8), xticks=[], ylabel=comparator)
        legend_beside(axes[2])
    return axes


def rank_matrix(matrix: Any) -> np.ndarray:
    """Return a square dissimilarity matrix with its dissimilarities as ranks from 0 to 1."""
    square = np.asarray(matrix, dtype=float)
    upper = np.triu_indices(len(square), k=1)
    out = np.zeros_like(square)
    out[upper] = square[upper].argsort().argsort() / max(len(upper[0]) - 1, 1)
    return out + out.T


def plan(coupling: Coupling, *, ax: Axes | None = None, order: tuple[Any, Any] | None = None, title: str = "") -> Axes:
    """Draw a transport plan as a heat map: a row is a source point, its colour the share of its mass at each target point.

    Of larger plans 400 rows and 400 columns, evenly spaced, are drawn. Known pairs are white rings.

    Parameters
    ----------
    coupling : Coupling
        From `neurobridge.bridge.couple`, or ``aligner.coupling_``.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    order : tuple of two int arrays, optional
        Source rows and target rows in the order in which they are drawn, e.g. by category. By default the pairs stand first, one
        behind the other on the diagonal.
    title : str
        By default the size, the method, the temperature, and whether the solver converged.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Not a coupling, or an order with rows that the coupling does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.bridge import bridge_cost, couple
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> ax = figures.plan(couple(bridge_cost(X, 2 * X, (np.arange(10), np.arange(10)))))
    >>> ax.get_xlabel()
    'target point (40)'
    """
    if not isinstance(coupling, Coupling):
        raise ValueError(
            f"figures: found a {type(coupling).__name__}; expected a Coupling. Mend: plan(aligner.coupling_), or couple(cost)."
        )
    rows, columns = _drawn_order(coupling) if order is None else (np.asarray(side, dtype=int) for side in order)
    n, m = coupling.shape
    if (len(rows) and not 0 <= rows.min() <= rows.max() < n) or (
        len(columns) and not 0 <= columns.min() <= columns.max() < m
    ):
        raise ValueError(
            f"figures: found an order with rows beyond {n} x {m}; expected rows of the coupling. Mend: order=None."
        )
    rows, columns = (
        side[np.linspace(0, len(side) - 1, min(len(side), _MOST_DRAWN)).astype(int)] for side in (rows, columns)
    )
    shares = np.nan_to_num(np.asarray(coupling.conditional(rows))[:, columns])
    ax = new_axes(ax, size=(5.2, 4.2))
    top = max(float(np.quantile(shares, 0.999)), 1e-12)
    # The square root shows both the sharp partners and the faint rest.
    picture = ax.imshow(
        np.sqrt(shares), cmap=COLOURS, vmin=0, vmax=np.sqrt(top), interpolation="nearest", aspect="auto"
    )
    known = _known_places(coupling, rows, columns)
    if len(known):
        ax.scatter(known[:, 1], known[:, 0], s=14, facecolors="none", edgecolors="white", linewidths=0.7)
    bar = ax.figure.colorbar(picture, ax=ax, label="share of the row's mass")
    ticks = np.linspace(0, np.sqrt(top), 4).tolist()
    bar.set_ticks(ticks, labels=[f"{tick**2:.2g}" for tick in ticks])
    ax.set_xlabel(f"target point ({m})")
    ax.set_ylabel(f"source point ({n})")
    state = "" if coupling.converged else ", NOT converged"
    warmth = f", epsilon {coupling.epsilon:g}" if coupling.epsilon else ""
    ax.set_title(title or f"{coupling.method} plan{warmth}{state}; rings: {len(coupling.anchors[0])} known pairs")
    return ax


def _drawn_order(coupling: Coupling) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs first, then the rest: of the rows as they stand, of the columns by the row that prefers them."""
    n, m = coupling.shape
    source, target = (np.asarray(side, dtype=int) for side in coupling.anchors)
    rest = np.setdiff1d(np.arange(n), source)
    columns = np.setdiff1d(np.arange(m), target)
    if n * m <= 4_000_000 and len(rest) and len(columns):
        best = np.nan_to_num(np.asarray(coupling.conditional(rest)))[:, columns].argmax(axis=0)
        columns = columns[np.argsort(best, kind="stable")]
    first_of = dict.fromkeys(target.tolist())
    return np.concatenate([np.array(list(dict.fromkeys(source.tolist())), dtype=int), rest]), np.concatenate(
        [np.array(list(first_of), dtype=int), columns]
    )


def _known_places(coupling: Coupling, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    place_of = [{int(row): place for place, row in enumerate(side)} for side in (rows, columns)]
    pairs = zip(*(np.asarray(side).tolist() for side in coupling.anchors), strict=True)
    return np.array([(place_of[0][i], place_of[1][j]) for i, j in pairs if i in place_of[0] and j in place_of[1]])


def dissimilarities(matrix: xr.DataArray, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw one dissimilarity matrix, its values as ranks from 0 to 1.

    Parameters
    ----------
    matrix : xarray.DataArray
        Square, from `neurobridge.similarity.rdm`.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A matrix that is not square.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> matrix = xr.DataArray(1 - np.eye(5), dims=("presentation", "presentation_2"))
    >>> figures.dissimilarities(matrix).get_title()
    '5 stimuli'
    """
    shape = np.shape(matrix)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(
            f"figures: found a matrix of shape {shape}; expected a square one. Mend: similarity.rdm(assembly)."
        )
    ax = new_axes(ax, size=(4.6, 3.8))
    picture = ax.imshow(rank_matrix(matrix), cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest")
    ax.figure.colorbar(picture, ax=ax, label="dissimilarity (rank)")
    ax.set(title=title or f"{shape[0]} stimuli", xlabel="stimulus", ylabel="stimulus")
    return ax
