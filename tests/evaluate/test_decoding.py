"""Readouts on data whose answer is known: across spaces, by sites and images, across conditions, and of attributes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import aggregate
from neurobridge.evaluate.decoding.accuracy import READOUTS, cross_space_decode, decode, train_readout
from neurobridge.evaluate.decoding.attributes import decode_attributes
from neurobridge.evaluate.decoding.axes import _in_turn, _loglinear_dprime, decoding_curve, generalise
from neurobridge.evaluate.decoding.readouts import CorrelationTemplates, count_choices
from tests.refusals import refused


def assembly(values, first=0, prefix="n", **presentation):
    return make_assembly(
        values,
        presentation={"stimulus_id": [f"s{i:04d}" for i in range(first, first + len(values))], **presentation},
        neuroid={"neuroid_id": [f"{prefix}{i}" for i in range(values.shape[1])]},
    )


def classes(n=240, d=10, n_classes=4, gap=3.0, seed=0, first=0, **more):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    values = rng.normal(size=(n, d)) + gap * np.eye(n_classes, d)[labels]
    return assembly(values, first, category_name=np.array([f"c{k}" for k in labels]), **more)


# ---- readouts --------------------------------------------------------------------------------------------------


def test_the_correlation_readout_is_the_correlation_with_class_means():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 6)), np.arange(30) % 3
    model = CorrelationTemplates().fit(X, y)
    new = rng.normal(size=(5, 6))
    expected = [[np.corrcoef(x, X[y == k].mean(axis=0))[0, 1] for k in range(3)] for x in new]
    assert np.allclose(model.decision_function(new), expected)
    assert np.array_equal(model.predict(new), np.argmax(expected, axis=1))
    # It does not see the mean or the scale of a response over sites.
    assert np.array_equal(model.predict(3 * new + 7), model.predict(new))
    with pytest.raises(AssemblyError, match=r"1 site.*Mend"):
        CorrelationTemplates().fit(X[:, :1], y)


@pytest.mark.parametrize("readout", ["svm", "lda", "logistic"])
def test_two_gaussian_classes_are_read_at_the_closed_form(readout):
    """Equal-variance Gaussians a distance delta apart: the best readout is right in Phi(delta / 2) of cases."""
    rng = np.random.default_rng(0)
    delta, labels = 1.6, np.arange(6000) % 2
    values = rng.normal(size=(6000, 5))
    values[:, 0] += delta * labels
    data = assembly(values, side=labels.astype(str))
    head = train_readout(data.isel(presentation=slice(0, 3000)), "side", readout=readout)
    score = head.score(data.isel(presentation=slice(3000, None)), n_permutations=0)
    assert score["raw"].item() == pytest.approx(norm.cdf(delta / 2), abs=0.02)


def test_decode_counts_what_was_said():
    data = classes()
    score = decode(data, "category_name", n_permutations=10)
    table = score["confusion"]
    assert table.dims == ("truth", "choice")
    # Ten splits of 24 held-out images, six a class.
    assert table.values.sum() == 240
    assert np.array_equal(table.values.sum(axis=1), [60] * 4)
    assert np.trace(table.values) / 240 == pytest.approx(score["raw"].values.mean())


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 1000))
def test_confusions_hold_every_trial_once(n, seed):
    rng = np.random.default_rng(seed)
    said, truth = rng.integers(0, 5, n), rng.integers(0, 4, n)
    names, counts = count_choices(said, truth)
    assert counts.sum() == n
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            assert counts[i, j] == ((truth == a) & (said == b)).sum()


# ---- across spaces ---------------------------------------------------------------------------------------------


class Turn:
    """A perfect aligner between two spaces that differ by a rotation."""

    def __init__(self, rotation):
        self.rotation = rotation

    def transform(self, source):
        return source.copy(data=source.values @ self.rotation).assign_coords(
            neuroid_id=("neuroid", [f"m{i}" for i in range(self.rotation.shape[1])])
        )

    def inverse_transform(self, target):
        return target.copy(data=target.values @ self.rotation.T).assign_coords(
            neuroid_id=("neuroid", [f"n{i}" for i in range(self.rotation.shape[0])])
        )


def test_heads_of_one_space_read_the_other_through_a_perfect_aligner_and_not_through_a_wrong_one():
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(10, 10)))[0]
    source, target = classes(seed=1), Turn(rotation).transform(classes(seed=2))
    train, test = slice(0, 160), slice(160, None)
    halves = [(a.isel(presentation=train), a.isel(presentation=test)) for a in (source, target)]
    args = (halves[0][0], halves[1][0]), (halves[0][1], halves[1][1]), "category_name"
    score = cross_space_decode(Turn(rotation), *args, n_permutations=100)
    assert score["reading"].values.tolist() == ["source to target", "target to source", "source", "target"]
    assert score["raw"].values.min() > 0.85
    assert np.allclose(score["null"].mean("permutation").values, 0.25, atol=0.05)
    assert score["p_value"].values.max() < 0.02
    assert np.array_equal(score["confusion"].values.sum(axis=(1, 2)), [80] * 4)
    wrong = cross_space_decode(Turn(np.roll(rotation, 1, axis=0)), *args, n_permutations=100)
    assert wrong["raw"].values[:2].max() < 0.5
    assert np.array_equal(wrong["raw"].values[2:], score["raw"].values[2:])
    with pytest.raises(AssemblyError, match=r"160 stimuli"):
        cross_space_decode(Turn(rotation), args[0], args[0], "category_name")
    none = cross_space_decode(Turn(rotation), *args, n_permutations=0)
    assert np.isnan(none["p_value"].values).all()
    assert np.isnan(aggregate(none)["null_95"].values).all()


# ---- sites and training images ---------------------------------------------------------------------------------


def test_more_sites_and_more_images_read_better_up_to_the_closed_form():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    # Every site carries d' 0.5: k independent sites carry 0.5 sqrt(k).
    values = rng.normal(size=(400, 32)) + 0.5 * labels[:, None]
    curve = decoding_curve(
        assembly(values, side=labels.astype(str)), "side", n_sites=(1, 4, 32), n_train=(8, 320), readout="lda", n_seeds=8,
        n_permutations=50, progress=False,
    )  # fmt: skip
    accuracy = curve["raw"].mean("draw").values
    assert (np.diff(accuracy[:, 1]) > 0).all()
    assert (accuracy[:, 1] >= accuracy[:, 0]).all()
    expected = norm.cdf(0.25 * np.sqrt([1, 4, 32]))
    assert np.allclose(accuracy[:, 1], expected, atol=0.06)
    assert np.allclose(curve["dprime"].mean("draw").values[:2, 1], [0.5, 1.0], atol=0.3)
    assert np.allclose(aggregate(curve)["null_mean"].values, 0.5, atol=0.03)
    assert curve["p_value"].values[2, 1] == pytest.approx(1 / 51)


def test_draws_are_numbered_and_the_seed_makes_them():
    options = {
        "n_sites": (5,),
        "n_train": (20,),
        "readout": "centroid",
        "n_seeds": 3,
        "n_permutations": 0,
        "progress": False,
    }
    one, same, other = (decoding_curve(classes(80, gap=1.0), "category_name", seed=s, **options) for s in (4, 4, 5))
    assert one["draw"].values.tolist() == [0, 1, 2]
    assert one.identical(same)
    # Draw 1 of one seed is not draw 0 of the next.
    assert not np.array_equal(one["dprime"].values[..., 1:], other["dprime"].values[..., :2])


@settings(max_examples=25, deadline=None)
@given(n=st.integers(10, 80), k=st.integers(2, 5), seed=st.integers(0, 99))
def test_every_beginning_has_every_class(n, k, seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n)])
    order = _in_turn(np.arange(len(labels)), labels, rng)
    assert sorted(order) == list(range(len(labels)))
    assert len(np.unique(labels[order[:k]])) == k
    half = labels[order[: len(order) // 2]]
    assert np.abs(np.bincount(half, minlength=k) / len(half) - np.bincount(labels) / len(labels)).max() <= 2 * k / len(
        half
    )


def test_loglinear_dprime_by_hand():
    truth, said = np.array(["a"] * 9 + ["b"] * 9), np.array(["a"] * 9 + ["b"] * 9)
    assert _loglinear_dprime(said, truth) == pytest.approx(2 * norm.ppf(9.5 / 10))
    assert _loglinear_dprime(np.array(["a"] * 18), truth) == pytest.approx(0)


def test_decoding_curve_refuses_what_is_not_there():
    data = classes(80)
    for bad in ({"n_sites": (11,)}, {"n_sites": (0,)}, {"n_train": (3,)}, {"n_train": (65,)}):
        with refused(AssemblyError, "10 sites", "64 training"):
            decoding_curve(data, "category_name", **{"n_sites": (5,), "n_train": (20,), "progress": False, **bad})


# ---- across conditions -----------------------------------------------------------------------------------------


def test_a_readout_of_one_condition_fails_where_the_code_changes():
    rng = np.random.default_rng(0)
    labels, level = np.arange(360) % 2, (np.arange(360) // 2) % 3
    values = 0.7 * rng.normal(size=(360, 6))
    sign = np.where(labels == 1, 1.0, -1.0)
    values[:, 0] += np.where(level < 2, sign, 0)
    values[:, 1] += np.where(level == 2, sign, 0)
    data = assembly(values, category_name=labels.astype(str), variation=level * 3)
    score = generalise(data, "category_name", n_permutations=50)
    raw = score["raw"].mean("split")
    assert score["trained"].values.tolist() == [0, 3, 6]
    assert raw.sel(trained=0, tested=0).item() > 0.85
    assert raw.sel(trained=0, tested=3).item() > 0.85
    assert abs(raw.sel(trained=0, tested=6).item() - 0.5) < 0.15
    assert raw.sel(trained=6, tested=6).item() > 0.85
    assert score["p_value"].sel(trained=0, tested=3).item() < 0.05
    assert score["p_value"].sel(trained=6, tested=0).item() > 0.05
    assert np.allclose(score["n_trained"].values, 96)
    assert np.allclose(score["n_tested"].values, 24)


def test_conditions_are_trained_on_equally_many_images_unless_told_otherwise():
    level = np.array([0] * 40 + [3] * 120)
    data = classes(160, variation=level)
    assert len(set(np.round(generalise(data, "category_name", n_permutations=0)["n_trained"].values, 6))) == 1
    assert np.diff(generalise(data, "category_name", equal=False, n_permutations=0)["n_trained"].values) > 50
    with pytest.raises(AssemblyError, match=r"\[0\].*Mend"):
        generalise(data.isel(presentation=slice(0, 40)), "category_name")
    with pytest.raises(AssemblyError, match=r"'lighting'"):
        generalise(data, "category_name", "lighting")


# ---- attributes ------------------------------------------------------------------------------------------------


def test_position_and_angle_are_read_and_noise_is_not():
    rng = np.random.default_rng(0)
    ty, angle, size = rng.uniform(-3, 3, 300), rng.uniform(-180, 180, 300), rng.uniform(0.5, 2, 300)
    radians = np.deg2rad(angle)
    code = np.stack([ty, np.cos(radians), np.sin(radians)], axis=1) @ rng.normal(size=(3, 12))
    data = assembly(code + 0.1 * rng.normal(size=(300, 12)), ty=ty, ryz=angle, s=size)
    score = decode_attributes(data, {"ty": None, "ryz": 360, "s": None}, n_permutations=200)
    raw = score["raw"].mean("split").values
    assert raw[:2].min() > 0.97
    assert abs(raw[2]) < 0.25
    assert score["r2"].mean("split").values[0] > 0.95
    assert np.isnan(score["r2"].sel(attribute="ryz").values).all()
    assert score["p_value"].values[:2].max() < 0.01
    assert score["p_value"].values[2] > 0.01
    error = score["error"].mean("split").values
    assert error[1] < 12
    assert score["error_of_mean"].mean("split").values[1] == pytest.approx(90, abs=20)
    assert score["null"].dims == ("attribute", "permutation")
    assert score["null"].shape == (3, 200)


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-720, 720))
def test_an_angle_is_read_alike_wherever_its_zero_lies(shift):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 360, 80)
    radians = np.deg2rad(angle)
    values = np.stack([np.cos(radians), np.sin(radians)], axis=1) + 0.2 * rng.normal(size=(80, 2))
    scores = [
        decode_attributes(assembly(values, a=(angle + s) % 360), {"a": 360}, regression="linear", n_permutations=0)
        for s in (0, shift)
    ]
    assert np.allclose(scores[0]["raw"].values, scores[1]["raw"].values, atol=1e-6)
    assert np.allclose(scores[0]["error"].values, scores[1]["error"].values, atol=1e-4)


def test_attributes_that_cannot_be_regressed_are_refused():
    data = classes(60, flat=np.ones(60), word=np.array(["x", "y"] * 30), ty=np.arange(60.0))
    for name in ("flat", "word"):
        with pytest.raises(AssemblyError, match=rf"{name}.*Mend"):
            decode_attributes(data, [name])
    with pytest.raises(AssemblyError, match=r"-1.*Mend"):
        decode_attributes(data, {"ty": -1})
    with refused(AssemblyError, "attributes", "none"):
        decode_attributes(data, [])
    with pytest.raises(AssemblyError, match=r"'magic'"):
        decode_attributes(data, ["ty"], regression="magic")
    with refused(AssemblyError, "'neuron_to_neuron'", ["linear", "pls", "ridge"]):
        decode_attributes(data, ["ty"], regression="neuron_to_neuron")
    with pytest.raises(AssemblyError, match=r"'tz'"):
        decode_attributes(data, ["tz"])


def test_every_readout_has_a_default_and_the_paper_ones_are_there():
    assert {"svm", "correlation", "lda"} <= set(READOUTS)
