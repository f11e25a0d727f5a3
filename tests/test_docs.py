"""The Python of the pages runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neurobridge.deprecations import MODULES, NAMES

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_block_is_python(page):
    for number, block in enumerate(blocks(page)):
        compile(block, f"{page}, block {number}", "exec")


def test_the_walk_through_the_house_runs():
    names: dict = {}
    for number, block in enumerate(blocks("architecture.md")):
        exec(compile(block, f"architecture.md, block {number}", "exec"), names)
    assert names["recordings"].shape == names["aligned"].shape == (128, 256)
    assert names["model"].shape == (128, 384)
    assert names["coupling"].converged
    assert float(names["score"]["raw"].median()) > 0.3


def test_the_migration_table_has_every_name_and_module():
    text = (DOCS / "migration.md").read_text(encoding="utf-8")
    for name, room in NAMES.items():
        assert f"| `nb.{name}` | `nb.{room}.{name}` |" in text
    for name, module in MODULES.items():
        assert f"| `neurobridge.{name}` | `{module}` |" in text


def test_the_page_of_own_files_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, block in enumerate(blocks("recordings.md")):
        exec(compile(block, f"recordings.md, block {number}", "exec"), names)
    assert names["recordings"].attrs["n_missing_values"] == 1
    assert names["same"].equals(names["recordings"].drop_vars(["category", "region"]))
