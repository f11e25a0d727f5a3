"""From a cost to a coupling: checks what is asked, and has a solver answer it."""

from __future__ import annotations

import math
import warnings

import numpy as np

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.cost.dense import DenseCost
from neurobridge.bridge.cost.protocol import Cost
from neurobridge.bridge.transport.coupling import ConvergenceWarning, Coupling
from neurobridge.bridge.transport.solvers import SOLVERS, Problem, Solution, solve_pinned
from neurobridge.points.arrays import Array, to_tensor
from neurobridge.points.memory import named_shortage
from neurobridge.points.options import is_choice, require_options

# What to do where memory runs out: of a method that writes the matrix out, and of "factored".
_SHORTAGE = (
    "use method='factored' with a bridge cost, or fewer points",
    "bridge_cost(..., nearest=32) or bridge_cost(..., stream=True) holds less",
)


def couple(
    cost: Cost | Array,
    *,
    method: str = "factored",
    epsilon: float | None = None,
    tol: float = 1e-6,
    max_iter: int = 5000,
    a: Array | None = None,
    b: Array | None = None,
    unbalanced: float | None = None,
    pinned: bool = False,
    init: Coupling | None = None,
    memory_limit: float = 2e9,
) -> Coupling:
    """Solve for the coupling of two spaces under a cost.

    Balanced, entropic: ``min_pi <pi, C> + eps KL(pi | a b^T)`` with ``pi 1 = a, pi^T 1 = b``. Unbalanced replaces the
    constraints by ``rho KL(pi 1 | a) + rho KL(pi^T 1 | b)``.

    Parameters
    ----------
    cost : Cost, or array of shape (n, m)
        A bridge cost, any other `Cost`, or a finite matrix (numpy or torch), which stands for ``DenseCost(matrix)``.
    method : {"pairs", "exact", "sinkhorn", "factored"}
        Which to choose, by size:

        - "pairs", any size: the labelled pairs alone have mass (the paper's true alignment).
        - "exact", up to about 5,000 x 5,000 points: the sharpest plan, one partner a point; minutes
          beyond that. With ``unbalanced`` up to about 2,000 x 2,000: a plan of at most n + m - 1 entries.
        - "sinkhorn", up to about 10,000 x 10,000 (the n x m matrix in memory, several times): for a
          matrix, and for ``reduce="min"``.
        - "factored", for a `BridgeCost` alone, from ten points to millions: the same plan as
          "sinkhorn" on the softmin cost, without the matrix. Up to some hundred thousand points keep
          all anchors; above, ``bridge_cost(..., nearest=32)`` makes a pass cheap, and ``stream=True``
          makes it exact at constant memory. Points on disk or in dask arrays are read block by block,
          or stay on dask's workers with ``bridge_cost(..., distributed=True)``.

        `neurobridge.bridge.fuse` is the choice where a linear (or kernel) map of the pairs carries much of the relation.
    epsilon : float, optional
        Entropic temperature as a fraction of ``cost.unit``: of the mean anchor distance for a bridge cost, where it is the
        temperature of the softmin as well; of the mean entry for a matrix. Default: the temperature a bridge cost was given by
        `BridgeCost.at`, otherwise 0.05.
    tol : float
        Largest accepted L1 error of the marginals; of "exact" with ``unbalanced`` the largest duality gap per unit of mass as
        well, as a fraction of ``cost.unit`` (of rho, where that is smaller).
    max_iter : int
    a, b : arrays of shape (n,) and (m,), optional
        Positive marginals, uniform by default; scaled to sum to one when balanced.
    unbalanced : float, optional
        Weight rho of the KL penalty on the marginals, as a fraction of ``cost.unit``; None keeps them exactly. The larger it is,
        the nearer is the plan to the balanced one.
    pinned : bool
        Labelled points may only go to their partner. Each pair carries the mean of the masses its two points were given (a point
        in several pairs divides its own evenly); the masses of all other points are scaled so that both sides sum to one, and
        ``Coupling.a`` and ``.b`` hold them; confidence plays no part, as pinning is trust.
        Nothing changes for uniform masses and as many source as target points.
    init : Coupling, optional
        Factored coupling of the same target points to start from (another epsilon, a truncated cost): saves iterations.
    memory_limit : float
        Bytes a dense method may take for the n x m matrix.

    Returns
    -------
    Coupling

    Warns
    -----
    ConvergenceWarning
        The tolerance was not reached in ``max_iter`` iterations.

    Raises
    ------
    ValueError
        Unknown method, non-positive epsilon, marginals of the wrong length or not positive, or options that the
        method cannot honour.
    FloatingPointError
        The plan holds non-finite values; the message suggests a larger epsilon.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, couple
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 4)), rng.normal(size=(50, 6))
    >>> coupling = couple(bridge_cost(X, Y, (np.arange(8), np.arange(8))), epsilon=0.1, tol=1e-8)
    >>> coupling.converged, bool(np.allclose(coupling.row_mass, 1 / 60))
    (True, True)
    >>> couple(np.array([[0.0, 1.0], [1.0, 0.0]]), method="exact")
    Coupling(2 x 2, exact, converged, epsilon=0.05)
    """
    if not isinstance(cost, Cost):
        cost = DenseCost(cost)
    require_options(epsilon=epsilon, tol=tol, max_iter=max_iter, unbalanced=unbalanced, pinned=pinned)
    if epsilon is None:
        epsilon = getattr(cost, "epsilon", None) or 0.05
    if not is_choice(method, SOLVERS):
        raise ValueError(f"found method {method!r}; expected one of {sorted(SOLVERS)}. Mend: choose one of them.")
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(
            f"found epsilon={epsilon}; expected a positive fraction of the mean anchor distance (of the mean of a matrix). "
            "Mend: try 0.05."
        )
    if unbalanced is not None and not (math.isfinite(unbalanced) and unbalanced > 0):
        raise ValueError(
            f"found unbalanced={unbalanced}; expected a positive weight rho, finite, or None, which keeps the marginals. "
            "Mend: try 1.0; larger is stricter."
        )
    if method == "pairs" and not (a is None and b is None and unbalanced is None):
        raise ValueError(
            "found marginals or unbalanced with method='pairs'; expected neither, since the labelled pairs fix the plan. "
            "Mend: leave them out, or use method='factored'."
        )
    if pinned and init is not None:
        raise ValueError(
            "found pinned=True with init; expected one of them, since the pinned points have no potential to start from. "
            "Mend: leave init out."
        )
    if (pinned and method == "pairs") or (init is not None and method != "factored"):
        raise ValueError(
            f"found pinned={pinned}, init={'a coupling' if init else None} with method={method!r}; expected neither with "
            "'pairs', and init with 'factored' only. Mend: leave them out, or method='factored'."
        )
    if isinstance(cost, BridgeCost) and cost.reduce == "softmin":
        cost = cost.at(epsilon)
    n, m = cost.shape
    problem = Problem(
        cost,
        _marginal(a, n, "a", normalise=unbalanced is None),
        _marginal(b, m, "b", normalise=unbalanced is None),
        _in_units(epsilon, cost.unit, "epsilon"),
        None if unbalanced is None else _in_units(unbalanced, cost.unit, "unbalanced"),
        tol, max_iter, memory_limit, None if init is None else _started(init, epsilon, m),
    )  # fmt: skip
    with named_shortage(f"couple(method={method!r}) of {n} x {m} points", _SHORTAGE[method == "factored"]):
        if pinned:
            problem, solution = solve_pinned(problem, SOLVERS[method])
        else:
            solution = SOLVERS[method](problem)
    _check_mass(solution, cost, epsilon, unbalanced)
    # The exact solver answers to rounding, not to tol.
    converged = solution.finished and solution.marginal_error <= max(tol, 1e-9)
    if not converged:
        gap = "" if solution.gap is None else f" and a duality gap of {solution.gap:.2e} per unit of mass"
        mend = "" if method == "exact" else f" or epsilon (found {epsilon})"
        warnings.warn(
            f"{method}: found a marginal error of {solution.marginal_error:.2e}{gap} after {solution.n_iter} iterations; "
            f"expected at most {tol:.0e}. Mend: raise max_iter (found {max_iter}){mend}.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Coupling(
        cost, solution.plan, method, float(epsilon), unbalanced, problem.a, problem.b,
        converged, solution.n_iter, solution.marginal_error,
    )  # fmt: skip


