"""Matching two spaces by their inner distances alone: Gromov-Wasserstein from informed starts, annealed and sharpened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import ot
import torch
from sklearn.cluster import KMeans

from neurobridge.bridge.cost.in_memory import anchor_distances
from neurobridge.bridge.cost.metrics import Metric
from neurobridge.points.display import short_repr

# Fractions of the mean squared distance; each stage starts from the plan of the one before.
EPSILONS: tuple[float, ...] = (0.1, 0.03, 0.01)
_N_QUANTILES = 50
_N_SCALINGS = 9
Duals = tuple[np.ndarray, np.ndarray]


class GromovPlan(NamedTuple):
    """A plan between two sets of points that keeps their inner distances.

    Attributes
    ----------
    plan : array of shape (n, m)
        Mass 1, uniform marginals.
    distortion : float
        ``sum_ijkl (C_ik - D_jl)^2 pi_ij pi_kl`` over its value for the independent plan ``p q^T``: 0 is an isometry, 1 is chance.
    start : str
        Name of the start it was reached from: "signature", "uniform" or "blurred 0", "blurred 1", ...
    """

    plan: np.ndarray
    distortion: float
    start: str

    def __repr__(self) -> str:
        return short_repr(
            "GromovPlan", "{} x {}".format(*self.plan.shape), distortion=self.distortion, start=self.start
        )


def inner_distances(X: np.ndarray, *, metric: Metric = "euclidean", n_neighbors: int = 10) -> np.ndarray:
    """Measure the distances between all points of one space.

    Parameters
    ----------
    X : array of shape (n, n_dims)
    metric, n_neighbors : see `neurobridge.bridge.bridge_cost`

    Returns
    -------
    array of shape (n, n)
        Symmetric, in units of their mean.
    """
    distances = anchor_distances(
        torch.as_tensor(X), np.arange(len(X)), metric=metric, scale="mean", n_neighbors=n_neighbors
    )
    matrix = distances.fitted.double().cpu().numpy()
    return (matrix + matrix.T) / 2


def signature_cost(C: np.ndarray, D: np.ndarray, *, n_quantiles: int = _N_QUANTILES) -> np.ndarray:
    """Compare how far everything else lies from each point: the third lower bound of Mémoli 2011.

    ``L_ij = W_2^2(C_i., D_j.)``, the squared Wasserstein distance of the two points' distance distributions, from their
    quantiles; it needs no correspondence, so the transport under it is an informed start.

    Parameters
    ----------
    C : array of shape (n, n)
        Inner distances of the source.
    D : array of shape (m, m)
        Inner distances of the target.
    n_quantiles : int

    Returns
    -------
    array of shape (n, m)
    """
    levels = (np.arange(n_quantiles) + 0.5) / n_quantiles
    left, right = (np.quantile(matrix, levels, axis=1).T for matrix in (C, D))
    return ot.dist(left, right) / n_quantiles


def match_geometry(
    C: np.ndarray,
    D: np.ndarray,
    rng: np.random.Generator,
    *,
    epsilons: Sequence[float] = EPSILONS,
    n_random: int = 1,
    max_iter: int = 30,
) -> GromovPlan:
    """Find the least distorting plan over several starts.

    The starts: optimal transport of the distance signatures (`signature_cost`), the independent plan, and signatures
    blurred by noise (``n_random`` of them). From each, entropic Gromov-Wasserstein (Peyré, Cuturi & Solomon 2016) is run with
    falling epsilon, as annealing escapes shallow optima, and the least distorting plan is sharpened by conditional gradient steps
    with exact transport (Vayer et al. 2019), which has no temperature.

    POT's building blocks are used, not its entropic driver: that one solves the inner problem outside the log domain, which
    overflows at the last temperatures.

    Parameters
    ----------
    C, D : arrays of shape (n, n) and (m, m)
        Inner distances.
    rng : numpy.random.Generator
    epsilons : sequence of float
        Falling temperatures, as fractions of the mean squared distance.
    n_random : int
        Blurred starts.
    max_iter : int
        Steps at each temperature.

    Returns
    -------
    GromovPlan
    """
    n, m = len(C), len(D)
    p, q = ot.unif(n), ot.unif(m)
    constant, left, right = ot.gromov.init_matrix(C, D, p, q, "square_loss")
    chance = float(ot.gromov.gwloss(constant, left, right, np.outer(p, q)))
    unit = float((C**2).mean() + (D**2).mean()) / 2
    signature = signature_cost(C, D)
    starts: dict[str, np.ndarray] = {
        "signature": _entropic(signature, 0.01 * signature.mean()),
        "uniform": np.outer(p, q),
    }
    for k in range(n_random):
        noise = signature.std() * rng.standard_normal((n, m))
        starts[f"blurred {k}"] = _entropic(signature + noise, 0.05 * signature.mean())
    best: GromovPlan | None = None
    for name, plan in starts.items():
        # The signature is sharp already; heating it up would forget it.
        for epsilon in epsilons[1:] if name == "signature" else epsilons:
            duals: Duals | None = None
            for _ in range(max_iter):
                gradient = ot.gromov.gwggrad(constant, left, right, plan)
                last_plan, (plan, duals) = plan, _sinkhorn(gradient, epsilon * unit, duals)
                if np.abs(plan - last_plan).sum() < 1e-2:
                    break
        distortion = float(ot.gromov.gwloss(constant, left, right, plan)) / chance
        if best is None or distortion < best.distortion:
            best = GromovPlan(plan, distortion, name)
    assert best is not None
    # Exact transport along the gradient has exact marginals, which the sharpening asks of its start.
    start = ot.emd(p, q, ot.gromov.gwggrad(constant, left, right, best.plan))
    sharp = ot.gromov.gromov_wasserstein(C, D, p, q, G0=start, symmetric=True, max_iter=100)
    return GromovPlan(sharp, float(ot.gromov.gwloss(constant, left, right, sharp)) / chance, best.start)


def _entropic(cost: np.ndarray, epsilon: float) -> np.ndarray:
    return _sinkhorn(cost, max(epsilon, 1e-12), None, n_steps=10)[0]


def _sinkhorn(cost: np.ndarray, epsilon: float, duals: Duals | None, *, n_steps: int = 2) -> tuple[np.ndarray, Duals]:
    """Take few inner steps from the last duals, which suffice as the outer loop corrects the rest.

    A step updates both duals in the log domain, which no temperature overflows, and then scales the kernel they leave nine
    times more: its rows have their mass, so that the factors stay near one. The logarithms are what costs time.
    """
    n, m = cost.shape
    scaled = cost / epsilon
    f, g = (np.zeros(n), np.zeros(m)) if duals is None else duals
    for _ in range(n_steps):
        g = -_log_sum_exp((f[:, None] - scaled).T) - np.log(m)
        f = -_log_sum_exp(g[None] - scaled) - np.log(n)
        kernel = np.exp(f[:, None] + g[None] - scaled)
        u, v = np.ones(n), np.ones(m)
        for _ in range(_N_SCALINGS):
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                v_next = 1 / (m * (u @ kernel))
                u_next = 1 / (n * (kernel @ v_next))
            if not (np.isfinite(v_next).all() and np.isfinite(u_next).all()):
                break
            u, v = u_next, v_next
        f, g = f + np.log(u), g + np.log(v)
    return u[:, None] * kernel * v[None], (f, g)


def _log_sum_exp(matrix: np.ndarray) -> np.ndarray:
    peak = matrix.max(axis=1)
    return np.asarray(peak + np.log(np.exp(matrix - peak[:, None]).sum(axis=1)))


def scrambled(X: np.ndarray, rng: np.random.Generator, *, n_cells: int = 8) -> np.ndarray:
    """Make a surrogate of the points with the same spread and grain, but another arrangement.

    The points are cut into cells (k-means); every cell keeps its inside, and the cells' centres trade their principal coordinates,
    each coordinate shuffled on its own. What the surrogate keeps (variances, clusters, density) is what any two clouds of this kind
    share; what it loses is the arrangement that a correspondence has to rest on.

    Parameters
    ----------
    X : array of shape (n, n_dims)
    rng : numpy.random.Generator
    n_cells : int

    Returns
    -------
    array of shape (n, n_dims)
    """
    n_cells = max(2, min(n_cells, len(X) // 4))
    fitted = KMeans(n_cells, n_init=3, random_state=int(rng.integers(2**31 - 1))).fit(X)
    centres, label = fitted.cluster_centers_, fitted.labels_
    middle = centres.mean(axis=0)
    U, S, Vt = np.linalg.svd(centres - middle, full_matrices=False)
    shuffled = np.column_stack([rng.permutation(column) for column in (U * S).T])
    return X - centres[label] + (shuffled @ Vt + middle)[label]
