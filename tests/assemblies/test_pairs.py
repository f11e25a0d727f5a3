"""Pairs and joins on stimulus_id."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import AssemblyError, Pairs, match_stimuli, resolve_pairs
from tests.refusals import refused


@pytest.fixture
def spaces(make_random_assembly):
    source, target = make_random_assembly(20, 4, seed=0), make_random_assembly(30, 6, seed=1)
    return source, target.isel(presentation=np.random.default_rng(0).permutation(30))


def test_shared_pairs_point_at_the_same_stimuli(spaces):
    source, target = spaces
    i, j = Pairs.shared(source, target).indices(source, target)
    assert len(i) == 20
    assert np.array_equal(source["stimulus_id"].values[i], target["stimulus_id"].values[j])


def test_match_stimuli_reports_what_was_dropped(spaces):
    source, target = spaces
    matched = match_stimuli(source.isel(presentation=slice(3, None)), target.isel(presentation=slice(0, 25)))
    assert np.array_equal(matched.source["stimulus_id"].values, matched.target["stimulus_id"].values)
    n = matched.source.sizes["presentation"]
    assert (n + len(matched.dropped_source), n + len(matched.dropped_target)) == (17, 25)
    assert not set(matched.dropped_target) & set(matched.source["stimulus_id"].values)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), fraction=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_draws_are_subsets_without_repeats_and_seeded(n, fraction, seed):
    ids = np.array([f"s{i}" for i in range(n)])
    drawn = Pairs(ids, ids).draw(fraction, seed=seed)
    assert len(drawn) == max(2, round(fraction * n))
    assert len(set(drawn.source_id)) == len(drawn)
    assert np.array_equal(drawn.source_id, Pairs(ids, ids).draw(fraction, seed=seed).source_id)


def test_labels_pair_many_with_one(make_random_assembly):
    images = make_random_assembly(8, 3)
    captions = make_random_assembly(4, 2).assign_coords(
        stimulus_id=("presentation", [f"caption {k}" for k in range(4)])
    )
    pairs = Pairs.by_label(images, captions, "category_name")
    assert len(pairs) == 8
    i, j = pairs.indices(images, captions)
    assert np.array_equal(images["category_name"].values[i], captions["category_name"].values[j])


def test_resolve_pairs_takes_every_way_of_naming_them(spaces):
    source, target = spaces
    table = pd.DataFrame({"source_id": ["s0001", "s0002"], "target_id": ["s0007", "s0002"]})
    assert len(resolve_pairs(source, target, None)) == 20
    assert len(resolve_pairs(source, target, 0.25, seed=3)) == 5
    assert resolve_pairs(source, target, table).target_id.tolist() == ["s0007", "s0002"]
    ready = Pairs.shared(source, target)
    assert resolve_pairs(source, target, ready) is ready
    by_number = resolve_pairs(source, target, 7, seed=3)
    assert by_number.source_id.tolist() == ready.draw(7, seed=3).source_id.tolist()
    assert len(resolve_pairs(source, target, np.int64(7))) == 7
    some = ready.source_id[[4, 1, 9]]
    for ids in (some.tolist(), tuple(some), some):
        assert resolve_pairs(source, target, ids).target_id.tolist() == some.tolist()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda s, t: Pairs(np.array(["a"]), np.array(["a", "b"])),
            r"\(1,\).*\(2,\)",
        ),
        (
            lambda s, t: Pairs(np.array(["a", "a"]), np.array(["b", "b"])),
            r"\('a', 'b'\)",
        ),
        (
            lambda s, t: Pairs.from_table({"source_id": ["a"]}),
            r"\['source_id'\].*source_id.*target_id",
        ),
        (lambda s, t: Pairs.by_label(s, t, "object_name"), r"'object_name'"),
        (
            lambda s, t: Pairs.by_label(
                s, t.assign_coords(category_name=("presentation", ["z"] * 30)), "category_name"
            ),
            r"'category_name'",
        ),
        (lambda s, t: Pairs.shared(s, t).draw(1.5, seed=0), r"1.5.*\(0.*1\]"),
        (lambda s, t: Pairs.shared(s, t).draw(21, seed=0), r"21.*20 pairs"),
        (
            lambda s, t: resolve_pairs(s, t, Pairs(np.array(["s0001"]), np.array(["s0001"]))),
            r"found 1;.* 2\b",
        ),
        (lambda s, t: resolve_pairs(s, t, True), r"found bool"),
        (lambda s, t: resolve_pairs(s, t, 21), r"21.*20 pairs"),
        (lambda s, t: resolve_pairs(s, t, 1), r"found 1"),
        (lambda s, t: resolve_pairs(s, t, np.ones(20, dtype=bool)), r"found ndarray"),
        (lambda s, t: resolve_pairs(s, t, ["s0001", "who"]), r"1 of 2.*'who'"),
        (
            lambda s, t: Pairs(np.array(["s0001", "who"]), np.array(["s0001", "s0002"])).indices(s, t),
            r"1 source.*'who'.*20 source",
        ),
        (
            lambda s, t: match_stimuli(s, t.assign_coords(stimulus_id=("presentation", [f"x{i}" for i in range(30)]))),
            r"stimulus_id.*'s0000' \(str\).*'x0' \(str\)",
        ),
        (
            lambda s, t: match_stimuli(s.isel(presentation=[0, 0]), t),
            r"1 duplicate.*stimulus_id.*'s0000'",
        ),
    ],
)
def test_bad_pairs_are_refused_with_found_expected_and_mend(spaces, act, message):
    with pytest.raises(AssemblyError, match=message) as caught:
        act(*spaces)
    assert "Mend: " in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=6), extra=st.integers(0, 100), seed=st.integers(0, 99))
def test_stratified_draws_represent_every_class_in_proportion(counts, extra, seed):
    labels = np.repeat([f"c{k}" for k in range(len(counts))], counts)
    ids = np.array([f"s{i}" for i in range(len(labels))])
    size = min(len(counts) + extra, len(ids))
    drawn = Pairs(ids, ids).draw(size, seed=seed, stratify=labels)
    assert len(drawn) == len(set(drawn.source_id)) == size
    found = dict.fromkeys(np.unique(labels), 0)
    for name in drawn.source_id:
        found[labels[int(name[1:])]] += 1
    assert min(found.values()) >= 1
    for label, count in zip(np.unique(labels), counts, strict=True):
        assert found[label] <= count
        # Off the exact share only by rounding, and by the pairs that the smallest classes are owed.
        assert abs(found[label] - size * count / len(ids)) <= 1 + len(counts)


def test_stratified_fraction_of_assemblies(make_random_assembly):
    source, target = make_random_assembly(40, 3), make_random_assembly(40, 5)
    pairs = resolve_pairs(source, target, 0.2, seed=1, stratify="category_name")
    rows, _ = pairs.indices(source, target)
    assert np.unique(source["category_name"].values[rows], return_counts=True)[1].tolist() == [2, 2, 2, 2]
    with pytest.raises(AssemblyError, match=r"'mood'.*Mend"):
        resolve_pairs(source, target, 0.2, stratify="mood")
    with pytest.raises(AssemblyError, match=r"4 classes.*2 pairs.*Mend"):
        resolve_pairs(source, target, 0.05, stratify="category_name")
    with pytest.raises(AssemblyError, match=r"\(3,\).*\(40,\).*Mend"):
        Pairs.shared(source, target).draw(4, seed=0, stratify=["a", "b", "c"])


def test_pairs_survive_a_csv_file(tmp_path):
    pairs = Pairs(np.array(["007", "NA", "a, b"]), np.array(["1", '"x"', "é"]))
    path = pairs.save(tmp_path / "deep" / "pairs.csv")
    read = Pairs.load(path)
    assert read.source_id.tolist() == pairs.source_id.tolist()
    assert read.target_id.tolist() == pairs.target_id.tolist()
    assert [p.name for p in path.parent.iterdir()] == ["pairs.csv"]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv.*Mend"):
        Pairs.load(tmp_path / "nowhere.csv")
    path.write_text("source_id,target_id\na,b\nc,\n")
    with pytest.raises(AssemblyError, match=r"2.*Mend"):
        Pairs.load(path)


def test_joins_report_what_they_dropped_and_outer_ones_are_refused(spaces):
    source, target = spaces
    matched = match_stimuli(source, target)
    example = str(matched.dropped_target[0])
    assert matched.report() == f"20 stimuli in both; dropped 0 of the source and 10 of the target (e.g. {example!r})."
    with refused(AssemblyError, "how='outer'", "'inner'"):
        match_stimuli(source, target, how="outer")
