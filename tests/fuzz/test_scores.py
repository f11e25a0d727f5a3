"""Scores of labelled data with odd values, flat sites and missing labels: refused, or consistent in themselves."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import neurobridge as nb
from neurobridge import assemblies, brainscore, decoding, evaluate, similarity
from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies import Pairs
from neurobridge.evaluate import check_score
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.strategies import two_spaces

Space = Callable[[xr.DataArray, xr.DataArray], Any]
QUICK: dict[str, Any] = {"n_permutations": 5}
LABEL = "object_name"
CURVE: dict[str, Any] = {"n_pairs": (2, 4), "n_seeds": 1, "n_permutations": 3}
PLAN: dict[str, Any] = {"n_pairs": (2, 3, 4, 5), "n_seeds": 3}


def _choices(a: xr.DataArray, **options: Any) -> xr.DataArray:
    chosen = decoding.choices(a, LABEL, readout="lda", splits="kfold,n_splits=2", **options)
    np.testing.assert_allclose(chosen.values.sum(axis=1), 1)
    return chosen


def _sample(recordings: xr.DataArray) -> xr.DataArray:
    """Resampled means, within the range of the recordings."""
    drawn = assemblies.bootstrap_repetitions(recordings, seed=0)
    assert drawn.shape == nb.average_repetitions(recordings).shape
    if np.isfinite(recordings.values).all() and drawn.size:
        assert recordings.values.min() <= drawn.values.min() <= drawn.values.max() <= recordings.values.max()
    assert set(drawn["stimulus_id"].values) == set(recordings["stimulus_id"].values)
    return drawn


def _with_ceiling(trials: xr.DataArray, averaged: xr.DataArray) -> xr.Dataset:
    ceiling = nb.internal_consistency(trials, n_splits=2, n_bootstrap=2)["ceiling"]
    return nb.correlate(averaged, averaged, ceiling=ceiling, **QUICK)


def _halves(recordings: xr.DataArray) -> xr.DataArray:
    first, second = assemblies.split_halves(recordings, seed=0)
    assert first.dims == second.dims == ("presentation", "neuroid")
    assert np.array_equal(first["stimulus_id"].values, second["stimulus_id"].values)
    return first


def _in_time(a: xr.DataArray) -> xr.DataArray:
    """Two time bins, the second upside down."""
    bins = xr.concat([a, a.copy(data=a.values[::-1])], dim="time_bin")
    return bins.transpose("presentation", "neuroid", "time_bin")


def _columns(a: xr.DataArray) -> xr.DataArray:
    columns = assemblies.coords_of(a, "presentation")
    assert all(
        np.array_equal(values, a[name].values) for name, (_, values) in columns.items() if values.dtype.kind != "O"
    )
    return a


def _draw_fold(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    fold = evaluate.draw_curve_fold(a, b, 4, seed=0)
    held_out = set(fold.source_test["stimulus_id"].values)
    assert not held_out & (set(fold.source_train["stimulus_id"].values) | set(fold.target_train["stimulus_id"].values))
    assert len(fold.pairs.source_id) == 4
    return fold.target_test


def _planned(plan: evaluate.PairsPlan) -> xr.Dataset:
    assert plan.low <= plan.high
    assert plan.plateau_low <= plan.plateau_high <= 1
    return plan.curve


def _resolved(a: xr.DataArray, b: xr.DataArray, **options: Any) -> Any:
    return assemblies.resolve_pairs(a, b, **options).indices(a, b)


def _to_brainscore(a: xr.DataArray) -> xr.DataArray:
    same = brainscore.from_brainscore(brainscore.to_brainscore(a, xr.DataArray))
    np.testing.assert_array_equal(same.values, a.values)
    assert set(same.coords) == set(a.coords)
    return same


def _brain_model(a: xr.DataArray) -> xr.DataArray:
    """Recorded by the model's rules: the activations of the stimuli that it is shown."""
    model = brainscore.AlignedBrainModel(a, "fuzz")
    model.start_recording("IT", [(70, 170)])
    return model.look_at(pd.DataFrame({"stimulus_id": a["stimulus_id"].values[:3]}))


