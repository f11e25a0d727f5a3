"""Velocity networks: v(t, x_t | condition)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from neurobridge.points.display import html_repr, short_repr

#: Takes (n_dims, n_condition), gives a module called as module(t, x, condition).
NetworkFactory = Callable[[int, int], nn.Module]
#: Largest change of the spread of a dimension by the closed form of `SpreadVelocity`.
MOST_STRETCHED = 10.0
#: Share of its network's velocity that `SpreadVelocity` adds where validation finds no clear gain by the whole.
SHARE_HELD_BACK = 0.4


def default_size(n_dims: int, n_condition: int = 0) -> tuple[int, int]:
    """Return the width and depth of a network for a state and a condition of these dimensions.

    The width is the next power of two that holds the larger of the two, from 128 to 1024: a network narrower than its
    state cannot carry all directions of it. The depth is two residual blocks up to 128 dimensions, three above.

    Parameters
    ----------
    n_dims : int
        Dimensions of the state.
    n_condition : int
        Dimensions of the condition; 0 for none.

    Returns
    -------
    width, depth : int

    Examples
    --------
    >>> default_size(32, 500)
    (512, 3)
    """
    largest = max(n_dims, n_condition)
    width = min(1024, max(128, 1 << (largest - 1).bit_length()))
    return width, 2 if largest <= 128 else 3


def time_embedding(t: torch.Tensor, n_frequencies: int) -> torch.Tensor:
    """Embed times of shape (batch, 1) as sines and cosines of shape (batch, 2 n_frequencies)."""
    octaves = 2.0 ** torch.arange(n_frequencies, dtype=t.dtype, device=t.device)
    angles = math.pi * t * octaves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.down(nn.functional.silu(self.up(self.norm(h))))


class VelocityMLP(nn.Module):
    """Residual MLP with a time embedding and layer normalisation.

    Starts as the zero field, so an untrained flow leaves its base unchanged.

    Parameters
    ----------
    n_dims : int
        Dimensions of the state.
    n_condition : int
        Dimensions of the condition; 0 for none.
    width, depth : int, optional
        Hidden units, and residual blocks; None for `default_size`.
    n_frequencies : int
        Octaves of the time embedding.

    Examples
    --------
    >>> import torch
    >>> velocity = VelocityMLP(5, 3)
    >>> velocity
    VelocityMLP(5 dims, condition of 3, width=128, depth=2, parameters=69637)
    >>> velocity(torch.rand(7, 1), torch.randn(7, 5), torch.randn(7, 3)).shape
    torch.Size([7, 5])
    """

    def __init__(
        self,
        n_dims: int,
        n_condition: int = 0,
        *,
        width: int | None = None,
        depth: int | None = None,
        n_frequencies: int = 4,
    ) -> None:
        super().__init__()
        default_width, default_depth = default_size(n_dims, n_condition)
        width, depth = default_width if width is None else width, default_depth if depth is None else depth
        self.n_frequencies = n_frequencies
        self.enter = nn.Linear(n_dims + n_condition + 2 * n_frequencies, width)
        self.blocks = nn.ModuleList(_Residual(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, n_dims)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, t: torch.Tensor, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Return velocities.

        Parameters
        ----------
        t : tensor of shape (batch, 1)
        x : tensor of shape (batch, n_dims)
        condition : tensor of shape (batch, n_condition), optional

        Returns
        -------
        tensor of shape (batch, n_dims)
        """
        parts = [x, time_embedding(t, self.n_frequencies)]
        if condition is not None:
            parts.append(condition)
        h = self.enter(torch.cat(parts, dim=1))
        for block in self.blocks:
            h = block(h)
        return self.leave(self.norm(h))

    def _facts(self) -> dict[str, int]:
        n_dims = self.leave.out_features
        return {
            "dims": n_dims,
            "condition": self.enter.in_features - n_dims - 2 * self.n_frequencies,
            "width": self.enter.out_features,
            "depth": len(self.blocks),
            "parameters": sum(p.numel() for p in self.parameters()),
        }

    def __repr__(self) -> str:
        facts = self._facts()
        parts = f"{facts.pop('dims')} dims", f"condition of {facts.pop('condition')}"
        return short_repr("VelocityMLP", *parts, **facts)

    def _repr_html_(self) -> str:
        return html_repr("VelocityMLP", self._facts())


