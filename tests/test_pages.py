"""Pages made from kept results are the ones the kept results make."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_tables_of_real_recordings_are_the_measured_ones(script):
    page = script("readme_tables")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_tables(text) == text


def test_the_datasets_page_is_that_of_the_manifests(script):
    assert script("datasets_page").page() == (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")


def test_the_benchmarks_page_is_current(script):
    page = script("benchmarks_page").page()
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page, "python analyses/benchmarks_page.py"


@pytest.mark.parametrize("file", ["experiments.md", "findings.md"])
def test_the_pages_of_the_experiments_are_current(script, file):
    page = script("experiments_page").PAGES[file]()
    assert (ROOT / "docs" / file).read_text(encoding="utf-8") == page, "python analyses/experiments_page.py"


def test_every_figure_of_the_experiments_is_kept(script):
    pages = script("experiments_page")
    found = {name: pages.kept_results(name) for name in pages.QUESTIONS}
    figures = [
        pages.KEPT / name / figure["file"]
        for name, one in found.items()
        if one is not None
        for figure in one["figures"]
    ]
    assert figures
    assert [str(path) for path in figures if not path.exists()] == []


def test_no_kept_experiment_is_left_out_of_the_pages(script):
    pages = script("experiments_page")
    assert {path.parent.name for path in pages.KEPT.glob("*/scores.json")} <= set(pages.QUESTIONS)