#: Named after what is called on the two assemblies.
ENTRANCES: dict[str, Space] = {
    **{
        f"evaluate.predictivity {name}": (lambda a, b, name=name: nb.predictivity(a, b, name, **QUICK))
        for name in ("pls", "ridge", "linear", "neuron_to_neuron")
    },
    "evaluate.correlate": lambda a, b: nb.correlate(a, a + b.values[:, :1], **QUICK),
    "evaluate.correlate with a ceiling": lambda a, b: _with_ceiling(a, nb.average_repetitions(a)),
    "evaluate.internal_consistency": lambda a, b: nb.internal_consistency(a, n_splits=3, n_bootstrap=3),
    "evaluate.cross_animal_consistency": lambda a, b: evaluate.cross_animal_consistency(b, regression="ridge", **QUICK),
    "evaluate.select_layer": lambda a, b: (
        nb.select_layer(a.rename(animal="layer"), b, train=0.6, regression="ridge", **QUICK).scores
    ),
    "evaluate.learning_curve": lambda a, b: nb.learning_curve(a, b, {"ridge": RidgeAligner()}, progress=False, **CURVE),
    "evaluate.curve_records": lambda a, b: evaluate.curve_dataset(
        list(evaluate.curve_records(a, b, {"r": RidgeAligner()}, evaluate.CurveSettings(**CURVE), progress=False)),
        ["r"],
        evaluate.CurveSettings(**CURVE),
    ),
    "evaluate.curve_dataset": lambda a, b: evaluate.curve_dataset(
        [
            {"aligner": "r", "n_pairs": n, "seed": 0, "raw": float(r), "n_stimuli": len(a)}
            for n, r in zip((2, 4), a.values.ravel(), strict=False)
        ],
        ["r"],
        evaluate.CurveSettings(**CURVE),
    ),
    "evaluate.plan_pairs": lambda a, b: _planned(
        evaluate.plan_pairs(b, a, aligner=RidgeAligner(), n_bootstrap=100, progress=False, **PLAN)
    ),
    "evaluate.plan_from_curve": lambda a, b: _planned(
        evaluate.plan_from_curve(
            nb.learning_curve(a, b, {"r": RidgeAligner()}, n_permutations=0, progress=False, **PLAN), n_bootstrap=100
        )
    ),
    "evaluate.draw_curve_fold": _draw_fold,
    "evaluate.retrieve": lambda a, b: nb.retrieve(a, a + b.values[:, :1], n_bootstrap=3, **QUICK),
    "evaluate.compare_models": lambda a, b: nb.compare_models({"a": a, "b": b}, b, ("ridge", "rdm"), n_bootstrap=3),
    "evaluate.partition_variance": lambda a, b: nb.partition_variance({"a": a, "b": b}, b, n_iter=2, n_bootstrap=3),
    "evaluate.aggregate": lambda a, b: nb.aggregate(nb.predictivity(a, b, "ridge", **QUICK), n_bootstrap=5),
    "evaluate.aggregate anything": lambda a, b: nb.aggregate(xr.Dataset({"raw": a, "p_value": a}), n_bootstrap=5),
    "evaluate.check_score": lambda a, b: check_score(xr.Dataset({"raw": a, "null": a})),
    "assemblies.average_repetitions": lambda a, b: nb.average_repetitions(a),
    "assemblies.bootstrap_repetitions": lambda a, b: _sample(a),
    "assemblies.split_halves": lambda a, b: _halves(a),
    "assemblies.match_stimuli": lambda a, b: nb.match_stimuli(a, b).source,
    "assemblies.join_sites": lambda a, b: assemblies.join_sites({"a": a, "b": b}, all_stimuli=True),
    "assemblies.select": lambda a, b: nb.select(a, object_name="c1"),
    "assemblies.drop_missing": lambda a, b: assemblies.drop_missing(a, LABEL),
    "assemblies.drop_incomplete": lambda a, b: assemblies.drop_incomplete(a),
    "assemblies.missing_values": lambda a, b: xr.DataArray(assemblies.missing_values(a)),
    "assemblies.drop_constant": lambda a, b: assemblies.drop_constant(a),
    "assemblies.coords_of": lambda a, b: _columns(a),
    "assemblies.require_unique_stimuli": lambda a, b: assemblies.require_unique_stimuli(a),
    "assemblies.require_varying_neuroids": lambda a, b: assemblies.require_varying_neuroids(a),
    "assemblies.as_matrix": lambda a, b: xr.DataArray(assemblies.as_matrix(a)),
    "assemblies.resolve_pairs of a share": lambda a, b: _resolved(a, b, pairs=0.5),
    "assemblies.resolve_pairs of a number": lambda a, b: _resolved(a, b, pairs=3, stratify=LABEL),
    "assemblies.resolve_pairs of ids": lambda a, b: _resolved(a, b, pairs=a["stimulus_id"].values[:3]),
    "assemblies.resolve_pairs of a table": lambda a, b: _resolved(
        a, b, pairs=pd.DataFrame({"source_id": a[LABEL].values, "target_id": b[LABEL].values})
    ),
    "assemblies.Pairs by_label": lambda a, b: Pairs.by_label(a, b, LABEL).indices(a, b),
    "assemblies.Pairs shared": lambda a, b: Pairs.shared(a, b).indices(a, b),
    "decoding.decode": lambda a, b: nb.decode(a, LABEL, **QUICK),
    "decoding.decode by time bin": lambda a, b: nb.decode(_in_time(a), LABEL, by="time_bin", progress=False, **QUICK),
    "decoding.decode refitted": lambda a, b: nb.decode(
        a, LABEL, readout="lda", refit=True, progress=False, n_permutations=2
    ),
    "decoding.generalise_time": lambda a, b: decoding.generalise_time(_in_time(a), LABEL, progress=False, **QUICK),
    "decoding.decoding_ceiling": lambda a, b: decoding.decoding_ceiling(
        a, LABEL, readout="centroid", n_draws=2, n_bootstrap=3
    ),
    "decoding.pseudo_population": lambda a, b: decoding.pseudo_population(a, LABEL).train,
    "decoding.decode_pseudo_population": lambda a, b: decoding.decode_pseudo_population(
        a, LABEL, readout="lda", n_draws=2, n_permutations=2, progress=False
    ),
    "evaluate.cluster_test": lambda a, b: xr.DataArray(evaluate.cluster_test(a.values[:1].ravel(), b.values).p_values),
    "evaluate.find_clusters": lambda a, b: evaluate.find_clusters(
        nb.decode(_in_time(a), LABEL, by="time_bin", progress=False, **QUICK)
    ),
    "evaluate.time_course": lambda a, b: evaluate.time_course(
        nb.decode(_in_time(a), LABEL, by="time_bin", progress=False, **QUICK)
    ),
    "evaluate.predictivity by time bin": lambda a, b: evaluate.predictivity(
        a, _in_time(b), "ridge", by="time_bin", **QUICK
    ),
    "decoding.cross_decode": lambda a, b: decoding.cross_decode(a[::2], a[1::2], LABEL, **QUICK),
    "decoding.cross_space_decode": lambda a, b: decoding.cross_space_decode(
        RidgeAligner().fit(a[::2], b[::2]), (a[::2], b[::2]), (a[1::2], b[1::2]), LABEL, readout="lda", **QUICK
    ),
    "decoding.train_readout": lambda a, b: decoding.train_readout(a[::2], LABEL, readout="lda").score(a[1::2], **QUICK),
    "decoding.decode_attributes": lambda a, b: decoding.decode_attributes(
        a.assign_coords(tilt=("presentation", b.values[:, 0])), ["tilt"], splits="kfold,n_splits=2", **QUICK
    ),
    "decoding.decoding_curve": lambda a, b: decoding.decoding_curve(
        a, LABEL, n_sites=(1, 2), n_train=(6,), readout="lda", n_seeds=1, progress=False, n_permutations=3
    ),
    "decoding.generalise": lambda a, b: decoding.generalise(
        a.assign_coords(variation=("presentation", np.arange(len(a)) % 2)),
        LABEL,
        readout="lda",
        n_splits=2,
        n_permutations=3,
    ),
    "decoding.choices": lambda a, b: _choices(a),
    "decoding.choices graded": lambda a, b: _choices(a, graded=True),
    "decoding.confusion": lambda a, b: decoding.confusion(_choices(a)),
    "decoding.discriminate": lambda a, b: decoding.discriminate(_choices(a), **QUICK),
    "decoding.discriminate images": lambda a, b: decoding.discriminate(_choices(a), level="image_distractor", **QUICK),
    "decoding.discriminate anything": lambda a, b: decoding.discriminate(
        xr.DataArray(
            b.values,
            dims=("presentation", "choice"),
            coords={
                "truth": ("presentation", a[LABEL].values),
                "stimulus_id": ("presentation", a["stimulus_id"].values),
            },
        ).assign_coords(choice=np.arange(b.shape[1])),
        **QUICK,
    ),
    "similarity.rdm correlation": lambda a, b: similarity.rdm(a),
    "similarity.rdm cosine": lambda a, b: similarity.rdm(a, distance="cosine"),
    "similarity.rdm poisson": lambda a, b: similarity.rdm(abs(a), distance="poisson"),
    "similarity.rdm_consistency": lambda a, b: similarity.rdm_consistency(a, n_splits=2),
    "similarity.noise_covariance": lambda a, b: xr.DataArray(
        similarity.noise_covariance(a), dims=("neuroid", "neuroid_2")
    ),
    "similarity.crossvalidated_rdm": lambda a, b: similarity.crossvalidated_rdm(a),
    "similarity.crossvalidated_rdm whitened": lambda a, b: similarity.crossvalidated_rdm(a, whiten=True),
    "similarity.rsa": lambda a, b: similarity.rsa(a, b, **QUICK),
    "similarity.rdm_similarity": lambda a, b: similarity.rdm_similarity(a, b, comparator="kendall", **QUICK),
    "similarity.compare_rsa_models of RDMs": lambda a, b: similarity.compare_rsa_models(
        {"m": similarity.rdm(a), "n": similarity.rdm(b)},
        {"x": similarity.rdm(a), "y": similarity.rdm(b)},
        comparator="spearman",
        n_bootstrap=20,
    ),
    "similarity.cka": lambda a, b: similarity.cka(a, b, **QUICK),
    "similarity.cka_biased": lambda a, b: similarity.cka_biased(a, b, **QUICK),
    "similarity.cca": lambda a, b: similarity.cca(a, b, **QUICK),
    "similarity.svcca": lambda a, b: similarity.svcca(a, b, **QUICK),
    "similarity.procrustes": lambda a, b: similarity.procrustes(a, b),
    "similarity.overlap": lambda a, b: similarity.overlap(a, b, k=2, n_alignments=1, n_projections=5, **QUICK),
    "aligners.RidgeAligner": lambda a, b: RidgeAligner().fit(a, b).transform(a),
    "aligners.BridgeAligner": lambda a, b: (
        nb.BridgeAligner(coupling="factored", map="barycentric", epsilon=0.1).fit(a, b, pairs=0.5).transform(a)
    ),
    "brainscore.aligned_predictivity": lambda a, b: brainscore.aligned_predictivity(
        a, b, RidgeAligner(), pairs=0.5, splits="kfold,n_splits=2", **QUICK
    ),
    "brainscore.to_brainscore": lambda a, b: _to_brainscore(a),
    "brainscore.from_brainscore": lambda a, b: brainscore.from_brainscore(
        a.set_index(presentation=["stimulus_id", LABEL]).transpose()
    ),
    "brainscore.BrainScoreMetric": lambda a, b: brainscore.BrainScoreMetric("ridge")(a, b),
    "brainscore.to_score": lambda a, b: brainscore.to_score(nb.predictivity(a, b, "ridge", **QUICK)),
    "brainscore.AlignedBrainModel": lambda a, b: _brain_model(a),
}
OF_HIMALAYA = ("evaluate.partition_variance",)
OF_BRAINSCORE = ("brainscore.BrainScoreMetric", "brainscore.to_score", "brainscore.AlignedBrainModel")