class SpreadVelocity(nn.Module):
    """The velocity that gives each dimension its mean and spread, in closed form, plus what a network adds.

    Where ``x_1 = m_1 + s (x_0 - m_0)`` in each dimension, the points of straight paths at time t have mean
    ``m_t = (1 - t) m_0 + t m_1`` and the spread of the starts times ``a_t = 1 - t + t s``, and

        v(t, x) = m_1 - m_0 + (s - 1) (x - m_t) / a_t

    leads each start to its end: optimal transport between Gaussians of diagonal covariance. With a network that gives zero,
    as at the start of training, end points are ``x_1``, so that no correlation of a single dimension changes.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(t, x, condition)``.
    n_dims : int
        Dimensions of the state. Before `set_spread` the closed form is zero.

    Examples
    --------
    >>> import torch
    >>> from neurobridge.flow import VelocityMLP
    >>> velocity = SpreadVelocity(VelocityMLP(1), 1)
    >>> velocity.set_spread(torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [5.0]]))
    >>> velocity(torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]])).flatten().tolist()  # from -1 to 1, from 1 to 5
    [2.0, 4.0]
    """

    start: torch.Tensor
    end: torch.Tensor
    stretch: torch.Tensor
    # Of the trained network's velocity; training regresses the whole.
    share: torch.Tensor

    def __init__(self, network: nn.Module, n_dims: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("start", torch.zeros(n_dims))
        self.register_buffer("end", torch.zeros(n_dims))
        self.register_buffer("stretch", torch.ones(n_dims))
        self.register_buffer("share", torch.tensor(1.0))

    def set_spread(self, starts: torch.Tensor, ends: torch.Tensor) -> None:
        """Take means and spreads of coupled starts and ends, tensors of shape (n, n_dims).

        The stretch is held between 1 and `MOST_STRETCHED`. Nothing is narrowed, since images of fitted points are spread
        wider than those of new points; and a dimension that hardly varies among the starts holds little but noise.
        """
        self.start.copy_(starts.mean(dim=0))
        self.end.copy_(ends.mean(dim=0))
        spreads = [points.std(dim=0).clamp(min=1e-6) for points in (starts, ends)]
        self.stretch.copy_((spreads[1] / spreads[0]).clamp(1.0, MOST_STRETCHED))

    def forward(self, t: torch.Tensor, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Return velocities of shape (batch, n_dims), at times (batch, 1) and states (batch, n_dims)."""
        mean = torch.lerp(self.start, self.end, t)
        share = 1.0 if self.training else self.share
        rate = (self.stretch - 1) / (1 - t + t * self.stretch)
        return self.end - self.start + rate * (x - mean) + share * self.network(t, x, condition)


def build_network(
    network: NetworkFactory | None,
    n_dims: int,
    n_condition: int,
    *,
    width: int | None,
    depth: int | None,
    seed: int,
    device: torch.device,
) -> nn.Module:
    """Make a velocity network with seeded weights, without touching the global random state, and try it on two points.

    Raises
    ------
    TypeError
        The factory gave something that is not a module.
    ValueError
        The module has nothing to train, or gives a velocity of another shape than the state.
    """
    if isinstance(network, nn.Module):
        raise TypeError(
            f"found network={type(network).__name__}(...), a module; expected a callable (n_dims, n_condition) -> module, as each "
            "direction trains its own. Mend: pass the class, or lambda n_dims, n_condition: MyNetwork(n_dims, n_condition)."
        )
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        module = (
            VelocityMLP(n_dims, n_condition, width=width, depth=depth)
            if network is None
            else network(n_dims, n_condition)
        )
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"found network(n_dims, n_condition) of type {type(module).__name__}; expected a torch.nn.Module. "
                "Mend: return a module called as module(t, x, condition)."
            )
        module = module.to(device)
        if not any(p.requires_grad for p in module.parameters()):
            raise ValueError(
                "found a network without trainable parameters; expected a velocity to train. Mend: do not freeze it."
            )
        if network is not None:
            _try_out(module, n_dims, n_condition, device)
    return module


def _try_out(network: nn.Module, n_dims: int, n_condition: int, device: torch.device) -> None:
    x = torch.zeros(2, n_dims, device=device)
    condition = torch.zeros(2, n_condition, device=device) if n_condition else None
    training = network.training
    with torch.inference_mode():
        out = network.eval()(torch.zeros(2, 1, device=device), x, condition)
    network.train(training)
    if tuple(out.shape) != tuple(x.shape):
        raise ValueError(
            f"found a velocity of shape {tuple(out.shape)} for a state of shape {tuple(x.shape)}; expected the same shape. "
            "Mend: the network's last layer must give n_dims values."
        )
