"""Maps of new points that are read from a coupling: by its formula, by the fused bridge, or by kernel ridge to mean partners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurobridge.aligners.representations import read_columns, unread_columns
from neurobridge.bridge import Coupling, FusedBridge, KernelMap, kernel_map
from neurobridge.points.arrays import as_points
from neurobridge.store.kinds import register


@register("partner-map")
@dataclass(frozen=True, eq=False)
class PartnerMap:
    """Map of any point to its mean partner under a factored coupling, read from its distances to the anchors.

    Attributes
    ----------
    coupling : Coupling
    ends : array of shape (m, n_target_dims)
        The target points it was solved for.
    """

    coupling: Coupling
    ends: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims)."""
        return np.asarray(self.coupling.map(X, self.ends))


@register("fused-map", version=3, upgrades={1: dict, 2: dict})
@dataclass(frozen=True, eq=False)
class FusedMap:
    """Map of any point that cross-validation chose under a fused coupling.

    Attributes
    ----------
    bridge : FusedBridge
    backward : bool
        From the bridge's target to its source.
    read, given : arrays of shape (n_dims,), optional
        Factors of the dimensions of the space that is left, 0 where the bridge does not read them, and of the space that is
        reached; None for ones.
    """

    bridge: FusedBridge
    backward: bool = False
    read: np.ndarray | None = None
    given: np.ndarray | None = None

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims)."""
        points = read_columns(X, self.read)
        images = self.bridge.map_back(points) if self.backward else self.bridge.map(points)
        return unread_columns(np.asarray(images), self.given)


def partner_kernel_map(coupling: Coupling, X: np.ndarray, Y: np.ndarray, *, seed: int = 0) -> KernelMap:
    """Fit kernel ridge from source points to their mean partners under a coupling (Seguy et al. 2018).

    ``x_i -> sum_j pi_ij y_j / sum_j pi_ij``, each source point weighted by its mass ``sum_j pi_ij``; points without partners
    are left out. It moves fitted and new points alike.

    Parameters
    ----------
    coupling : Coupling
        Of shape (n, m).
    X : array of shape (n, n_source_dims)
    Y : array of shape (m, n_target_dims)
    seed : int
        Of the choice of kernel centres.

    Returns
    -------
    KernelMap
        Of points (n_points, n_source_dims) to (n_points, n_target_dims).

    Raises
    ------
    ValueError
        Fewer than two points have partners, or X or Y has another number of rows than the coupling.

    References
    ----------
    Seguy, Damodaran, Flamary, Courty, Rolet & Blondel 2018, Large-scale optimal transport and mapping estimation, ICLR
    (arXiv 1711.02283).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, couple
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> pairs = np.arange(10), np.arange(10)
    >>> partner_kernel_map(couple(bridge_cost(X, -X, pairs), method="pairs"), X, -X)(X).shape
    (30, 3)
    """
    X, mass = as_points(X, "X"), coupling.row_mass
    if len(X) != len(mass):
        raise ValueError(
            f"X: found {len(X)} rows; expected {len(mass)}, the source points of the coupling. Mend: pass the points that were "
            "coupled, in their order."
        )
    coupled = np.flatnonzero(mass > 0)
    partners = np.asarray(coupling.barycentric(Y))[coupled]
    return kernel_map(X[coupled], partners, weights=mass[coupled], seed=seed)
