"""Links in, links out, and the environment; on a folder that stands in for Brain-Score, which need not be installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess

import pytest

import neurobridge.brainscore
from neurobridge.brainscore import SAFE_ENVIRONMENT, link, prepare_environment, register, status, unlink
from neurobridge.brainscore.links import PLUGINS


@pytest.fixture
def library(tmp_path):
    for kind in PLUGINS:
        (tmp_path / kind / "pls").mkdir(parents=True)
    return tmp_path


def states(library):
    return {kind: entry["state"] for kind, entry in status(library).items()}


def contents(library):
    return sorted(str(path.relative_to(library)) for path in library.glob("*/*"))


def test_unlink_leaves_what_was_there_before(library):
    before = contents(library)
    assert states(library) == {"metrics": "absent", "benchmarks": "absent"}
    links = link(library)
    assert states(library) == {"metrics": "linked", "benchmarks": "linked"}
    for path in links:
        assert path.is_symlink()
        assert (path / "__init__.py").read_text().count("_registry[") >= 2
    assert link(library) == links
    assert unlink(library) == links
    assert contents(library) == before
    assert unlink(library) == []


def test_links_of_a_moved_neurobridge_are_replaced(library):
    place = library / "metrics" / "neurobridge"
    place.symlink_to("/moved/neurobridge/brainscore/plugins/metrics")
    assert states(library)["metrics"] == "stale"
    link(library)
    assert states(library) == {"metrics": "linked", "benchmarks": "linked"}


@pytest.mark.parametrize("kind", sorted(PLUGINS))
def test_what_is_not_ours_is_neither_replaced_nor_removed(library, kind):
    place = library / kind / "neurobridge"
    place.mkdir()
    with pytest.raises(FileExistsError, match=re.escape(str(place))):
        link(library)
    assert not any(path.is_symlink() for path in library.glob("*/*"))
    assert unlink(library) == []
    place.rmdir()
    place.symlink_to(library)
    assert states(library)[kind] == "foreign"
    assert unlink(library) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "nowhere"))):
        link(tmp_path / "nowhere")


def test_without_brain_score_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (link, unlink, status, register):
        with pytest.raises(ImportError, match=r"neurobridge\[brainscore\]"):
            call()


def test_only_variables_that_are_not_set_are_set():
    environ = {"BS_INSTALL_DEPENDENCIES": "yes"}
    assert prepare_environment(environ) == {"RESULTCACHING_DISABLE": SAFE_ENVIRONMENT["RESULTCACHING_DISABLE"]}
    assert environ["BS_INSTALL_DEPENDENCIES"] == "yes"
    assert prepare_environment(environ) == {}


def test_importing_the_room_prepares_the_environment(monkeypatch):
    for name in SAFE_ENVIRONMENT:
        # Restored at the end, which deleting alone would not do where it was not set.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    importlib.reload(neurobridge.brainscore)
    assert {name: os.environ[name] for name in SAFE_ENVIRONMENT} == SAFE_ENVIRONMENT


@pytest.mark.brainscore
def test_ceilings_are_not_cached_and_activations_are():
    caching = pytest.importorskip("result_caching", reason="needs the extra brainscore")
    extractor = "brainscore_vision.model_helpers.activations.core.ActivationsExtractorHelper._from_paths_stored"
    assert os.environ["RESULTCACHING_DISABLE"] == SAFE_ENVIRONMENT["RESULTCACHING_DISABLE"]
    assert not caching.is_enabled("brainscore_vision.benchmarks.NeuralBenchmark._ceiling/identifier=any")
    assert not caching.is_enabled("brainscore_vision.benchmark_helpers.screen._place_on_screen/stimuli_identifier=any")
    assert caching.is_enabled(extractor)


@pytest.mark.brainscore
def test_loading_a_plugin_runs_no_pip(monkeypatch):
    pytest.importorskip("brainscore_vision", reason="needs the extra brainscore")
    import brainscore_vision

    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail(f"ran {args}"))
    assert brainscore_vision.load_metric("pls")
