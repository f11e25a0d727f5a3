"""Pages made from kept results are the ones the kept results make."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import pytest

import neurobridge as nb

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "tutorials").glob("*.md")), ROOT / "README.md"]


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


def value_of(name):
    """The object that a name of a page, nb.part.name, stands for."""
    value = nb
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_and_file_of_a_page_exists(page):
    text = page.read_text(encoding="utf-8")
    with warnings.catch_warnings():
        # What moved is named where the move is described.
        warnings.simplefilter(
            "ignore" if page.name in ("migration.md", "decisions.md") else "error", DeprecationWarning
        )
        for name in set(re.findall(r"`(nb(?:\.\w+)+)", text)):
            value_of(name)
    files = set(re.findall(r"`((?:neurobridge|analyses|data_manifests)/[\w./-]*)`", text))
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []


def test_every_option_beside_an_equation_is_one_of_its_call():
    rows = re.findall(
        r"\| `(nb[\w.]+)`[^|]* with ([^|]+) \|", (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    )
    assert len(rows) > 5
    for name, options in rows:
        known = inspect.signature(value_of(name)).parameters
        assert set(re.findall(r"`(\w+)=", options)) <= set(known), name
