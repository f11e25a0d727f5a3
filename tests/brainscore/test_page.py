"""The blocks of docs/brainscore.md, run in their order on Brain-Score's stack."""

from __future__ import annotations

import pytest

from tests.test_code_blocks import python


@pytest.mark.brainscore
def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    for package in ("brainscore_core", "brainscore_vision"):
        pytest.importorskip(package, reason="extra brainscore")
    monkeypatch.chdir(tmp_path)
    page = "docs/brainscore.md"
    names: dict = {}
    for number, block in enumerate(python(page)):
        if not block.reason:
            exec(compile(block.text, f"{page}, block {number}", "exec"), names)
    assert float(names["handed"]) == pytest.approx(names["nb"].aggregate(names["score"])["raw"])
    assert float(names["handed"].ceiling) == pytest.approx(float(names["ceiling"].median()))
