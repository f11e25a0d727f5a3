"""Ids that print alike: the message shows the difference, and what it proposes works when typed."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest

import neurobridge
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly, match_stimuli, normalize_ids, resolve_pairs
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
    "folders": (NAMES, lambda name: f"set/{name}", r"folder.*'a.png' and 'set/a.png'"),
    "both extensions": (["a.png", "b.png"], lambda name: name.replace("png", "jpg"), r"extension.*'a.png' and 'a.jpg'"),
    "all of these": (NAMES, lambda name: f"set/{name}".upper().replace("PNG", "jpg"), r"spelling"),
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


@pytest.mark.parametrize("kind", sorted(set(ALIKE) - {"padded text and int", "decimals"}))
def test_the_command_that_is_offered_joins_them(kind):
    ids, change, _ = ALIKE[kind]
    source, target = assembly(ids), assembly([change(name) for name in ids])
    with pytest.raises(AssemblyError, match=r"neurobridge import FILE --ids [\w,]+ --out NEW") as caught:
        match_stimuli(source, target)
    forms = str(caught.value).split("--ids ")[1].split(" ")[0]
    matched = match_stimuli(normalize_ids(source, forms), normalize_ids(target, forms))
    assert len(matched.source) == len(ids)


TEXT = {
    "int": ([1, 2, 3], ["1", "2", "3"]),
    "float of whole numbers": ([1.0, 2.0, 3.0], ["1", "2", "3"]),
    "float": ([1.5, 2.0, 3.0], ["1.5", "2.0", "3.0"]),
    "int and float": ([1, 2, 3], [1.0, 2.0, 3.0]),
    "bytes": ([b"a", b"b"], ["a", "b"]),
}


@pytest.mark.parametrize("kind", sorted(TEXT))
@pytest.mark.parametrize("turned", [False, True])
def test_ids_are_compared_as_text(kind, turned):
    first, second = TEXT[kind][::-1] if turned else TEXT[kind]
    matched = match_stimuli(assembly(first), assembly(second[::-1]))
    np.testing.assert_array_equal(matched.target.values, assembly(second[::-1]).values[::-1])
    np.testing.assert_array_equal(Pairs(first, first).indices(assembly(first), assembly(second))[1], range(len(first)))
    assert len(resolve_pairs(assembly(first), assembly(second), 2)) == 2


def test_numbers_with_leading_zeros_are_other_names():
    with pytest.raises(AssemblyError):
        match_stimuli(assembly(["01", "02"]), assembly([1, 2]))


def test_ids_of_which_one_side_has_extensions_are_joined_and_this_is_said():
    source, target = assembly(["a", "b.v2", "c"]), assembly(["c", "b.v2.PNG", "a.jpeg"])
    with warned(UserWarning, "joined 2 ids", "'a' and 'a.jpeg'", "--ids stem"):
        matched = match_stimuli(source, target)
    np.testing.assert_array_equal(matched.target.values, target.values[::-1])
    assert matched.target["stimulus_id"].values.tolist() == ["a.jpeg", "b.v2.PNG", "c"]
    with warned(UserWarning, "joined 2 ids"):
        pairs = resolve_pairs(source, target, None)
    assert pairs.target_id.tolist() == ["a.jpeg", "b.v2.PNG", "c"]
    np.testing.assert_array_equal(pairs.indices(source, target)[1], [2, 1, 0])
    with warned(UserWarning, "joined 2 ids", "pairs and target"):
        np.testing.assert_array_equal(Pairs(["a", "b.v2"], ["a", "b.v2"]).indices(source, target)[1], [2, 1])


def test_ids_that_would_become_one_without_extension_are_not_joined():
    with warned(UserWarning, "1 ids of the source and 2 of the target left out", "extension"):
        matched = match_stimuli(assembly(["a", "b"]), assembly(["a.png", "a.jpg", "b"]))
    assert matched.source["stimulus_id"].values.tolist() == ["b"]
    # What looks like an extension is none: numbers, versions, names of people.
    assert len(match_stimuli(assembly(["1", "x"]), assembly(["1.5", "x"])).source) == 1


def test_a_form_in_which_stimuli_become_one_is_refused():
    with refused(AssemblyError, "2 stimuli", "1 ids", "stem"):
        normalize_ids(assembly(["a.png", "a.jpg"]), "stem")
    with refused(AssemblyError, "'upper'", "casefold"):
        normalize_ids(assembly(["a", "b"]), "upper")


@pytest.mark.parametrize("kind", sorted(ALIKE))
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
