"""Bridge predictivity on plain assemblies, and what a metric refuses."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import xarray as xr

from neurobridge.aligners import BridgeAligner, RidgeAligner
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.brainscore import (
    BrainScoreMetric,
    aligned_predictivity,
    from_brainscore,
    majajhong2015_public,
    to_score,
)
from neurobridge.brainscore.metrics import ALL_METRICS, SITE_METRICS
from neurobridge.evaluate import aggregate, predictivity, shuffle_splits


@pytest.fixture
def pair():
    """Two views of six latent variables: 90 stimuli of nine objects."""
    rng = np.random.default_rng(2)
    latents = rng.normal(size=(90, 6))
    labels = {"stimulus_id": [f"s{k:02d}" for k in range(90)], "object_name": [f"o{k % 9}" for k in range(90)]}
    made = []
    for name, n in (("u", 20), ("v", 9)):
        values = latents @ rng.normal(size=(6, n)) + 0.1 * rng.normal(size=(90, n))
        made.append(
            make_assembly(values, presentation=labels, neuroid={"neuroid_id": [f"{name}{k}" for k in range(n)]})
        )
    return made


def test_the_default_bridge_predicts_held_out_responses(pair):
    score = aligned_predictivity(*pair, pairs=0.4, splits=shuffle_splits(90, n_splits=1), n_permutations=100)
    assert score["raw"].shape == (1, 9)
    assert float(score["raw"].median()) > 0.8
    assert float(score["p_value"]) < 0.05
    assert score.attrs["metric"].startswith("BridgeAligner, 40%")


def test_a_linear_aligner_on_all_pairs_is_a_regression(pair):
    ours = aligned_predictivity(*pair, RidgeAligner(), pairs=1.0, n_permutations=0)
    theirs = predictivity(*pair, "ridge", n_permutations=0)
    assert float(ours["raw"].median()) == pytest.approx(float(theirs["raw"].median()), abs=0.02)
    assert ours.attrs["splits"] == theirs.attrs["splits"]


def test_held_out_stimuli_are_not_seen_in_fitting(pair):
    fits = []

    class Watching(RidgeAligner):
        def fit(self, source, target, pairs=None):
            fits.append((set(source["stimulus_id"].values), set(target["stimulus_id"].values), pairs))
            return super().fit(source, target, pairs)

    folds = shuffle_splits(90, n_splits=3)
    aligned_predictivity(*pair, Watching(), pairs=0.5, splits=folds, n_permutations=0)
    ids = pair[0]["stimulus_id"].values
    for (train, test), (source, target, pairs) in zip(folds, fits, strict=True):
        assert source == target == set(ids[train])
        assert source.isdisjoint(ids[test])
        assert pairs == 0.5


def test_the_same_seed_gives_the_same_numbers(pair):
    options = {"pairs": 0.3, "n_permutations": 20, "splits": shuffle_splits(90, n_splits=2)}
    one, same, other = (aligned_predictivity(*pair, RidgeAligner(), seed=seed, **options) for seed in (0, 0, 1))
    assert one.identical(same)
    assert not np.allclose(one["raw"], other["raw"])


def test_units_that_are_silent_in_training_are_left_out_and_counted(pair):
    source, target = pair
    silent = source.copy(data=source.values * np.r_[np.ones(19), 0])
    with pytest.warns(UserWarning, match=r"\b1 of 20\b"):
        score = aligned_predictivity(silent, target, RidgeAligner(), pairs=1.0, n_permutations=0)
    expected = aligned_predictivity(source.isel(neuroid=slice(19)), target, RidgeAligner(), pairs=1.0, n_permutations=0)
    np.testing.assert_allclose(score["raw"], expected["raw"])


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(pair, share):
    with pytest.raises(AssemblyError, match=rf"pairs.*{share}"):
        aligned_predictivity(*pair, pairs=share)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BrainScoreMetric("lasso"), r"'lasso'.*'bridge', 'cca'"),
        (lambda: BrainScoreMetric("pls", {"kfold": True}), r"crossvalidation_kwargs.*'kfold'"),
        (lambda: majajhong2015_public("V1"), r"'V1'.*'V4', 'IT'"),
        (lambda: majajhong2015_public("IT", "lasso"), r"'lasso'.*'bridge', 'linear'"),
    ],
)
def test_unknown_names_are_refused(make, message):
    with pytest.raises(AssemblyError, match=message) as caught:
        make()
    assert "Mend:" in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(ALL_METRICS) - set(SITE_METRICS)))
def test_a_benchmark_that_divides_by_the_ceiling_of_sites_takes_metrics_of_sites_alone(name):
    with pytest.raises(AssemblyError, match=rf"'{name}'.*ceiling"):
        majajhong2015_public("IT", name)


@pytest.mark.parametrize("name", ["pls", "bridge"])
def test_other_stimuli_are_refused(pair, name):
    source, target = pair
    with pytest.raises(AssemblyError, match=r"source.*\b89\b.*\b90\b"):
        BrainScoreMetric(name)(source.isel(presentation=slice(1, None)), target)


def test_a_label_to_stratify_on_must_be_there(pair):
    source, target = pair
    with pytest.raises(AssemblyError, match=r"'object_name'.*stratification_coord"):
        BrainScoreMetric("pls")(source, target.drop_vars("object_name"))


def test_without_brain_score_the_extra_is_named(pair, monkeypatch):
    for name in ("brainscore_core", "brainscore_core.metrics", "brainscore_vision"):
        monkeypatch.setitem(sys.modules, name, None)
    score = predictivity(*pair, "linear", n_permutations=0)
    for call in (lambda: to_score(score), lambda: majajhong2015_public("IT")):
        with pytest.raises(ImportError, match=r"neurobridge\[brainscore\]"):
            call()


@pytest.mark.brainscore
def test_a_score_with_a_ceiling_takes_it_along(pair):
    pytest.importorskip("brainscore_core", reason="extra brainscore")
    plain = predictivity(*pair, "linear", n_permutations=0)
    ceiling = xr.full_like(pair[1].isel(presentation=0, drop=True), 0.5)
    limited = predictivity(*pair, "linear", n_permutations=0, ceiling=ceiling)
    assert "ceiling" not in to_score(plain).attrs
    handed = to_score(limited)
    assert float(handed.ceiling) == 0.5
    assert float(handed) == float(to_score(plain))


@pytest.mark.brainscore
def test_what_is_not_one_score_does_not_cross(pair):
    pytest.importorskip("brainscore_core", reason="extra brainscore")
    score = predictivity(*pair, "linear", n_permutations=0)
    handed = to_score(score)
    for call in (to_score, aggregate):
        with pytest.raises(ValueError, match=r"brainscore_core.*Score; expected.*Mend"):
            call(handed)
    with pytest.raises(AssemblyError, match=r"Score.*\(\); expected an assembly.*Mend"):
        from_brainscore(handed)


@pytest.mark.brainscore
def test_options_reach_the_bridge(real_pair):
    quick = BridgeAligner(coupling="factored", map="barycentric")
    cross_validation = {"splits": 2, "train_size": 0.8}
    score = BrainScoreMetric("bridge", cross_validation, pairs=0.5, aligner=quick)(*real_pair)
    assert score.raw.shape == (2, 7)
    assert score.attrs["neurobridge"]["metric"].startswith("BridgeAligner, 50%")
    assert float(score) == pytest.approx(np.median(score.raw.values, axis=1).mean())
