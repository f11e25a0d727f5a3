"""The rules by which a diagnosis becomes a warning."""

from __future__ import annotations

import math

from scipy.stats import beta

from neurobridge.bridge.diagnosis.coverage import REACH
from neurobridge.bridge.diagnosis.result import Diagnostics
from neurobridge.bridge.diagnosis.wrong_pairs import MOST_OUTLIERS

# Thresholds; docs/diagnostics.md gives the reason of each.
FEWEST_ANCHORS = 8
LEAST_CALIBRATION = 0.2
LARGEST_P_VALUE = 0.05
LEAST_OVERLAP = 0.7
LEAST_MASS = 0.5


class BridgeWarning(UserWarning):
    """A property of a bridge that its user should know before trusting it.

    Examples
    --------
    All findings of `diagnose` are of this class, so that one filter speaks of them all:

    >>> import warnings
    >>> import numpy as np
    >>> from neurobridge.bridge import BridgeWarning, bridge_cost, diagnose
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", BridgeWarning)
    ...     print(diagnose(bridge_cost(X, X, (np.arange(4), np.arange(4)))).findings)
    ('FewAnchorsWarning',)
    """


class LowOverlapWarning(BridgeWarning):
    """Many points lie beyond the reach of the anchors, or much mass found no partner.

    Examples
    --------
    Two thirds of the source points are where no anchor is:

    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> Y = np.random.default_rng(0).normal(size=(90, 3))
    >>> X = Y + 9.0 * (np.arange(90) >= 30)[:, None]
    >>> diagnose(bridge_cost(X, Y, (np.arange(30), np.arange(30))), warn=False).findings
    ('LowOverlapWarning',)
    """


class CalibrationWarning(BridgeWarning):
    """Distances between anchors in one space say little about those in the other.

    Examples
    --------
    Pairs of unrelated points:

    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 90, 3))
    >>> diagnose(bridge_cost(X, Y, (np.arange(30), np.arange(30))), warn=False).findings
    ('CalibrationWarning',)
    """


class FewAnchorsWarning(BridgeWarning):
    """There are fewer anchors than the spaces have directions, or fewer than eight.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> diagnose(bridge_cost(X, X, (np.arange(4), np.arange(4))), warn=False).findings
    ('FewAnchorsWarning',)
    """


class NoisyAnchorsWarning(BridgeWarning):
    """Many pairs look like wrong pairs.

    Examples
    --------
    A fifth of the pairs are exchanged:

    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> partner = np.r_[np.roll(np.arange(8), 1), np.arange(8, 40)]
    >>> report = diagnose(bridge_cost(X, X, (np.arange(40), partner)), warn=False)
    >>> report.findings
    ('NoisyAnchorsWarning',)
    >>> bool(np.isin(report.outliers, np.arange(8)).all())
    True
    """


Finding = tuple[type[BridgeWarning], str]


def find(result: Diagnostics) -> list[Finding]:
    """Return the warnings that a diagnosis gives rise to, each with its message."""
    rules = (_few_anchors, _noisy_anchors, _bad_calibration, _low_overlap)
    return [finding for finding in (rule(result) for rule in rules) if finding is not None]


def _few_anchors(result: Diagnostics) -> Finding | None:
    unknown = math.isinf(result.n_directions)
    needed = max(FEWEST_ANCHORS, math.ceil(result.n_directions) if math.isfinite(result.n_directions) else 0)
    if result.n_anchors >= needed and not unknown:
        return None
    directions = ", all of them in new directions" if unknown else f" for {result.n_directions:.1f} directions"
    return (
        FewAnchorsWarning,
        f"found {result.n_anchors} anchors{directions}; expected at least "
        f"{'more of them than directions' if unknown else needed}. "
        "Mend: label more pairs, or reduce both spaces to fewer dimensions (PCA) first.",
    )


def _noisy_anchors(result: Diagnostics) -> Finding | None:
    if result.wrong_pairs.answer != "wrong pairs":
        return None
    n_suspect, n_compared = len(result.outliers), len(result.compared)
    return (
        NoisyAnchorsWarning,
        f"found {n_suspect} of {n_compared} pairs that look like wrong pairs; expected at most {MOST_OUTLIERS:.0%}. "
        "Mend: check the pairs named in Diagnostics.outliers, drop them, or give them less weight (confidence).",
    )


def _bad_calibration(result: Diagnostics) -> Finding | None:
    # With five anchors there are too few exchanges for the test; their number is the finding.
    good = result.calibration >= LEAST_CALIBRATION and result.calibration_p <= LARGEST_P_VALUE
    if good or result.n_anchors < FEWEST_ANCHORS:
        return None
    return (
        CalibrationWarning,
        f"found a rank correlation of {result.calibration:.2f} (p = {result.calibration_p:.3f}) between the anchors' distances "
        f"in both spaces; expected at least {LEAST_CALIBRATION} at p <= {LARGEST_P_VALUE}. Mend: try another metric (geodesic, "
        "cosine), standardise the dimensions, check that the pairs are in the same order, or rely on the linear map (fuse).",
    )


def _low_overlap(result: Diagnostics) -> Finding | None:
    least = _least_overlap(result.n_anchors)
    # The reach of a handful of anchors is a guess; their number is the finding.
    if result.n_anchors >= FEWEST_ANCHORS and min(result.overlap) < least:
        side = "source" if result.overlap[0] <= result.overlap[1] else "target"
        return (
            LowOverlapWarning,
            f"found {min(result.overlap):.0%} of the {side} points within reach of an anchor; expected at least "
            f"{least:.0%} with {result.n_anchors} anchors (95 % on average if they are drawn like the points). Mend: label pairs "
            "in the uncovered part, keep to the covered part, or use couple(..., unbalanced=1.0), which may leave points "
            "unmatched.",
        )
    if result.mass is not None and min(result.mass) < LEAST_MASS:
        return (
            LowOverlapWarning,
            f"found {min(result.mass):.0%} of the mass transported; expected at least {LEAST_MASS:.0%}. Mend: raise unbalanced "
            "(rho) if the spaces should be matched entirely, or report the result for the matched part only.",
        )
    return None


def _least_overlap(n_anchors: int) -> float:
    """0.7, or less where so few anchors fix the reach that one time in 10,000 chance alone leaves more points beyond it.

    The share beyond the k-th of P order statistics is Beta(P + 1 - k, k) for points drawn like the anchors.
    """
    k = REACH * (n_anchors - 1) + 1
    return min(LEAST_OVERLAP, 1 - float(beta.ppf(1 - 1e-4, n_anchors + 1 - k, k)))
