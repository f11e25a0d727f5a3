"""The real benchmark code of Brain-Score on SIMULATED recordings of the real layout, next to our numbers for the same thing."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pandas as pd
import pytest

from neurobridge import brainscore
from neurobridge.aligners import BridgeAligner
from neurobridge.assemblies import AssemblyError, average_repetitions
from neurobridge.brainscore import AlignedBrainModel
from neurobridge.brainscore.metrics import ALL_METRICS
from neurobridge.brainscore.scoring import parse_benchmark, score_benchmark
from neurobridge.datasets import load
from neurobridge.evaluate import internal_consistency
from neurobridge.evaluate.splits import resolve_splits

REAL = pytest.mark.brainscore


@pytest.fixture
def linked():
    """Our plugin folders in the installed package, taken out again; what Brain-Score imported through them is forgotten."""
    pytest.importorskip("brainscore_vision", reason="needs the extra brainscore")
    if any(entry["state"] != "absent" for entry in brainscore.status().values()):
        pytest.skip("the plugin folders are linked already")
    links = brainscore.link()
    importlib.invalidate_caches()
    yield links
    brainscore.unlink()
    for kind in ("metrics", "benchmarks"):
        sys.modules.pop(f"brainscore_vision.{kind}.neurobridge", None)


# ---- with the real packages


@REAL
def test_pls_through_the_real_benchmark_next_to_ours(served):
    import brainscore_vision
    from brainscore_core.benchmarks import score_benchmark as run

    benchmark = brainscore_vision.load_benchmark("MajajHong2015public.V4-pls")
    # With Brain-Score's estimate of memory, as `brainscore_vision.score` does.
    theirs = run(benchmark, AlignedBrainModel(served.activations, "simulated-units"))
    ours = score_benchmark(
        "majajhong2015.public.V4-pls", served.activations, mirror=served.files.parent, sites="brainscore"
    )
    assert theirs.raw.raw.shape == ours.score["raw"].shape == (10, 88)
    np.testing.assert_array_equal(ours.score["neuroid_id"].values, theirs.raw.raw["neuroid_id"].values)
    # Their NIPALS stops at its default tolerance, short of convergence.
    np.testing.assert_allclose(ours.score["raw"].values, theirs.raw.raw.values, atol=3e-3)
    assert ours.summary["raw"] == pytest.approx(float(theirs.raw), abs=3e-4)
    assert ours.summary["raw"] > 0.5
    trials = load("majajhong2015.public", mirror=served.files.parent, images=False).recordings
    trials = trials.isel(neuroid=trials["region"].values == "V4")
    by_number = internal_consistency(trials, halves="repetition", seed=1, n_bootstrap=0)
    assert by_number["median"].item() == pytest.approx(float(theirs.ceiling), abs=1e-6)
    assert by_number.attrs["error"] == pytest.approx(float(theirs.ceiling.error), rel=1e-3)
    assert ours.summary["ceiling"] == pytest.approx(float(theirs.ceiling), abs=1e-6)
    assert ours.summary["normalized"] == pytest.approx(float(theirs), abs=1e-3)
    # Dealt evenly, stimulus by stimulus; by number, the six trials of some fall into unequal halves: a little less reliable.
    even = score_benchmark(
        "majajhong2015.public.V4-pls",
        served.activations,
        mirror=served.files.parent,
        halves="stimulus",
        n_permutations=0,
    )
    assert 0 < even.summary["ceiling"] - float(theirs.ceiling) < 3e-3


def test_even_halves_and_halves_by_number_are_equally_reliable_where_all_stimuli_have_all_trials(public):
    trials = load("majajhong2015.public", mirror=public[0], images=False).recordings
    _, stimulus, counts = np.unique(trials["stimulus_id"].values, return_inverse=True, return_counts=True)
    whole = trials.isel(presentation=counts[stimulus] == 8, neuroid=trials["region"].values == "V4")
    ours = internal_consistency(whole, n_bootstrap=0)
    theirs = internal_consistency(whole, halves="repetition", seed=1, n_bootstrap=0)
    # Over halvings: sites differ by much more than halves do.
    error = np.hypot(ours.attrs["error"], theirs.attrs["error"])
    assert error < 1e-3
    assert abs(ours["median"].item() - theirs["median"].item()) < 2 * error


@REAL
def test_the_bridge_benchmark_is_found_once_linked_and_agrees_with_ours(served, linked):
    import brainscore_vision

    benchmark = brainscore_vision.load_benchmark("MajajHong2015public.V4-bridge")
    assert benchmark.identifier == "MajajHong2015public.V4-bridge"
    assert (benchmark.version, benchmark.parent) == (1, "V4")
    assert "Majaj" in benchmark.bibtex
    assert "2505.12322" in benchmark.bibtex
    # Two folds, the first of the ten, and ours are the first two as well; a plan that is quicker to find than the fused one.
    quick = BridgeAligner(coupling="factored", map="barycentric")
    benchmark = brainscore.majajhong2015_public("V4", crossvalidation_kwargs={"splits": 2}, aligner=quick)
    theirs = benchmark(AlignedBrainModel(served.activations, "simulated-units"))
    assert 0.5 < float(theirs.ceiling) < 1
    assert float(theirs) == pytest.approx(float(theirs.raw) ** 2 / float(theirs.ceiling))
    target = brainscore.from_brainscore(benchmark._assembly)
    folds = list(resolve_splits(target, None))[:2]
    rows = pd.Index(served.activations["stimulus_id"].values).get_indexer(target["stimulus_id"].values)
    ours = brainscore.aligned_predictivity(served.activations.isel(presentation=rows), target, quick, splits=folds)
    np.testing.assert_allclose(ours["raw"].values, theirs.raw.raw.values, atol=1e-9)
    assert float(theirs.raw) > np.quantile(ours["null"].values, 0.95)


@REAL
@pytest.mark.parametrize("name", ["pls", "ridge", "linear_predictivity", "neuron_to_neuron"])
def test_registered_metrics_use_the_folds_of_brain_score(real_pair, linked, name):
    import brainscore_vision

    source, target = real_pair
    options = {"alpha": 1.0} if name == "ridge" else {}
    ours = brainscore_vision.load_metric(f"neurobridge_{name.removesuffix('_predictivity')}", **options)(source, target)
    theirs = brainscore_vision.load_metric(name)(source, target)
    assert ours.raw.dims == theirs.raw.dims
    np.testing.assert_array_equal(ours.raw["neuroid_id"].values, theirs.raw["neuroid_id"].values)
    np.testing.assert_allclose(ours.raw.values, theirs.raw.values, atol=3e-3 if name == "pls" else 1e-6)
    assert float(ours.error) == pytest.approx(float(theirs.error), abs=1e-3)


@REAL
@pytest.mark.parametrize("name", ["cka_cv", "rdm_cv"])
def test_metrics_that_fit_nothing_have_the_folds_of_brain_score_by_name(real_pair, linked, name):
    import brainscore_vision

    source, target = real_pair
    theirs = brainscore_vision.load_metric(name)(source, target)
    ours = brainscore_vision.load_metric(f"neurobridge_{name}")(source, target)
    np.testing.assert_allclose(ours.raw.values, theirs.raw.values, atol=1e-6)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    # Over sorted stimuli, as averaged recordings stand, the text names the same folds.
    spaces = [brainscore.from_brainscore(space) for space in (source, target)]
    spaces = [space.sortby("stimulus_id") for space in spaces]
    by_text = ALL_METRICS[name.removesuffix("_cv")](*spaces, splits="brainscore,test_size=0.9", n_permutations=0)
    again = brainscore_vision.load_metric(name)(*(brainscore.to_brainscore(space) for space in spaces))
    np.testing.assert_allclose(by_text["raw"].values, again.raw.values, atol=1e-6)


@REAL
@pytest.mark.realdata
def test_the_ceiling_of_real_v4_trials_is_that_of_brain_score(mirror):
    pytest.importorskip("brainscore_vision", reason="needs the extra brainscore")
    from brainscore_vision.metrics.internal_consistency.ceiling import InternalConsistency

    recordings = load("cowley2023-v4-210325", mirror=mirror, quiet=True).recordings
    features = average_repetitions(recordings).isel(neuroid=slice(0, 8))
    ours = score_benchmark(
        "cowley2023-v4-210325.V4-linear", features, mirror=mirror, quiet=True, n_permutations=0, sites="brainscore"
    )
    theirs = InternalConsistency()(brainscore.to_brainscore(recordings))
    assert ours.summary["ceiling"] == pytest.approx(float(theirs), abs=1e-6)
    assert ours.summary["notes"] == []
    assert ours.score["neuroid_id"].values.tolist() == theirs.raw["neuroid_id"].values.tolist()


@REAL
def test_every_metric_is_registered_by_a_line_of_its_own(linked):
    import brainscore_vision

    brainscore.register()
    text = (brainscore.links.PLUGINS["metrics"] / "__init__.py").read_text(encoding="utf-8")
    for name in ALL_METRICS:
        registered = name if name == "bridge" else f"neurobridge_{name}"
        assert f'metric_registry["{registered}"]' in text
        assert brainscore_vision.metric_registry[registered]().name == name
    for region in ("V4", "IT"):
        assert f"MajajHong2015public.{region}-bridge" in brainscore_vision.benchmark_registry


@REAL
def test_a_metric_without_a_fit_is_computed_once_on_all_stimuli(real_pair):
    pytest.importorskip("brainscore_core")
    source, target = real_pair
    once = brainscore.BrainScoreMetric("cka")(source, target)
    assert once.raw.shape == (1,)
    folds = brainscore.BrainScoreMetric("cka", {"splits": 3, "stratification_coord": None})(source, target)
    assert folds.raw.shape == (3,)


# ---- on our own loaders


def test_a_score_says_what_it_is(public):
    mirror, activations = public
    result = score_benchmark("majajhong2015.public.IT-ridge", activations, mirror=mirror, n_permutations=100)
    assert result.score["raw"].shape == (10, 168)
    assert result.summary["benchmark"] == "majajhong2015.public.IT-ridge"
    assert result.summary["normalized"] == pytest.approx(result.summary["raw"] ** 2 / result.summary["ceiling"])
    assert result.summary["notes"] == []


def test_a_score_without_sites_has_no_ceiling_and_says_so(public):
    mirror, activations = public
    result = score_benchmark("majajhong2015.public.V4-cka", activations, mirror=mirror, n_permutations=20)
    assert result.summary["normalized"] is None
    assert "does not bound 'cka'" in result.summary["notes"][0]


def test_activations_of_other_stimuli_are_not_used_and_counted(public):
    mirror, activations = public
    more = activations.isel(presentation=np.r_[np.arange(activations.sizes["presentation"]), 0])
    names = more["stimulus_id"].values.astype("U50")
    names[-1] = "of another experiment"
    result = score_benchmark(
        "majajhong2015.public.V4-ridge",
        more.assign_coords(stimulus_id=("presentation", names)),
        mirror=mirror,
        n_permutations=10,
    )
    assert result.summary["n_unused_activations"] == 1
    assert result.summary["n_stimuli"] == len(names) - 1
    assert result.summary["notes"] == ["1 activation(s) of stimuli outside the dataset were not used"]


def test_missing_activations_are_named(public):
    mirror, activations = public
    with pytest.raises(AssemblyError, match=r"\b1\b.*\b640\b"):
        score_benchmark("majajhong2015.public.V4-ridge", activations.isel(presentation=slice(1, None)), mirror=mirror)


def test_a_region_that_is_not_there_is_refused_with_those_that_are(public):
    mirror, activations = public
    with pytest.raises(ValueError, match=r"'IT', 'V4'.*'V1'"):
        score_benchmark("majajhong2015.public.V1-ridge", activations, mirror=mirror)


def test_names_are_taken_apart_from_the_right():
    name = parse_benchmark("cowley2023-v4-210325.V4-neuron_to_neuron")
    assert (name.dataset, name.region, name.metric) == ("cowley2023-v4-210325", "V4", "neuron_to_neuron")
    assert str(parse_benchmark("majajhong2015.public.IT-pls")) == "majajhong2015.public.IT-pls"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("IT-pls", r"'IT-pls'.*<dataset>\.<region>-<metric>.*majajhong2015\.public.*'bridge'"),
        ("majajhong2015.public", r"'majajhong2015\.public'.*<dataset>"),
        ("majajhong2015.public.IT-lasso", r"'lasso'.*'bridge'"),
        ("majajhong2016.IT-pls", r"'majajhong2016'.*'majajhong2015-it-v6'"),
    ],
)
def test_unknown_names_list_what_there_is(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_benchmark(name)
    assert "Mend:" in str(caught.value)


def test_an_unknown_order_of_sites_is_refused(public):
    with pytest.raises(ValueError, match=r"sites='theirs'.*'recorded', 'brainscore'"):
        score_benchmark("majajhong2015.public.V4-ridge", public[1], mirror=public[0], sites="theirs")


def test_a_dataset_without_recordings_is_refused(mirror, public, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="'kriegeskorte2008'"):
        score_benchmark("kriegeskorte2008.IT-pls", public[1], mirror=mirror, quiet=True)


@pytest.mark.realdata
def test_real_recordings_without_trials_have_no_ceiling(mirror):
    import neurobridge as nb

    experiment = nb.load("majajhong2015-it-v6", mirror=mirror, quiet=True)
    result = score_benchmark(
        "majajhong2015-it-v6.IT-ridge", experiment.latents, mirror=mirror, quiet=True, n_permutations=100
    )
    assert result.summary["n_neuroids"] == 168
    assert result.summary["ceiling"] is None
    assert "no repeated trials" in result.summary["notes"][0]
    assert result.summary["p_value"] < 0.05
