"""Parts of the experiments: pairs of one class, splits by speaker, views of images, paired differences."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

CLASSES = np.array(list("abcd"))


def space_of(classes, name, n_each, seed, n_dims=3):
    labels = np.random.default_rng(seed).permutation(np.repeat(CLASSES, n_each))
    points = np.arange(len(labels) * n_dims, dtype=float).reshape(len(labels), n_dims)
    return classes.Space(name, points, labels, points[:4], labels[:4], None)


@pytest.fixture
def classes(script):
    return script("experiments/parts/classes")


@pytest.fixture
def paired(script):
    return script("experiments/parts/paired")


@given(n_rounds=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_pairs_show_one_class_and_the_unpaired_points_are_others(script, n_rounds, seed):
    classes = script("experiments/parts/classes")
    left, right = space_of(classes, "left", 12, 0), space_of(classes, "right", 15, 1)
    draw = classes.draw_pairs(left, right, 4 * n_rounds, seed, pool=24)
    first, second = draw.known
    assert np.array_equal(left.labels[first], right.labels[second])
    assert len(set(first)) == len(set(second)) == 4 * n_rounds
    assert set(np.unique(left.labels[first], return_counts=True)[1]) == {n_rounds}
    # A third of the pool is unpaired at least.
    n_points = max(24, 4 * n_rounds + 8)
    for cloud, space, rows in ((draw.source, left, first), (draw.target, right, second)):
        # The first column numbers the points.
        in_pool = (cloud[:, 0] / 3).astype(int)
        assert len(set(in_pool)) == len(in_pool) == n_points
        assert np.array_equal(in_pool[: len(rows)], rows)
        assert np.array_equal(cloud, space.train[in_pool])
    # Of unpaired points no class is told.
    assert np.array_equal(draw.labels[: 4 * n_rounds], right.labels[second])
    assert set(draw.labels[4 * n_rounds :]) == {draw.labels[0]}


def test_fewer_pairs_are_among_more_and_skipped_ones_in_neither(classes):
    space = space_of(classes, "captions", 12, 0)
    few, many, others = (classes.known_rows(space, n, 3, skip=skip) for n, skip in ((8, 0), (20, 0), (20, 20)))
    assert set(few) < set(many)
    assert not set(many) & set(others)
    assert not np.array_equal(few, classes.known_rows(space, 8, 4))
    assert not np.array_equal(few, classes.known_rows(space._replace(name="images"), 8, 3))


@pytest.mark.parametrize(("n_pairs", "skip"), [(52, 0), (40, 12), (6, 0)])
def test_more_pairs_than_points_are_refused(classes, n_pairs, skip):
    with pytest.raises(ValueError, match=f"found {n_pairs} pairs after {skip} of 4 classes"):
        classes.known_rows(space_of(classes, "captions", 12, 0), n_pairs, 0, skip=skip)


def test_a_head_names_its_own_points_and_chance_is_named_as_such(classes):
    rng = np.random.default_rng(0)
    labels = np.repeat(CLASSES, 60)
    centres = 6 * np.eye(4)[np.repeat(np.arange(4), 60)]
    points, test = (centres + rng.normal(size=centres.shape) for _ in range(2))
    space = classes.Space("toy", points, labels, test, labels, classes.make_head(points, labels))
    scores = classes.score_classes(test, labels, space, 0)
    assert scores["accuracy"] == scores["ceiling"] > 0.95
    assert scores["hit"] == 1.0
    assert 0.25 < scores["null_95"] < 0.4
    mixed = classes.score_classes(test, rng.permutation(labels), space, 0)
    assert mixed["accuracy"] < 0.4


def test_a_speaker_who_was_never_heard_is_in_no_training(script):
    speech = script("experiments/parts/speech")
    speaker, index = (grid.ravel() for grid in np.meshgrid(speech.SPEAKERS, np.arange(8), indexing="ij"))
    for split in speech.SPLITS:
        train, test = speech.sound_rows(speaker, index, split)
        assert not set(train) & set(test)
        assert (index[train] >= speech.N_TEST).all()
        if split == speech.OFFICIAL:
            assert len(train) == 18
            assert len(test) == 30
        else:
            assert split not in speaker[train]
            assert set(speaker[test]) == {split}
            assert (len(train), len(test)) == (15, 8)


def test_views_are_shifted_and_mirrored_copies_of_each_image(script):
    natural = script("experiments/parts/natural")
    pixels = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3)).astype(np.uint8)
    pixels += np.arange(5, dtype=np.uint8)[:, None, None, None]
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={"category_name": ("presentation", list("abcde"))},
    )
    more = natural.views(images, 3, seed=1)
    assert more.shape == (20, 32, 32, 3)
    assert more["category_name"].values.tolist() == list("abcde") * 4
    assert np.array_equal(more.values[:5], pixels)
    padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for k, view in enumerate(more.values[5:]):
        windows = [padded[k % 5, r : r + 32, c : c + 32] for r in range(9) for c in range(9)]
        assert any(np.array_equal(view, each) or np.array_equal(view, each[:, ::-1]) for each in windows)
    assert not np.array_equal(more.values, natural.views(images, 3, seed=2).values)


def test_differences_are_those_of_the_paired_t_test_corrected_by_holm(paired):
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(shift, 0.1, (2, 6)) for name, shift in (("ours", 1.0), ("near", 0.95), ("far", 0.0))}
    records = [
        {"method": name, "n_pairs": n, "seed": seed, "r": values[k, seed]}
        for name, values in scores.items()
        for k, n in enumerate((10, 100))
        for seed in range(6)
    ]
    out = paired.paired_differences(records, "r", "ours", ["near", "far", "absent"], ["n_pairs"])
    assert [(each["n_pairs"], each["rival"]) for each in out] == [
        (n, name) for n in (10, 100) for name in ("near", "far")
    ]
    expected = [stats.ttest_rel(scores["ours"][k], scores[name][k]).pvalue for k in (0, 1) for name in ("near", "far")]
    np.testing.assert_allclose([each["p"] for each in out], expected)
    assert all(each["corrected"] >= each["p"] for each in out)
    np.testing.assert_allclose(min(each["corrected"] for each in out), 4 * min(expected))
    assert {each["rival"] for each in paired.least_gains(out, ["n_pairs"])} == {"near"}
    table = paired.difference_table("r", out)
    assert table["columns"] == ["rival", "10", "100"]
    assert [row[0] for row in table["rows"]] == ["near", "far"]
    assert all(cell.endswith("*") for cell in table["rows"][1][1:])
    n_above = sum(each["mean"] > 0 for each in out)
    assert f"above in {n_above} and below in {4 - n_above} of 4" in paired.tally(out)


@pytest.mark.parametrize(("differences", "p"), [([0.1], np.nan), ([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1], 0.0)])
def test_a_test_of_differences_that_do_not_vary(paired, differences, p):
    np.testing.assert_equal(paired.t_test(differences), p)


def test_turned_components_keep_distances_and_have_a_like_spread(classes):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 12)) * 2.0 ** -np.arange(12)
    turned, new = classes.turned_components(points, points[:50] + 0.01, 12)
    assert turned.shape == (400, 12)
    np.testing.assert_allclose(new - turned[:50], np.tile((new - turned[:50])[0], (50, 1)), atol=1e-9)
    gaps = [np.linalg.norm(side[:200] - side[200:], axis=1) for side in (points, turned)]
    np.testing.assert_allclose(*gaps)
    spreads = [side.std(axis=0).max() / side.std(axis=0).min() for side in (points, turned)]
    assert spreads[1] < spreads[0] / 50


def test_labels_alone_are_the_readout_of_the_known_points_in_the_spread_of_all(classes):
    rng = np.random.default_rng(1)
    labels = np.repeat(CLASSES, 30)
    points = 4 * np.eye(4)[np.repeat(np.arange(4), 30)] + rng.normal(size=(120, 4))
    space = classes.Space("toy", points, labels, points + 0.1, labels, classes.make_head(points, labels))
    assert np.array_equal(classes.named_by_labels(space, np.arange(120)), space.head.predict(space.test))
    assert (classes.named_by_labels(space, np.arange(0, 120, 10)) == labels).mean() > 0.8


def test_claims_come_negative_first_and_what_ran_is_counted(paired):
    claims = [
        {"claim": name, "verdict": verdict, "evidence": evidence}
        for name, verdict, evidence in (
            ("a", "holds", "above in 2 and below in 0 of 2 comparisons"), ("b", "does not hold here", "0 of 6 speakers"),
            ("c", "does not hold here", f"retrieval: {paired.tally([])}"), ("d", "holds in part", "1 of 2"),
        )
    ]  # fmt: skip
    assert [claim["claim"] for claim in paired.negative_first(claims)] == ["b", "d", "a"]
    records = [{"method": "ridge", "n_pairs": n, "seed": seed} for n in (1000, 10) for seed in (0, 1)]
    records += [{"method": "cca", "n_pairs": 10, "seed": 0}, {"method": "fused", "n_pairs": 10, "seed": 0}]
    assert paired.what_ran(records) == "ridge: 10 (2), 1,000 (2); cca and fused: 10 (1)"
