"""BridgeAligner: known truths, every coupling with every map, ablations, guard rails, scores, and bad input."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial import procrustes

from neurobridge.aligners import COUPLINGS, MAPS, AlignerNotFittedError, BridgeAligner, ProcrustesAligner, RidgeAligner
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly, open_assembly, save_assembly
from neurobridge.bridge import couple, kernel_map, ridge_map
from neurobridge.bridge.cost.dense import linear_cost
from neurobridge.evaluate import correlate
from neurobridge.flow import OffSupportWarning, Training, VelocityMLP
from neurobridge.points.scale import unit_of_cloud

FAST = {"training": Training(n_steps=60, width=32, depth=1)}
# Four candidates, where what is asked does not depend on how many are tried.
FEW = {"lams": (0.9, 0.5), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0, 1)}
# With some dozen points a few new ones are off the support by chance; the tests of the flag ask for the warning.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")


def _solver_options(coupling):
    if coupling == "fused":
        return {"fuse_options": FEW}
    return {"metric": "euclidean", "epsilon": 0.3} if coupling in ("sinkhorn", "exact") else {}


@pytest.mark.parametrize("how", MAPS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_every_coupling_goes_with_every_map(coupling, how, linear_spaces):
    source, target = linear_spaces
    aligner = BridgeAligner(coupling=coupling, map=how, flow_options=FAST, **_solver_options(coupling))
    aligner.fit(source[:100], target[:100], 0.3)
    # A mean partner under a wide plan lies well inside the cloud.
    assert aligner.score(source[100:], target[100:]) > (0.3 if how == "barycentric" else 0.6)


@pytest.mark.parametrize("coupling", ["fused", "sinkhorn", "exact"])
def test_a_linear_cost_finds_a_linear_relation(coupling, linear_spaces):
    source, target = linear_spaces
    aligner = BridgeAligner(coupling=coupling, cost="linear", epsilon=0.1, map="barycentric")
    aligner.fit(source[:60], target[:60], 0.3)
    assert aligner.score(source[60:], target[60:]) > 0.85


def test_the_linear_cost_is_what_the_map_of_the_pairs_misses_and_transposes():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(9, 3)), rng.normal(size=(7, 5))
    rows = np.arange(6), np.arange(6)
    cost = linear_cost(X, Y, rows)
    mapped = ridge_map(X[:6], Y[:6], penalty="shared", unit=unit_of_cloud(X))(X)
    squares = ((mapped[:, None, :] - Y[None, :, :]) ** 2).sum(axis=2)
    np.testing.assert_allclose(cost.dense(), squares / squares.mean(), rtol=1e-12)
    np.testing.assert_allclose(cost.transposed().dense(), cost.dense().T, rtol=1e-12)
    assert cost.shape == (9, 7)
    assert cost.transposed().shape == (7, 9)
    with pytest.raises(MemoryError, match="9 x 7"):
        linear_cost(X, Y, rows, memory_limit=10)
    coupling = couple(cost, method="exact")
    assert coupling.converged
    assert coupling.expected_cost() == pytest.approx((coupling.dense() * cost.dense()).sum())
    pinned = couple(cost, method="exact", pinned=True)
    np.testing.assert_array_equal(pinned.dense()[:6].argmax(axis=1), np.arange(6))


def test_the_cost_without_a_bridge_has_no_bridge_in_it(linear_spaces):
    source, target = linear_spaces
    options = {"n_rounds": (2, 1), "kernel_rounds": (0,)}
    aligner = BridgeAligner(cost="linear", fuse_options=options).fit(source[:60], target[:60], 0.2)
    assert {candidate.lam for candidate in aligner.fused_["forward"].errors} == {1.0}


@pytest.mark.parametrize("coupling", ["pairs", "exact", "sinkhorn"])
def test_couplings_without_a_formula_move_points_by_kernel_ridge_on_their_mean_partners(coupling, linear_spaces):
    source, target = linear_spaces
    aligner = BridgeAligner(coupling=coupling, map="barycentric", **_solver_options(coupling))
    aligner.fit(source[:60], target[:60], 0.4)
    X, Y = (aligner.source_scale_.forward(source[:60].values), aligner.target_scale_.forward(target[:60].values))
    moved = np.flatnonzero(aligner.coupling_.row_mass)
    assert len(moved) == (24 if coupling == "pairs" else 60)
    known = kernel_map(X[moved], aligner.coupling_.barycentric(Y)[moved])
    expected = aligner.target_scale_.backward(known(aligner.source_scale_.forward(source[60:].values)))
    np.testing.assert_allclose(aligner.transform(source[60:]).values, expected, rtol=1e-9)


def test_a_tuple_of_metrics_turns_with_the_direction(linear_spaces):
    source, target = linear_spaces
    options = {"map": "barycentric", "fuse_options": FEW}
    aligner = BridgeAligner(("euclidean", "cosine"), **options).fit(source[:60], target[:60], 0.4)
    mirrored = BridgeAligner(("cosine", "euclidean"), **options).fit(target[:60], source[:60], 0.4)
    np.testing.assert_array_equal(aligner.transform(source[60:]).values, mirrored.inverse_transform(source[60:]).values)
    np.testing.assert_array_equal(aligner.inverse_transform(target[60:]).values, mirrored.transform(target[60:]).values)


def test_a_fitted_flow_may_be_switched_to_what_needs_no_training(linear_spaces):
    source, target = linear_spaces
    options = {"flow_options": FAST, "fuse_options": FEW}
    flow = BridgeAligner(map="flow", **options).fit(source[:40], target[:40], 0.4)
    by_flow = flow.transform(source[60:]).values
    # One search serves both directions, and the start of the flow.
    assert flow.fused_["forward"] is flow.fused_["backward"]
    assert flow.coupling_ is flow.fused_["forward"].coupling
    assert flow.base == "auto"
    assert flow.flow_.base[0].bridge is flow.fused_["forward"]
    for how in ("barycentric", "linear"):
        new = BridgeAligner(map=how, **options).fit(source[:40], target[:40], 0.4)
        switched = flow.set_params(map=how)
        np.testing.assert_array_equal(switched.transform(source[60:]).values, new.transform(source[60:]).values)
        np.testing.assert_array_equal(
            switched.inverse_transform(target[60:]).values, new.inverse_transform(target[60:]).values
        )
    np.testing.assert_array_equal(flow.set_params(map="flow").transform(source[60:]).values, by_flow)


def test_the_map_is_that_of_the_fused_bridge_in_both_directions(linear_spaces):
    source, target = linear_spaces
    aligner = BridgeAligner(fuse_options=FEW).fit(source[:60], target[:60], 0.4)
    assert (aligner.map, aligner.coupling) == ("barycentric", "fused")
    bridge = aligner.fused_["backward"]
    X, Y = aligner.source_scale_.forward(source[60:].values), aligner.target_scale_.forward(target[60:].values)
    np.testing.assert_array_equal(aligner.target_scale_.backward(bridge.map(X)), aligner.transform(source[60:]).values)
    np.testing.assert_array_equal(
        aligner.source_scale_.backward(bridge.map_back(Y)), aligner.inverse_transform(target[60:]).values
    )
    for name, candidate in (("forward", bridge.candidate), ("backward", bridge.candidate_back)):
        _, _, fact = aligner._repr_html_().partition(f"<th>chosen, {name}</th><td>")
        shown = fact.partition("</td>")[0]
        assert candidate.map in shown
        assert candidate.readout in shown
        assert "pairs alone" in shown if not candidate.n_rounds else f"lam={candidate.lam:.3g}" in shown


@pytest.mark.parametrize("named", [True, False], ids=["coordinate", "array"])
def test_labels_are_read_through_a_classifier_of_points_in_their_own_units(named, linear_spaces):
    source, target = linear_spaces
    # The rows of both sides differ, so that labels belong to the rows of the target.
    target = target[::-1].assign_coords(sign=("presentation", (target[::-1].values[:, 0] > 10).astype(int)))
    seen = []

    def classifier(points):
        seen.append(points)
        return (points[:, 0] > 10).astype(int)

    labels = "sign" if named else target["sign"].values[:100]
    options = {"criterion": "labels", "classifier": classifier, "fuse_options": FEW | {"maps": ("ridge",)}}
    aligner = BridgeAligner(labels=labels, **options).fit(source[20:], target[:100], 0.3)
    assert abs(np.concatenate(seen).mean() - 10) < 1
    errors = aligner.fused_["forward"].errors
    # A linear relation without noise names every class; wrong labels would be missed half of the time.
    assert min(errors.values()) < 0.01
    assert aligner.fused_["forward"].criterion == "labels"
    wrong = BridgeAligner(labels=1 - target["sign"].values[:100], **options).fit(source[20:], target[:100], 0.3)
    assert min(wrong.fused_["forward"].errors.values()) > 0.4


@pytest.mark.parametrize(
    ("fitted", "changed"),
    [
        ({"map": "barycentric"}, {"map": "flow"}),
        ({"map": "linear"}, {"map": "barycentric"}),
        ({"map": "linear"}, {"metric": "cosine"}),
        ({"map": "linear"}, {"flow_options": {"training": Training(n_steps=1)}}),
        ({"map": "linear"}, {"support_quantile": 0.5}),
        ({"map": "linear", "epsilon": 0.1}, {"epsilon": None}),
    ],
)
def test_what_a_fit_cannot_follow_is_refused(fitted, changed, linear_spaces):
    source, target = linear_spaces
    options = {"coupling": "factored", "flow_options": FAST, **fitted}
    aligner = BridgeAligner(**options).fit(source[:60], target[:60], 0.4).set_params(**changed)
    (name,) = changed
    with pytest.raises(AlignerNotFittedError, match=f"{name}="):
        aligner.inverse_transform(target)
    assert np.isfinite(aligner.fit(source[:60], target[:60], 0.4).transform(source[:60]).values).all()


def test_points_off_the_support_are_flagged_counted_and_warned_of(linear_spaces, tmp_path):
    source, target = linear_spaces
    aligner = BridgeAligner(map="linear").fit(source[:100], target[:100])
    inside = aligner.transform(source[:100])
    assert inside["off_support"].dims == ("presentation",)
    assert inside["off_support"].dtype == bool
    # Training points mapped by a near-perfect map: each has itself as its neighbour.
    assert inside.attrs["n_off_support"] == 0
    assert inside.attrs["support_quantile"] == 0.99
    far = source[100:].copy(data=np.where(np.arange(20)[:, None] < 3, 50.0, source[100:].values))
    with pytest.warns(OffSupportWarning, match=r"\d+ of 20 .*target"):
        outside = aligner.transform(far)
    assert outside["off_support"].values[:3].all()
    assert outside.attrs["n_off_support"] == int(outside["off_support"].sum())
    with pytest.warns(OffSupportWarning, match="source"):
        aligner.inverse_transform(target[100:] + 100)
    kept = open_assembly(save_assembly(outside, tmp_path / "outside.nc"))
    xr.testing.assert_identical(kept, outside)
    # Going on from there, the flag is that of the last step.
    back = aligner.inverse_transform(outside)
    assert back["off_support"].shape == (20,)
    assert "n_off_support" in back.attrs
    # Where directions alone are compared, the message has no numbers: Python shows it once.
    space = aligner._space("target")
    messages = []
    for distance in np.linspace(space.support.radius, space.support.extent, 4)[1:3]:
        with pytest.warns(OffSupportWarning, match="retrieval") as caught:
            assert space.flag_off_support(np.full(3, distance), warn=True, stacklevel=1, directions_alone=True).all()
        messages.append(str(caught[0].message))
    assert messages[0] == messages[1]
    with pytest.warns(OffSupportWarning, match="3 of 3"):
        space.flag_off_support(np.full(3, 1e3), warn=True, stacklevel=1, directions_alone=True)
    # A baseline flags the same points and does not warn.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flagged = RidgeAligner().fit(source[:100], target[:100]).transform(far)
    np.testing.assert_array_equal(flagged["off_support"], outside["off_support"])


@pytest.mark.parametrize("aligner", [BridgeAligner(map=how, flow_options=FAST) for how in MAPS], ids=MAPS)
def test_the_flag_is_distance_beyond_the_stated_quantile_for_every_map(aligner, linear_spaces):
    source, target = linear_spaces
    aligner.set_params(coupling="factored", support_quantile=0.9).fit(source[:100], target[:100], 0.5)
    moved = aligner.transform(source * 1.5)
    Y = aligner.target_scale_.forward(target[:100].values)
    spacing = np.sort(np.linalg.norm(Y[:, None] - Y[None], axis=2), axis=1)[:, 1]
    Z = aligner.target_scale_.forward(moved.values)
    nearest = np.linalg.norm(Z[:, None] - Y[None], axis=2).min(axis=1)
    clear = np.abs(nearest - np.quantile(spacing, 0.9)) > 1e-4
    np.testing.assert_array_equal(moved["off_support"].values[clear], (nearest > np.quantile(spacing, 0.9))[clear])
    # A mean of target points never lies far from all of them; the other maps follow their input out.
    assert (moved.attrs["n_off_support"] > 0) == (aligner.map != "barycentric")
    assert moved.attrs["n_off_support"] < 120
    assert moved.attrs["support_quantile"] == 0.9


@pytest.mark.parametrize("coupling", ["fused", "factored", "pairs"])
def test_a_flow_may_start_at_the_mean_partners(coupling, linear_spaces):
    source, target = linear_spaces
    options = {"base": "barycentric", "flow_options": FAST, **_solver_options(coupling)}
    aligner = BridgeAligner(coupling=coupling, map="flow", **options)
    aligner.fit(source[:60], target[:60], 0.4)
    maps = aligner.flow_.base
    X = aligner.source_scale_.forward(source[60:].values)
    Y = aligner.target_scale_.forward(target[60:].values)
    by_flow = aligner.transform(source[60:]).values, aligner.inverse_transform(target[60:]).values
    aligner.set_params(map="barycentric")
    by_partners = aligner.transform(source[60:]).values, aligner.inverse_transform(target[60:]).values
    for partner_map, points, image, scale in zip(
        maps, (X, Y), by_partners, (aligner.target_scale_, aligner.source_scale_), strict=True
    ):
        np.testing.assert_allclose(scale.backward(partner_map(points)), image, rtol=1e-9, atol=1e-9)
    # Trained a little from there, it has not gone far, and it has moved unless validation kept it where it was.
    for moved, image in zip(by_flow, by_partners, strict=True):
        assert np.corrcoef(moved.ravel(), image.ravel())[0, 1] > 0.9


def test_values_that_are_not_finite_stop(linear_spaces):
    source, target = linear_spaces

    class Broken(RidgeAligner):
        def _forward(self, X):
            return super()._forward(X) * np.inf

    with pytest.raises(FloatingPointError, match=r"840 .* 840"):
        Broken().fit(source, target).transform(source)


def test_score_is_the_share_of_held_out_variance_that_is_explained(linear_spaces):
    source, target = linear_spaces
    aligner = RidgeAligner().fit(source[:80], target[:80], 0.5)
    moved = aligner.target_scale_.forward(aligner.transform(source[80:]).values)
    truth = aligner.target_scale_.forward(target[80:].values)
    expected = 1 - ((moved - truth) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()
    assert aligner.score(source[80:], target[80:]) == pytest.approx(expected, abs=1e-12)
    assert expected > 0.99
    # Stimuli are joined by id, in any order; those without a partner are left out.
    assert aligner.score(source[60:], target[80:][::-1]) == pytest.approx(expected, abs=1e-9)
    table = {"source_id": [f"s{i}" for i in range(80, 120)], "target_id": [f"s{i}" for i in range(119, 79, -1)]}
    assert aligner.score(source[80:], target[80:], table) < 0
    score = correlate(aligner.transform(source[80:]), target[80:], n_permutations=50)
    assert float(score["p_value"]) < 0.05


def test_score_refuses_what_was_paired_in_fitting(linear_spaces):
    source, target = linear_spaces
    pairs = Pairs(np.array([f"s{i}" for i in range(40)]), np.array([f"s{i}" for i in range(40)]))
    aligner = RidgeAligner().fit(source[:80], target[:80], pairs)
    with pytest.raises(AssemblyError, match=r"10 of 50 .*'s30'.*fitted_pairs='allow'"):
        aligner.score(source[30:80], target[30:80])
    assert aligner.score(source[30:80], target[30:80], fitted_pairs="allow") > 0.99
    assert aligner.score(source[40:80], target[40:80]) > 0.99
    with pytest.raises(ValueError, match="fitted_pairs='no'"):
        aligner.score(source[40:80], target[40:80], fitted_pairs="no")
    with pytest.raises(AssemblyError, match=r"pairs: .* 1.* 2"):
        aligner.score(source[40:41], target[40:41])
    flat = target[40:80].copy(data=np.ones((40, 7)))
    with pytest.raises(AssemblyError, match=r"target: .*40"):
        aligner.score(source[40:80], flat)
    with pytest.raises(AssemblyError, match=r"target: .* 4 neuroids"):
        aligner.score(source[40:80], source[40:80])


def test_a_linear_relation_is_found_from_few_pairs(linear_spaces):
    source, target = linear_spaces
    for aligner in (
        RidgeAligner(),
        BridgeAligner(map="linear"),
        BridgeAligner(coupling="pairs", map="flow", flow_options=FAST),
    ):
        moved = aligner.fit(source[:100], target[:100], 0.2).transform(source[100:])
        assert np.corrcoef(moved.values.ravel(), target[100:].values.ravel())[0, 1] > 0.99


def test_global_alignment_beats_the_ridge_map_where_geometry_is_all_there_is():
    # Two noise-free clusters a linear map of two points cannot tell apart, but transport along the clusters can.
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 200)
    curve = np.stack([np.cos(angle), np.sin(angle), 0.02 * rng.normal(size=200)], axis=1)
    line = np.stack([angle, 0.02 * rng.normal(size=200)], axis=1)
    ids = [f"s{i}" for i in range(200)]
    source = make_assembly(curve, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["a", "b", "c"]})
    target = make_assembly(line, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["d", "e"]})
    pairs = Pairs(np.array(ids[:12]), np.array(ids[:12]))
    errors = {}
    for name, aligner in {
        "ridge": RidgeAligner(),
        "bridge": BridgeAligner(map="barycentric", epsilon=0.02),
    }.items():
        moved = aligner.fit(source[:130], target[:130], pairs).transform(source[130:])
        errors[name] = float(np.abs(moved.values[:, 0] - angle[130:]).mean())
    assert errors["bridge"] < 0.6 * np.abs(angle - angle.mean()).mean()
    assert np.isfinite(errors["ridge"])


def test_procrustes_agrees_with_scipy_and_inverts_a_rotation(spaces):
    rng = np.random.default_rng(0)
    source, _ = spaces(d_source=4)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    # Standardised first, as the aligner does, so that a pure rotation relates the two spaces it sees.
    Z = (source.values - source.values.mean(0)) / source.values.std(0)
    target = source.copy(data=Z @ rotation)
    target = target.assign_coords(neuroid_id=("neuroid", [f"m{i}" for i in range(4)]))
    aligner = ProcrustesAligner().fit(source, target)
    moved, back = aligner.transform(source), aligner.inverse_transform(target)
    scaled = (target.values - target.values.mean(0)) / target.values.std(0)
    disparity = procrustes(scaled, Z)[2]
    residual = (moved.values - target.values) / target.values.std(0)
    assert (residual**2).sum() / (scaled**2).sum() == pytest.approx(disparity, abs=1e-9)
    assert np.corrcoef(back.values.ravel(), source.values.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("map", MAPS)
@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
def test_a_dask_backed_assembly_is_mapped_a_chunk_at_a_time(linear_spaces, map, monkeypatch):
    source, target = linear_spaces
    aligner = BridgeAligner(coupling="factored", map=map, flow_options={"training": Training(n_steps=20, width=16)})
    aligner.fit(source[:60], target[:60], 0.5)
    whole = aligner.transform(source)
    seen = []
    forward = aligner._forward
    monkeypatch.setattr(aligner, "_forward", lambda X: seen.append(len(X)) or forward(X))
    chunked = aligner.transform(source.chunk({"presentation": 25}))
    assert seen == [25, 25, 25, 25, 20]
    np.testing.assert_allclose(chunked.values, whole.values, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(chunked["off_support"], whole["off_support"])


def test_options_reach_the_fused_bridge_and_nothing_else(linear_spaces):
    source, target = linear_spaces
    options = {"lams": (1.0,), "epsilons": (0.1,), "n_rounds": (1,), "kernel_rounds": (0,), "minibatch_size": 40}
    aligner = BridgeAligner(map="barycentric", fuse_options=options).fit(source[:60], target[:60], 0.3)
    assert aligner.fused_["forward"].minibatch_size == 40
    assert {c.lam for c in aligner.fused_["forward"].errors} == {1.0}
    with pytest.raises(ValueError, match=r"fuse_options=.*'factored'.*'fused'"):
        BridgeAligner(coupling="factored", fuse_options=options).fit(source[:60], target[:60], 0.3)


def test_code_among_the_parameters_is_the_same_code_after_fitting(linear_spaces):
    source, target = linear_spaces
    network = functools.partial(VelocityMLP, width=16, depth=1)
    options = {"training": Training(network=network, n_steps=20)}
    aligner = BridgeAligner(coupling="pairs", map="flow", flow_options=options)
    moved = aligner.fit(source[:60], target[:60], 0.5).transform(source[60:])
    assert np.isfinite(moved.values).all()


def test_what_the_flow_refuses_is_refused_before_anything_is_solved(linear_spaces, monkeypatch):
    source, target = linear_spaces
    monkeypatch.setattr("neurobridge.aligners.bridge.fuse", lambda *a, **k: pytest.fail("solved"))
    with pytest.raises(ValueError, match=r"base.*sphere"):
        BridgeAligner(map="flow", base="sphere").fit(source, target, 0.5)


def test_pairs_may_be_a_table_with_other_names_on_each_side(linear_spaces):
    source, target = linear_spaces
    renamed = target.assign_coords(stimulus_id=("presentation", [f"t{i}" for i in range(120)]))
    table = pd.DataFrame({"source_id": [f"s{i}" for i in range(40)], "target_id": [f"t{i}" for i in range(40)]})
    moved = RidgeAligner().fit(source, renamed, table).transform(source)
    assert np.corrcoef(moved.values.ravel(), target.values.ravel())[0, 1] > 0.99
