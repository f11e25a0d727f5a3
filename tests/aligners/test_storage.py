"""Aligners on disk: the same numbers bit by bit, one step or none, and refusals of what does not fit."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import xarray as xr
from safetensors.torch import load_file, save_file
from sklearn.base import clone

from neurobridge.aligners import (
    BASELINES,
    AlignerFileError,
    AlignerNotFittedError,
    AssemblyAligner,
    BridgeAligner,
    ProcrustesAligner,
    RidgeAligner,
)
from neurobridge.assemblies import Pairs
from neurobridge.flow import Training, VelocityMLP
from neurobridge.store.state import sealed

FAST = {"training": Training(n_steps=20, width=32, depth=1)}
METRICS = ("euclidean", "sqeuclidean", "cosine", "correlation", "geodesic", ("geodesic", "cosine"))


#: A search of the fused bridge that ends soon.
SHORT_SEARCH = {"lams": (0.9, 0.5), "epsilons": (0.05,), "n_rounds": (1, 2), "kernel_rounds": (0, 1)}


def _combinations():
    for metric in METRICS:
        for coupling in ("factored", "fused"):
            yield BridgeAligner(
                metric, coupling, "barycentric", fuse_options=SHORT_SEARCH if coupling == "fused" else None
            )
    for coupling in ("pairs", "exact", "sinkhorn"):
        yield BridgeAligner("euclidean", coupling, "barycentric", epsilon=0.3)
        yield BridgeAligner("euclidean", coupling, "flow", epsilon=0.3, flow_options=FAST)
    for base in ("affine", "pad", "noise"):
        yield BridgeAligner("euclidean", "factored", "flow", base=base, flow_options=FAST)
    for coupling in ("factored", "pairs"):
        yield BridgeAligner("euclidean", coupling, "flow", base="barycentric", flow_options=FAST)
    yield BridgeAligner("euclidean", map="flow", flow_options=FAST, fuse_options=SHORT_SEARCH)
    for metric in ("geodesic", "euclidean"):
        yield BridgeAligner(metric, "factored", "barycentric", nearest=5)
    yield BridgeAligner("euclidean", "factored", "barycentric", unbalanced=0.5)
    yield BridgeAligner(cost="linear", map="barycentric", fuse_options=SHORT_SEARCH)
    training = FAST["training"].replace(validation=0.1)
    options = {"flow_options": {"training": training, "support_quantile": 0.9}, "fuse_options": SHORT_SEARCH}
    yield BridgeAligner(map="flow", base="affine", **options)
    yield BridgeAligner(criterion="retrieval", fuse_options=SHORT_SEARCH)
    yield BridgeAligner(map="linear", support_quantile=0.95, seed=3)


def _identical(saved, loaded, source, target):
    for name in ("transform", "inverse_transform"):
        given = source if name == "transform" else target
        xr.testing.assert_identical(getattr(saved, name)(given), getattr(loaded, name)(given))


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
@pytest.mark.parametrize("aligner", list(_combinations()), ids=str)
def test_a_loaded_aligner_gives_the_same_bits_both_ways(aligner, linear_spaces, tmp_path):
    source, target = linear_spaces
    fitted = clone(aligner).fit(source[:60], target[:60], 0.4)
    path = fitted.save(tmp_path / "kept")
    assert path == tmp_path / "kept" / "aligner.json"
    loaded = AssemblyAligner.load(tmp_path / "kept")
    assert type(loaded) is BridgeAligner
    assert loaded.get_params() == fitted.get_params()
    _identical(fitted, loaded, source, target)
    # What was loaded can be saved again, elsewhere, and is the same still.
    again = BridgeAligner.load(loaded.save(tmp_path / "again").parent)
    _identical(fitted, again, source, target)
    assert not list(tmp_path.rglob("*.partial"))
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} == {".json", ".safetensors", ".lock"}


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
@pytest.mark.parametrize("name", ["ridge", "procrustes", "relative", "keypoints", "self-trained"])
def test_a_baseline_whose_state_is_arrays_is_kept_too(name, linear_spaces, tmp_path):
    source, target = linear_spaces
    fitted = BASELINES[name]().fit(source[:60], target[:60], 0.4)
    fitted.save(tmp_path)
    loaded = AssemblyAligner.load(tmp_path)
    assert type(loaded) is BASELINES[name]
    _identical(fitted, loaded, source, target)


def test_labels_of_any_kind_pairs_and_scores_come_back(linear_spaces, tmp_path):
    source, target = linear_spaces
    n = target.sizes["neuroid"]
    target = target.assign_coords(
        depth=("neuroid", np.linspace(0, 1, n).astype(np.float32)),
        array=("neuroid", np.arange(n, dtype=np.int16)),
        good=("neuroid", np.arange(n) % 2 == 0),
        implanted=("neuroid", np.array(["2020-01-02"] * n, dtype="datetime64[ns]")),
        mixed=("neuroid", np.array([None, "a", 1.5, True, "b", 2, "c"], dtype=object)),
    )
    fitted = BridgeAligner(map="linear").fit(
        source[:60], target[:60], Pairs(*2 * [np.array(["s1", "s7", "s9", "s30", "s31", "s40"])])
    )
    fitted.save(tmp_path)
    loaded = BridgeAligner.load(tmp_path)
    moved = loaded.transform(source[60:])
    xr.testing.assert_identical(moved, fitted.transform(source[60:]))
    for name in ("depth", "array", "good", "implanted", "mixed"):
        assert moved[name].dtype == target[name].dtype
        np.testing.assert_array_equal(moved[name], target[name])
    np.testing.assert_array_equal(loaded.pairs_.source_id, fitted.pairs_.source_id)
    assert loaded.score(source[60:], target[60:]) == fitted.score(source[60:], target[60:])


def test_many_images_of_one_caption_are_kept_with_the_nearest_anchors(spaces, tmp_path):
    """Repeated anchors, nearest anchors and geodesics together: distances are read back through the kept factor."""
    source, target = spaces()
    captions = target[:60][::3]
    table = {"source_id": [f"s{i}" for i in range(24)], "target_id": [f"s{3 * (i // 3)}" for i in range(24)]}
    fitted = BridgeAligner("geodesic", "factored", "barycentric", nearest=3).fit(source[:60], captions, table)
    fitted.save(tmp_path)
    _identical(fitted, BridgeAligner.load(tmp_path), source, captions)


def test_code_is_given_to_load_and_nothing_else_is(linear_spaces, tmp_path):
    source, target = linear_spaces

    def manhattan(X, Z):
        return (X[:, None, :] - Z[None, :, :]).abs().sum(dim=2)

    def network(n_dims, n_condition):
        return VelocityMLP(n_dims, n_condition, width=16, depth=1)

    fitted = BridgeAligner((manhattan, "cosine"), fuse_options=SHORT_SEARCH).fit(source[:60], target[:60], 0.4)
    fitted.save(tmp_path)
    with pytest.raises(AlignerFileError, match=r"parameters \[\].*\['metric'\]"):
        BridgeAligner.load(tmp_path)
    with pytest.raises(AlignerFileError, match=r"'manhattan'.*among"):
        BridgeAligner.load(tmp_path, metric=lambda X, Z: manhattan(X, Z))
    _identical(fitted, BridgeAligner.load(tmp_path, metric=(manhattan, "cosine")), source, target)

    options = {"training": Training(network=network, n_steps=5)}
    fitted = BridgeAligner("euclidean", "pairs", "flow", flow_options=options).fit(source[:60], target[:60], 0.4)
    fitted.save(tmp_path)
    with pytest.raises(AlignerFileError, match=r"expected \['flow_options'\]"):
        BridgeAligner.load(tmp_path)
    with pytest.raises(AlignerFileError, match=r"\['flow_options', 'seed'\].*\['flow_options'\]"):
        BridgeAligner.load(tmp_path, flow_options=options, seed=1)
    _identical(fitted, BridgeAligner.load(tmp_path, flow_options=options), source, target)


def test_a_loaded_aligner_says_which_maps_it_holds(linear_spaces, tmp_path):
    source, target = linear_spaces
    fitted = BridgeAligner("euclidean", "factored", "flow", flow_options=FAST).fit(source[:60], target[:60], 0.4)
    fitted.save(tmp_path)
    loaded = BridgeAligner.load(tmp_path).set_params(map="barycentric")
    with pytest.raises(AlignerNotFittedError, match=r"map='barycentric'.*saved"):
        loaded.transform(source)
    fitted.set_params(map="barycentric").save(tmp_path / "other")
    _identical(fitted, BridgeAligner.load(tmp_path / "other"), source, target)


def test_saving_over_an_aligner_replaces_it_in_one_step(linear_spaces, tmp_path, monkeypatch):
    source, target = linear_spaces
    flow = BridgeAligner("euclidean", "pairs", "flow", flow_options=FAST)
    first = clone(flow).fit(source[:60], target[:60], 0.4)
    second = clone(flow).set_params(seed=1).fit(source[:60], target[:60], 0.4)
    first.save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    real = os.replace

    def killed(old, new):
        if str(new).endswith("aligner.json"):
            raise KeyboardInterrupt
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            second.save(tmp_path)
    _identical(first, AssemblyAligner.load(tmp_path), source, target)
    second.save(tmp_path)
    _identical(second, AssemblyAligner.load(tmp_path), source, target)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    RidgeAligner().fit(source, target).save(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.fixture
def kept(linear_spaces, tmp_path):
    source, target = linear_spaces
    ProcrustesAligner().fit(source, target).save(tmp_path)
    return tmp_path


def _edited(folder, **changes):
    path = folder / "aligner.json"
    header = json.loads(path.read_text())
    del header["digest"]
    path.write_bytes(sealed({**header, **changes}))


def test_files_that_do_not_fit_are_refused(kept, linear_spaces, tmp_path):
    with pytest.raises(AlignerFileError, match=r"elsewhere.*no such file.*neurobridge aligner"):
        AssemblyAligner.load(kept / "elsewhere")
    with pytest.raises(AlignerFileError, match=r"'procrustes-aligner'.*\['ridge-aligner'\]"):
        RidgeAligner.load(kept)
    whole = (kept / "aligner.json").read_text()
    header = json.loads(whole)
    for changes, message in [
        ({"kind": "neurobridge flow"}, r"'neurobridge flow'.*'neurobridge aligner'"),
        ({"format_version": 99}, r"format version 99"),
        ({"aligner_version": 99}, r"aligner version 99.* 2\. Mend"),
        ({"class": "os.system"}, r"'os\.system'.* of \["),
        ({"class": {}}, r"'\{\}'.* of \["),
        ({"params": {"sead": 1}}, r"\['sead'\].*\['seed'\].*ProcrustesAligner"),
        ({"shapes": True}, r"safetensors.*usable tensors"),
        ({"state": {}}, r"usable entry \(KeyError"),
        ({"state": {**header["state"], "rotation_": {"class": "os:system"}}}, r"kind 'class'"),
        (
            {"state": {**header["state"], "rotation_": {"object": "os:system", "fields": {}}}},
            r"'os:system'.*version 0\.1",
        ),
        (
            {"state": {**header["state"], "pairs_": {**header["state"]["pairs_"], "state": {"source_id": 1}}}},
            r"pairs of \['source_id'\].*\['source_id', 'target_id'\]",
        ),
        (
            {"state": {**header["state"], "pairs_": {**header["state"]["pairs_"], "version": 2}}},
            r"version 2 of pairs.* 1\.",
        ),
        (
            {"state": {**header["state"], "pairs_": {**header["state"]["pairs_"], "kind": "os.system"}}},
            r"'os\.system'.*the kinds \[",
        ),
        (
            {"state": {**header["state"], "source_scale_": header["state"]["target_scale_"]}},
            r"source 4 .*, 7 means, 7 .*, 4 support",
        ),
    ]:
        _edited(kept, **changes)
        with pytest.raises(AlignerFileError, match=message):
            AssemblyAligner.load(kept)
        (kept / "aligner.json").write_text(whole)
    (tensors,) = kept.glob("*.safetensors")
    found = load_file(tensors)
    save_file({name: tensor + 1 for name, tensor in found.items()}, tensors)
    with pytest.raises(AlignerFileError, match=r"safetensors.*digest.*aligner\.json"):
        AssemblyAligner.load(kept)
    tensors.unlink()
    with pytest.raises(AlignerFileError, match=r"safetensors.*no such file.*aligner\.json"):
        AssemblyAligner.load(kept)


def test_state_that_is_no_data_is_refused(linear_spaces, tmp_path):
    source, target = linear_spaces
    aligner = RidgeAligner()
    with pytest.raises(AlignerNotFittedError):
        aligner.save(tmp_path)
    aligner.fit(source, target)
    for state, what in [
        (lambda x: x, "a builtins.function"),
        (object(), "a builtins.object"),
        (np.zeros(2, complex), "an array of complex128"),
        (np.array([{}], dtype=object), "an array of objects"),
    ]:
        aligner.extra_ = [state]
        with pytest.raises(AlignerFileError, match=rf"extra_\[0\].* {what};"):
            aligner.save(tmp_path)
    assert not list(tmp_path.iterdir())
