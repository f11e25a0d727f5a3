"""Paths of points along a fitted flow, and how far the images of an aligner spread."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurobridge.assemblies import make_assembly
from neurobridge.figures.layout import legend_beside, new_axes
from neurobridge.figures.styles import CHANCE, PALETTE
from neurobridge.flow import ConditionalFlow, OffSupportWarning
from neurobridge.flow.ode import integrate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trajectories(
    flow: ConditionalFlow, X: Any, target: Any = None, *, ax: Axes | None = None, n_times: int = 40, title: str = ""
) -> Axes:
    """Draw the paths of points from where the flow starts them to where it ends, in the plane in which the ends vary most.

    Parameters
    ----------
    flow : ConditionalFlow
        Fitted.
    X : array of shape (n_points, n_source_dims)
        Points of the source, in its units; more than 200 are thinned out evenly.
    target : array of shape (m, n_target_dims), optional
        Points of the target, drawn grey behind the paths; they also set the plane.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    n_times : int
        Steps of a path, by the classical rule of Runge and Kutta.
    title : str

    Returns
    -------
    matplotlib.axes.Axes
        In standard deviations of the target.

    Raises
    ------
    ValueError
        Not a flow.
    FlowNotFittedError
        The flow has not been fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.bridge import Coupling
    >>> from neurobridge.flow import ConditionalFlow, Training
    >>> X = np.random.default_rng(0).normal(size=(60, 2))  # simulated
    >>> pairs = Coupling.of_pairs((np.arange(60), np.arange(60)), (60, 60))
    >>> flow = ConditionalFlow("affine", training=Training(n_steps=5), seed=0).fit(X, X + 3, pairs)
    >>> ax = figures.trajectories(flow, X[:10], X + 3, n_times=5)
    >>> ax.get_xlabel()
    'first direction (target sd)'
    """
    if not isinstance(flow, ConditionalFlow):
        raise ValueError(
            f"figures: found a {type(flow).__name__}; expected a ConditionalFlow. "
            "Mend: trajectories(aligner.flow_, X) of an aligner with map='flow'."
        )
    points = np.asarray(X, dtype=float)
    points = points[np.linspace(0, len(points) - 1, min(len(points), 200)).astype(int)]
    path = _paths(flow, points, n_times)
    behind = None if target is None else flow.target_scale_.forward(np.asarray(target, dtype=float))
    cloud = path[-1] if behind is None else behind
    width = path.shape[2]
    plane = np.linalg.svd(cloud - cloud.mean(axis=0), full_matrices=False)[2][:2].T[:width]
    if plane.shape[1] < 2:
        plane = np.column_stack([plane, np.zeros(len(plane))])
    ax = new_axes(ax, size=(6.0, 3.8))
    if behind is not None:
        ax.scatter(
            (behind @ plane)[:, 0], (behind @ plane)[:, 1], s=6, color="0.75", label=f"target ({len(behind)} points)"
        )
    drawn = path @ plane
    ax.plot(*drawn.transpose(2, 0, 1), color=PALETTE["fused-flow"], linewidth=0.7)
    ax.scatter(
        drawn[0, :, 0],
        drawn[0, :, 1],
        s=12,
        facecolor="white",
        edgecolor="black",
        linewidth=0.8,
        zorder=3,
        label="start",
    )
    ax.scatter(drawn[-1, :, 0], drawn[-1, :, 1], s=12, color=PALETTE["fused"], zorder=3, label="end")
    ax.set_xlabel("first direction (target sd)")
    ax.set_ylabel("second direction (target sd)")
    ax.set_title(
        title or f"{len(points)} points along the flow, base {flow.base if isinstance(flow.base, str) else 'given map'}"
    )
    legend_beside(ax)
    return ax


def _paths(flow: ConditionalFlow, X: np.ndarray, n_times: int) -> np.ndarray:
    """Return the states along the paths, shape (n_times + 1, n_points, n_target_dims), in standard deviations."""
    # Refuses what does not fit the flow.
    flow.start(X[:1])
    Z = flow.source_scale_.forward(X)
    trained = flow.forward_
    state = torch.as_tensor(trained.start(Z, seed=flow.seed), dtype=torch.float32)
    field = trained.at(torch.as_tensor(Z, dtype=torch.float32) if trained.n_condition else None)
    states = [state]
    with torch.inference_mode():
        for k in range(n_times):
            step = integrate(field, states[-1], t_start=k / n_times, t_end=(k + 1) / n_times, method="rk4", n_steps=1)
            states.append(step.x)
    return torch.stack(states).double().numpy()[:, :, : len(flow.target_scale_.mean)]


def shrinkage(aligner: Any, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw how far the images of an aligner spread in each target dimension, in standard deviations of the target.

    A regression from few noisy pairs shrinks its images towards the mean, a rotation does not. The points mapped are those of the
    source that the aligner keeps (up to some thousands, ``support_["backward"]``).

    Parameters
    ----------
    aligner : fitted aligner
        Any of `neurobridge.aligners`, as fitted or read from a folder.
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    title : str

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    AlignerNotFittedError
        The aligner has not been fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.aligners import RidgeAligner
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> figures.shrinkage(RidgeAligner().fit(X, X @ np.ones((3, 2)))).get_ylabel()
    'sd of the images (target sd)'
    """
    spread = image_spread(aligner)
    ax = new_axes(ax, size=(6.0, 3.0))
    order = np.sort(spread)[::-1]
    ax.plot(np.arange(1, len(order) + 1), order, "o", color=PALETTE["ridge"], markersize=4, label="target dimension")
    ax.axhline(1, **{**CHANCE, "color": "black"}, label="as wide as the target")
    ax.axhline(float(np.median(order)), **CHANCE, label=f"median {np.median(order):.2f}")
    ax.set_ylim(0, 1.1 * max(float(order[0]), 1.0))
    ax.set_xlabel(f"target dimension, ranked (of {len(order)})")
    ax.set_ylabel("sd of the images (target sd)")
    ax.set_title(title or f"spread of {type(aligner).__name__}'s images")
    legend_beside(ax)
    return ax


def image_spread(aligner: Any) -> np.ndarray:
    """Return the standard deviation of the mapped source points, shape (n_target_dims,), in those of the target."""
    cloud = aligner.source_scale_.backward(np.asarray(aligner.support_["backward"].points, dtype=float))
    if aligner.source_neuroids_ is not None:
        names = {name: values for name, (_, values) in aligner.source_neuroids_.items()}
        cloud = make_assembly(
            cloud, presentation={"stimulus_id": [f"point {k}" for k in range(len(cloud))]}, neuroid=names
        )
    with warnings.catch_warnings():
        # Fitted points that a map carries off the support are what this figure shows.
        warnings.simplefilter("ignore", OffSupportWarning)
        mapped = np.asarray(aligner.transform(cloud))
    return np.asarray(aligner.target_scale_.forward(mapped)).std(axis=0)