def _check_mass(solution: Solution, cost: Cost, epsilon: float, unbalanced: float | None) -> None:
    """Refuse a plan that holds values that are not finite, or no mass.

    Raises
    ------
    FloatingPointError
        With the settings that lead to a plan.
    """
    sides = solution.plan.row_mass(), solution.plan.col_mass()
    total = float(sides[0].sum())
    if (
        math.isfinite(solution.marginal_error)
        and all(np.isfinite(side).all() for side in sides)
        and 0 < total < math.inf
    ):
        return
    mends = [f"raise epsilon (found {epsilon}; try {max(0.01, 10 * epsilon):.3g})"]
    if unbalanced is not None:
        mends.append(f"raise unbalanced (found {unbalanced}; try {max(0.1, 10 * unbalanced):.3g})")
    if isinstance(cost, BridgeCost) and cost.truncation_bound(epsilon) > 0:
        mends.append("keep more nearest anchors")
    raise FloatingPointError(
        f"found a plan of mass {total} and a marginal error of {solution.marginal_error} after {solution.n_iter} iterations; "
        f"expected finite positive mass. Mend: {', or '.join(mends)}."
    )


def _in_units(fraction: float, unit: float, name: str) -> float:
    """Return a setting in the units of the cost.

    Raises
    ------
    ValueError
        It has left double precision there.
    """
    value = float(fraction) * unit
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"found {name}={fraction} of a cost whose unit is {unit:.3g}; expected a product that double precision holds. "
            f"Mend: divide the cost by {unit:.3g}, or take {name} nearer to 1."
        )
    return value


