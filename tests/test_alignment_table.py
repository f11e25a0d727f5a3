"""The table of alignment: protocols without leakage, measures, kept cells, and paired differences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats


@pytest.fixture
def protocols(script):
    return script("benchmarks/alignment/protocols")


@pytest.fixture
def tables(script):
    return script("parts/alignment")


@given(n_pairs=st.integers(2, 40), seed=st.integers(0, 200), size=st.sampled_from(["", "@50"]))
@settings(max_examples=8, deadline=None)
def test_no_held_out_or_unpaired_point_is_in_the_other_pool(script, n_pairs, seed, size):
    draw = script("benchmarks/alignment/protocols").make_draw(f"clusters{size}", n_pairs, seed)
    source, target, test = map(set, (draw.source_ids, draw.target_ids, draw.test_ids))
    known = draw.source_ids[draw.pairs[0]]
    assert np.array_equal(known, draw.target_ids[draw.pairs[1]])
    assert source & target == set(known)
    assert len(known) == len(set(known)) == n_pairs
    assert not (source | target) & test
    assert len(source | target | test) == 120
    assert len(source | target) == (96 if size == "" else 50)


@pytest.mark.parametrize("name", ["clusters", "clusters@60"])
def test_fewer_pairs_are_among_more_and_the_held_out_points_are_the_same(protocols, name):
    few, many = (protocols.make_draw(name, n, 3) for n in (10, 20))
    assert np.array_equal(few.test_ids, many.test_ids)
    assert set(few.source_ids[few.pairs[0]]) < set(many.source_ids[many.pairs[0]])


def test_a_draw_depends_on_its_arguments_alone(protocols):
    digests = [protocols.make_draw("clusters", 10, seed).digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_points_of_a_draw_are_those_of_the_set(protocols):
    draw = protocols.make_draw("clusters", 10, 0)
    views = protocols.PROTOCOLS["clusters"].make(None, protocols.CACHE, 0)
    for points, ids, side in (
        (draw.source, draw.source_ids, views.source),
        (draw.target, draw.target_ids, views.target),
        (draw.source_test, draw.test_ids, views.source),
        (draw.target_test, draw.test_ids, views.target),
    ):
        np.testing.assert_array_equal(points, side[ids])


def test_reported_and_development_seeds_have_nothing_in_common(protocols):
    assert not set(protocols.REPORTED_SEEDS) & set(protocols.DEVELOPMENT_SEEDS)


@pytest.mark.parametrize("name", ["marble", "clusters@", "clusters@few", "mnist@60"])
def test_an_unknown_set_or_size_is_refused(protocols, name):
    if name == "clusters@":
        assert protocols.size_of(name) == ("clusters", None)
        return
    with pytest.raises(ValueError, match=name):
        protocols.size_of(name)


def test_true_images_have_the_best_scores_and_permuted_ones_those_of_chance(script, protocols):
    draw = protocols.make_draw("clusters", 10, 0)
    assert draw.score(draw.target_test) == {"median r": pytest.approx(1)}
    assert abs(draw.null(draw.target_test)["median r"]) < 0.1
    scorer = script("benchmarks/alignment/draws").retrieval_scorer(draw.source_test, draw.target_test, (1, 10))
    both = scorer(draw.target_test, draw.source_test)
    # The correction for hubs may put a point before the true image of its query, even where that lies at no distance.
    assert (both["R@1"], both["R@10"]) == (1, 1)


def test_a_head_reads_points_in_the_units_of_a_draw(script):
    rng = np.random.default_rng(1)
    weight, bias, Y = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=(20, 4))
    Y[:, 2] = 0.7
    kept = np.array([True, True, False, True])
    head = script("benchmarks/alignment/measures").Head(weight, bias, Y.mean(axis=0), 2.5, kept)
    points = ((Y - Y.mean(axis=0)) / 2.5)[:, kept]
    np.testing.assert_allclose(head.complete(points), Y)
    np.testing.assert_array_equal(head.predict(points), (Y @ weight.T + bias).argmax(axis=1))


def test_kept_cells_are_not_computed_again(script, tmp_path):
    runner = script("benchmarks/alignment/runner")
    file = tmp_path / "records.jsonl"
    cells = runner.make_cells(["clusters"], [100], ["ridge", "ridge, mixed pairs"], [10])
    options = {"mirror": None, "cache": tmp_path, "n_processes": 1, "progress": False}
    first = runner.run_cells(cells, file, **options)
    assert {r["method"] for r in first} == {"ridge", "ridge, mixed pairs"}
    scores = {r["method"]: r["scores"]["median r"] for r in first}
    assert scores["ridge"] > 0.8 > scores["ridge, mixed pairs"]
    assert all(r["seconds"] >= 0 and r["n_test"] == 24 and len(r["data"]) == 16 for r in first)
    # A run that was stopped while it wrote leaves half a line.
    with file.open("a") as stream:
        stream.write('{"set": "clu')
    assert runner.run_cells(cells, file, **options) == first
    more = runner.make_cells(["clusters"], [100], ["procrustes"], [10])
    assert [r["method"] for r in runner.run_cells(more, file, **options)] == ["procrustes"]
    assert len(runner.read_records(file)) == 3


def test_a_cell_that_fails_says_why_and_is_tried_again(script, tmp_path, monkeypatch):
    runner, methods = script("benchmarks/alignment/runner"), script("benchmarks/alignment/methods")

    def fail(draw):
        raise ValueError("found 10 pairs")

    monkeypatch.setattr(runner, "registry", lambda: {"broken": methods.Method(run=fail)})
    cells = runner.make_cells(["clusters"], [100], ["broken"], [10])
    options = {"mirror": None, "cache": tmp_path, "n_processes": 1, "progress": False}
    for _ in range(2):
        (record,) = runner.run_cells(cells, tmp_path / "records.jsonl", **options)
        assert record["error"] == "ValueError: found 10 pairs"
        assert "scores" not in record
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 2


def test_records_of_other_points_are_refused(script):
    record = {"set": "toy", "n_pairs": 10, "seed": 3, "method": "pls", "data": "aa"}
    runner = script("benchmarks/alignment/runner")
    runner.require_same_draws([record, {**record, "method": "cca"}, {**record, "seed": 4, "data": "bb"}])
    with pytest.raises(ValueError, match=r"toy, 10 pairs, seed 3 .* aa and bb .*cca"):
        runner.require_same_draws([record, {**record, "method": "cca", "data": "bb"}])


def test_methods_run_where_their_pairs_sets_and_criteria_are(script):
    methods = script("benchmarks/alignment/methods")
    known = methods.registry()
    assert known["fused"].runs_on("flickr8k", 20, {"retrieval"})
    assert not known["fused"].runs_on("things-unpaired", 0, {"retrieval"})
    assert known["unpaired"].runs_on("things-unpaired", 0, {"retrieval"})
    assert not known["fuse on arrays"].runs_on("v4-gabor@60", 20, {"correlation"})
    by_labels = methods.Method(run=known["fused"].run, ours=True, criterion="labels")
    assert by_labels.runs_on("mnist", 20, {"labels", "error"})
    assert not by_labels.runs_on("v4-gabor", 20, {"correlation"})


MEASURES = {"toy": {"median r": "correlation"}}


def toy_records(values):
    """Records of methods by (method, n_pairs) -> scores of seeds 0, 1, ..."""
    return [
        {
            "set": "toy", "n_pairs": n, "seed": seed, "method": method, "scores": {"median r": score},
            "null": {"median r": 0.0}, "n_test": 7, "seconds": 1.0 + seed, "peak_rss_gb": 0.5,
        }
        for (method, n), scores in values.items()
        for seed, score in enumerate(scores)
    ]  # fmt: skip


def test_differences_are_those_of_a_paired_t_test(tables):
    rng = np.random.default_rng(0)
    ours, best, worse = rng.normal(0.7, 0.1, 5), rng.normal(0.5, 0.1, 5), rng.normal(0.1, 0.1, 5)
    records = toy_records({("fused", 10): ours, ("ridge", 10): best, ("pls", 10): worse, ("mixed", 10): ours + 1})
    (row,) = tables.table_rows(records, MEASURES, ours={"fused": "correlation"}, controls=["mixed"])
    interval = stats.ttest_rel(ours, best).confidence_interval(0.95)
    difference = row["differences"]["fused"]
    assert row["rival"] == "ridge"
    assert difference["mean"] - difference["ci95"] == pytest.approx(interval.low)
    assert difference["mean"] + difference["ci95"] == pytest.approx(interval.high)
    assert (row["judged"], row["seeds"], row["n_test"]) == ("fused", [0, 1, 2, 3, 4], 7)


@pytest.mark.parametrize(
    ("gain", "noise", "expected"), [(0.1, 0.01, "best"), (0.01, 0.1, "level"), (-0.1, 0.01, "below")]
)
def test_the_verdict_is_that_of_the_interval(tables, gain, noise, expected):
    base = np.linspace(0.2, 0.6, 5)
    ours = base + gain + noise * np.array([-1, 1, 0, 1, -1])
    records = toy_records({("fused", 10): ours, ("ridge", 10): base})
    (row,) = tables.table_rows(records, MEASURES, ours={"fused": "correlation"})
    assert row["verdict"] == expected


def test_a_method_without_all_seeds_is_shown_and_not_compared(tables):
    records = toy_records({("fused", 10): [0.5, 0.6, 0.7], ("ridge", 10): [0.4, 0.4, 0.4], ("pls", 10): [0.9]})
    (row,) = tables.table_rows(records, MEASURES, ours={"fused": "correlation"})
    assert row["rival"] == "ridge"
    assert row["n_seeds"]["pls"] == 1


def test_the_judged_method_chooses_by_the_criterion_of_the_measure(tables):
    measures = {"toy": {"median r": "retrieval"}}
    values = {("fused", 10): [0.5, 0.6], ("fused, retrieval", 10): [0.7, 0.8], ("ridge", 10): [0.1, 0.2]}
    ours = {"fused": "correlation", "fused, retrieval": "retrieval", "fused-flow": None}
    (row,) = tables.table_rows(toy_records(values), measures, ours=ours)
    assert row["judged"] == "fused, retrieval"
    (row,) = tables.table_rows(toy_records({k: v for k, v in values.items() if "," not in k[0]}), measures, ours=ours)
    assert row["judged"] == "fused"


def test_more_pairs_that_cost_beyond_the_interval_are_named(tables):
    values = {("fused", 10): [0.5, 0.6, 0.7], ("fused", 20): [0.4, 0.51, 0.6], ("fused", 50): [0.9, 0.4, 0.6]}
    first, second = tables.steps(toy_records(values), MEASURES)
    assert (first["falls"], second["falls"]) == (True, False)
    assert (first["from"], first["to"], first["n_seeds"]) == (10, 20, 3)


def test_the_page_shows_every_method_and_what_is_below(tables):
    base = np.linspace(0.2, 0.6, 5)
    records = toy_records({("fused", 10): base - 0.1, ("ridge", 10): base})
    results = {
        "rows": tables.table_rows(records, MEASURES, ours={"fused": "correlation"}), "titles": {"toy": "Toys (simulated)"},
        "steps": [], "ours": ["fused"], "seconds": tables.seconds_of(records), "errors": {}, "versions": ["0"],
    }  # fmt: skip
    page = tables.markdown(json.loads(json.dumps(results)))
    assert "| ridge | **0.400** ± 0.196 |" in page
    assert "-0.100 ± 0.000 (ridge): below" in page
    assert "a lower score in 1" in page
    assert results["seconds"]["toy"]["ridge"]["seconds"] == 3


@pytest.mark.parametrize("arguments", [{"seeds": "0-4", "development": True}, {"seeds": "100"}])
def test_reported_seeds_and_development_seeds_do_not_mix(script, arguments):
    quality = script("benchmarks/alignment_quality")
    with pytest.raises(quality.typer.BadParameter, match="seeds"):
        quality.main(**arguments)


def test_seeds_are_read_as_ranges_and_lists(script):
    quality = script("benchmarks/alignment_quality")
    assert quality.read_seeds("0-2,7") == [0, 1, 2, 7]
    with pytest.raises(quality.typer.BadParameter, match="few"):
        quality.read_seeds("few")
