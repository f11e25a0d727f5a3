"""The report is one page with everything in it."""

from __future__ import annotations

import json

from neurobridge.study import write_report
from tests.refusals import refused


def test_the_page_holds_tables_figures_and_provenance(tmp_path):
    results = {
        "title": "Real data: <x>",
        "note": "a & b",
        "tables": [{"title": "T", "columns": ["method", "r"], "rows": [["ridge", "0.5"]]}],
        "run": {"seed": 7},
    }
    (tmp_path / "scores.json").write_text(json.dumps(results))
    (tmp_path / "figure.png").write_bytes(b"\x89PNG\r\n")
    page = write_report(tmp_path).read_text()
    assert "Real data: &lt;x&gt;" in page
    assert "a &amp; b" in page
    assert "<td>ridge</td><td>0.5</td>" in page
    assert "data:image/png;base64,iVBORw0K" in page
    assert "seed&quot;: 7" in page
    assert "http" not in page


def test_a_folder_without_results_is_refused(tmp_path):
    with refused(FileNotFoundError, tmp_path, "scores.json"):
        write_report(tmp_path)
