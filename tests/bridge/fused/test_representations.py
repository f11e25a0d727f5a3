"""Results print short: at most 400 characters that say what matters, and the same as a table in a notebook."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from neurobridge.bridge import BridgeWarning, Candidate, Trust, UnpairedStart, bridge_cost, couple, diagnose, fuse
from neurobridge.bridge.unpaired.gromov import GromovPlan
from neurobridge.bridge.unpaired.lowrank import LowRankPlan
from neurobridge.points.display import LIMIT

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(500, 4)), RNG.normal(size=(480, 3))
PAIRS = np.arange(12), np.arange(12)
CANDIDATE = Candidate(lam=0.9123456789012345, epsilon=0.0212345678901234, n_rounds=2, readout="mean", kernel_rounds=1)


def results():
    """Every kind of result, its name, and facts that must be said of it."""
    batched = fuse(X, Y, PAIRS, metric="euclidean", candidate=CANDIDATE, minibatch_size=250)
    chosen = fuse(
        X[:60], Y[:50], PAIRS, metric="euclidean", lams=(0.9,), epsilons=(0.1,), n_rounds=(1,), kernel_rounds=(0, 1)
    )
    state = batched._states[0]
    trust = Trust(0.9, 0.1, 0.4, 0.1, (0.1, 0.2), (0.5, 0.6), ("cycle 0.40 " * 50,))
    start = UnpairedStart(PAIRS, np.ones(12), chosen, np.arange(60), np.arange(50), 3, False, trust)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BridgeWarning)
        report = diagnose(bridge_cost(X, Y, PAIRS), X=X, Y=Y)
    match = GromovPlan(RNG.random((200, 180)), 0.25, "signature")
    parts = LowRankPlan(RNG.random((200, 4)), RNG.random((180, 4)), np.ones(4), 0.25)
    return [
        (batched, ["500 x 480", "4 -> 3", "12", "readout", "mean", "converged", "250"]),
        (chosen, ["60 x 50", "4 -> 3", "12", "readout", "held-out loss (correlation)", "loss of ridge", "converged"]),
        # As an aligner gives it back that was read from disk, without the plan.
        (replace(chosen, coupling=None), ["4 -> 3", "12", "readout"]),
        (batched.candidate, ["0.9123", "n_rounds", "mean"]),
        (state, ["250 x 240", "KernelMap", "marginal"]),
        (state.problem, ["250 x 240", "4 -> 3", "12"]),
        (state.plan, ["250 x 240"]),
        (state.blend, ["KernelMap forward", "KernelMap backward"]),
        (batched.coupling.cost, ["500 x 480", "0.912", "KernelMap"]),
        (batched.coupling.plan, ["500 x 480", "2", "250 x 240"]),
        (batched.coupling.plan.parts[0], ["250 x 240"]),
        (trust, ["trustworthy", "0.9", "0.4"]),
        (start, ["12", "60 x 50", "settled", "3", "trustworthy"]),
        (report, ["500 x 480", "12", "CalibrationWarning"]),
        (report.source, ["reach", "beyond"]),
        (match, ["200 x 180", "distortion=0.25"]),
        (parts, ["200 x 180", "rank=4"]),
    ]


@pytest.mark.filterwarnings("ignore::neurobridge.bridge.ConvergenceWarning")
def test_results_print_short_and_say_what_matters():
    for result, facts in results():
        text = repr(result)
        assert text.startswith(f"{type(result).__name__}(")
        assert len(text) <= LIMIT
        missing = [fact for fact in facts if fact not in text]
        assert not missing, f"{text} lacks {missing}"
        if not hasattr(result, "_repr_html_"):
            continue
        table = result._repr_html_()
        assert table.startswith("<table>")
        assert not [fact for fact in facts if fact not in table and fact.replace(">", "&gt;") not in table], table


def test_a_plan_that_missed_its_tolerance_says_so():
    cost = bridge_cost(X[:40], Y[:40], PAIRS)
    converged = fuse(X[:40], Y[:40], PAIRS, metric="euclidean", candidate=replace(CANDIDATE, readout="barycentric"))
    assert couple(cost).converged
    missed = replace(converged, coupling=replace(converged.coupling, converged=False))
    assert "NOT converged" in repr(missed)
    assert "NOT converged" not in repr(converged)
