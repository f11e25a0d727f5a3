"""A common space of several spaces: known truths, invariances, held-out stimuli, files, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

from neurobridge.aligners import AlignerFileError, AlignerNotFittedError, BridgeAligner, CommonSpace, RidgeAligner, load
from neurobridge.aligners.common.routes import deal_folds, predict_held_out
from neurobridge.aligners.common.shared import fit_generalised_procrustes, fit_shared_response
from neurobridge.aligners.common.views import view_stimuli
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly
from neurobridge.maps.linear import ridge_map

METHODS = ("bridge", "srm", "procrustes")
TRAIN, TEST = slice(0, 160), slice(160, 260)


def simulated(noise: float = 0.5, dims: tuple[int, ...] = (9, 10, 12), k: int = 4, seed: int = 100):
    """Draw views of the same latents by loadings of their own: one array of 260 stimuli a space."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(260, k))
    loadings = [rng.normal(size=(k, d)) for d in dims]
    views = [latents @ B + noise * rng.normal(size=(260, d)) for B, d in zip(loadings, dims, strict=True)]
    return dict(zip("abcdef", views, strict=False)), dict(zip("abcdef", loadings, strict=False))


def train(views):
    return {name: values[TRAIN] for name, values in views.items()}


def rows(*ends: int):
    return (np.arange(*ends),) * 2


CHAIN = {("a", "b"): rows(0, 50), ("b", "c"): rows(50, 100)}


def mean_r(predicted, truth) -> float:
    return float(np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, truth.T, strict=True)]))


def test_a_chain_without_direct_pairs_is_near_the_oracle_and_near_direct_pairs():
    views, loadings = simulated()
    space = CommonSpace(seed=0).fit(train(views), CHAIN)
    predicted = space.transform(views["a"][TEST], source="a", target="c")
    B = loadings["a"]
    oracle = views["a"] @ np.linalg.inv(B.T @ B + 0.25 * np.eye(9)) @ B.T @ loadings["c"]
    best, reached = (mean_r(p, views["c"][TEST]) for p in (oracle[TEST], predicted))
    direct = mean_r(ridge_map(views["a"][:50], views["c"][:50])(views["a"][TEST]), views["c"][TEST])
    assert best > 0.9
    assert reached > best - 0.03
    assert reached > direct - 0.03
    assert space.n_seen_in_both_["a", "c"] == 0
    assert set(space.weights_["a", "c"]) == {"path", "common"}


@pytest.mark.parametrize("method", METHODS)
def test_rotations_of_the_same_latents_are_found_with_one_pair_of_spaces_missing(method):
    rng = np.random.default_rng(101)
    latents = rng.normal(size=(260, 5))
    views = {n: latents @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.1 * rng.normal(size=(260, 5)) for n in "abc"}
    space = CommonSpace(5, method=method).fit(train(views), CHAIN)
    assert mean_r(space.transform(views["c"][TEST], "c", "a"), views["a"][TEST]) > 0.97


def test_more_spaces_help_where_direct_pairs_are_few():
    gains = []
    for seed in (100, 101):
        views, _ = simulated(noise=2.0, dims=(20, 20, 20), seed=seed)
        pairs = {("a", "b"): rows(0, 80), ("b", "c"): rows(40, 120), ("a", "c"): rows(120, 135)}
        space = CommonSpace(4).fit(train(views), pairs)
        alone = RidgeAligner().fit(views["a"][TRAIN], views["c"][TRAIN], rows(120, 135))
        truth = views["c"][TEST]
        gains.append(
            mean_r(space.transform(views["a"][TEST], "a", "c"), truth)
            - mean_r(alone.transform(views["a"][TEST]), truth)
        )
    assert min(gains) > 0.03


def test_exact_views_have_no_cycle_error_and_their_common_coordinates_agree():
    views, _ = simulated(noise=0.0)
    space = CommonSpace(4).fit(train(views), CHAIN)
    held_out = {name: values[TEST] for name, values in views.items()}
    for error in (space.cycle_error(), space.cycle_error(held_out)):
        assert float(error["round_trip"].max()) < 1e-3
        assert float(error["detour"].max()) < 1e-3
    assert np.isnan(error["round_trip"].sel(source="a", through="a"))
    assert set(error["detour"].dims) == {"source", "through", "target"}


