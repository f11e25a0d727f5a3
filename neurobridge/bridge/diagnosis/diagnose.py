"""Whether a bridge can be trusted: coverage, leave-one-out, calibration, overlap, and how sharp the plan is."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, binom

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.diagnosis.coverage import REACH, Coverage, anchor_matrix, cover
from neurobridge.bridge.diagnosis.statistics import directions, loo_rank, mantel, pair_ranks
from neurobridge.bridge.transport.coupling import Coupling
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import Array, points, row_blocks

# Thresholds; docs/diagnostics.md gives the reason of each.
FEWEST_ANCHORS = 8
LEAST_CALIBRATION = 0.2
LARGEST_P_VALUE = 0.05
LEAST_OVERLAP = 0.7
LEAST_MASS = 0.5
SUSPECT_RANK = 0.4
MOST_OUTLIERS = 0.1
FEWEST_OUTLIERS = 3
LARGEST_MEDIAN_RANK = 0.2

_MOST_COMPARED = 500
_ENTROPY_ROWS = 512


class BridgeWarning(UserWarning):
    """Something about a bridge that its user should know before trusting it."""


class LowOverlapWarning(BridgeWarning):
    """Many points lie beyond the reach of the anchors, or much mass found no partner."""


class CalibrationWarning(BridgeWarning):
    """Distances between anchors in one space say little about those in the other."""


class FewAnchorsWarning(BridgeWarning):
    """Fewer anchors than the spaces have directions."""


class NoisyAnchorsWarning(BridgeWarning):
    """Many pairs look like wrong pairs."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """What `diagnose` found.

    Attributes
    ----------
    shape : tuple of int
        ``(n, m)``.
    n_anchors : int
    n_directions : float
        Effective number of directions that the anchors span, the smaller of the two spaces; infinite if too few to tell.
    source, target : Coverage
    loo_rank : float
        Mean rank, from 0 (first) to 1 (last), of an anchor's true partner among all anchors' targets under the bridge cost without
        the pairs that are compared; 0.5 by chance.
    pair_rank : array of shape (n_compared,)
        Pair by pair, how many wrong partners (share) lie nearer than the true one to what the other pairs predict; 0.5 by chance.
    compared : int array of shape (n_compared,)
        Which pairs: all, or 500 drawn at random.
    outliers : int array
        Pairs of rank above 0.4, worst first; positions in ``pairs``. Empty where the median rank is above 0.2: there the pairs
        predict one another too poorly to tell a wrong one.
    ridge_r2 : float or None
        Ten-fold R^2 of the ridge map over the pairs, at most 1, 0 for the mean; None without X and Y.
    calibration : float
        Spearman correlation of d_X and d_Y over pairs of anchors.
    calibration_p, calibration_null : float
        Share of exchanged anchors that correlate at least as well (one-sided Mantel test), and the 95 % quantile of their
        correlations.
    overlap : tuple of float
        Share of the source's and the target's points within reach of an anchor.
    mass : tuple of float or None
        Share of the asked-for source and target mass that an unbalanced plan transports; None for balanced ones.
    entropy : float or None
        Entropy of the plan over ``log(n m)``; 1 is the independent plan. None without a coupling.
    partners : float or None
        Effective number of partners of a source point.
    findings : tuple of str
        Names of the warnings raised.
    """

    shape: tuple[int, int]
    n_anchors: int
    n_directions: float
    source: Coverage
    target: Coverage
    loo_rank: float
    pair_rank: np.ndarray
    compared: np.ndarray
    outliers: np.ndarray
    ridge_r2: float | None
    calibration: float
    calibration_p: float
    calibration_null: float
    overlap: tuple[float, float]
    mass: tuple[float, float] | None
    entropy: float | None
    partners: float | None
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; what is not finite becomes None, as JSON has no NaN."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def summary(self) -> str:
        """One line a question, chance or expectation beside each number."""
        lines = [
            f"bridge of {self.shape[0]} x {self.shape[1]} points over {self.n_anchors} pairs",
            f"directions spanned     {self.n_directions:.1f} (expected at most {self.n_anchors} pairs)",
            f"source beyond anchors  {self.source.beyond:.2f} (0.05 if anchors are drawn like the points)",
            f"target beyond anchors  {self.target.beyond:.2f} (0.05 if anchors are drawn like the points)",
            f"leave-one-out rank     {self.loo_rank:.2f} (0 best, 0.5 chance)",
            f"suspect pairs          {len(self.outliers)} of {len(self.compared)} (median rank {np.median(self.pair_rank):.2f}, "
            "0.5 chance)",
            f"calibration            {self.calibration:.2f} (95 % of chance below {self.calibration_null:.2f}, p = "
            f"{self.calibration_p:.3f})",
        ]
        if self.ridge_r2 is not None:
            lines.append(f"ridge R^2 over pairs   {self.ridge_r2:.2f} (0 is the mean)")
        if self.mass is not None:
            lines.append(f"mass transported       {self.mass[0]:.2f} source, {self.mass[1]:.2f} target (1 is all)")
        if self.entropy is not None:
            lines.append(
                f"plan entropy           {self.entropy:.3f} of log(n m), {self.partners:.1f} partners a source point"
            )
        lines.append("findings               " + (", ".join(self.findings) or "none"))
        return "\n".join(lines)


def diagnose(
    cost: BridgeCost,
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
      pairs, both ways; a pair is suspect if more than 40 % of the wrong partners lie nearer to the prediction than its own.
    - *Calibration*: Spearman correlation of ``d_X(x_p, x_r)`` and ``d_Y(y_p, y_r)``, with a permutation test (Mantel 1967), as in
      representational similarity analysis (Kriegeskorte, Mur & Bandettini 2008).
    - *Directions*: with eigenvalues l of the doubly centred squared distances, ``1 / n_directions = sum l^2 / (sum l)^2 - 1/P``, a
      participation ratio corrected for the number of anchors.

    Parameters
    ----------
    cost : BridgeCost
    coupling : Coupling, optional
        Of the same cost; adds plan entropy, and transported mass if unbalanced.
    X, Y : arrays of shape (n, n_source_dims) and (m, n_target_dims), optional
        The points of the cost; both add the ridge map over the pairs.
    n_permutations : int
        Of the test of calibration, at least 19.
    warn : bool
        Raise the warnings; `Diagnostics.findings` names them either way.
    seed : int
        Of permutations and of what is sampled.

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
        The coupling is of another shape, only one of X and Y is given or they do not fit the cost, or too few permutations.
    """
    if n_permutations < 19:
        raise ValueError(
            f"found n_permutations={n_permutations}; expected at least 19, or 5 % cannot be reached. Mend: leave it out."
        )
    if coupling is not None and coupling.shape != cost.shape:
        raise ValueError(
            f"found a coupling of shape {coupling.shape}; expected {cost.shape} as the cost. Mend: couple(cost) anew."
        )
    if (X is None) != (Y is None):
        raise ValueError("found only one of X and Y; expected both or neither. Mend: pass both point arrays.")
    rng = np.random.default_rng(seed)
    n_anchors = cost.n_anchors
    compared = np.sort(rng.permutation(n_anchors)[:_MOST_COMPARED])
    C, D = (
        anchor_matrix(side, factor, rows, compared)
        for side, factor, rows in zip(
            (cost.source, cost.target), (cost.source_factor, cost.target_factor), cost.anchors, strict=True
        )
    )
    source = cover(cost.source_factor, cost.anchors[0], C, compared)
    target = cover(cost.target_factor, cost.anchors[1], D, compared)
    pair_rank = pair_ranks(C, D)
    tell = float(np.median(pair_rank)) <= LARGEST_MEDIAN_RANK
    suspect = np.flatnonzero(pair_rank > SUSPECT_RANK) if tell else np.empty(0, dtype=np.int64)
    suspect = suspect[np.argsort(-pair_rank[suspect], kind="stable")]
    calibration, p_value, null = mantel(C, D, n_permutations, rng)
    mass: tuple[float, float] | None = None
    entropy = partners = None
    if coupling is not None:
        entropy, partners = _entropy(coupling, rng)
        if coupling.unbalanced is not None:
            sides = ((coupling.row_mass, coupling.a), (coupling.col_mass, coupling.b))
            sent, arrived = (float(np.minimum(found, asked).sum() / asked.sum()) for found, asked in sides)
            mass = sent, arrived
    result = Diagnostics(
        shape=cost.shape,
        n_anchors=n_anchors,
        n_directions=min(directions(C), directions(D)),
        source=source,
        target=target,
        loo_rank=loo_rank(C, D),
        pair_rank=pair_rank,
        compared=compared,
        outliers=compared[suspect],
        ridge_r2=None if X is None or Y is None else _ridge_r2(X, Y, cost, rng),
        calibration=calibration,
        calibration_p=p_value,
        calibration_null=null,
        overlap=(1 - source.beyond, 1 - target.beyond),
        mass=mass,
        entropy=entropy,
        partners=partners,
        findings=(),
    )
    found = _findings(result)
    if warn:
        for kind, message in found:
            warnings.warn(message, kind, stacklevel=2)
    object.__setattr__(result, "findings", tuple(kind.__name__ for kind, _ in found))
    return result


