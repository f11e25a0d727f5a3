"""Kernel ridge from points to their mean partners: a map for couplings that have no formula for new points."""

from __future__ import annotations

import numpy as np

from neurobridge.bridge import Coupling, KernelMap, kernel_map
from neurobridge.points.arrays import as_points


def partner_kernel_map(coupling: Coupling, X: np.ndarray, Y: np.ndarray, *, seed: int = 0) -> KernelMap:
    """Fit kernel ridge from source points to their mean partners under a coupling (Seguy et al. 2018).

    ``x_i -> sum_j P_ij y_j / sum_j P_ij``, each source point weighted by its mass ``sum_j P_ij``; points without partners
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
