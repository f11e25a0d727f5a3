"""The report is one page with everything in it."""

from __future__ import annotations

import html
import io
import json
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import neurobridge as nb
from neurobridge import figures
from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies.storage.files import save_variables
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.study import write_report
from neurobridge.study.pages.reading import read_result
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
    assert "figure of: Real data: &lt;x&gt; Numbers of the table &#39;T&#39;: method ridge, r 0.5." in page
    assert "data:image/png;base64,iVBORw0K" in page
    assert "seed&#34;: 7" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_folder_without_results_is_refused(tmp_path):
    with refused(FileNotFoundError, tmp_path, "scores.json"):
        write_report(tmp_path)


@pytest.fixture(scope="module")
def scores():
    """Two methods by site on simulated data, one of them with a digest of the catalogue."""
    rng = np.random.default_rng(0)
    names = {
        "presentation": {"stimulus_id": [f"image{k}" for k in range(30)]},
        "neuroid": {"neuroid_id": ["<i>a</i>", "b", "c"]},
    }
    truth = nb.make_assembly(rng.normal(size=(30, 3)), **names)
    guesses = [truth + scale * rng.normal(size=(30, 3)) for scale in (0.3, 1.0)]
    guesses[0].attrs["digests"] = {"responses_210325.npy": DIGEST, "own.npy": "sha256:" + "0" * 64}
    return {
        name: nb.correlate(guess, truth, n_permutations=19)
        for name, guess in zip(("fused", "ridge & <b>"), guesses, strict=True)
    }


DIGEST = "sha256:4008dbbf31a47d9b1b8d8da609f4a7a3433c7071f0e45c611c220b217dd75b76"


def _told(page):
    """Text of a page as a reader sees it."""
    body = page.split("<body>")[1].split("<script>")[0]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_two_methods_are_told_in_words_with_numbers_sources_and_methods(scores, tmp_path):
    page = nb.report(scores, out=tmp_path / "new" / "page.html").read_text()
    text = _told(page)
    above = (scores["ridge & <b>"]["raw"] > scores["fused"]["raw"]).values.mean()
    assert f"ridge & <b> is above fused at {100 * above:.0f} % of 3 sites" in text
    for score in scores.values():
        assert f"{float(nb.aggregate(score)['raw']):.3f}" in text
    assert f"{DIGEST} cowley2023-v4-210325 GPL-3.0" in text
    assert "own.npy sha256:" + "0" * 64 + " not in the catalogue not known" in text
    for fact in (
        "19 permutations",
        "[phipson2010]",
        "@article{phipson2010",
        "@article{cowley2023",
        "30 stimuli",
        nb.__version__,
    ):
        assert fact in text
    # Labels are text, never markup.
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count("<figure>") == page.count("<figcaption>") == 2
    for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page):
        assert re.search(r"\d", alt)
    links = re.findall(r'(?:src|href)="([^"#]*)', page)
    assert {link.split(",")[0] for link in links if link} <= {
        "data:",
        "data:image/png;base64",
        "data:text/csv;charset=utf-8",
    }


def test_a_table_is_saved_as_the_csv_that_it_shows(tmp_path):
    table = pd.DataFrame({"method": ["a, b", 'c "d"'], "r": [0.5, -0.25]})
    page = nb.report({"mine": table}, out=tmp_path / "page.html").read_text()
    (link,) = re.findall(r'href="data:text/csv;charset=utf-8,([^"]*)"', page)
    read = pd.read_csv(io.StringIO(unquote(html.unescape(link))))
    pd.testing.assert_frame_equal(read, table)


def test_a_folder_of_everything_is_one_page(scores, tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 3))
    save_variables(scores["fused"], tmp_path / "score.nc")
    RidgeAligner().fit(X, X[:, :2]).save(tmp_path / "ridge")
    (tmp_path / "damaged.nc").write_bytes(b"no netCDF")
    for name in ("score", "other"):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG\r\n")
    results = {
        "title": "A curve",
        "note": "n",
        "tables": [],
        "run": {},
        "figures": ["score.png", "other.png"],
        "warnings": ["w1"],
    }
    (tmp_path / "scores.json").write_text(json.dumps(results))
    page = nb.report(tmp_path, out=tmp_path)
    assert page == tmp_path / "report.html"
    text = _told(page.read_text())
    assert "A curve" in text
    assert "RidgeAligner, fitted on 40 pairs, 3 source and 2 target dimensions" in text
    # What the page draws itself is not shown twice.
    assert page.read_text().count("<figure>") == 3
    assert "damaged.nc is left out" in text
    assert "w1" in text


def test_folders_and_files_are_one_page_with_their_names(scores, tmp_path):
    (tmp_path / "a").mkdir()
    results = {"title": "A curve", "note": "the note", "tables": [], "run": {}}
    (tmp_path / "a" / "scores.json").write_text(json.dumps(results))
    for name in ("drawn", "other"):
        (tmp_path / "a" / f"{name}.png").write_bytes(b"\x89PNG\r\n")
    paths = [tmp_path / "a", save_variables(scores["ridge & <b>"], tmp_path / "b.nc")]
    save_variables(scores["fused"], tmp_path / "a" / "drawn.nc")
    page = nb.report(paths, out=tmp_path / "page.html").read_text()
    text = _told(page)
    assert all(str(name) in text for name in (tmp_path / "a" / "drawn", tmp_path / "b.nc", "A curve", "the note"))
    # The figure of the Score, of the other Score, and the picture beside the tables that the page does not draw itself.
    assert page.count("<figure>") == 3


