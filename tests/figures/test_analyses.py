"""Results of the analyses have a figure, words with numbers, and a section of a report."""

from __future__ import annotations

import re

import numpy as np
import pytest

import neurobridge as nb
from neurobridge import figures
from neurobridge.aligners import CommonSpace
from neurobridge.figures.analyses import routes_of
from neurobridge.figures.dispatch import kind_of
from neurobridge.study.pages.sections import section_of

KINDS = {
    "course in time": "by_bin",
    "courses in time": "by_bins",
    "generalisation in time": "generalised",
    "number of sites": "pseudo",
    "retrieval": "search",
    "models by their RDMs": "rsa",
    "ceiling of decoding": "ceiling",
    "common space": "space",
    "parts of variance": "parts",
}


@pytest.fixture(scope="module")
def analyses(spaces):
    """A result of every analysis: simulated, small."""
    source, target = spaces
    rng = np.random.default_rng(0)
    stimulus = np.tile(np.arange(16), 3)
    trials = nb.make_assembly(
        rng.normal(size=(48, 4, 3)) + (stimulus % 2)[:, None, None] * [0, 2, 2],
        presentation={"stimulus_id": stimulus, "object": np.array(["car", "face"])[stimulus % 2]},
        neuroid={"neuroid_id": range(4)},
        time_bin={"time_bin_start": [0, 20, 40], "time_bin_end": [20, 40, 60]},
    )
    one_bin = trials.isel(time_bin=2, drop=True)
    by_bin = nb.decode(trials, "object", by="time_bin", n_permutations=39, progress=False)
    rdms = [
        nb.similarity.rdm(target.isel(neuroid=slice(k, k + 3), presentation=slice(0, 15))).values for k in (0, 3, 6)
    ]
    models = {"first": rdms[0], "second": np.abs(rdms[0] - rdms[1])}
    return {
        "by_bin": by_bin,
        "by_bins": {"object": by_bin, "again": by_bin},
        "generalised": nb.decoding.generalise_time(trials, "object", n_permutations=20, progress=False),
        "pseudo": nb.decoding.decode_pseudo_population(
            one_bin, "object", n_sites=(2, 4), n_draws=3, n_permutations=5, progress=False
        ),
        "search": nb.retrieve(target, target, n_permutations=20, n_bootstrap=20),
        "rsa": nb.similarity.compare_rsa_models(models, np.stack(rdms), n_bootstrap=30),
        "ceiling": nb.decoding.decoding_ceiling(one_bin, "object", n_draws=2, n_bootstrap=20),
        "space": CommonSpace(3).fit({"units": source, "sites": target}),
    }


@pytest.fixture
def result(request, analyses, spaces):
    if request.param == "parts":
        pytest.importorskip("himalaya", reason="needs the extra himalaya")
        source, target = spaces
        halves = {"first": source.isel(neuroid=slice(0, 3)), "second": source.isel(neuroid=slice(3, 6))}
        return nb.partition_variance(halves, target, n_iter=1, n_bootstrap=20)
    return analyses[request.param]


@pytest.mark.parametrize(("kind", "result"), KINDS.items(), indirect=["result"])
def test_an_analysis_is_drawn_told_and_reported(kind, result):
    assert kind_of(result).name == kind
    ax = figures.plot(result)
    text, alt = figures.caption(result), figures.alt_text(result)
    for words in (text, alt):
        assert words.endswith(".")
        assert re.search(r"\d", words)
        assert not re.search(r"\bnan\b|\bNone\b", words)
    assert ax.figure.axes
    section = section_of("Analysis", result)
    assert len(section.pictures) == 1
    assert section.tables
    assert all(table.rows for table in section.tables)
    assert section.findings[0][-1] == "."


def test_the_figures_show_the_numbers(analyses):
    search, ceiling, space = (analyses[name] for name in ("search", "ceiling", "space"))
    heights = [bar.get_height() for bar in figures.retrieval(search).patches[:4]]
    np.testing.assert_allclose(
        heights, search["raw"].sel(direction="forward", measure=["R@1", "R@5", "R@10", "identification"])
    )
    ax = figures.accuracy_by_trials(ceiling)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), ceiling["accuracy"])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [float(ceiling["ceiling"])] * 2)
    routes = routes_of(space).set_index(["source", "target"])
    assert routes.loc[("units", "sites"), "stimuli"] == 60
    shown = [text.get_text() for text in figures.common_space(space).texts]
    assert f"{routes.loc[('units', 'sites'), 'explained']:.2f}" in shown
