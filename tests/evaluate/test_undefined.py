"""What is not defined is refused by name or NaN with a NaN p: it is never ranked, counted or significant."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import METRICS, aggregate, decode, decode_attributes, discriminate, make_score, predictivity
from neurobridge.evaluate.curves.folds import CurveSettings
from neurobridge.evaluate.curves.learning import curve_dataset
from neurobridge.evaluate.decoding import consistency, tabulate_choices
from neurobridge.evaluate.decoding.readouts import CorrelationTemplates
from neurobridge.evaluate.score.permutation import p_value
from neurobridge.evaluate.score.schema import score_attrs
from neurobridge.evaluate.similarity import (
    COMPARATORS,
    DISTANCES,
    cca,
    compare_rdms,
    crossvalidated_rdm,
    linear_cka,
    procrustes_distance,
    rdm,
    rdm_noise_ceiling,
)
from neurobridge.study import format_p, format_value
from tests.refusals import refused, warned

ATTRS = score_attrs({"metric": "m", "splits": "given", "n_stimuli": 9}, n_splits=1, n_permutations=99, seed=0)


def labelled(values: np.ndarray, repetition: list[int] | None = None, **neuroid: object) -> xr.DataArray:
    n = len(values) if repetition is None else len(values) // len(set(repetition))
    stimuli = {"stimulus_id": [f"s{k:02d}" for k in range(n)] * (len(values) // n)}
    return make_assembly(
        values,
        presentation=stimuli if repetition is None else {**stimuli, "repetition": repetition},
        neuroid={"neuroid_id": range(values.shape[1]), **neuroid},
    )


def responses(n: int = 30, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=(n, d)))


# ---- p-values and reductions -----------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), max_size=20))
def test_a_nan_has_no_p_and_nothing_has_one_without_a_null(null):
    assert np.isnan(p_value(np.nan, np.array(null)))
    assert np.isnan(p_value(0.5, np.full(len(null), np.nan)))


@pytest.mark.parametrize("smaller", [False, True])
def test_a_nan_score_has_a_nan_p_even_where_one_is_given(smaller):
    null = np.zeros((2, 99))
    raw = [[0.5, 0.5], [np.nan, 0.5]]
    for given_p in (None, [0.01, 0.01]):
        score = make_score(raw, ("cell", "split"), null=null, p_values=given_p, smaller_is_better=smaller, attrs=ATTRS)
        assert np.isnan(score["p_value"].values).tolist() == [False, True]


def test_aggregate_leaves_no_nan_out():
    raw = np.full((2, 3), 0.4)
    raw[1, 2] = np.nan
    score = make_score(raw, ("split", "neuroid"), null=np.zeros(99), ceiling=np.full(3, 0.8), attrs=ATTRS)
    # Version 0.1 wrote a p for this.
    summary = aggregate(score.assign(p_value=0.01))
    assert np.isnan(summary["raw"])
    assert [summary[name] for name in ("p_value", "raw_low", "raw_high", "normalized_median", "normalized")] == [
        None
    ] * 5


def test_without_permutations_nothing_is_significant_or_not():
    X = responses(60)
    assert np.isnan(predictivity(labelled(X), labelled(X), "ridge", n_permutations=0)["p_value"])
    with_labels = labelled(X).assign_coords(kind=("presentation", ["a", "b"] * 30))
    assert np.isnan(decode(with_labels, "kind", readout="ridge", n_permutations=0)["p_value"])
    numbers = {"raw": 0.5, "normalized": None, "p_value": 1.0, "seconds": 0.1, "n_neuroids": 3, "n_stimuli": 20}
    records = [{"aligner": "ridge", "n_pairs": 5, "seed": 0, **numbers}]
    curve = curve_dataset(records, ["ridge"], CurveSettings(n_pairs=(5,), n_seeds=1, n_permutations=0))
    assert np.isnan(curve["p_value"]).all()


def test_tables_show_nothing_for_what_is_not_defined():
    assert (format_value(np.nan), format_p(np.nan)) == ("n/a", "p n/a")


# ---- RDMs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_dissimilarities_that_are_not_finite_are_not_ranked(comparator, bad):
    first, second = np.array([1.0, bad, 3, 2, 5, 4]), np.arange(1.0, 7)
    for pair in ((first, second), (second, first)):
        with refused(ValueError, "1 of them NaN", "pair 1"):
            compare_rdms(*pair, comparator=comparator)
    with refused(ValueError, "1 of them NaN", "subject 1"):
        rdm_noise_ceiling(np.stack([second, first]), comparator=comparator)
    kept = np.isfinite(first)
    if comparator == "spearman":
        assert compare_rdms(first[kept], second[kept]) == pytest.approx(spearmanr(first[kept], second[kept])[0])


@pytest.mark.parametrize("comparator", sorted(set(COMPARATORS) - {"cosine", "cosine_cov"}))
@settings(max_examples=20, deadline=None)
@given(value=st.floats(1e-20, 1e20), n=st.integers(1, 40))
def test_dissimilarities_equal_up_to_rounding_are_refused(comparator, value, n):
    if comparator == "corr_cov":
        # All pairs of some stimuli.
        n = n * (n + 1) // 2
    # Sums of the same numbers in another order.
    equal = np.full(n, value) * (1 + np.arange(n) % 2 * 1e-16)
    with pytest.raises(ValueError, match=r"all equal.*Mend"):
        compare_rdms(equal, np.arange(float(n)), comparator=comparator)


@pytest.mark.parametrize(("distance", "response"), [("cosine", 0.0), ("correlation", 0.0), ("correlation", 0.3)])
def test_a_stimulus_without_a_direction_is_named(distance, response):
    X = responses()
    X[[7, 9]] = response
    with refused(ValueError, "2 stimuli of 30", "'s07', 's09'", "euclidean"):
        rdm(labelled(X), distance=distance)
    with pytest.raises(ValueError, match=r"'s07'"):
        METRICS["rdm"](labelled(responses(seed=1)), labelled(X), distance=distance)
    with pytest.raises(ValueError, match=r"row 7"):
        DISTANCES[distance](X)
    assert np.isfinite(rdm(labelled(X), distance="euclidean").values).all()


def test_responses_that_are_not_finite_have_no_distance():
    X = responses()
    X[3, 2] = np.nan
    for distance in DISTANCES:
        with refused(ValueError, "(30, 6)", "1 of them NaN"):
            DISTANCES[distance](X)
    with refused(ValueError, "distances", "double precision"):
        DISTANCES["euclidean"](np.array([[1e300], [-1e300]]))


def test_an_animal_that_is_silent_or_equal_is_named():
    X = responses(d=8)
    animals = ["Chabo"] * 4 + ["Tito"] * 4
    silent, equal = X.copy(), X.copy()
    silent[7, 4:] = 0
    for distance in ("cosine", "correlation"):
        with pytest.raises(ValueError, match=r"Tito.*'s07'.*Mend"):
            METRICS["rsa"](labelled(X), labelled(silent, animal=animals), distance=distance)
    # Among the held-out stimuli one animal gives the same response to all.
    equal[20:, 4:] = X[20, 4:]
    with pytest.raises(ValueError, match=r"Tito.*all equal.*Mend"):
        METRICS["rsa"](labelled(X), labelled(equal, animal=animals), [(range(20), range(20, 30))], distance="euclidean")
    with refused(ValueError, "2 subjects"):
        rdm_noise_ceiling(np.stack([np.arange(6.0), -np.arange(6.0)]))


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_a_model_that_tells_no_two_stimuli_apart_is_refused_or_has_no_p(comparator):
    one_hot, Y = labelled(np.eye(12)), labelled(responses(12))
    for distance in ("euclidean", "correlation"):
        if comparator in ("cosine", "cosine_cov"):
            score = METRICS["rdm"](one_hot, Y, distance=distance, comparator=comparator, n_permutations=19)
            assert float(score["p_value"]) > 0.05
        else:
            with pytest.raises(ValueError, match=r"all equal.*Mend"):
                METRICS["rdm"](one_hot, Y, distance=distance, comparator=comparator)


def test_noise_that_is_not_there_whitens_nothing():
    X = responses(6)
    with refused(AssemblyError, "12 presentations", "6 stimuli", "whiten=False"):
        crossvalidated_rdm(labelled(np.concatenate([X, X]), repetition=[0] * 6 + [1] * 6), whiten=True)


# ---- CKA, Procrustes, canonical correlations -------------------------------------------------------------------


@pytest.mark.parametrize("measure", [linear_cka, procrustes_distance])
def test_spaces_without_a_shape_are_refused(measure):
    X, bad = responses(), responses(seed=1)
    bad[4, 1] = np.nan
    with refused(ValueError, "1 NaN", "second", "row 4"):
        measure(X, bad)
    # 0.1 times 30 less its mean is not exactly zero.
    with refused(ValueError, "first", "(30, 6)"):
        measure(np.full((30, 6), 0.1), X)


@pytest.mark.parametrize("n", [4, 10, 40])
def test_the_unbiased_cka_of_stimuli_all_equally_far_apart_is_refused(n):
    with refused(ValueError, "first", f"{n} stimuli", "unbiased=False"):
        linear_cka(np.eye(n), responses(n))
    assert 0 < linear_cka(np.eye(n), responses(n), unbiased=False) < 1


def test_a_projection_that_does_not_vary_counts_as_zero_and_is_said():
    X, Y = responses(40, 2), responses(40, 2, seed=1)
    X[30:] = X[30]
    with warned(UserWarning, "2 constant", "r = 0"):
        score = cca(labelled(X), labelled(Y), [(range(30), range(30, 40))], n_permutations=9)
    assert (score["raw"].item(), score["p_value"].item()) == (0, 1)


# ---- Decoding --------------------------------------------------------------------------------------------------


def test_an_attribute_without_variation_has_no_r2_and_counts_as_zero():
    tilt = np.concatenate([np.linspace(0, 1, 20), np.full(10, 0.1)])
    assembly = labelled(responses()).assign_coords(tilt=("presentation", tilt))
    with pytest.warns(UserWarning, match=r"1 constant attribute"):
        score = decode_attributes(assembly, ["tilt"], splits=[(range(20), range(20, 30))], n_permutations=9)
    assert np.isnan(score["r2"].item())
    assert (score["raw"].item(), score["p_value"].item()) == (0, 1)


def test_choices_that_are_nan_have_no_sensitivity():
    chosen = tabulate_choices(list("abcd"), [0, 0, 1, 1], [0, 0, 1, 1])
    chosen[2, 1] = np.nan
    with refused(AssemblyError, "1 images of 4", "row 2"):
        discriminate(chosen)


def test_halves_equal_up_to_rounding_have_no_consistency():
    equal = np.full(5, 0.1) * (1 + np.arange(5) % 2 * 1e-16)
    with pytest.raises(ValueError, match=r"1 halves"):
        consistency((equal, np.arange(5.0)), (np.arange(5.0), np.arange(5.0)))


def test_a_flat_response_has_no_template():
    X = responses()
    readout = CorrelationTemplates().fit(X, ["a", "b"] * 15)
    X[[3, 4]] = 0.2
    with refused(AssemblyError, "2 of 30", "6 sites", "row 3"):
        readout.predict(X)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), n_silent=st.integers(1, 5))
def test_no_metric_scores_what_it_warns_it_cannot_define(seed, n_silent):
    """Every metric on sparse responses: an error of this package, or a number with a p that is not small by accident."""
    rng = np.random.default_rng(seed)
    Y = rng.poisson(0.3, size=(24, 5)).astype(float)
    Y[rng.permutation(24)[:n_silent]] = 0
    source = labelled(rng.normal(size=(24, 4)))
    target = labelled(Y + (np.arange(24) == 0)[:, None], animal=["a", "a", "a", "b", "b"])
    for name, metric in METRICS.items():
        score, problem = None, "Mend"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                score = metric(source, target, "kfold,n_splits=3", n_permutations=9)
            except ValueError as error:
                problem = str(error)
        assert "Mend" in problem, name
        assert score is None or np.isfinite([*score["raw"].values.ravel(), score["p_value"].item()]).all(), name
