"""Ids that print alike: the message shows the difference, and what it proposes works when typed."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest

import neurobridge
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly, match_stimuli, resolve_pairs
from neurobridge.assemblies.ids import alike, find_rows
from tests.refusals import refused, warned

NAMES = ["a.png", "b.png", "café.png", "d.png"]


def assembly(ids, **presentation):
    values = np.random.default_rng(0).normal(size=(len(ids), 2))
    return make_assembly(
        values, presentation={"stimulus_id": ids, **presentation}, neuroid={"neuroid_id": ["n0", "n1"]}
    )


def follow(message: str, **names):
    """Carry out the statements of a mend."""
    names |= {"neurobridge": neurobridge, "pandas": pd}
    exec(message.split("Mend: ")[1].removesuffix("."), names)
    return names


ALIKE = {
    "Unicode form": (
        ["café", "naïve", "Ångström"],
        lambda name: unicodedata.normalize("NFD", name),
        r"NFC or NFD.*\\xe9.*\\u0301",
    ),
    "spaces": (NAMES, lambda name: f"{name} ", r"spaces.*'a.png' and 'a.png '"),
    "wide space": (NAMES, lambda name: f"\u00a0{name}", r"spaces.*\\xa0"),
    "capitals": (NAMES, str.upper, r"capital.*'a.png' and 'A.PNG'"),
    "invisible": (NAMES, lambda name: f"\ufeff{name}", r"invisible.*\\ufeff"),
    "look alike": (["a1", "a2"], lambda name: name.replace("a", "\uff41"), r"NFKC.*\\uff41"),
    "several": (NAMES, lambda name: f" {unicodedata.normalize('NFD', name)}".upper(), r"spelling"),
    "int and text": ([1, 2, 3], str, r"1 \(int64\) and '1' \(str\)"),
    "text and int": (["1", "2", "3"], int, r"'1' \(str\) and 1 \(int64\)"),
    "float and text": ([1.0, 2.0, 3.0], lambda value: str(int(value)), r"1.0 \(float64\) and '1' \(str\)"),
    "float and its text": ([1.5, 2.0, 3.0], str, r"1.5 \(float64\) and '1.5' \(str\)"),
    "padded text and int": (["001", "002", "003"], int, r"'001' \(str\) and 1 \(int64\)"),
    "decimals": (["1.50", "2.50"], float, r"'1.50' \(str\) and 1.5 \(float64\)"),
}


@pytest.mark.parametrize("kind", sorted(ALIKE))
def test_matching_shows_the_difference_and_its_mend_matches(kind):
    ids, change, message = ALIKE[kind]
    source, target = assembly(ids), assembly([change(name) for name in ids])
    with pytest.raises(AssemblyError, match=message) as caught:
        match_stimuli(source, target)
    mended = follow(str(caught.value), source=source, target=target)
    assert len(match_stimuli(mended["source"], mended["target"]).source) == len(ids)


@pytest.mark.parametrize("kind", sorted(set(ALIKE) - {"int and text", "float and its text", "text and int"}))
def test_pairs_show_the_difference_and_its_mend_works(kind):
    ids, change, message = ALIKE[kind]
    source = assembly([change(name) for name in ids])
    pairs = Pairs(ids, ids)
    with pytest.raises(AssemblyError, match=message) as caught:
        pairs.indices(source, assembly(ids))
    mended = follow(str(caught.value), source=source, pairs=pairs)
    np.testing.assert_array_equal(mended["pairs"].indices(mended["source"], assembly(ids))[0], np.arange(len(ids)))


def test_ids_left_out_on_both_sides_that_print_alike_are_warned_of():
    target = assembly([unicodedata.normalize("NFD", name) for name in NAMES])
    with warned(UserWarning, "1 ids", r"\xe9", r"\u0301", "normalize"):
        matched = match_stimuli(assembly(NAMES), target)
    assert matched.dropped_source.tolist() == ["café.png"]


def test_ids_that_differ_in_print_are_left_out_without_a_warning():
    assert len(match_stimuli(assembly(["a", "b", "c"]), assembly(["a", "x", "y"])).dropped_source) == 2


def test_nothing_alike_is_said_to_be_so():
    assert alike(["a"], ["b"]) is None
    assert alike([1], ["x"]) is None
    assert alike([True], ["x"]) is None


@pytest.mark.parametrize("ids", [[3, 1, 2], [3.0, 1.5, 2.0]])
def test_text_of_a_table_names_numbers_by_their_text(tmp_path, ids):
    data = assembly(ids)
    pairs = Pairs.load(Pairs(ids, ids).save(tmp_path / "pairs.csv"))
    assert pairs.source_id.dtype.kind == "U"
    np.testing.assert_array_equal(pairs.indices(data, data)[0], [0, 1, 2])
    resolved = resolve_pairs(data, data, pairs)
    assert resolved.source_id.tolist() == ids
    assert resolve_pairs(data, data, [str(ids[0]), str(ids[2])]).target_id.tolist() == [ids[0], ids[2]]
    assert find_rows(["03", "1e0"], ids).tolist() == [-1, -1]


def test_labels_of_two_types_share_nothing_and_the_mend_pairs_them():
    source, target = assembly(["a", "b"], label=[1, 2]), assembly(["x", "y"], label=["2", "3"])
    with refused(AssemblyError, "'label'", "2 (int64)", "'2' (str)") as caught:
        Pairs.by_label(source, target, "label")
    mended = follow(str(caught.value), source=source, target=target)
    assert Pairs.by_label(mended["source"], mended["target"], "label").target_id.tolist() == ["x"]
