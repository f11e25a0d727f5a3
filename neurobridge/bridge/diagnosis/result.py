"""The result of a diagnosis: the numbers, as words, as plain data and in short."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neurobridge.bridge.diagnosis.coverage import Coverage
from neurobridge.bridge.diagnosis.wrong_pairs import WrongPairs
from neurobridge.points.display import html_repr, short_repr


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics:
    """Numbers that tell how far a bridge can be trusted, made by `diagnose`.

    Attributes
    ----------
    shape : tuple of int
        ``(n, m)``: source points, target points.
    n_anchors : int
        Number of pairs.
    n_directions : float
        Effective number of directions that the anchors span, the smaller of the two spaces; infinite if too few to tell.
    source, target : Coverage
        Reach of the anchors in either space.
    loo_rank : float
        Mean rank, from 0 (first) to 1 (last), of an anchor's true partner among all anchors' targets under the bridge cost
        without the pairs that are compared; 0.5 by chance.
    pair_rank : array of shape (n_compared,)
        For every pair the share of wrong partners that lie nearer than the true one to what the other pairs predict; 0.5 by
        chance.
    compared : int array of shape (n_compared,)
        Numbers of the compared pairs: all, or 500 drawn at random.
    outliers : int array
        Pairs of rank above 0.4 (with 40 pairs or more, above eight times the median rank, but at least 0.25), worst first;
        positions in ``pairs``. Empty where the median rank is above 0.2: there the pairs predict one another too poorly to tell
        a wrong one.
    wrong_pairs : WrongPairs
        "wrong pairs", "none seen" or "cannot tell", with the power of that answer and its reason.
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
        Share of the asked-for source and target mass that an unbalanced plan transports; None for balanced plans.
    entropy : float or None
        Entropy of the plan over ``log(n m)``; 1 is the independent plan. None without a coupling.
    partners : float or None
        Effective number of partners of a source point; None without a coupling.
    findings : tuple of str
        Names of the warnings raised.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> report = diagnose(bridge_cost(X, 2 * X, (np.arange(30), np.arange(30))))
    >>> report
    Diagnostics(60 x 60 points, 30 pairs, no findings, wrong pairs: none seen, overlap 1.00 / 1.00, loo_rank=0.1575, calibration=1)
    >>> print(report.summary().splitlines()[-1])
    findings               none
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
    wrong_pairs: WrongPairs
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
        """Return plain numbers, strings and lists; what is not finite becomes None, as JSON has no NaN."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def summary(self) -> str:
        """Write one line for each question, with the chance level or the expectation beside each number."""
        lines = [
            f"bridge of {self.shape[0]} x {self.shape[1]} points over {self.n_anchors} pairs",
            f"directions spanned     {self.n_directions:.1f} (expected at most {self.n_anchors} pairs)",
            f"source beyond anchors  {self.source.beyond:.2f} (0.05 if anchors are drawn like the points)",
            f"target beyond anchors  {self.target.beyond:.2f} (0.05 if anchors are drawn like the points)",
            f"leave-one-out rank     {self.loo_rank:.2f} (0 best, 0.5 chance)",
            f"suspect pairs          {len(self.outliers)} of {len(self.compared)} (median rank "
            f"{np.median(self.pair_rank):.2f}, 0.5 chance)",
            f"wrong pairs            {self.wrong_pairs.answer}: {self.wrong_pairs.reason}",
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

    def __repr__(self) -> str:
        return short_repr(
            "Diagnostics",
            "{} x {} points".format(*self.shape),
            f"{self.n_anchors} pairs",
            ", ".join(self.findings) or "no findings",
            f"wrong pairs: {self.wrong_pairs.answer}",
            "overlap {:.2f} / {:.2f}".format(*self.overlap),
            loo_rank=self.loo_rank,
            calibration=self.calibration,
        )

    def _repr_html_(self) -> str:
        lines = self.summary().splitlines()
        # A row of the summary is a question in 23 columns, then the answer.
        return html_repr("Diagnostics", {"bridge": lines[0], **{line[:23].rstrip(): line[23:] for line in lines[1:]}})


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
