"""Figures of scores in time hold what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from neurobridge import figures
from neurobridge.evaluate.score.schema import make_score, score_attrs

START = np.arange(0, 100, 10)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def course(n_permutations=99, onset=5):
    rng = np.random.default_rng(0)
    raw = 0.5 + 0.4 * (np.arange(10) >= onset)[:, None] + 0.01 * rng.normal(size=(10, 4))
    null = 0.5 + 0.1 * rng.normal(size=(10, n_permutations))
    bins = {"time_bin_start": ("time_bin", START), "time_bin_end": ("time_bin", START + 10)}
    attrs = score_attrs({"metric": "accuracy of object", "splits": "given", "n_stimuli": 20}, 4, n_permutations, 0)
    return make_score(raw, ("time_bin", "split"), null=null, coords=bins, attrs=attrs)


def test_courses_have_a_line_chance_and_bars_under_clusters():
    _, ax = plt.subplots()
    scores = {"IT": course(), "V4": course(onset=7)}
    assert figures.time_courses(scores, ax=ax, title="simulated") is ax
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert np.allclose(lines["IT"].get_xdata(), START + 5)
    assert np.allclose(lines["IT"].get_ydata(), scores["IT"]["raw"].mean("split"))
    bars = [line for line in ax.get_lines() if line.get_linewidth() == 3]
    assert [bar.get_xdata().tolist() for bar in bars] == [[50, 100], [70, 100]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["IT", "V4"]
    assert ax.get_ylabel() == "accuracy of object"


def test_a_course_without_null_or_bins_is_a_line():
    bare = course(n_permutations=0).drop_vars(["time_bin_start", "time_bin_end"])
    ax = figures.time_courses({"IT": bare})
    assert len(ax.get_lines()) == 1
    assert ax.get_xlabel() == "time bin (number)"


def test_pairs_of_times_are_drawn_about_chance_with_outlines():
    rng = np.random.default_rng(0)
    raw = np.full((6, 6, 2), 0.5)
    raw[3:, 3:] = 1.0
    times = START[:6] + 5.0
    score = make_score(
        raw, ("trained", "tested", "split"), null=0.5 + 0.1 * rng.normal(size=(6, 6, 99)),
        coords={"trained": times, "tested": times},
        attrs=score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20}, 2, 99, 0),
    )  # fmt: skip
    ax = figures.time_generalisation(score)
    mesh = ax.collections[0]
    assert np.allclose(mesh.get_array().reshape(6, 6), raw.mean(axis=2))
    assert np.mean(mesh.get_clim()) == pytest.approx(0.5, abs=0.02)
    assert len(ax.collections) > 1
    assert ax.get_xlabel() == "time of test (ms)"


def test_accuracy_by_sites_has_chance_and_ticks():
    score = make_score(
        [[0.5, 0.6, 0.7], [0.8, 0.9, 1.0]], ("n_sites", "draw"), null=np.full((2, 9), 0.5), coords={"n_sites": [8, 64]},
        attrs=score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20}, 3, 9, 0),
    )  # fmt: skip
    ax = figures.accuracy_by_sites({"IT": score})
    assert np.allclose(ax.containers[0][0].get_ydata(), [0.6, 0.9])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["8", "64"]
    assert "chance (95th pct.) 0.50" in [text.get_text() for text in ax.get_legend().get_texts()]
