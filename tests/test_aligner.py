"""Aligners and baselines: one interface, known truths, leakage, and bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial import procrustes
from sklearn.base import clone

from neurobridge.aligner import BridgeAligner
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly
from neurobridge.baselines import BASELINES, ProcrustesAligner, RidgeAligner

FAST = {"n_steps": 150}


def _pair_of_spaces(n: int = 120, d_source: int = 4, d_target: int = 7, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d_source))
    Y = X @ rng.normal(size=(d_source, d_target)) + 10
    ids = [f"s{i}" for i in range(n)]
    source = make_assembly(
        X,
        presentation={"stimulus_id": ids, "category_name": [f"c{i % 3}" for i in range(n)]},
        neuroid={"neuroid_id": [f"v{i}" for i in range(d_source)], "region": ["V4"] * d_source},
    )
    target = make_assembly(
        Y,
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": [f"m{i}" for i in range(d_target)], "layer": ["relu"] * d_target},
    )
    return source, target


def _aligners():
    yield BridgeAligner(map="linear")
    yield BridgeAligner(map="barycentric")
    yield BridgeAligner(flow_options=FAST)
    yield BridgeAligner(coupling="pairs", flow_options=FAST)
    yield BridgeAligner(coupling="sinkhorn", metric="euclidean", flow_options=FAST)
    for baseline in BASELINES.values():
        yield baseline()


@pytest.mark.parametrize("aligner", list(_aligners()), ids=str)
def test_transform_takes_the_targets_neuroids_and_the_sources_presentations(aligner):
    source, target = _pair_of_spaces()
    aligner.fit(source[:100], target[:100], 0.3)
    moved = aligner.transform(source[90:])
    assert moved.dims == ("presentation", "neuroid")
    xr.testing.assert_equal(moved["stimulus_id"], source[90:]["stimulus_id"])
    xr.testing.assert_equal(moved["category_name"], source[90:]["category_name"])
    xr.testing.assert_equal(moved["neuroid_id"], target["neuroid_id"])
    xr.testing.assert_equal(moved["layer"], target["layer"])
    back = aligner.inverse_transform(target[90:])
    xr.testing.assert_equal(back["region"], source["region"])
    assert moved.attrs["n_pairs"] == 30
    assert np.isfinite(moved.values).all()
    assert np.isfinite(back.values).all()


@pytest.mark.parametrize("aligner", list(_aligners()), ids=str)
def test_held_out_stimuli_never_matter(aligner):
    source, target = _pair_of_spaces()
    train, test = slice(0, 100), slice(100, 120)
    before = clone(aligner).fit(source[train], target[train], 0.3).transform(source[test])
    ruined = target.copy(data=np.where(np.arange(120)[:, None] >= 100, 1e6, target.values))
    after = clone(aligner).fit(source[train], ruined[train], 0.3).transform(source[test])
    np.testing.assert_array_equal(before.values, after.values)


@pytest.mark.parametrize("aligner", list(_aligners()), ids=str)
def test_the_same_seed_gives_the_same_numbers(aligner):
    source, target = _pair_of_spaces()
    runs = [clone(aligner).fit(source, target, 0.3).transform(source).values for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_a_linear_relation_is_found_from_few_pairs():
    source, target = _pair_of_spaces()
    for aligner in (
        RidgeAligner(),
        BridgeAligner(map="linear"),
        BridgeAligner(coupling="pairs", flow_options=FAST),
    ):
        moved = aligner.fit(source[:100], target[:100], 0.2).transform(source[100:])
        assert np.corrcoef(moved.values.ravel(), target[100:].values.ravel())[0, 1] > 0.99


def test_global_alignment_beats_the_ridge_map_where_geometry_is_all_there_is():
    # Two noise-free clusters a linear map of two points cannot tell apart, but transport along the clusters can.
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 300)
    curve = np.stack([np.cos(angle), np.sin(angle), 0.02 * rng.normal(size=300)], axis=1)
    line = np.stack([angle, 0.02 * rng.normal(size=300)], axis=1)
    ids = [f"s{i}" for i in range(300)]
    source = make_assembly(curve, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["a", "b", "c"]})
    target = make_assembly(line, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["d", "e"]})
    pairs = Pairs(np.array(ids[:12]), np.array(ids[:12]))
    errors = {}
    for name, aligner in {
        "ridge": RidgeAligner(),
        "bridge": BridgeAligner(map="barycentric", epsilon=0.02),
    }.items():
        moved = aligner.fit(source[:200], target[:200], pairs).transform(source[200:])
        errors[name] = float(np.abs(moved.values[:, 0] - angle[200:]).mean())
    assert errors["bridge"] < 0.6 * np.abs(angle - angle.mean()).mean()
    assert np.isfinite(errors["ridge"])


def test_procrustes_agrees_with_scipy_and_inverts_a_rotation():
    rng = np.random.default_rng(0)
    source, _ = _pair_of_spaces(d_source=4)
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


def test_pairs_may_be_a_table_with_other_names_on_each_side():
    source, target = _pair_of_spaces()
    renamed = target.assign_coords(stimulus_id=("presentation", [f"t{i}" for i in range(120)]))
    table = pd.DataFrame({"source_id": [f"s{i}" for i in range(40)], "target_id": [f"t{i}" for i in range(40)]})
    moved = RidgeAligner().fit(source, renamed, table).transform(source)
    assert np.corrcoef(moved.values.ravel(), target.values.ravel())[0, 1] > 0.99


def test_parameters_are_sklearns():
    aligner = BridgeAligner(metric="cosine", epsilon=0.2)
    assert clone(aligner).get_params() == aligner.get_params()
    assert aligner.set_params(epsilon=0.3).epsilon == 0.3


SOURCE, TARGET = _pair_of_spaces()


@pytest.mark.parametrize(
    ("source", "target", "pairs", "message"),
    [
        (SOURCE, TARGET.assign_coords(stimulus_id=("presentation", [f"x{i}" for i in range(120)])), None,
         r"found no stimulus_id shared by source \(e\.g\. 's0'\) and target \(e\.g\. 'x0'\)"),
        (SOURCE.isel(presentation=[0, 1, 1]), TARGET, None, r"source: found 1 duplicate stimulus_id, e\.g\. 's1'"),
        (SOURCE, TARGET.where(TARGET.max() > TARGET), None, r"target: found 1 NaN or infinite values"),
        (SOURCE * xr.DataArray([1, 1, 0, 1], dims="neuroid"), TARGET, None,
         r"source: found 1 neuroid\(s\) with zero variance.*'v2'.*drop_constant"),
        (SOURCE, TARGET, Pairs(np.array(["s1"]), np.array(["s1"])), r"pairs: found 1; expected at least 2"),
        (SOURCE, TARGET, Pairs(np.array(["s1", "nope"]), np.array(["s1", "s2"])),
         r"pairs: found 1 source id\(s\) that are not in the data, e\.g\. 'nope'"),
        (SOURCE, TARGET, 1.5, r"found fraction 1\.5; expected a value in \(0, 1\]"),
        (SOURCE, TARGET, [1, 2], r"pairs: found list; expected Pairs, a table"),
        (SOURCE.values, TARGET, None, r"source: found ndarray; expected an xarray\.DataArray"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(source, target, pairs, message):
    with pytest.raises(AssemblyError, match=message):
        RidgeAligner().fit(source, target, pairs)


def test_bad_options_and_other_neuroids_are_refused():
    with pytest.raises(ValueError, match=r"found map 'spline'; expected 'flow'"):
        BridgeAligner(map="spline").fit(SOURCE, TARGET)
    with pytest.raises(ValueError, match=r"map='barycentric' with coupling='exact'"):
        BridgeAligner(map="barycentric", coupling="exact").fit(SOURCE, TARGET)
    with pytest.raises(RuntimeError, match=r"RidgeAligner that is not fitted"):
        RidgeAligner().transform(SOURCE)
    fitted = RidgeAligner().fit(SOURCE, TARGET)
    with pytest.raises(AssemblyError, match=r"source: found 4 neuroids \(first 'v3'\); expected the 4 of fitting"):
        fitted.transform(SOURCE.isel(neuroid=[3, 2, 1, 0]))