def _scores_are_consistent(score: xr.Dataset) -> None:
    """NaN has a NaN p, p lies in (0, 1], and nothing is infinite."""
    if {"raw", "p_value"} <= set(score.data_vars):
        raw, p_value = xr.broadcast(score["raw"], score["p_value"])
        assert np.isnan(p_value.values[np.isnan(raw.values)]).all(), "a NaN score has a p"
        defined = p_value.values[~np.isnan(p_value.values)]
        assert ((defined > 0) & (defined <= 1)).all()
    for name, variable in score.data_vars.items():
        if variable.dtype.kind == "f":
            assert not np.isinf(variable.values).any(), f"{name} holds infinities"


def _summary_is_consistent(summary: dict[str, Any]) -> None:
    numbers = [value for value in summary.values() if isinstance(value, float)]
    assert not np.isinf(numbers).any()
    assert summary["p_value"] is None or 0 < summary["p_value"] <= 1
    assert summary["raw_low"] is None or summary["raw_low"] <= summary["raw_high"]


def _pairs_are_consistent(
    rows: np.ndarray, columns: np.ndarray, spaces: tuple[xr.DataArray, xr.DataArray], by_label: bool
) -> None:
    assert len(rows) == len(columns)
    if by_label:
        labels = [space[LABEL].values[side] for space, side in zip(spaces, (rows, columns), strict=True)]
        assert not any(pd.isna(label) for label in labels[0]), "a missing label was paired"
        assert (labels[0] == labels[1]).all()
    else:
        ids = [space["stimulus_id"].values[side] for space, side in zip(spaces, (rows, columns), strict=True)]
        assert (ids[0] == ids[1]).all()


@pytest.mark.parametrize("entrance", list(ENTRANCES))
def test_refused_or_defined(campaign: Campaign, entrance: str) -> None:
    call = ENTRANCES[entrance]
    if entrance in OF_BRAINSCORE and importlib.util.find_spec("brainscore_core") is None:
        pytest.skip("needs the Brain-Score packages")
    if entrance in OF_HIMALAYA:
        pytest.importorskip("himalaya", reason="the extra `himalaya`")

    def check(spaces: tuple[xr.DataArray, xr.DataArray]) -> None:
        before = tuple(space.copy(deep=True) for space in spaces)
        with attempt():
            result = call(*spaces)
        if isinstance(result, xr.Dataset):
            _scores_are_consistent(result)
        elif isinstance(result, xr.DataArray):
            assert not (all(np.isfinite(space.values).all() for space in spaces) and np.isinf(result.values).any())
        elif isinstance(result, dict):
            _summary_is_consistent(result)
        else:
            _pairs_are_consistent(*result, spaces, entrance.endswith("by_label"))
        assert all(space.identical(same) for space, same in zip(spaces, before, strict=True)), "the input was changed"

    campaign.run(entrance, two_spaces(), check)
