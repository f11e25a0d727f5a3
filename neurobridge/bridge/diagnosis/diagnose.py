"""Diagnosis of a bridge: coverage, leave-one-out, calibration, overlap, and how sharp the plan is."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.diagnosis.coverage import anchor_matrix, cover
from neurobridge.bridge.diagnosis.findings import find
from neurobridge.bridge.diagnosis.result import Diagnostics
from neurobridge.bridge.diagnosis.statistics import directions, loo_rank, mantel, pair_ranks
from neurobridge.bridge.diagnosis.wrong_pairs import judge, suspects
from neurobridge.bridge.fused.cost import FusedCost
from neurobridge.bridge.transport.coupling import Coupling
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import Array, points, row_blocks
from neurobridge.points.options import require_options

_MOST_COMPARED = 500
_ENTROPY_ROWS = 512
# The least number of permutations that can reach a p-value of 5 %.
_FEWEST_PERMUTATIONS = 19


def diagnose(
    cost: BridgeCost | FusedCost | Any,
    coupling: Coupling | None = None,
    *,
    X: Array | None = None,
    Y: Array | None = None,
    n_permutations: int = 199,
    warn: bool = True,
    seed: int = 0,
) -> Diagnostics:
    """Examine a bridge before trusting it.

    Everything rests on the anchors and on distances to them: no n x m matrix is built, and with many anchors 500 are compared.

    - *Coverage*: points farther from any anchor than anchors are from one another (95 % quantile) are beyond reach.
    - *Leave one out*: for anchors p and q, ``C_-pq(x_p, y_q) = min_{r not in {p, q}} d_X(x_p, x_r) + d_Y(y_r, y_q)``; the rank of
      the true ``q = p``. Both pairs are left out, or every other target would have a bridge of its own.
    - *Wrong pairs*: anchors get coordinates from their distances (classical scaling), a ridge map predicts each from the other
      pairs, in both directions, fitted on the 60 % that agree best (least trimmed squares); a pair is suspect if more than 25 %
      (40 % where pairs are imprecise) of the wrong partners lie nearer to the prediction than its own. Silence counts only where
      it means something: a quarter of the pairs are exchanged among themselves, 12 times, and where that is noticed less than 80
      times in 100 the answer is "cannot tell" (`Diagnostics.wrong_pairs`).
    - *Calibration*: Spearman correlation of ``d_X(x_p, x_r)`` and ``d_Y(y_p, y_r)``, with a permutation test (Mantel 1967), as in
      representational similarity analysis (Kriegeskorte, Mur & Bandettini 2008).
    - *Directions*: with eigenvalues l of the doubly centred squared distances, ``1 / n_directions = sum l^2 / (sum l)^2 - 1/P``, a
      participation ratio corrected for the number of anchors P.

    Parameters
    ----------
    cost : BridgeCost, FusedCost or fitted BridgeAligner
        Of a fused cost the bridge is examined; of an aligner its cost with its plan and its points, in standard deviations. An
        aligner that was read from a folder keeps none of them.
    coupling : Coupling, optional
        Coupling under the same cost; adds plan entropy, and transported mass if unbalanced.
    X, Y : arrays of shape (n, n_source_dims) and (m, n_target_dims), optional
        The points of the cost; both add the ridge map over the pairs.
    n_permutations : int
        Number of permutations in the test of calibration, at least 19.
    warn : bool
        Raise the warnings; `Diagnostics.findings` names them either way.
    seed : int
        Seed of the permutations and of all draws.

    Returns
    -------
    Diagnostics

    Warns
    -----
    LowOverlapWarning
        More than 30 % of a space beyond reach (more, if fewer than 40 anchors fix the reach), or less than half of the mass
        transported.
    CalibrationWarning
        Calibration below 0.2, or no better than chance at the 5 % level.
    FewAnchorsWarning
        Fewer than eight anchors, or fewer than directions.
    NoisyAnchorsWarning
        More than 10 % of the pairs suspect, at least three, and more than pairs of this precision leave by chance.

    Raises
    ------
    ValueError
        A cost without a bridge, an aligner without a plan or with further arguments, a coupling of another shape, only one of
        X and Y or arrays that do not fit the cost, or too few permutations.

    References
    ----------
    Mantel 1967, *The detection of disease clustering and a generalized regression approach*. Kriegeskorte, Mur & Bandettini
    2008, *Representational similarity analysis*. Torgerson 1952, *Multidimensional scaling: I*.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, couple, diagnose
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(80, 3))
    >>> X, Y = latents @ rng.normal(size=(3, 5)), latents @ rng.normal(size=(3, 4))
    >>> cost = bridge_cost(X, Y, (np.arange(30), np.arange(30)))
    >>> report = diagnose(cost, couple(cost), X=X, Y=Y)
    >>> report.findings
    ()
    >>> bool(report.loo_rank < 0.2), bool(report.ridge_r2 > 0.99)
    (True, True)
    """
    require_options(warn=warn)
    if hasattr(cost, "get_params"):
        cost, coupling, X, Y = _parts_of_aligner(cost, coupling, X, Y)
    bridge = cost.bridge if isinstance(cost, FusedCost) else cost
    _check(bridge, coupling, X, Y, n_permutations, seed)
    rng = np.random.default_rng(seed)
    n_anchors = bridge.n_anchors
    compared = np.sort(rng.permutation(n_anchors)[:_MOST_COMPARED])
    source_rows, target_rows = bridge.anchors
    C = anchor_matrix(bridge.source, bridge.source_factor, source_rows, compared)
    D = anchor_matrix(bridge.target, bridge.target_factor, target_rows, compared)
    source = cover(bridge.source_factor, source_rows, C, compared)
    target = cover(bridge.target_factor, target_rows, D, compared)
    pair_rank = pair_ranks(C, D)
    calibration, p_value, null = mantel(C, D, n_permutations, rng)
    entropy, partners = (None, None) if coupling is None else _entropy(coupling, rng)
    result = Diagnostics(
        shape=bridge.shape,
        n_anchors=n_anchors,
        n_directions=min(directions(C), directions(D)),
        source=source,
        target=target,
        loo_rank=loo_rank(C, D),
        pair_rank=pair_rank,
        compared=compared,
        outliers=compared[suspects(pair_rank)],
        wrong_pairs=judge(C, D, pair_rank, np.random.default_rng([seed, 1])),
        ridge_r2=None if X is None or Y is None else _ridge_r2(X, Y, bridge, rng),
        calibration=calibration,
        calibration_p=p_value,
        calibration_null=null,
        overlap=(1 - source.beyond, 1 - target.beyond),
        mass=None if coupling is None or coupling.unbalanced is None else _transported(coupling),
        entropy=entropy,
        partners=partners,
        findings=(),
    )
    findings = find(result)
    if warn:
        for kind, message in findings:
            warnings.warn(message, kind, stacklevel=2)
    return replace(result, findings=tuple(kind.__name__ for kind, _ in findings))


def _parts_of_aligner(
    aligner: Any, coupling: Coupling | None, X: Array | None, Y: Array | None
) -> tuple[Any, Coupling, Array, Array]:
    """Return cost, coupling and points of a fitted aligner, which is known here by its attributes alone."""
    name = type(aligner).__name__
    if any(part is not None for part in (coupling, X, Y)):
        raise ValueError(
            f"found a {name} with a coupling or points; expected it alone, as it has its own. Mend: diagnose(aligner)."
        )
    own_coupling, training = getattr(aligner, "coupling_", None), getattr(aligner, "training_", None)
    if own_coupling is None or training is None or own_coupling.cost is None:
        raise ValueError(
            f"found a {name} without a plan under a cost (it is not fitted, was read from a folder, or has map='linear' or "
            "coupling='pairs'); expected a fitted bridge. Mend: aligner.fit(source, target, pairs), or "
            "diagnose(bridge_cost(X, Y, pairs)) of its arrays."
        )
    return own_coupling.cost, own_coupling, training[0], training[1]


def _check(
    bridge: BridgeCost, coupling: Coupling | None, X: Array | None, Y: Array | None, n_permutations: int, seed: int
) -> None:
    if not isinstance(bridge, BridgeCost):
        raise ValueError(
            f"found a {type(bridge).__name__}; expected a BridgeCost, as the diagnosis is one of its anchors. "
            "Mend: diagnose(bridge_cost(X, Y, pairs))."
        )
    require_options(n_permutations=n_permutations, seed=seed)
    if not isinstance(coupling, Coupling | None):
        raise ValueError(
            f"found coupling of type {type(coupling).__name__}; expected a Coupling, or None. Mend: coupling=couple(cost)."
        )
    if n_permutations < _FEWEST_PERMUTATIONS:
        raise ValueError(
            f"found n_permutations={n_permutations}; expected at least {_FEWEST_PERMUTATIONS}, or 5 % cannot be reached. "
            "Mend: leave it out."
        )
    if coupling is not None and coupling.shape != bridge.shape:
        raise ValueError(
            f"found a coupling of shape {coupling.shape}; expected {bridge.shape} as the cost. Mend: couple(cost) anew."
        )
    if (X is None) != (Y is None):
        raise ValueError("found only one of X and Y; expected both or neither. Mend: pass both point arrays.")


def _transported(coupling: Coupling) -> tuple[float, float]:
    """Shares of the asked-for source and target mass that a plan transports."""
    sides = ((coupling.row_mass, coupling.a), (coupling.col_mass, coupling.b))
    sent, arrived = (float(np.minimum(mass, asked).sum() / asked.sum()) for mass, asked in sides)
    return sent, arrived


def _ridge_r2(X: Array, Y: Array, cost: BridgeCost, rng: np.random.Generator) -> float:
    """R^2 of the ridge map over the pairs, over ten folds; NaN where a fold leaves fewer than two pairs."""
    source, target = (points(side, name=name).double().cpu().numpy() for side, name in ((X, "X"), (Y, "Y")))
    if (len(source), len(target)) != cost.shape:
        raise ValueError(
            f"found X and Y of {len(source)} and {len(target)} rows; expected {cost.shape}. Mend: pass the arrays of the cost."
        )
    source, target = source[cost.anchors[0]], target[cost.anchors[1]]
    error = spread = 0.0
    for held in np.array_split(rng.permutation(len(source)), min(10, len(source))):
        kept = np.setdiff1d(np.arange(len(source)), held)
        if len(kept) < 2:
            return math.nan
        predicted = ridge_map(source[kept], target[kept])(source[held])
        error += float(((target[held] - predicted) ** 2).sum())
        spread += float(((target[held] - target[kept].mean(axis=0)) ** 2).sum())
    return 1 - error / spread if spread > 0 else math.nan


def _entropy(coupling: Coupling, rng: np.random.Generator) -> tuple[float, float]:
    """Entropy over log(n m), and the effective number of partners; of 512 rows drawn by mass where there are more."""
    n, m = coupling.shape
    mass = coupling.row_mass / coupling.row_mass.sum()
    if n <= _ENTROPY_ROWS:
        rows = np.flatnonzero(mass > 0)
        weight = mass[rows]
    else:
        rows = rng.choice(n, _ENTROPY_ROWS, p=mass)
        weight = np.full(_ENTROPY_ROWS, 1 / _ENTROPY_ROWS)
    entropy_of_rows = np.empty(len(rows))
    for block in row_blocks(len(rows), m):
        conditional = coupling.conditional(rows[block])
        logs = np.log(np.where(conditional > 0, conditional, 1.0))
        entropy_of_rows[block] = -(conditional * logs).sum(axis=1)
    positive = mass[mass > 0]
    between_rows = float(-(positive * np.log(positive)).sum())
    within_rows = float(weight @ entropy_of_rows)
    return (between_rows + within_rows) / max(math.log(n * m), 1e-12), math.exp(within_rows)