def test_noise_is_lost_on_the_way_there_and_back():
    views, _ = simulated(noise=2.0)
    clean, _ = simulated(noise=0.1)
    errors = [float(CommonSpace(4).fit(train(v), CHAIN).cycle_error()["round_trip"].mean()) for v in (clean, views)]
    assert errors[0] < 0.05 < errors[1]


def test_the_order_of_names_and_of_keys_changes_nothing():
    views, _ = simulated()
    turned = {name: train(views)[name] for name in "cab"}
    space = CommonSpace(4).fit(train(views), CHAIN)
    other = CommonSpace(4).fit(turned, dict(reversed(CHAIN.items())))
    mapped = [s.transform(views["a"][TEST], "a", "c") for s in (space, other)]
    np.testing.assert_allclose(*mapped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_permuted_and_scaled_columns_give_the_same_maps(method):
    views, _ = simulated()
    order = np.random.default_rng(0).permutation(9)
    moved = {**views, "a": (7 * views["a"] + 3)[:, order]}
    mapped = [
        CommonSpace(4, method=method).fit(train(v), CHAIN).transform(v["a"][TEST], "a", "c") for v in (views, moved)
    ]
    np.testing.assert_allclose(*mapped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("whitening", [0.0, 0.5, None])
def test_rotations_of_a_space_leave_the_shared_response_as_it_is(whitening):
    """None stands for generalised Procrustes analysis."""
    rng = np.random.default_rng(3)
    views, _ = simulated()
    Q = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    images = []
    for turn in (np.eye(9), Q):
        clouds = train({**views, "a": views["a"] @ turn})
        seen = {name: values.copy() for name, values in clouds.items()}
        seen["a"][100:] = np.nan
        seen["c"][:50] = np.nan
        ends = (
            fit_generalised_procrustes(seen, clouds)
            if whitening is None
            else fit_shared_response(seen, clouds, 4, whitening)
        )
        images.append(ends["c"].decode(ends["a"].encode(views["a"][TEST] @ turn)))
    np.testing.assert_allclose(*images, atol=1e-8)


def test_held_out_stimuli_change_no_map_that_predicts_them():
    views, _ = simulated()
    clouds = train(views)
    pairs = {**CHAIN, ("a", "c"): rows(90, 130)}
    folds = deal_folds(view_stimuli(clouds, pairs), 5, seed=0)
    held = folds[0]
    first = predict_held_out(view_stimuli(clouds, pairs), folds[:1], [3], "bridge", None, False)[3]
    changed = view_stimuli(clouds, pairs)
    for name, code in changed.stimulus.items():
        changed.points[name] = clouds[name].copy()
        if name != "a":
            changed.points[name][np.isin(code, held)] += 100
    second = predict_held_out(changed, folds[:1], [3], "bridge", None, False)[3]
    for route in ("direct", "path", "common"):
        np.testing.assert_array_equal(first.routes["a", "c"][0][route], second.routes["a", "c"][0][route])
    np.testing.assert_allclose(second.truth["a", "c"][0] - first.truth["a", "c"][0], 100)


def test_a_stimulus_is_held_out_in_all_its_spaces_at_once():
    clouds = {name: np.random.default_rng(0).normal(size=(30, 2)) for name in "abc"}
    views = view_stimuli(clouds, {("a", "b"): rows(0, 20), ("b", "c"): rows(10, 30)})
    assert views.n_stimuli == 30
    folds = deal_folds(views, 5, seed=0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(30))
    kept = views.without(folds[0])
    for name in "abc":
        assert not np.isin(views.stimulus[name][~np.isin(views.stimulus[name], folds[0])], folds[0]).any()
        assert len(kept.points[name]) == 30 - np.isin(views.stimulus[name], folds[0]).sum()


def test_many_images_of_one_caption_are_one_stimulus_by_their_mean():
    clouds = {"images": np.array([[1.0], [3.0], [8.0]]), "captions": np.array([[0.0], [1.0]])}
    views = view_stimuli(clouds, {("images", "captions"): (np.array([0, 1]), np.array([1, 1]))})
    assert views.n_stimuli == 1
    assert views.of("images").tolist() == [[2.0]]


def assemblies(views):
    ids = {"a": range(160), "b": range(260), "c": range(100, 260)}
    return {
        name: make_assembly(
            values[list(ids[name])],
            presentation={"stimulus_id": [f"s{k}" for k in ids[name]]},
            neuroid={"neuroid_id": [f"{name}{j}" for j in range(values.shape[1])]},
        )
        for name, values in views.items()
    }


def test_labelled_spaces_take_pairs_in_every_form_and_give_labels_back():
    given = assemblies(simulated()[0])
    pairs = {("a", "b"): 50, ("b", "c"): None, ("a", "c"): ["s120", "s130"]}
    space = CommonSpace(seed=0).fit(given, pairs)
    assert isinstance(space.pairs_["a", "b"], Pairs)
    assert [len(space.pairs_[edge]) for edge in pairs] == [50, 160, 2]
    aligned = space.transform(given["a"], source="a", target="c")
    assert aligned.neuroid_id.values.tolist() == given["c"].neuroid_id.values.tolist()
    assert aligned.stimulus_id.values.tolist() == given["a"].stimulus_id.values.tolist()
    assert aligned.attrs["source_space"] == "a"
    common = space.transform(given["c"], source="c")
    assert common.neuroid_id.values[0] == "common 0"
    assert common.shape == (160, space.n_dims_)
    everything = CommonSpace(2, seed=0).fit(given)
    assert set(everything.pairs_) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_pairs_with_a_third_space_are_pairs():
    views, _ = simulated()
    space = CommonSpace(4).fit(train(views), {("a", "b"): rows(0, 60), ("b", "c"): rows(20, 100)})
    assert space.n_seen_in_both_["a", "c"] == 40
    assert "direct" in space.weights_["a", "c"]
    assert space.explained_["a", "c"]["together"] >= max(
        space.explained_["a", "c"][r] for r in ("direct", "path", "common")
    )


def test_the_contribution_of_a_space_that_is_needed_useful_or_noise():
    views, _ = simulated(noise=1.5, dims=(15, 15, 15))
    views["d"] = np.random.default_rng(5).normal(size=(260, 8))
    pairs = {("a", "b"): rows(0, 80), ("b", "c"): rows(0, 80), ("a", "c"): rows(100, 114), ("c", "d"): rows(0, 40)}
    contribution = CommonSpace(4).fit(train(views), pairs).contribution()
    assert contribution["needed"].values.tolist() == [False, False, True, False]
    gain = contribution["gain"]
    assert float(gain.sel(space="b")) > 0.02 > abs(float(gain.sel(space="d")))
    assert np.isnan(gain.sel(space="c"))


def test_an_aligner_may_make_the_direct_maps():
    views, _ = simulated()
    space = CommonSpace(4, aligner=RidgeAligner()).fit(train(views), CHAIN)
    assert isinstance(space.atlas_.direct["a", "b"], RidgeAligner)
    # One fit serves both directions.
    assert set(space.atlas_.direct) == {("a", "b"), ("b", "c")}
    back = space.atlas_.direct["a", "b"].inverse_transform(np.eye(10))
    np.testing.assert_array_equal(space.atlas_.along("direct", ("b", "a"), np.eye(10)), back)
    assert mean_r(space.transform(views["c"][TEST], "c", "a"), views["a"][TEST]) > 0.85
    assert mean_r(space.transform(views["a"][TEST], "a", "c"), views["c"][TEST]) > 0.85


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fused_bridges_may_make_the_direct_maps(tmp_path):
    views, _ = simulated()
    given = {name: values[:100] for name, values in views.items()}
    pairs = {("a", "b"): rows(0, 30), ("b", "c"): rows(30, 60)}
    space = CommonSpace(4, aligner=BridgeAligner(), n_folds=2).fit(given, pairs)
    predicted = space.transform(views["a"][TEST], "a", "c")
    assert mean_r(predicted, views["c"][TEST]) > 0.85
    space.save(tmp_path)
    np.testing.assert_array_equal(CommonSpace.load(tmp_path).transform(views["a"][TEST], "a", "c"), predicted)


@pytest.mark.parametrize("aligner", [None, RidgeAligner()], ids=["ridge maps", "aligners"])
def test_a_loaded_space_gives_the_same_bits(tmp_path, aligner):
    given = assemblies(simulated()[0])
    space = CommonSpace(4, aligner=aligner).fit(given, {("a", "b"): 40, ("b", "c"): 40})
    space.save(tmp_path)
    for loaded in (CommonSpace.load(tmp_path), load(tmp_path)):
        assert repr(loaded) == repr(space)
        assert loaded.weights_ == space.weights_
        for target in ("b", "c", None):
            xr.testing.assert_identical(
                loaded.transform(given["a"], "a", target), space.transform(given["a"], "a", target)
            )
    with pytest.raises(AlignerNotFittedError):
        loaded.contribution()
    with pytest.raises(AlignerFileError):
        RidgeAligner.load(tmp_path)


def test_it_is_an_estimator_and_the_same_seed_gives_the_same_bits():
    views, _ = simulated()
    space = clone(CommonSpace(seed=3)).set_params(n_dims=4)
    first = space.fit(train(views), CHAIN).transform(views["a"][TEST], "a", "c")
    again = clone(space).fit(train(views), CHAIN).transform(views["a"][TEST], "a", "c")
    np.testing.assert_array_equal(first, again)
    assert repr(space) == "CommonSpace(n_dims=4, seed=3)"
    assert "shared stimuli" in space._repr_html_()
    with pytest.raises(AlignerNotFittedError):
        space.set_params(seed=4).transform(views["a"], "a", "c")
    with pytest.raises(AlignerNotFittedError, match="spaces, pairs"):
        CommonSpace().transform(views["a"], "a", "c")


def test_spaces_without_a_path_are_named():
    views, _ = simulated(dims=(3, 4, 5, 6))
    with pytest.raises(AssemblyError, match=r"'a', 'b'; 'c', 'd'.*align_unpaired"):
        CommonSpace().fit(train(views), {("a", "b"): None, ("c", "d"): None})


@pytest.mark.parametrize(
    ("pairs", "facts"),
    [
        ({("a", "x"): None}, "'x'"),
        ({("a", "b"): None, ("b", "a"): None, ("b", "c"): None}, "second time"),
        ({("a", "a"): None}, "'a', 'a'"),
        ({"ab": None}, "'ab'"),
        (20, "int"),
        ({("a", "b"): (np.arange(3), np.arange(4)), ("b", "c"): None}, "'a' and 'b'.*3 source and 4"),
        ({("a", "b"): (np.arange(3), np.arange(160, 163)), ("b", "c"): None}, r"162"),
    ],
)
def test_pairs_that_cannot_be_read_are_refused(pairs, facts):
    with pytest.raises(AssemblyError, match=facts):
        CommonSpace().fit(train(simulated()[0]), pairs)


@pytest.mark.parametrize(
    ("params", "facts"),
    [
        ({"method": "cca"}, "'cca'"),
        ({"n_dims": 0}, "n_dims=0"),
        ({"n_dims": 99}, "n_dims=99"),
        ({"n_folds": 1}, "n_folds=1"),
        ({"method": "srm", "aligner": RidgeAligner()}, "'srm'"),
        ({"support_quantile": 0}, "support_quantile=0"),
    ],
)
def test_parameters_out_of_range_are_refused(params, facts):
    with pytest.raises(ValueError, match=facts):
        CommonSpace(**params).fit(train(simulated()[0]), CHAIN)


def test_points_of_another_space_are_refused():
    views, _ = simulated()
    space = CommonSpace(4).fit(train(views), CHAIN)
    with pytest.raises(AssemblyError, match="10 columns"):
        space.transform(views["b"], source="a", target="c")
    with pytest.raises(ValueError, match="'x'"):
        space.transform(views["a"], source="a", target="x")
    for spaces in ({"a": views["a"]}, [views["a"]], {1: views["a"], 2: views["b"]}):
        with pytest.raises(AssemblyError, match="spaces"):
            CommonSpace().fit(spaces)
    with pytest.raises(AssemblyError, match=r"'b'.*NaN"):
        CommonSpace().fit({"a": views["a"], "b": np.full_like(views["b"], np.nan)})


def test_two_pairs_of_an_edge_are_enough_but_fewer_stimuli_in_all_are_not():
    views, _ = simulated()
    space = CommonSpace(2).fit(train(views), {("a", "b"): rows(0, 60), ("b", "c"): rows(100, 102)})
    assert np.isfinite(space.transform(views["a"][TEST], "a", "c")).all()
    with pytest.raises(AssemblyError, match="found 3"):
        CommonSpace().fit(train(views), {("a", "b"): rows(0, 3), ("b", "c"): rows(1, 3)})
