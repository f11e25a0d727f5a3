"""Diagnostics: each failure provokes its warning, healthy data none, and the numbers agree with their definitions."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from neurobridge.aligners import BridgeAligner, RidgeAligner
from neurobridge.bridge import (
    BridgeWarning,
    CalibrationWarning,
    Candidate,
    DenseCost,
    FewAnchorsWarning,
    LowOverlapWarning,
    NoisyAnchorsWarning,
    bridge_cost,
    couple,
    diagnose,
    fuse,
)
from neurobridge.bridge.diagnosis.statistics import directions, loo_rank, mantel, pair_ranks
from tests.refusals import refused

Spaces = tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]


def healthy(seed: int, n_pairs: int = 60, n_latents: int = 6, noise: float = 0.15) -> Spaces:
    """Two views, one of them bent, of latents drawn alike for anchors and others."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(400, n_latents))
    left, right = (rng.normal(size=(n_latents, size)) / n_latents**0.5 for size in (10, 15))
    X = z[:200] @ left + noise * rng.normal(size=(200, 10))
    shared = np.concatenate([z[:n_pairs], z[200 : 400 - n_pairs]])
    Y = np.tanh(shared @ right) + 0.6 * noise * rng.normal(size=(len(shared), 15))
    return X, Y, (np.arange(n_pairs), np.arange(n_pairs))