def _findings(found: Diagnostics) -> list[tuple[type[BridgeWarning], str]]:
    out: list[tuple[type[BridgeWarning], str]] = []
    needed = max(FEWEST_ANCHORS, math.ceil(found.n_directions) if math.isfinite(found.n_directions) else 0)
    unknown = math.isinf(found.n_directions)
    if found.n_anchors < needed or unknown:
        out.append((
            FewAnchorsWarning,
            f"found {found.n_anchors} anchors"
            + (", all of them in new directions" if unknown else f" for {found.n_directions:.1f} directions")
            + f"; expected at least {'more of them than directions' if unknown else needed}. "
            "Mend: label more pairs, or reduce both spaces to fewer dimensions (PCA) first.",
        ))  # fmt: skip
    share = len(found.outliers) / len(found.compared)
    if share > MOST_OUTLIERS and len(found.outliers) >= max(FEWEST_OUTLIERS, _expected_suspects(found.pair_rank)):
        out.append((
            NoisyAnchorsWarning,
            f"found {len(found.outliers)} of {len(found.compared)} pairs that look like wrong pairs; expected at most "
            f"{MOST_OUTLIERS:.0%}. Mend: check the pairs named in Diagnostics.outliers, drop them, or give them less weight.",
        ))  # fmt: skip
    # With five anchors there are too few exchanges for the test; their number is the finding.
    if found.n_anchors >= FEWEST_ANCHORS and not (
        found.calibration >= LEAST_CALIBRATION and found.calibration_p <= LARGEST_P_VALUE
    ):
        out.append((
            CalibrationWarning,
            f"found a rank correlation of {found.calibration:.2f} (p = {found.calibration_p:.3f}) between the anchors' distances "
            f"in both spaces; expected at least {LEAST_CALIBRATION} at p <= {LARGEST_P_VALUE}. Mend: try another metric (geodesic, "
            "cosine), standardise the dimensions, check that the pairs are in the same order, or rely on the linear map (fuse).",
        ))  # fmt: skip
    least = _least_overlap(found.n_anchors)
    # The reach of a handful of anchors is a guess; their number is the finding.
    if found.n_anchors >= FEWEST_ANCHORS and min(found.overlap) < least:
        side = "source" if found.overlap[0] <= found.overlap[1] else "target"
        out.append((
            LowOverlapWarning,
            f"found {min(found.overlap):.0%} of the {side} points within reach of an anchor; expected at least "
            f"{least:.0%} with {found.n_anchors} anchors (95 % on average if they are drawn like the points). Mend: label pairs in "
            "the uncovered part, keep to the covered part, or use couple(..., unbalanced=1.0), which may leave points unmatched.",
        ))  # fmt: skip
    elif found.mass is not None and min(found.mass) < LEAST_MASS:
        out.append((
            LowOverlapWarning,
            f"found {min(found.mass):.0%} of the mass transported; expected at least {LEAST_MASS:.0%}. Mend: raise unbalanced "
            "(rho) if the spaces should be matched entirely, or report the result for the matched part only.",
        ))  # fmt: skip
    return out


