"""Spaces with several layers (simulated): which of them a fused bridge reads, and what it gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.aligners import AssemblyAligner, BridgeAligner
from neurobridge.aligners.representations import (
    BALANCED,
    TOGETHER,
    LayerGroups,
    Representation,
    choose_representation,
    layer_groups,
    weights_of_sides,
)
from neurobridge.assemblies import make_assembly
from neurobridge.flow import Training
from neurobridge.store.state import sealed

#: A search of the fused bridge that ends soon.
SHORT = {"lams": (0.9,), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0,), "maps": ("ridge",)}
N, N_FITTED = 100, 70


def _groups(*sizes: int) -> LayerGroups:
    names = np.repeat([f"conv{k}" for k in range(len(sizes))], sizes)
    return LayerGroups(names, names)


def _labelled(values: np.ndarray, prefix: str, **neuroid: list[str]) -> xr.DataArray:
    ids = {"stimulus_id": [f"s{k}" for k in range(len(values))]}
    return make_assembly(
        values,
        presentation=ids,
        neuroid={"neuroid_id": [f"{prefix}{k}" for k in range(values.shape[1])], **neuroid},
    )


def _one_layer_carries_it(seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Eight units of the second layer carry the latents; the first layer is ten times as large, and is noise."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(N, 4))
    values = np.hstack([rng.normal(size=(N, 80)), latents @ rng.normal(size=(4, 8))])
    source = _labelled(values, "u", layer=["early"] * 80 + ["late"] * 8)
    return source, _labelled(latents @ rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(N, 6)), "n")


def _fitted(source, target, n_pairs=20, **params):
    ids = source["stimulus_id"].values[:n_pairs]
    aligner = BridgeAligner(fuse_options=SHORT, **params)
    return aligner.fit(source[:N_FITTED], target[:N_FITTED], pairs=ids)


def _score(aligner, source, target):
    return aligner.score(source[N_FITTED:], target[N_FITTED:])


def test_the_layer_that_carries_the_signal_is_read():
    source, target = _one_layer_carries_it()
    auto = _fitted(source, target)
    chosen = auto.representation_["source"]
    assert chosen.name == "late"
    assert chosen.shares == {"late": 1.0}
    assert set(chosen.losses) == {"balanced", "equal", "all", "early", "late"}
    assert min(chosen.losses, key=chosen.losses.get) == "late"
    assert set(auto.representation_) == {"source"}
    named = _fitted(source, target, representation="late")
    xr.testing.assert_identical(auto.transform(source[N_FITTED:]), named.transform(source[N_FITTED:]))
    assert _score(auto, source, target) > 0.9
    assert _score(auto, source, target) > _score(_fitted(source, target, representation="all"), source, target) + 0.2


def test_reading_a_layer_is_fitting_on_it_alone():
    source, target = _one_layer_carries_it()
    late = source.isel(neuroid=source["layer"].values == "late")
    read = _fitted(source, target, representation="late").transform(source[N_FITTED:])
    np.testing.assert_allclose(read.values, _fitted(late, target).transform(late[N_FITTED:]).values)


def test_what_is_given_is_complete():
    source, target = _one_layer_carries_it()
    aligner = _fitted(source, target)
    assert set(aligner.fused_) == {"forward"}
    mapped_back = aligner.inverse_transform(target[N_FITTED:])
    assert mapped_back["neuroid_id"].values.tolist() == source["neuroid_id"].values.tolist()
    # As by the bridge that reads and gives all layers.
    balanced = _fitted(source, target, representation="balanced")
    xr.testing.assert_identical(mapped_back, balanced.inverse_transform(target[N_FITTED:]))
    assert aligner.fused_["forward"] is not aligner.fused_["backward"]
    assert balanced.fused_["forward"] is balanced.fused_["backward"]


def test_a_target_with_layers_is_given_whole_and_read_by_layer():
    target, source = _one_layer_carries_it()
    aligner = _fitted(source, target)
    assert aligner.representation_["target"].name == "late"
    assert aligner.transform(source[N_FITTED:]).shape == (N - N_FITTED, 88)
    back = aligner.inverse_transform(target[N_FITTED:])
    moved = target[N_FITTED:].copy()
    moved.values[:, :80] = 5.0
    np.testing.assert_allclose(aligner.inverse_transform(moved).values, back.values)


def test_layers_that_carry_different_parts_are_read_together():
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(N, 6))
    values = np.hstack([latents[:, :3] @ rng.normal(size=(3, 10)), latents[:, 3:] @ rng.normal(size=(3, 10))])
    source = _labelled(values, "u", layer=["early"] * 10 + ["late"] * 10)
    target = _labelled(latents @ rng.normal(size=(6, 8)) + 0.1 * rng.normal(size=(N, 8)), "n")
    auto = _fitted(source, target)
    assert auto.representation_["source"].name == BALANCED
    alone = [_score(_fitted(source, target, representation=name), source, target) for name in ("early", "late")]
    assert _score(auto, source, target) > max(alone) + 0.2


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 1000))
def test_shares_are_shares_of_the_variance(sizes, seed):
    groups = _groups(*sizes)
    shares = dict(zip(groups.order, np.random.default_rng(seed).dirichlet(np.ones(len(sizes))).tolist(), strict=True))
    weights = groups.weights(shares)
    assert np.square(weights).sum() == pytest.approx(sum(sizes))
    for name, share in shares.items():
        assert np.square(weights[groups.names == name]).sum() == pytest.approx(share * sum(sizes))


@pytest.mark.parametrize(
    ("name", "shares"), [("balanced", [0.2, 0.8]), ("equal", [0.5, 0.5]), ("all", [1 / 17, 16 / 17])]
)
def test_layers_together_have_shares_by_size(name, shares):
    source = _labelled(np.random.default_rng(0).normal(size=(N, 17)), "u", layer=["early"] + ["late"] * 16)
    aligner = _fitted(source, source.isel(neuroid=slice(3)).drop_vars("layer"), representation=name)
    assert list(_groups(1, 16).shares(["conv0", "conv1"], TOGETHER[name]).values()) == pytest.approx(shares)
    assert {role: each.name for role, each in aligner.representation_.items()} == (
        {} if name == "all" else {"source": name}
    )
    assert aligner.fused_["forward"] is aligner.fused_["backward"]


def test_a_layer_alone_is_read_as_it_is():
    assert _groups(3, 2).weights({"conv1": 1.0}).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("criterion", ["correlation", "error", "retrieval"])
def test_units_do_not_matter(criterion):
    source, target = _one_layer_carries_it(2)
    factors = 10.0 ** np.random.default_rng(0).integers(-6, 6, source.sizes["neuroid"])
    chosen = [
        _fitted(each, other, criterion=criterion).representation_["source"]
        for each, other in ((source, target), (source * factors, target * 1e5))
    ]
    assert chosen[0].name == chosen[1].name == "late"
    assert chosen[0].losses == pytest.approx(chosen[1].losses, rel=1e-6)


def test_equal_layers_stay_together():
    rng = np.random.default_rng(3)
    layer = rng.normal(size=(N, 5))
    rows = np.arange(30), np.arange(30)
    chosen = choose_representation(
        np.hstack([layer, layer]), _groups(5, 5), layer @ rng.normal(size=(5, 3)), rows, criterion="error"
    )
    assert chosen.name == BALANCED
    assert chosen.losses["conv0"] == chosen.losses["conv1"] == pytest.approx(chosen.losses[BALANCED], rel=1e-6)


@pytest.mark.parametrize("n_pairs", [2, 3])
def test_too_few_pairs_choose_nothing(n_pairs):
    source, target = _one_layer_carries_it()
    chosen = _fitted(source, target, n_pairs).representation_["source"]
    assert (chosen.name, chosen.losses) == (BALANCED, {})


def test_pairs_of_one_point_choose_nothing():
    rng = np.random.default_rng(5)
    rows = np.zeros(6, dtype=int), np.arange(6)
    chosen = choose_representation(
        rng.normal(size=(9, 4)), _groups(2, 2), rng.normal(size=(9, 3)), rows, criterion="error"
    )
    assert (chosen.name, chosen.losses) == (BALANCED, {})


def test_a_layer_may_have_the_name_of_a_representation():
    rng = np.random.default_rng(6)
    points, names = rng.normal(size=(N, 42)), np.repeat(["all", "equal"], [40, 2])
    rows = np.arange(40), np.arange(40)
    groups = LayerGroups(names, names)
    chosen = choose_representation(points, groups, points[:, 40:], rows, criterion="error")
    assert (chosen.name, chosen.shares) == ("layer equal", {"equal": 1.0})
    assert {"all", "layer all", "equal", "layer equal"} < set(chosen.losses)


def test_a_point_in_two_pairs_does_not_vouch_for_itself():
    rng = np.random.default_rng(4)
    noise, images = rng.normal(size=(30, 40)), rng.normal(size=(60, 5))
    # Every source point has two partners that are nearly the same.
    images[30:] = images[:30] + 0.01
    rows = np.tile(np.arange(30), 2), np.arange(60)
    chosen = choose_representation(noise, _groups(20, 20), images, rows, criterion="error")
    assert min(chosen.losses.values()) > 0.8


def test_poolings_are_layers_of_their_own():
    layers = {"layer": ["a", "a", "b", "b"], "pooling": ["mean", "flatten"] * 2}
    groups = layer_groups({"source": _labelled(np.zeros((3, 4)), "u", **layers), "target": np.zeros((3, 2))})
    assert list(groups) == ["source"]
    assert groups["source"].order == ["a/mean", "a/flatten", "b/mean", "b/flatten"]
    assert groups["source"].named("a") == ["a/mean", "a/flatten"]
    assert groups["source"].named("b/mean") == ["b/mean"]
    same_pooling = _labelled(np.zeros((3, 4)), "u", layer=layers["layer"], pooling=["mean"] * 4)
    assert layer_groups({"source": same_pooling})["source"].order == ["a", "b"]


def test_one_layer_is_read_as_an_array():
    source, target = _one_layer_carries_it()
    plain = source.assign_coords(layer=("neuroid", ["late"] * 88))
    aligner = _fitted(plain, target)
    assert aligner.representation_ == {}
    rows = np.arange(20), np.arange(20)
    arrays = BridgeAligner(fuse_options=SHORT).fit(source.values[:N_FITTED], target.values[:N_FITTED], rows)
    np.testing.assert_array_equal(aligner.transform(plain).values, arrays.transform(source.values))
    every_neuroid = _fitted(source, target, representation="all")
    np.testing.assert_array_equal(every_neuroid.transform(source).values, arrays.transform(source.values))


def test_the_classifier_reads_every_layer_in_its_units():
    source, target = _one_layer_carries_it()
    target, source = source * 7 + 3, target
    labels = (target.values[:, 85] > target.values[:, 85].mean()).astype(int)
    seen = []

    def classify(points):
        seen.append(points)
        return (points[:, 85] > target.values[:N_FITTED, 85].mean()).astype(int)

    both = xr.concat([source, source + 1e-3], "neuroid")
    both = _labelled(both.values, "b", layer=["first"] * 6 + ["second"] * 6)
    aligner = _fitted(both, target, 30, criterion="labels", classifier=classify, labels=labels[:N_FITTED])
    assert {points.shape[1] for points in seen} == {88}
    assert aligner.representation_["target"].name == "late"
    assert aligner.inverse_transform(target).shape == (N, 12)


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
def test_a_flow_starts_at_the_images_of_both_ways():
    source, target = _one_layer_carries_it()
    training = Training(n_steps=3, width=8, depth=1)
    aligner = _fitted(source, target, map="flow", flow_options={"training": training})
    assert aligner.representation_["source"].name == "late"
    assert aligner.transform(source[N_FITTED:]).shape == (N - N_FITTED, 6)
    assert aligner.inverse_transform(target[N_FITTED:]).shape == (N - N_FITTED, 88)
    assert aligner.fused_["forward"] is not aligner.fused_["backward"]


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
def test_saved_and_read_again(tmp_path):
    source, target = _one_layer_carries_it()
    aligner = _fitted(source, target)
    aligner.save(tmp_path)
    loaded = AssemblyAligner.load(tmp_path)
    xr.testing.assert_identical(aligner.transform(source), loaded.transform(source))
    xr.testing.assert_identical(aligner.inverse_transform(target), loaded.inverse_transform(target))
    assert repr(loaded.representation_) == repr(aligner.representation_)
    np.testing.assert_array_equal(loaded.representation_["source"].weights, aligner.representation_["source"].weights)
    assert "late" in loaded._repr_html_()


def test_files_without_representations_are_read(tmp_path):
    source, target = _one_layer_carries_it()
    aligner = _fitted(source, target, representation="all")
    path = aligner.save(tmp_path)
    header = json.loads(path.read_bytes())
    header["class_version"] = 1
    del header["digest"], header["state"]["representation_"], header["params"]["representation"]
    path.write_bytes(sealed(header))
    loaded = AssemblyAligner.load(tmp_path)
    assert loaded.representation_ == {}
    np.testing.assert_array_equal(loaded.transform(source).values, aligner.transform(source).values)


def test_layers_that_are_not_there_are_refused():
    source, target = _one_layer_carries_it()
    with pytest.raises(ValueError, match=r"representation='fc'.*early.*late"):
        _fitted(source, target, representation="fc")
    with pytest.raises(ValueError, match=r"representation='late'.*no assembly"):
        BridgeAligner(representation="late").fit(source.values, target.values)


@pytest.mark.parametrize("params", [{"coupling": "factored"}, {"map": "linear"}])
def test_a_layer_is_refused_where_all_are_read(params):
    source, target = _one_layer_carries_it()
    with pytest.raises(ValueError, match="representation='late'"):
        BridgeAligner(representation="late", **params).fit(source, target)
    fitted = BridgeAligner(**params).fit(source, target, pairs=source["stimulus_id"].values[:20])
    assert fitted.representation_ == {}


def test_sides_are_left_as_chosen_and_reached_whole():
    groups = {"source": _groups(2, 2), "target": _groups(1, 3)}
    chosen = {
        "source": Representation("conv0", {"conv0": 1.0}, {}, np.array([1.0, 1.0, 0.0, 0.0])),
        "target": Representation("all", {"conv0": 0.25, "conv1": 0.75}, {}, np.ones(4)),
    }
    forward = weights_of_sides(groups, chosen, "source", "target")
    backward = weights_of_sides(groups, chosen, "target", "source")
    assert forward["source"].tolist() == [1, 1, 0, 0]
    assert backward["source"].tolist() == [1, 1, 1, 1]
    assert forward["target"].tolist() == backward["target"].tolist() == [1, 1, 1, 1]


def test_without_a_relation_every_representation_is_at_chance():
    """A regression without a pair predicts on average what lies away from this pair; that says nothing about a layer."""
    losses: dict[str, list[float]] = {}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        points, images = rng.normal(size=(60, 24)), rng.normal(size=(60, 10))
        pairs = np.arange(10), np.arange(10)
        chosen = choose_representation(points, _groups(8, 16), images, pairs, criterion="correlation")
        for name, loss in chosen.losses.items():
            losses.setdefault(name, []).append(loss)
    assert len(losses) >= 5
    for name, values in losses.items():
        assert np.mean(values) == pytest.approx(1, abs=4 * np.std(values) / np.sqrt(len(values))), name
        assert abs(np.mean(values) - 1) < 0.1, name