def only(kind: type[BridgeWarning], X: np.ndarray, Y: np.ndarray, pairs, facts=lambda found: []):
    """Diagnose, with one warning of a kind whose message gives some facts and where to mend them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = diagnose(bridge_cost(X, Y, pairs))
    assert [warning.category for warning in caught] == [kind]
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert "Mend: " in text
    assert all(fact in text for fact in facts(found))
    assert found.findings == (kind.__name__,)
    return found


@pytest.mark.filterwarnings("ignore::neurobridge.bridge.BridgeWarning")
@pytest.mark.parametrize("n_pairs", [40, 60, 100])
def test_healthy_data_raise_hardly_a_warning(n_pairs):
    # False alarms are rare, not impossible: docs/diagnostics.md gives their rates.
    alarms = [diagnose(bridge_cost(*healthy(seed, n_pairs))).findings for seed in range(10)]
    assert sum(map(bool, alarms)) <= 1


@pytest.mark.parametrize("seed", range(10))
def test_twenty_healthy_pairs_raise_no_warning(seed):
    # Fixed seeds: with so few pairs about one draw in 300 lies badly by chance.
    X, Y, pairs = healthy(seed, n_pairs=20)
    assert diagnose(bridge_cost(X, Y, pairs)).findings == ()


@pytest.mark.parametrize("metric", ["cosine", "geodesic"])
def test_healthy_data_raise_no_warning_in_other_metrics(metric):
    X, Y, pairs = healthy(0)
    found = diagnose(bridge_cost(X, Y, pairs, metric=metric), X=X, Y=Y)
    assert found.findings == ()
    assert found.loo_rank < 0.3 < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_wrong_pairs_are_found_and_named(seed):
    X, Y, (i, j) = healthy(seed)
    wrong = np.random.default_rng(seed).choice(60, 15, replace=False)
    j = j.copy()
    j[wrong] = np.roll(j[wrong], 1)
    found = only(NoisyAnchorsWarning, X, Y, (i, j), lambda found: [f"{len(found.outliers)} of 60"])
    # A quarter is wrong: what is named is mostly wrong, and most of what is wrong is named.
    assert np.isin(found.outliers, wrong).mean() >= 0.8 > 0.25
    assert np.isin(wrong, found.outliers).mean() >= 0.5
    assert (np.diff(found.pair_rank[found.outliers]) <= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_spaces_without_common_geometry_are_badly_calibrated(seed):
    X, Y, pairs = healthy(seed)
    Y = np.random.default_rng(seed).normal(size=Y.shape)
    found = only(
        CalibrationWarning, X, Y, pairs, lambda found: [f"{found.calibration:.2f}", f"{found.calibration_p:.3f}"]
    )
    # Nothing predicts anything here, so no pair can be called wrong.
    assert len(found.outliers) == 0
    assert found.loo_rank == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("n_pairs", [3, 5, 7])
def test_a_handful_of_anchors_is_too_few(n_pairs):
    X, Y, pairs = healthy(1)
    only(FewAnchorsWarning, X, Y, tuple(side[:n_pairs] for side in pairs), lambda found: [f"{n_pairs} anchors"])


def test_fewer_anchors_than_directions_are_too_few_and_more_are_not():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 40))
    Y = X @ np.linalg.qr(rng.normal(size=(40, 40)))[0]
    found = only(
        FewAnchorsWarning,
        X,
        Y,
        (np.arange(20), np.arange(20)),
        lambda found: ["20 anchors", f"{found.n_directions:.1f}"],
    )
    assert found.n_directions == pytest.approx(40, rel=0.3)
    assert diagnose(bridge_cost(X, Y, (np.arange(150), np.arange(150)))).findings == ()


def test_points_where_no_anchor_is_are_out_of_reach():
    X, Y, pairs = healthy(0)
    X[100:] += 5
    found = only(LowOverlapWarning, X, Y, pairs, lambda found: [f"{found.overlap[0]:.0%} of the source points"])
    assert found.overlap[0] < 0.5
    assert found.overlap[1] > 0.8
    swapped = diagnose(bridge_cost(Y, X, pairs), warn=False)
    assert swapped.overlap == pytest.approx(found.overlap[::-1])


def test_mass_that_stays_at_home_is_low_overlap():
    X, Y, pairs = healthy(0)
    cost = bridge_cost(X, Y, pairs)
    with pytest.warns(LowOverlapWarning, match=r"\d+% of the mass .*50%"):
        found = diagnose(cost, couple(cost, unbalanced=0.05))
    assert found.mass is not None
    assert max(found.mass) < 0.5
    kept = diagnose(cost, couple(cost, unbalanced=50.0))
    assert kept.findings == ()
    assert kept.mass is not None
    assert min(kept.mass) > 0.9
    assert diagnose(cost, couple(cost)).mass is None


def test_silence_on_request():
    X, Y, pairs = healthy(0)
    found = diagnose(bridge_cost(X, Y, tuple(side[:4] for side in pairs)), warn=False)
    assert found.findings == ("FewAnchorsWarning",)


def test_all_warnings_are_bridge_warnings():
    for kind in (LowOverlapWarning, CalibrationWarning, FewAnchorsWarning, NoisyAnchorsWarning):
        assert issubclass(kind, BridgeWarning)
        assert issubclass(kind, UserWarning)


def test_coverage_is_that_of_its_definition():
    X, Y, pairs = healthy(2)
    cost = bridge_cost(X, Y, pairs)
    found = diagnose(cost)
    distances = cost.source.fitted.numpy()
    between = distances[pairs[0]].copy()
    np.fill_diagonal(between, np.inf)
    reach = np.quantile(between.min(axis=1), 0.95)
    nearest = np.delete(distances.min(axis=1), pairs[0])
    assert found.source.reach == pytest.approx(reach)
    assert found.source.beyond == pytest.approx((nearest > reach).mean())
    assert found.source.quantiles["50%"] == pytest.approx(np.median(nearest))


def test_one_source_point_of_many_pairs_is_one_anchor():
    X, Y, (i, j) = healthy(2)
    found = diagnose(bridge_cost(X, Y, (np.repeat(i[:30], 2), j)), warn=False)
    assert found.source.reach > 0


def test_a_truncated_cost_gives_the_same_calibration():
    X, Y, pairs = healthy(2)
    full = diagnose(bridge_cost(X, Y, pairs))
    kept = diagnose(bridge_cost(X, Y, pairs, nearest=5))
    assert kept.calibration == pytest.approx(full.calibration)
    assert kept.source == full.source


def test_calibration_agrees_with_scipy_and_its_null_with_chance():
    X, Y, _ = healthy(3)
    C, D = (np.linalg.norm(side[:40, None] - side[None, :40], axis=2) for side in (X, Y))
    rho, p_value, null = mantel(C, D, 199, np.random.default_rng(0))
    assert rho == pytest.approx(spearmanr(pdist(X[:40]), pdist(Y[:40])).statistic)
    assert p_value == pytest.approx(1 / 200)
    assert 0 < null < 0.2


def test_the_calibration_test_holds_its_level():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        C, D = (np.linalg.norm(side[:, None] - side[None], axis=2) for side in rng.normal(size=(2, 12, 3)))
        p_values.append(mantel(C, D, 19, rng)[1])
    # 5 % of 200 is 10, with a standard deviation of 3.
    assert (np.array(p_values) <= 0.05).sum() <= 20


def test_leave_one_out_rank_by_hand():
    rng = np.random.default_rng(0)
    C, D = (np.linalg.norm(side[:, None] - side[None], axis=2) for side in rng.normal(size=(2, 6, 2)))
    ranks = []
    for p in range(6):
        costs = [min(C[p, r] + D[r, q] for r in range(6) if r not in (p, q)) for q in range(6)]
        ranks.append(np.mean([costs[q] < costs[p] for q in range(6) if q != p]))
    assert loo_rank(C, D) == pytest.approx(np.mean(ranks))


def test_pair_ranks_are_zero_for_a_turned_copy_and_half_by_chance():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    C = np.linalg.norm(X[:, None] - X[None], axis=2)
    assert pair_ranks(C, 3 * C).max() == 0
    shuffled = rng.permutation(60)
    assert pair_ranks(C, C[np.ix_(shuffled, shuffled)]).mean() == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("n_dims", [2, 10, 30])
def test_directions_of_a_round_cloud_are_its_dimensions(n_dims):
    X = np.random.default_rng(0).normal(size=(100, n_dims))
    C = np.linalg.norm(X[:, None] - X[None], axis=2)
    assert directions(C) == pytest.approx(n_dims, rel=0.15)


@pytest.mark.parametrize("method", ["factored", "exact", "pairs"])
def test_entropy_is_that_of_the_dense_plan(method):
    X, Y, pairs = healthy(0)
    cost = bridge_cost(X, Y, pairs)
    coupling = couple(cost, method=method)
    plan = coupling.dense()
    mass = plan[plan > 0]
    expected = -(mass * np.log(mass)).sum() / math.log(plan.size)
    assert diagnose(cost, coupling).entropy == pytest.approx(expected, abs=1e-6)


def test_entropy_of_many_rows_is_sampled_close_to_the_truth():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(1500, 3)), rng.normal(size=(200, 3))
    cost = bridge_cost(X, Y, (np.arange(30), np.arange(30)))
    coupling = couple(cost)
    plan = coupling.dense()
    expected = -(plan * np.log(plan)).sum() / math.log(plan.size)
    assert diagnose(cost, coupling, warn=False).entropy == pytest.approx(expected, abs=0.01)


def test_a_single_partner_and_an_independent_plan_are_the_ends():
    X, Y, pairs = healthy(0)
    cost = bridge_cost(X, Y, pairs)
    assert diagnose(cost, couple(cost, method="pairs")).partners == pytest.approx(1)
    assert diagnose(cost, couple(cost, epsilon=100.0)).entropy == pytest.approx(1, abs=1e-3)


def test_the_result_is_json_and_words():
    X, Y, pairs = healthy(0)
    cost = bridge_cost(X, Y, pairs)
    found = diagnose(cost, couple(cost), X=X, Y=Y)
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["n_anchors"] == 60
    assert stored["ridge_r2"] > 0.4
    assert stored["source"]["beyond"] == found.source.beyond
    text = found.summary()
    assert "0.5 chance" in text
    assert text.endswith("none")
    json.dumps(diagnose(bridge_cost(X, Y, ([0, 1], [0, 1])), warn=False).to_dict(), allow_nan=False)


def test_more_than_500_anchors_are_compared_on_a_seeded_sample():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 3))
    found = [diagnose(bridge_cost(X, X, (np.arange(650), np.arange(650))), n_permutations=19) for _ in range(2)]
    assert len(found[0].compared) == 500
    np.testing.assert_array_equal(found[0].compared, found[1].compared)
    assert found[0].calibration == pytest.approx(1)
    assert found[0].findings == ()


def test_bad_arguments_are_refused():
    X, Y, pairs = healthy(0)
    cost = bridge_cost(X, Y, pairs)
    other = bridge_cost(X[:100], Y, pairs)
    with refused(ValueError, (100, 200), (200, 200)):
        diagnose(cost, couple(other))
    with pytest.raises(ValueError, match=r"\bX and Y\b"):
        diagnose(cost, X=X)
    with refused(ValueError, 100, (200, 200)):
        diagnose(cost, X=X[:100], Y=Y)
    with refused(ValueError, "n_permutations=3", 19):
        diagnose(cost, n_permutations=3)
    with refused(ValueError, "DenseCost", "BridgeCost"):
        diagnose(DenseCost(np.eye(3)))


def test_of_a_fused_cost_the_bridge_is_examined():
    X, Y, pairs = healthy(0)
    candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="linear")
    coupling = fuse(X, Y, pairs, metric="euclidean", candidate=candidate).coupling
    of_fused, of_bridge = diagnose(coupling.cost, coupling), diagnose(bridge_cost(X, Y, pairs))
    assert of_fused.source == of_bridge.source
    assert of_fused.calibration == of_bridge.calibration
    assert 0 < of_fused.entropy < 1


def test_of_an_aligner_its_own_bridge_is_examined():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    pairs = np.arange(30), np.arange(30)
    aligner = BridgeAligner(coupling="factored", epsilon=0.2).fit(X, X @ rng.normal(size=(3, 4)), pairs)
    X_train, Y_train, _ = aligner.training_
    expected = diagnose(aligner.coupling_.cost, aligner.coupling_, X=X_train, Y=Y_train)
    assert diagnose(aligner).to_dict() == expected.to_dict()
    with refused(ValueError, "BridgeAligner", "alone"):
        diagnose(aligner, X=X, Y=X)
    with refused(ValueError, "RidgeAligner", "fit"):
        diagnose(RidgeAligner().fit(X, X))
    with refused(ValueError, "BridgeAligner", "map='linear'"):
        diagnose(BridgeAligner(map="linear").fit(X, X, pairs))