def test_a_score_on_disk_reads_as_it_was(scores, tmp_path):
    path = save_variables(scores["fused"], tmp_path / "score.nc")
    read = read_result(path)
    assert nb.aggregate(read) == nb.aggregate(scores["fused"])
    assert figures.caption(read) == figures.caption(scores["fused"])


def test_a_comparison_of_models_is_ranked_with_its_p(tmp_path):
    p = np.array([[[np.nan, 0.012], [0.012, np.nan]]])
    values = {"value": [[0.31, 0.52]], "value_low": [[0.2, 0.4]], "value_high": [[0.4, 0.6]], "rank": [[2, 1]]}
    comparison = xr.Dataset(
        {
            **{name: (("metric", "model"), v) for name, v in values.items()},
            "p_corrected": (("metric", "model", "other"), p),
        },
        coords={"metric": ["ridge"], "model": ["a", "b"], "other": ["a", "b"]},
        attrs={"n_stimuli": 90},
    )
    text = _told(nb.report(comparison, out=tmp_path / "page.html").read_text())
    assert "under ridge b is highest, 0.520, before a, 0.310 (corrected p = 0.012)" in text
    assert "b 1 0.52 0.4 0.6 n/a 0.012 a 2 0.31 0.2 0.4 0.012 n/a" in text
    assert "n = 90 stimuli" in text


def test_the_same_results_give_the_same_page(scores, tmp_path):
    first, second = (nb.report(scores, out=tmp_path / name).read_bytes() for name in ("1.html", "2.html"))
    assert first == second


def test_what_the_solver_left_undone_is_a_warning(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 3))
    cost = nb.bridge.bridge_cost(X, 2 * X, (np.arange(5), np.arange(5)))
    with pytest.warns(nb.bridge.ConvergenceWarning):
        coupling = nb.bridge.couple(cost, max_iter=1, tol=1e-12)
    assert "did not converge" in _told(nb.report(coupling, out=tmp_path / "page.html").read_text())


@pytest.mark.parametrize(("thing", "fact"), [("nowhere.nc", "nowhere.nc"), ({}, "no results"), (42, "int")])
def test_what_has_no_page_is_refused(tmp_path, monkeypatch, thing, fact):
    monkeypatch.chdir(tmp_path)
    with refused((FileNotFoundError, ValueError), fact):
        nb.report(thing)
    assert list(tmp_path.iterdir()) == []


def _two_spaces():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 4))
    stimuli = {"stimulus_id": [f"image{k}" for k in range(40)]}
    sites = {"neuroid_id": range(6), "animal": ["first", "second"] * 3}
    responses = features @ rng.normal(size=(4, 6)) + rng.normal(size=(40, 6))
    source = nb.make_assembly(features, presentation=stimuli, neuroid={"neuroid_id": range(4)})
    return source, nb.make_assembly(responses, presentation=stimuli, neuroid=sites)


def _partition():
    pytest.importorskip("himalaya", reason="the extra himalaya fits the bands")
    source, target = _two_spaces()
    spaces = {"early": source.isel(neuroid=[0, 1]), "late": source.isel(neuroid=[2, 3])}
    return nb.partition_variance(spaces, target, splits="kfold,n_splits=2", n_iter=1, n_bootstrap=5)


def _comparison():
    source, target = _two_spaces()
    return nb.compare_models({"early": source.isel(neuroid=[0, 1]), "all": source}, target, n_bootstrap=19)


def _times():
    raw = np.random.default_rng(1).normal(0.6, 0.1, size=(3, 3, 2))
    attrs = score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 20}, 2, 19, 0)
    null = np.random.default_rng(2).normal(0.5, 0.05, size=(3, 3, 19))
    times = {"trained": [25.0, 75.0, 125.0], "tested": [25.0, 75.0, 125.0]}
    return make_score(raw, ("trained", "tested", "split"), null=null, coords=times, attrs=attrs)


def _models_by_rdms():
    rng = np.random.default_rng(0)
    rdms = np.stack([squareform(pdist(rng.normal(size=(9, 4)), "sqeuclidean")) for _ in range(5)])
    return nb.similarity.compare_rsa_models({"first": rdms[0], "second": rdms[1]}, rdms[2:], n_bootstrap=20)


@pytest.mark.parametrize("make", [_partition, _comparison, _times, _models_by_rdms])
def test_every_analysis_has_a_page_in_python_and_from_its_file(make, tmp_path):
    result = make()
    text = _told(nb.report(result, out=tmp_path / "page.html").read_text())
    assert not re.search(r"\bnan\b", text)
    assert figures.caption(result) in text
    path = save_variables(result, tmp_path / "result.nc")
    assert figures.caption(read_result(path)) == figures.caption(result)
    assert figures.alt_text(result) in nb.report(path, out=tmp_path / "again.html").read_text()