def _expected_suspects(pair_rank: np.ndarray) -> int:
    """Suspects that right but imprecise pairs exceed one time in 100, were their ranks exponential with the median found."""
    beyond = 2.0 ** (-SUSPECT_RANK / max(float(np.median(pair_rank)), 1e-3))
    return int(binom.ppf(0.99, len(pair_rank), beyond)) + 1


def _least_overlap(n_anchors: int) -> float:
    """0.7, or less where so few anchors fix the reach that one time in 10,000 chance alone leaves more points beyond it.

    The share beyond the k-th of P order statistics is Beta(P + 1 - k, k) for points drawn like the anchors.
    """
    k = REACH * (n_anchors - 1) + 1
    return min(LEAST_OVERLAP, 1 - float(beta.ppf(1 - 1e-4, n_anchors + 1 - k, k)))


def _ridge_r2(X: Array, Y: Array, cost: BridgeCost, rng: np.random.Generator) -> float:
    left, right = (points(side, name=name).double().cpu().numpy() for side, name in ((X, "X"), (Y, "Y")))
    if (len(left), len(right)) != cost.shape:
        raise ValueError(
            f"found X and Y of {len(left)} and {len(right)} rows; expected {cost.shape}. Mend: pass the arrays of the cost."
        )
    left, right = left[cost.anchors[0]], right[cost.anchors[1]]
    error = 0.0
    folds = np.array_split(rng.permutation(len(left)), min(10, len(left)))
    spread = 0.0
    for held in folds:
        kept = np.setdiff1d(np.arange(len(left)), held)
        if len(kept) < 2:
            return math.nan
        error += float(((right[held] - ridge_map(left[kept], right[kept])(left[held])) ** 2).sum())
        spread += float(((right[held] - right[kept].mean(axis=0)) ** 2).sum())
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
    inner = np.empty(len(rows))
    for block in row_blocks(len(rows), m):
        conditional = coupling.conditional(rows[block])
        logs = np.log(np.where(conditional > 0, conditional, 1.0))
        inner[block] = -(conditional * logs).sum(axis=1)
    positive = mass[mass > 0]
    outer = float(-(positive * np.log(positive)).sum())
    within = float(weight @ inner)
    return (outer + within) / max(math.log(n * m), 1e-12), math.exp(within)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