def _marginal(mass: Array | None, size: int, name: str, *, normalise: bool) -> np.ndarray:
    if mass is None:
        return np.full(size, 1.0 / size)
    marginal = to_tensor(mass, name=name).double().cpu().numpy()
    if marginal.shape != (size,) or not (marginal > 0).all():
        raise ValueError(
            f"{name}: found shape {marginal.shape}, smallest value {marginal.min() if marginal.size else None}; expected "
            f"({size},) positive masses. Mend: give each point a positive mass, or drop points of mass zero."
        )
    with np.errstate(over="ignore", under="ignore"):
        total = marginal.sum()
        # A sum beyond double precision, of masses that are not.
        shares = (
            marginal / total if np.isfinite(total) else marginal / marginal.max() / (marginal / marginal.max()).sum()
        )
    if not (np.isfinite(total) or normalise) or shares.min() < np.finfo(np.float64).tiny:
        raise ValueError(
            f"{name}: found masses from {marginal.min():.3g} to {marginal.max():.3g}, {total:.3g} in all; expected shares of a "
            "finite total that double precision holds. Mend: divide them by the largest, and drop points of next to no mass."
        )
    return shares if normalise else marginal


def _started(init: Coupling, epsilon: float, m: int) -> np.ndarray:
    """Log scaling to start from: the potential ``eps log v`` of another solution."""
    if not isinstance(init, Coupling):
        raise ValueError(
            f"found init of type {type(init).__name__}; expected a Coupling of the same target points, or None. "
            "Mend: leave it out."
        )
    log_v = init.log_scalings[1] * (init.epsilon / epsilon)
    if log_v.shape != (m,):
        raise ValueError(
            f"init: found a coupling of {log_v.shape[0]} target points; expected {m}. "
            "Mend: start from a coupling of the same target points."
        )
    return log_v
