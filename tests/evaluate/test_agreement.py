"""Agreement with Brain-Score, scikit-learn and rsatoolbox: with values they wrote, and with the live packages where there are."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from neurobridge.evaluate import METRICS, aggregate, crossvalidated_rdm, internal_consistency
from neurobridge.evaluate.regression import ALPHAS, REGRESSIONS
from neurobridge.evaluate.similarity.comparators import compare_rdms
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.evaluate.similarity.rdms import rdm_noise_ceiling, subject_rdms
from neurobridge.evaluate.splits import resolve_splits

GOLDEN = Path(__file__).parents[1] / "golden"
# Brain-Score's PLS stops before it has converged: its own per-neuroid values are that far from the converged solution.
TOLERANCE = {"pls": 3e-3, "ridge": 1e-4, "linear": 1e-4, "neuron_to_neuron": 1e-4}
OPTIONS = {"ridge": {"alpha": 1.0}}


def read(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())["values"]


@pytest.fixture(scope="module")
def spaces():
    return runpy.run_path(str(GOLDEN / "inputs.py"))["spaces"]()


def _live(name: str) -> dict:
    """Run the writer in this process: the real package on the same inputs."""
    sys.path.insert(0, str(GOLDEN))
    try:
        # The writer sets variables of the environment, which belong to its own process.
        with warnings.catch_warnings(), mock.patch.dict(os.environ):
            warnings.simplefilter("ignore")
            return runpy.run_path(str(GOLDEN / "write.py"))[name]()
    finally:
        sys.path.remove(str(GOLDEN))


@pytest.fixture(
    scope="module",
    params=[
        "written",
        pytest.param(
            "live",
            marks=[
                pytest.mark.brainscore,
                pytest.mark.skipif(
                    importlib.util.find_spec("brainscore_vision") is None,
                    reason="needs brainscore_vision: pip install neurobridge[brainscore]",
                ),
            ],
        ),
    ],
)
def theirs(request) -> dict:
    return read("brainscore") if request.param == "written" else _live("brainscore")


@pytest.fixture(scope="module")
def ceiling(spaces):
    return internal_consistency(spaces[2], halves="repetition", seed=1, n_bootstrap=0)


@pytest.mark.parametrize("name", sorted(TOLERANCE))
def test_regressions_agree_with_brain_score(spaces, theirs, name):
    source, target, _ = spaces
    score = METRICS[name](source, target, n_permutations=0, **OPTIONS.get(name, {}))
    assert np.abs(score["raw"].values - np.asarray(theirs[name]["raw"])).max() < TOLERANCE[name]
    assert aggregate(score, n_bootstrap=0)["raw"] == pytest.approx(theirs[name]["score"], abs=TOLERANCE[name])


@pytest.mark.parametrize("name", ["cka", "cka_biased", "rdm"])
def test_similarities_agree_with_brain_score(spaces, theirs, name):
    source, target, _ = spaces
    assert METRICS[name](source, target, n_permutations=0)["raw"].item() == pytest.approx(theirs[name], abs=1e-4)


def test_the_same_halves_give_brain_scores_ceiling(theirs, ceiling):
    ours = 2 * ceiling["raw"].values / (1 + ceiling["raw"].values)
    assert np.abs(ours - np.asarray(theirs["ceiling"]["by_neuroid"])).max() < 1e-6
    assert ceiling["median"].item() == pytest.approx(theirs["ceiling"]["score"], abs=1e-6)
    assert ceiling.attrs["error"] == pytest.approx(theirs["ceiling"]["error"], abs=1e-6)


def test_other_halves_give_brain_scores_ceiling_within_two_standard_errors(spaces, theirs):
    ours = internal_consistency(spaces[2], n_bootstrap=0)
    error = np.hypot(ours.attrs["error"], theirs["ceiling"]["error"])
    assert abs(ours["median"].item() - theirs["ceiling"]["score"]) < 2 * error


def test_the_normalised_score_agrees_with_brain_score(spaces, theirs, ceiling):
    source, target, _ = spaces
    raw = aggregate(METRICS["pls"](source, target, n_permutations=0), n_bootstrap=0)["raw"]
    # Brain-Score divides by the mean over halvings of the medians, not by the median of the means.
    assert raw * abs(raw) / ceiling["median"].item() == pytest.approx(theirs["pls_normalized"], abs=3e-3)
    summary = aggregate(METRICS["pls"](source, target, ceiling=ceiling["ceiling"], n_permutations=0), n_bootstrap=0)
    assert summary["normalized"] == pytest.approx(theirs["pls_normalized"], abs=3e-3)


@pytest.mark.parametrize(("name", "tolerance"), [("pls", 1e-4), ("ridge", 1e-8)])
def test_regressions_agree_with_converged_scikit_learn(spaces, name, tolerance):
    source, target, _ = spaces
    train, test = resolve_splits(target, None)[0]
    options = {"alphas": ALPHAS} if name == "ridge" else {}
    predicted = REGRESSIONS[name](source.values[train], target.values[train], **options)(source.values[test])
    assert np.abs(predicted - np.asarray(read("sklearn")[name])).max() < tolerance


@pytest.fixture(
    scope="module",
    params=[
        "written",
        pytest.param(
            "live",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("rsatoolbox") is None,
                reason="needs rsatoolbox: pip install neurobridge[rsa]",
            ),
        ),
    ],
)
def rsatoolbox(request) -> dict:
    return read("rsatoolbox") if request.param == "written" else _live("rsatoolbox")


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "cosine"])
def test_rdms_and_noise_ceilings_agree_with_rsatoolbox(spaces, rsatoolbox, comparator):
    source, target, _ = spaces
    model = DISTANCES["correlation"](source.values)
    each = subject_rdms(target.values, target["animal"].values, "correlation")
    found = [compare_rdms(model, d, comparator=comparator) for d in each]
    assert np.allclose(found, rsatoolbox["comparisons"][comparator], atol=1e-6)
    assert np.allclose(
        rdm_noise_ceiling(each, comparator=comparator), rsatoolbox["noise_ceiling"][comparator], atol=1e-6
    )
    score = METRICS["rsa"](source, target, comparator=comparator, n_permutations=0)
    assert score["raw"].item() == pytest.approx(np.mean(rsatoolbox["comparisons"][comparator]), abs=1e-6)
    assert score["ceiling"].item() == pytest.approx(rsatoolbox["noise_ceiling"][comparator][1], abs=1e-6)


def test_crossvalidated_distances_agree_with_rsatoolbox(spaces, rsatoolbox):
    recordings = spaces[2]
    few = recordings.isel(presentation=recordings["stimulus_id"].values < "image0012")
    square = crossvalidated_rdm(few).values
    assert np.allclose(square[~np.tri(12, dtype=bool)], rsatoolbox["crossnobis"], atol=1e-10)
