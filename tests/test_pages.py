"""Pages made from kept results are the ones the kept results make."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "analyses" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmarks_page_is_current():
    page = _script("benchmarks_page").page()
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page, "python analyses/benchmarks_page.py"


@pytest.mark.parametrize("file", ["experiments.md", "findings.md"])
def test_the_pages_of_the_experiments_are_current(file):
    page = _script("experiments_page").PAGES[file]()
    assert (ROOT / "docs" / file).read_text(encoding="utf-8") == page, "python analyses/experiments_page.py"


def test_every_figure_of_the_experiments_is_kept():
    script = _script("experiments_page")
    found = {name: script.kept(name) for name in script.QUESTIONS}
    figures = [
        script.KEPT / name / figure["file"]
        for name, one in found.items()
        if one is not None
        for figure in one["figures"]
    ]
    assert figures
    assert [str(path) for path in figures if not path.exists()] == []


def test_no_kept_experiment_is_left_out_of_the_pages():
    script = _script("experiments_page")
    assert {path.parent.name for path in script.KEPT.glob("*/scores.json")} <= set(script.QUESTIONS)
