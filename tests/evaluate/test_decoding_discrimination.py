"""Choices, d' against closed forms, and the consistency of two observers with known noise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from neurobridge.assemblies import AssemblyError, drop_constant, make_assembly
from neurobridge.datasets import load
from neurobridge.evaluate.decoding.attributes import decode_attributes
from neurobridge.evaluate.decoding.confusions import choices, confusion, tabulate_choices
from neurobridge.evaluate.decoding.discrimination import consistency, discriminate, dprime
from tests.refusals import refused


def gaussians(means, n_each, seed=0):
    """One unit-variance Gaussian class around each mean."""
    rng = np.random.default_rng(seed)
    means = np.asarray(means, dtype=float)
    labels = np.repeat(np.arange(len(means)), n_each)
    values = means[labels] + rng.normal(size=(len(labels), means.shape[1]))
    return make_assembly(
        values,
        presentation={
            "stimulus_id": [f"s{i:05d}" for i in range(len(labels))],
            "object_name": [f"o{k}" for k in labels],
        },
        neuroid={"neuroid_id": [f"n{i}" for i in range(means.shape[1])]},
    )


def table(P, truth, n=10):
    """Choices with exactly these fractions."""
    P = np.asarray(P, dtype=float)
    names = [f"o{k}" for k in range(P.shape[1])]
    rows = [
        (f"s{i:03d}", names[truth[i]], names[k])
        for i in range(len(P))
        for k in range(P.shape[1])
        for _ in range(round(n * P[i, k]))
    ]
    ids, is_, said = zip(*rows, strict=True)
    return tabulate_choices(ids, is_, said, classes=names)


# ---- d' --------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(sensitivity=st.floats(-3, 3), criterion=st.floats(-1, 1))
def test_dprime_does_not_depend_on_the_criterion(sensitivity, criterion):
    hit, false = norm.cdf(sensitivity / 2 - criterion), norm.cdf(-sensitivity / 2 - criterion)
    assert dprime(hit, false) == pytest.approx(sensitivity, abs=1e-9)


def test_infinite_dprime_is_capped_and_said():
    with pytest.warns(UserWarning, match=r"2.*4 d'.*\+-5"):
        value = dprime([1.0, 0.0, 1.0, 0.9], [0.5, 0.5, 1.0, np.nan])
    assert value[:3].tolist() == [5, -5, 0]
    assert np.isnan(value[3])
    with pytest.warns(UserWarning, match=r"\+-3"):
        assert dprime(1.0, 0.0, cap=3).item() == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dprime(0.84, 0.16) == pytest.approx(1.989, abs=1e-3)


def test_dprime_refuses_what_is_no_rate():
    with pytest.raises(ValueError, match=r"2.*2.*\[0, 1\].*Mend"):
        dprime(2.0, 0.5)
    with pytest.raises(ValueError, match=r"false_alarm.*-1.*0.5"):
        dprime(0.5, [-1, 0.5])
    with pytest.raises(ValueError, match=r"cap=0"):
        dprime(0.5, 0.5, cap=0)


@pytest.mark.parametrize("readout", ["svm", "lda", "logistic"])
@pytest.mark.parametrize("delta", [0.8, 2.0])
def test_dprime_of_two_gaussians_is_their_distance(readout, delta):
    """Equal variances, unit distance: the ideal observer's d' is the distance of the means (Green & Swets 1966)."""
    data = gaussians([[0, 0, 0], [delta, 0, 0]], 1500)
    score = discriminate(choices(data, "object_name", readout=readout, n_repeats=1), n_permutations=20)
    assert np.allclose(score["dprime"].values, delta, atol=0.15)
    pair = discriminate(choices(data, "object_name", readout=readout, n_repeats=1), level="pair", n_permutations=0)
    assert pair["dprime"].values[0, 1] == pytest.approx(score["dprime"].values[0], abs=1e-9)
    assert score["accuracy"].item() == pytest.approx(norm.cdf(delta / 2), abs=0.02)


def test_unrelated_responses_have_no_sensitivity():
    data = gaussians(np.zeros((4, 5)), 60)
    score = discriminate(choices(data, "object_name", readout="correlation", n_repeats=2), n_permutations=200)
    assert abs(score["raw"].item()) < 0.3
    assert score["p_value"].item() > 0.02
    assert abs(score["null"].values.mean()) < 0.1


# ---- levels, by hand -------------------------------------------------------------------------------------------

P = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.5, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
OWN = np.array([0, 0, 1, 1, 2, 2])


def z(p):
    return norm.ppf(p)


def test_objects_and_pairs_by_hand():
    chosen = table(P, OWN)
    assert np.allclose(confusion(chosen).values, [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]])
    score = discriminate(chosen, correction="cap", n_permutations=0)
    assert score["dprime"].values[0] == pytest.approx(z(0.7) - z(0.25))
    pair = discriminate(chosen, level="pair", correction="cap", n_permutations=0)["dprime"].values
    assert pair[0, 1] == pytest.approx(z(0.7 / 0.9) - z(0.3 / 0.9))
    assert pair[2, 0] == pytest.approx(z(0.5 / 0.7) - z(0.1 / 0.8))
    assert np.allclose(pair, pair.T, equal_nan=True)
    assert np.isnan(np.diag(pair)).all()


def test_the_loglinear_correction_by_hand():
    chosen = table(P, OWN)
    score = discriminate(chosen, n_permutations=0)
    # Two images of the class, of which 1.4 were called so; four others, of which 1 was.
    assert score["dprime"].values[0] == pytest.approx(z(1.9 / 3) - z(1.5 / 5))
    assert score.attrs["correction"] == "loglinear"
    pair = discriminate(chosen, level="pair", n_permutations=0)["dprime"].values
    assert pair[0, 1] == pytest.approx(z(1.9 / 2.8) - z(1.1 / 2.8))
    assert np.allclose(pair, pair.T, equal_nan=True)
    image = discriminate(chosen, level="image", correction="loglinear", n_permutations=0)["dprime"].values
    assert image[0] == pytest.approx(z(8.5 / 11) - z(1.5 / 5))
    sure = discriminate(table(np.eye(3)[OWN], OWN), level="pair", n_permutations=0)
    assert np.nanmax(sure["dprime"].values) == pytest.approx(2 * z(2.5 / 3))
    assert sure.attrs["n_capped"] == 0


def test_classes_that_are_never_chosen_do_not_swamp_the_mean():
    """40 classes of four images, every second image right: far above chance, whatever a few empty classes say."""
    truth = np.repeat(np.arange(40), 4)
    said = np.where(np.arange(160) % 2 == 0, truth, (truth + 1 + np.arange(160) % 7) % 40)
    score = discriminate(table(np.eye(40)[said], truth, n=1), n_permutations=100)
    assert score["p_value"].item() == pytest.approx(1 / 101)
    # Rates of four images and of 156 are drawn towards 1/2 unequally, so chance is not 0: the null says where it is.
    assert score["raw"].item() - score["null"].values.mean() > 1
    capped = discriminate(table(np.eye(40)[said], truth, n=1), correction="cap", n_permutations=20)
    assert capped["null"].values.mean() < -1


def test_images_by_hand_and_normalised_within_their_class():
    score = discriminate(table(P, OWN), level="image", n_permutations=0)
    assert score["dprime"].values[0] == pytest.approx(z(0.8) - z(0.25))
    own = score["dprime_centred"].values
    assert np.allclose([own[k == OWN].mean() for k in range(3)], 0, atol=1e-12)
    assert own[0] == pytest.approx((z(0.8) - z(0.6)) / 2)
    distract = discriminate(table(P, OWN), level="image_distractor", n_permutations=0)
    assert distract["dprime"].values[0, 1] == pytest.approx(z(0.8 / 0.9) - z(0.3 / 0.9))
    assert np.isnan(distract["dprime"].values[0, 0])
    assert np.isfinite(distract["dprime"].values).sum() == 12


def test_capped_values_are_counted_at_every_level():
    sure = table(np.eye(3)[OWN], OWN)
    for level, n in (("object", 3), ("pair", 6), ("image", 6), ("image_distractor", 12)):
        with pytest.warns(UserWarning, match=f"{n}.*{n} d'"):
            score = discriminate(sure, level=level, correction="cap", n_permutations=0)
        assert score.attrs["n_capped"] == n
        assert score["raw"].item() == 5


# ---- choices ---------------------------------------------------------------------------------------------------


def test_every_image_is_chosen_for_while_held_out():
    data = gaussians(3 * np.eye(3), 30)
    chosen = choices(data, "object_name", n_repeats=3)
    assert chosen.dims == ("presentation", "choice")
    assert np.allclose(chosen.sum("choice").values, 1)
    assert (chosen["n_choices"].values == 3).all()
    graded = choices(data, "object_name", readout="logistic", graded=True, n_repeats=1)
    assert np.allclose(graded.sum("choice").values, 1)
    assert len(np.unique(graded.values)) > 100
    again = choices(data, "object_name", n_repeats=3)
    assert np.array_equal(chosen.values, again.values)


def test_a_single_image_that_is_mislabelled_does_not_teach_its_own_readout():
    """Were an image in its own training set, a flexible readout would say its wrong label."""
    data = gaussians(8 * np.eye(3, 40), 20)
    wrong = data["object_name"].values.copy()
    wrong[0] = "o2"
    chosen = choices(data.assign_coords(object_name=("presentation", wrong)), "object_name", n_repeats=2)
    assert chosen.isel(presentation=0).sel(choice="o0").item() == 1


def test_choices_refuse_bad_requests():
    data = gaussians(3 * np.eye(3), 10)
    with pytest.raises(AssemblyError, match=r"'svm'.*'lda'.*Mend"):
        choices(data, "object_name", graded=True)
    with pytest.raises(AssemblyError, match=r"20 images.*Mend"):
        choices(data, "object_name", splits=[(np.arange(10, 30), np.arange(10))])
    with pytest.raises(AssemblyError, match=r"'category_name'"):
        choices(data, "category_name")
    with refused(AssemblyError, "(2,)", "(1,)"):
        tabulate_choices(["a", "b"], ["x", "y"], ["x"])
    with pytest.raises(AssemblyError, match=r"'z'.*\['x', 'y'\].*Mend"):
        tabulate_choices(["a", "b"], ["x", "y"], ["x", "z"], classes=["x", "y"])
    with pytest.raises(AssemblyError, match=r"'a'.*Mend"):
        tabulate_choices(["a", "a"], ["x", "y"], ["x", "x"])
    with refused(AssemblyError, "choices", "dims"):
        discriminate(data)
    with refused(AssemblyError, "1 classes", "2 choices"):
        discriminate(tabulate_choices(["a", "b"], ["x", "x"], ["x", "y"]))
    with pytest.raises(ValueError, match=r"level='species'.*Mend"):
        discriminate(table(P, OWN), level="species")
    with pytest.raises(ValueError, match=r"'luck'.*'cap'.*Mend"):
        discriminate(table(P, OWN), correction="luck")
    with pytest.raises(ValueError, match=r"cap=-1.*Mend"):
        discriminate(table(P, OWN), level="image", cap=-1)


# ---- consistency -----------------------------------------------------------------------------------------------


def test_consistency_recovers_the_known_correlation_under_noise():
    rng = np.random.default_rng(0)
    n, true = 20_000, 0.6
    a = rng.normal(size=n)
    b = true * a + np.sqrt(1 - true**2) * rng.normal(size=n)
    first = [a + 1.0 * rng.normal(size=n) for _ in range(2)]
    second = [b + 0.7 * rng.normal(size=n) for _ in range(2)]
    score = consistency(tuple(first), tuple(second), n_permutations=50)
    assert score["normalized"].item() == pytest.approx(true, abs=0.03)
    assert score["raw"].item() < 0.45
    assert score["reliability_first"].item() == pytest.approx(0.5, abs=0.02)
    assert score["p_value"].item() == pytest.approx(1 / 51)


def test_consistency_of_strangers_is_null_and_nan_items_are_left_out():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=200), rng.normal(size=200)
    halves = [x + 0.3 * rng.normal(size=200) for x in (a, a, b, b)]
    halves[0][:7] = np.nan
    score = consistency((halves[0], halves[1]), (halves[2], halves[3]), n_permutations=300)
    assert abs(score["normalized"].item()) < 0.2
    assert score["p_value"].item() > 0.01
    assert score.attrs["n_items"] == 193
    assert score.attrs["n_items_left_out"] == 7


def test_a_measure_that_does_not_agree_with_itself_is_not_normalised():
    x = np.arange(10.0)
    with pytest.warns(UserWarning, match=r"-1\.000.*1\.000"):
        score = consistency((x, -x), (x, x), n_permutations=0)
    assert np.isnan(score["normalized"].item())


def test_consistency_refuses_what_cannot_be_compared():
    x = np.arange(10.0)
    with refused(ValueError, "4 halves", [10, 10, 10, 9]):
        consistency((x, x), (x, x[:9]))
    with pytest.raises(ValueError, match=r"2 items.*\(of 2\).*Mend"):
        consistency((x[:2], x[:2]), (x[:2], x[:2]))
    with pytest.raises(ValueError, match=r"1 halves"):
        consistency((x, x), (x, np.ones(10)))


@pytest.mark.realdata
def test_real_it_separates_animals_from_boats_and_reads_position(mirror):
    it = drop_constant(load("majajhong2015-it-v6", mirror=mirror).recordings)
    chosen = choices(it, "category_name", readout="lda", n_repeats=1)
    score = discriminate(chosen, n_permutations=50)
    assert score["raw"].item() > 1.5
    assert score["p_value"].item() == pytest.approx(1 / 51)
    read = decode_attributes(it, ["ty", "tz"], n_permutations=50)
    assert read["raw"].mean("split").values.min() > 0.5
    assert read["p_value"].values.max() < 0.03
