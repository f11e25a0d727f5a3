"""Ceiling of decoding: closed forms, the accuracy on responses without noise of simulations, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate.decoding import decoding_ceiling, train_readout
from neurobridge.evaluate.decoding.noise.extrapolation import choice_accuracy, extrapolate_accuracy
from neurobridge.evaluate.splits import kfold_splits
from tests.refusals import refused


def simulated(n=120, n_classes=2, gap=1.0, noise=3.0, n_trials=6, d=6, seed=100, unequal=False):
    """Stimuli of classes that overlap, in trials with noise; and the responses without it."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % n_classes
    means = rng.normal(size=(n, d)) + gap * rng.normal(size=(n_classes, d))[label]
    counts = rng.integers(n_trials, n_trials + 4, n) if unequal else np.full(n, n_trials)
    stimulus = np.repeat(np.arange(n), counts)
    names = np.array([f"class {k}" for k in range(n_classes)])
    trials = make_assembly(
        means[stimulus] + noise * rng.normal(size=(len(stimulus), d)),
        presentation={"stimulus_id": stimulus, "object": names[label][stimulus]},
        neuroid={"neuroid_id": range(d)},
    )
    noiseless = make_assembly(
        means, presentation={"stimulus_id": np.arange(n), "object": names[label]}, neuroid={"neuroid_id": range(d)}
    )
    return trials, noiseless


def truth(trials, noiseless, n_splits=10):
    """Accuracy of the readouts of the averages on held-out responses without noise."""
    averaged = nb.average_repetitions(trials).sortby("stimulus_id")
    accuracy = []
    for train, test in kfold_splits(len(noiseless), n_splits=n_splits, labels=noiseless["object"].values):
        head = train_readout(averaged.isel(presentation=train), "object")
        accuracy.append(head.score(noiseless.isel(presentation=test), n_permutations=0)["raw"].item() * len(test))
    return sum(accuracy) / len(noiseless)


def test_the_accuracy_of_choices_has_its_closed_forms():
    d = np.array([0.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(choice_accuracy(d, 2), norm.cdf(d / np.sqrt(2)), atol=1e-5)
    np.testing.assert_allclose(choice_accuracy(np.zeros(3), 8), 1 / 8, atol=1e-6)
    draws = np.random.default_rng(0).normal(size=(200_000, 5))
    simulated_choices = (draws[:, 0] + 1.5 > draws[:, 1:].max(axis=1)).mean()
    assert choice_accuracy(np.array(1.5), 5) == pytest.approx(simulated_choices, abs=4e-3)


def test_accuracies_of_the_model_itself_are_extrapolated_to_its_limit():
    k = np.array([1, 2, 4, 6])
    for n_classes in (2, 8):
        for d, ratio in ((1.0, 0.5), (2.0, 3.0), (1.5, 0.0)):
            limit = extrapolate_accuracy(choice_accuracy(d / np.sqrt(1 + ratio / k), n_classes)[None], k, n_classes)
            assert limit.item() == pytest.approx(float(choice_accuracy(np.array(d), n_classes)), abs=0.01)
    assert extrapolate_accuracy(np.ones((1, 4)), k, 2).item() == 1
    assert extrapolate_accuracy(np.full((1, 4), 0.5), k, 2).item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_ceiling_is_near_the_accuracy_without_noise(n_classes):
    trials, noiseless = simulated(n=120, n_classes=n_classes, unequal=True)
    score = decoding_ceiling(trials, "object", n_draws=5, n_bootstrap=50)
    whole = nb.decode(
        nb.average_repetitions(trials).sortby("stimulus_id"),
        "object",
        splits=f"kfold,label=object,n_splits={score.sizes['split']}",
        n_permutations=0,
    )
    np.testing.assert_allclose(score["raw"].values, whole["raw"].values)
    assert score["n_averaged"].values.tolist() == [1, 2, 4, 6]
    reached = truth(trials, noiseless)
    assert float(score["raw"].mean()) < reached - 0.02
    assert float(score["ceiling"]) == pytest.approx(reached, abs=0.06)
    assert float(score["ceiling_low"]) <= float(score["ceiling"]) <= float(score["ceiling_high"])


def test_a_time_bin_has_the_ceiling_that_it_has_alone():
    trials, _ = simulated(n=24, n_trials=3, d=4)
    bins = make_assembly(
        np.stack([trials.values, np.random.default_rng(0).normal(size=trials.shape)], axis=2),
        presentation={name: trials[name].values for name in ("stimulus_id", "object")},
        neuroid={"neuroid_id": range(4)},
        time_bin={"time_bin_start": [0, 10], "time_bin_end": [10, 20]},
    )
    by_bin = decoding_ceiling(bins, "object", by="time_bin", n_draws=2, n_bootstrap=20, progress=False)
    alone = decoding_ceiling(trials, "object", n_draws=2, n_bootstrap=20)
    for name in ("raw", "ceiling", "ceiling_low", "accuracy"):
        np.testing.assert_array_equal(by_bin[name].values[0], alone[name].values)
    assert by_bin["time_bin_start"].values.tolist() == [0, 10]
    with refused(AssemblyError, "2 time bins", "by='time_bin'"):
        decoding_ceiling(bins, "object")


def test_what_has_no_ceiling_of_decoding_is_refused():
    trials, _ = simulated(n=12, n_trials=2, d=3)
    with refused(AssemblyError, "1 of 12 stimuli with one trial", "'0'"):
        decoding_ceiling(trials.isel(presentation=slice(1, None)), "object")
    mixed = trials.assign_coords(object=("presentation", ["car", "face"] * 12))
    with refused(AssemblyError, "several values for 12 stimuli"):
        decoding_ceiling(mixed, "object")
    with refused(AssemblyError, "'nothing'"):
        decoding_ceiling(trials, "nothing")
    alone = trials.assign_coords(object=("presentation", trials["stimulus_id"].values))
    with refused(AssemblyError, "a class with one stimulus"):
        decoding_ceiling(alone, "object")


def test_silent_sites_are_refused_where_the_readout_divides_by_their_spread():
    trials, _ = simulated(n=12, n_trials=2)
    silent = trials.copy(data=np.full(trials.shape, 0.125))
    for decode in (decoding_ceiling, train_readout):
        given = silent if decode is decoding_ceiling else nb.average_repetitions(silent)
        with pytest.raises(AssemblyError, match=r"same response in all 6 sites.*Mend: .*readout='logistic'"):
            decode(given, "object", readout="centroid")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_cover_the_accuracy_without_noise():
    """200 simulations of 100 stimuli, 6 trials: bias and coverage of the interval of 95 %."""
    covered, errors = [], []
    for seed in range(200):
        trials, noiseless = simulated(n=100, gap=0.8, seed=20_000 + seed)
        score = decoding_ceiling(trials, "object", readout="lda", n_draws=5, seed=seed)
        reached = np.mean(
            [
                train_readout(
                    nb.average_repetitions(trials).sortby("stimulus_id").isel(presentation=train),
                    "object",
                    readout="lda",
                )
                .score(noiseless.isel(presentation=test), n_permutations=0)["raw"]
                .item()
                for train, test in kfold_splits(100, n_splits=10, labels=noiseless["object"].values)
            ]
        )
        errors.append(float(score["ceiling"]) - reached)
        covered.append(float(score["ceiling_low"]) <= reached <= float(score["ceiling_high"]))
    print("bias", np.mean(errors), "sd", np.std(errors), "coverage", np.mean(covered))
    assert abs(np.mean(errors)) < 0.03
    assert np.mean(covered) > 0.85
