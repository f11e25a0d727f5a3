"""The straight path between coupled points, the loss that regresses its velocity, and minibatch re-coupling."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from neurobridge.points.arrays import require_tensor
from neurobridge.points.display import html_repr, short_repr

Velocity = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
MinibatchCost = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PathSample(NamedTuple):
    """Points drawn on paths between coupled points.

    Attributes
    ----------
    t : tensor of shape (batch, 1)
        Times in [0, 1).
    x_t : tensor of shape (batch, dims)
        Points at these times.
    dx_t : tensor of shape (batch, dims)
        Velocities, ``x_1 - x_0``.

    Examples
    --------
    >>> import torch
    >>> sample_path(torch.zeros(4, 2), torch.ones(4, 2))
    PathSample(4 x 2)
    """

    t: torch.Tensor
    x_t: torch.Tensor
    dx_t: torch.Tensor

    def __repr__(self) -> str:
        return short_repr("PathSample", " x ".join(map(str, self.x_t.shape)))

    def _repr_html_(self) -> str:
        return html_repr("PathSample", {"points": len(self.x_t), "dims": self.x_t.shape[1]})


def sample_path(
    x_0: torch.Tensor, x_1: torch.Tensor, *, sigma: float = 0.0, generator: torch.Generator | None = None
) -> PathSample:
    """Draw ``t ~ U(0, 1)`` and ``x_t = (1 - t) x_0 + t x_1 + sigma z``, whose velocity is ``x_1 - x_0``.

    Equations 14 (the path ``N(x_t | (1 - t) x_0 + t x_1, sigma^2 I)``) and 15 (its velocity ``u_t = x_1 - x_0``) of
    Tong et al. 2024 (arXiv 2302.00482), with (x_0, x_1) drawn from a coupling.

    Parameters
    ----------
    x_0, x_1 : tensors of shape (batch, dims)
        Coupled start and end points.
    sigma : float
        Width of the path, in the units of x.
    generator : torch.Generator, optional
        On the device of x; None for torch's global state.

    Returns
    -------
    PathSample

    Raises
    ------
    ValueError
        Not floating tensors of two dimensions, or shapes that differ.

    Examples
    --------
    >>> import torch
    >>> sample = sample_path(torch.zeros(4, 2), torch.ones(4, 2), generator=torch.Generator().manual_seed(0))
    >>> bool((sample.x_t == sample.t).all())
    True
    """
    x_0, x_1 = _working(x_0, "x_0"), _working(x_1, "x_1")
    if x_0.shape != x_1.shape:
        raise ValueError(
            f"found x_0 of shape {tuple(x_0.shape)} and x_1 of shape {tuple(x_1.shape)}; expected the same shape. "
            "Mend: bring both into one space first, as a flow's base does."
        )
    t = torch.rand((len(x_0), 1), dtype=x_0.dtype, device=x_0.device, generator=generator)
    dx_t = x_1 - x_0
    x_t = torch.addcmul(x_0, t, dx_t)
    if sigma:
        z = torch.randn(x_t.shape, dtype=x_t.dtype, device=x_t.device, generator=generator)
        x_t = x_t.add_(z, alpha=sigma)
    return PathSample(t, x_t, dx_t)


def flow_matching_loss(velocity: Velocity, sample: PathSample, condition: torch.Tensor | None) -> torch.Tensor:
    """Return ``E || v(t, x_t | c) - dx_t ||^2``, the mean over batch and dimensions.

    Conditional flow matching, equation 9 of Lipman et al. 2023 (arXiv 2210.02747); its gradient is that of the
    regression on the marginal velocity (their theorem 2).

    Parameters
    ----------
    velocity : callable
        ``velocity(t, x_t, condition)`` of shape (batch, dims).
    sample : PathSample
    condition : tensor of shape (batch, n_condition) or None

    Returns
    -------
    tensor of shape ()

    Raises
    ------
    ValueError
        A sample without a point.

    Examples
    --------
    >>> import torch
    >>> sample = sample_path(torch.zeros(4, 2), torch.ones(4, 2))
    >>> flow_matching_loss(lambda t, x, condition: torch.zeros_like(x), sample, None).item()
    1.0
    """
    if not sample.dx_t.numel():
        raise ValueError(
            f"found a sample of shape {tuple(sample.dx_t.shape)}; expected at least one point. Mend: draw points with sample_path."
        )
    return (velocity(sample.t, sample.x_t, condition) - sample.dx_t).square().mean()


def squared_distance(x_0: torch.Tensor, x_1: torch.Tensor) -> torch.Tensor:
    """Return the squared Euclidean distances of all pairs of rows, the cost of OT-CFM (Tong et al. 2024, eq. 17).

    Parameters
    ----------
    x_0 : tensor of shape (n_0, dims)
    x_1 : tensor of shape (n_1, dims)

    Returns
    -------
    tensor of shape (n_0, n_1)

    Raises
    ------
    ValueError
        Not floating tensors of two dimensions.

    Examples
    --------
    >>> import torch
    >>> squared_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])).tolist()
    [[9.0], [4.0]]
    """
    x_0, x_1 = _working(x_0, "x_0"), _working(x_1, "x_1")
    gram = x_0 @ x_1.T
    return x_0.square().sum(1)[:, None] + x_1.square().sum(1)[None, :] - 2 * gram


def recouple(x_0: torch.Tensor, x_1: torch.Tensor, cost: MinibatchCost = squared_distance) -> torch.Tensor:
    """Solve optimal transport exactly inside a minibatch of equally weighted points.

    Between two uniform clouds of the same size some optimal plan is a permutation (Birkhoff), so the linear assignment
    solver gives the plan itself, without the draw from a dense plan.

    Parameters
    ----------
    x_0, x_1 : tensors of shape (batch, dims)
    cost : callable
        ``cost(x_0, x_1)`` of shape (batch, batch).

    Returns
    -------
    int tensor of shape (batch,)
        The row of x_1 that each row of x_0 goes to.

    Raises
    ------
    ValueError
        Not floating tensors of two dimensions, or a cost of another shape or with entries that are not finite.

    Examples
    --------
    >>> import torch
    >>> recouple(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [-1.0]])).tolist()
    [1, 0]
    """
    matrix = cost(_working(x_0, "x_0"), _working(x_1, "x_1"))
    if not len(x_0):
        return torch.empty(0, dtype=torch.int64, device=x_0.device)
    if tuple(matrix.shape) != (len(x_0), len(x_1)) or not bool(torch.isfinite(matrix).all()):
        raise ValueError(
            f"found a minibatch cost of shape {tuple(matrix.shape)}, finite: {bool(torch.isfinite(matrix).all())}; expected "
            f"finite values of shape {(len(x_0), len(x_1))}. Mend: give a cost(x_0, x_1) of all pairs of rows."
        )
    return torch.as_tensor(_assign(matrix.detach().cpu().double().numpy()), device=x_0.device)


def _working(x: torch.Tensor, name: str) -> torch.Tensor:
    """Return a checked tensor of 32 bits at least: differences and squares of half precision overflow at 65,504."""
    x = require_tensor(x, name=name)
    return x.float() if x.dtype.itemsize < torch.float32.itemsize else x


def _assign(cost: np.ndarray) -> np.ndarray:
    """Solve the linear assignment; returns the column of each row.

    Subtracting a constant from a whole row or column changes the order of no two plans, only where the solver's
    shortest paths start. Subtracting the means, then the minima, leaves a fifth of the solver's time in 16 dimensions
    and more, half in two.
    """
    cost = cost - cost.mean(axis=1, keepdims=True)
    cost -= cost.mean(axis=0)
    cost -= cost.min(axis=1, keepdims=True)
    cost -= cost.min(axis=0)
    return linear_sum_assignment(cost)[1]
