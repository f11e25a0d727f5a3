"""Pages made from kept results are the ones the kept results make."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmarks_page_is_current():
    spec = importlib.util.spec_from_file_location("benchmarks_page", ROOT / "analyses" / "benchmarks_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == module.page(), (
        "python analyses/benchmarks_page.py"
    )
