"""Predictivity, ceilings and decoding against closed forms, scikit-learn and their own nulls."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedShuffleSplit

from neurobridge.assemblies import AssemblyError, average_repetitions, make_assembly
from neurobridge.evaluate import (
    METRICS,
    READOUTS,
    REGRESSIONS,
    Splits,
    aggregate,
    brainscore_splits,
    correlate,
    cross_decode,
    decode,
    internal_consistency,
    predictivity,
    shuffle_splits,
    spearman_brown,
    stratified_splits,
    train_readout,
)
from neurobridge.evaluate.correlation import pearson
from neurobridge.evaluate.regression import ALPHAS
from neurobridge.maps.pls import fit_pls
from tests.refusals import refused


def assembly(values: np.ndarray, *, first: int = 0, **presentation: np.ndarray) -> xr.DataArray:
    ids = [f"s{i:04d}" for i in range(first, first + len(values))]
    return make_assembly(
        values,
        presentation={"stimulus_id": ids, **presentation},
        neuroid={"neuroid_id": [f"n{i}" for i in range(values.shape[1])]},
    )


@pytest.fixture
def linear_world() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 12))
    Y = X @ rng.normal(size=(12, 5)) + 0.5 * rng.normal(size=(200, 5))
    objects = np.array([f"o{i % 8}" for i in range(200)])
    return assembly(X, object_name=objects), assembly(Y, object_name=objects)


# ---- splits ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(n=st.integers(20, 200), size=st.floats(0.2, 0.8), seed=st.integers(0, 1000))
def test_shuffle_splits_partition_the_rows(n, size, seed):
    for train, test in shuffle_splits(n, n_splits=3, train_size=size, seed=seed):
        assert sorted(np.concatenate([train, test]).tolist()) == list(range(n))


def test_stratified_splits_keep_every_class_on_both_sides():
    labels = np.repeat(np.arange(16), 10)
    for train, test in stratified_splits(labels, n_splits=5, train_size=0.8, seed=3):
        assert np.array_equal(np.bincount(labels[train]), np.full(16, 8))
        assert np.array_equal(np.bincount(labels[test]), np.full(16, 2))


def test_splits_refuse_overlap_emptiness_and_strangers():
    with pytest.raises(AssemblyError, match=r"1 row.*0.*Mend"):
        Splits([([0, 1, 2], [2, 3])])
    with refused(AssemblyError, "0 training", "1 held-out"):
        Splits([([], [2])])
    with pytest.raises(AssemblyError, match=r"found no fold.*Mend"):
        Splits([])
    with pytest.raises(AssemblyError, match=r"0.*9.*0.*4.*Mend"):
        Splits([([0, 1], [9])]).check(5)
    with pytest.raises(AssemblyError, match=r"'b'.*1.*Mend"):
        stratified_splits(np.array(["a"] * 9 + ["b"]))


def test_default_splits_are_brain_scores(linear_world):
    _, target = linear_world
    shuffled = target.isel(presentation=np.random.default_rng(1).permutation(200))
    ids = np.sort(target["stimulus_id"].values)
    labels = target["object_name"].values[np.argsort(target["stimulus_id"].values)]
    drawn = StratifiedShuffleSplit(10, train_size=0.9, random_state=1).split(np.empty((200, 0)), labels)
    expected = [set(ids[test]) for _, test in drawn]
    found = [set(shuffled["stimulus_id"].values[test]) for _, test in brainscore_splits(shuffled)]
    assert found == expected


# ---- correlation -----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 40), shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 1e3))
def test_pearson_agrees_with_scipy_and_ignores_shift_and_scale(seed, n, shift, scale):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    expected = [scipy.stats.pearsonr(X[:, k], Y[:, k])[0] for k in range(4)]
    assert np.allclose(pearson(X, Y)[0], expected, atol=1e-12)
    assert np.allclose(pearson(scale * X + shift, Y)[0], expected, atol=1e-7)


def test_correlate_normalises_by_the_ceiling_without_clipping():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 4))
    observed = assembly(truth)
    predicted = assembly(np.stack([truth[:, 0], -truth[:, 1], truth[:, 2], truth[:, 3]], axis=1))
    ceiling = xr.DataArray(
        [0.25, 1.0, -0.1, 0.5], dims="neuroid", coords={"neuroid_id": ("neuroid", ["n0", "n1", "n2", "n3"])}
    )
    with pytest.warns(UserWarning, match=r"1.*4 ceiling.*-0.100"):
        score = correlate(predicted, observed, ceiling=ceiling, n_permutations=50)
    assert score.attrs["n_ceilings_not_positive"] == 1
    assert np.allclose(score["raw"].values, [[1, -1, 1, 1]])
    assert np.allclose(score["normalized"].values, [4.0, -1.0, np.nan, 2.0], equal_nan=True)
    assert score["raw"].dims == ("split", "neuroid")
    assert score["p_value"].item() == pytest.approx(1 / 51)
    assert score.attrs["n_stimuli"] == 50


def test_p_values_of_unrelated_data_are_uniform():
    p_values = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        a, b = assembly(rng.normal(size=(30, 3))), assembly(rng.normal(size=(30, 3)))
        p_values.append(correlate(a, b, n_permutations=60, seed=seed)["p_value"].item())
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_same_seed_same_score(linear_world):
    first, second = (predictivity(*linear_world, "ridge", n_permutations=20, seed=4) for _ in range(2))
    xr.testing.assert_identical(first, second)


def test_constant_predictions_are_scored_zero_with_a_warning():
    rng = np.random.default_rng(0)
    observed = assembly(rng.normal(size=(20, 2)))
    predicted = observed.copy()
    predicted.values[:, 1] = 0.1
    with pytest.warns(UserWarning, match="1 constant"):
        score = correlate(predicted, observed, n_permutations=0)
    assert np.allclose(score["raw"].values, [[1, 0]])
    assert score.attrs["n_constant_predictions"] == 1


def test_correlate_refuses_bad_input():
    rng = np.random.default_rng(0)
    observed = assembly(rng.normal(size=(20, 2)))
    with pytest.raises(AssemblyError, match=r"1 neuroid.*Mend"):
        correlate(observed, assembly(np.stack([np.ones(20), np.arange(20.0)], axis=1)))
    with pytest.raises(AssemblyError, match=r"1 neuroids.*2.*Mend"):
        correlate(observed.isel(neuroid=[0]), observed)
    with pytest.raises(AssemblyError, match=r"stimulus_id.*Mend"):
        correlate(assembly(rng.normal(size=(20, 2)), first=100), observed)
    with pytest.raises(AssemblyError, match=r"2 held-out.*3.*Mend"):
        correlate(observed.isel(presentation=[0, 1]), observed)
    ceiling = _ceiling_of_three()
    with pytest.raises(AssemblyError, match=r"3 neuroids.*2.*Mend"):
        correlate(observed, observed, ceiling=ceiling)
    with refused(AssemblyError, "ceiling", "dims ()"):
        correlate(observed, observed, ceiling=xr.DataArray(0.5))


def _ceiling_of_three() -> xr.DataArray:
    return xr.DataArray([0.5] * 3, dims="neuroid", coords={"neuroid_id": ("neuroid", ["n0", "n1", "n2"])})


# ---- ceilings --------------------------------------------------------------------------------------------------


def test_spearman_brown_closed_form():
    assert np.allclose(spearman_brown(np.array([0.0, 0.5, 1.0])), [0, 2 / 3, 1])


@pytest.mark.parametrize("n_repetitions", [4, 7, 20])
def test_ceiling_recovers_the_known_reliability(make_random_assembly, n_repetitions):
    noise = 1.5
    trials = make_random_assembly(3000, 6, n_repetitions=n_repetitions, noise=noise)
    known = 1 / (1 + noise**2 / n_repetitions)
    score = internal_consistency(trials, seed=0)
    # Odd counts make unequal halves, for which Spearman-Brown is exact only in the limit.
    assert np.allclose(score["ceiling"].values, known, atol=0.03)
    assert score["raw"].shape == (10, 6)


def test_a_perfect_model_reaches_the_root_of_the_ceiling(make_random_assembly):
    trials = make_random_assembly(4000, 4, n_repetitions=6, noise=2.0)
    signal = make_random_assembly(4000, 4, n_repetitions=1, noise=0.0)
    ceiling = internal_consistency(trials)["ceiling"]
    score = correlate(signal, average_repetitions(trials), ceiling=ceiling, n_permutations=0)
    assert np.allclose(score["normalized"].values, 1, atol=0.06)


def test_ceiling_of_noise_is_near_zero_and_not_clipped():
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(400)] * 4
    trials = make_assembly(
        rng.normal(size=(1600, 40)),
        presentation={"stimulus_id": ids, "repetition": np.repeat(np.arange(4), 400)},
        neuroid={"neuroid_id": [f"n{i}" for i in range(40)]},
    )
    with pytest.warns(UserWarning, match=r"\d+.*40 ceiling"):
        ceiling = internal_consistency(trials)["ceiling"].values
    assert (ceiling < 0).any()
    assert abs(ceiling.mean()) < 0.05


def test_ceiling_needs_repetitions(make_random_assembly):
    with pytest.raises(AssemblyError, match=r"0 of 20 stimuli.*Mend"):
        internal_consistency(make_random_assembly(20, 3))


# ---- regressions and predictivity ------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p", "d"), [(80, 30, 7), (60, 200, 40), (200, 40, 90), (40, 12, 1)])
def test_kernel_pls_agrees_with_converged_nipals(n, p, d):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, p)) * np.linspace(0.5, 3, p)
    Y = X @ rng.normal(size=(p, d)) + rng.normal(size=(n, d))
    new = rng.normal(size=(15, p))
    peer = PLSRegression(10, scale=False, tol=1e-15, max_iter=100_000).fit(X, Y).predict(new)
    ours = fit_pls(X, Y, n_components=10)(new)
    assert np.allclose(ours, peer.reshape(ours.shape), rtol=0, atol=1e-5 * np.abs(peer).max())


def test_kernel_pls_with_all_components_is_least_squares():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 6)), rng.normal(size=(50, 3))
    assert np.allclose(fit_pls(X, Y, n_components=25)(X), REGRESSIONS["linear"](X, Y)(X), atol=1e-8)


def test_kernel_pls_stops_where_nothing_is_left():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 10))
    Y = X @ rng.normal(size=(10, 2))
    assert np.allclose(fit_pls(X, Y)(X), Y, atol=1e-8)


def test_ridge_agrees_with_an_explicit_leave_one_out_search():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 20))
    y = X[:, :1] + 2 * rng.normal(size=(30, 1))
    errors, alphas = [], ALPHAS * X.var(axis=0).mean()
    for alpha in alphas:
        left_out = [
            (Ridge(alpha=alpha).fit(np.delete(X, i, 0), np.delete(y, i, 0)).predict(X[i : i + 1]) - y[i]).item()
            for i in range(30)
        ]
        errors.append(np.mean(np.square(left_out)))
    best = Ridge(alpha=alphas[int(np.argmin(errors))]).fit(X, y)
    assert np.allclose(REGRESSIONS["ridge"](X, y)(X).ravel(), best.predict(X).ravel())


@pytest.mark.parametrize("regression", ["linear", "pls", "ridge"])
def test_predictivity_finds_a_linear_relation_and_only_that(linear_world, regression):
    source, target = linear_world
    score = predictivity(source, target, regression, n_permutations=200)
    assert score["raw"].shape == (10, 5)
    summary = aggregate(score)
    assert summary["raw"] > 0.95
    assert summary["p_value"] == pytest.approx(1 / 201)
    assert summary["ceiling"] is None
    assert summary["normalized"] is None
    stranger = target.copy(data=np.random.default_rng(9).normal(size=target.shape))
    unrelated = aggregate(predictivity(source, stranger, regression, n_permutations=200))
    assert abs(unrelated["raw"]) < 0.25
    assert unrelated["p_value"] > 0.01


def test_predictivity_does_not_depend_on_the_order_of_presentations(linear_world):
    source, target = linear_world
    order = np.random.default_rng(0).permutation(200)
    first = predictivity(source, target, "ridge", n_permutations=0)
    second = predictivity(source, target.isel(presentation=order), "ridge", n_permutations=0)
    third = predictivity(source.isel(presentation=order), target, "ridge", n_permutations=0)
    assert np.allclose(first["raw"].values, second["raw"].values)
    assert np.allclose(first["raw"].values, third["raw"].values, atol=1e-6)


def test_aggregate_refuses_what_is_no_score(linear_world):
    source, target, *_ = linear_world
    score = predictivity(source, target, "ridge", n_permutations=0)
    with pytest.raises(ValueError, match=r"'raw'.*Mend"):
        aggregate(score.drop_vars("null"))
    with pytest.raises(ValueError, match=r"\('neuroid',\).*Mend"):
        aggregate(score.mean("split"))
    with pytest.raises(ValueError, match=r"\[\]"):
        aggregate(xr.Dataset())
    with refused(ValueError, "DataArray", "Dataset"):
        aggregate(score["raw"])
    with refused(ValueError, "cka", "ceiling of 5 values", "one number"):
        METRICS["cka"](source, target, ceiling=np.full(5, 0.8))
    with refused(ValueError, "cka", "object", "one number"):
        METRICS["cka"](source, target, ceiling=object)
    for share in (0, 1, 95):
        with refused(ValueError, f"confidence={share}", "(0, 1)"):
            aggregate(score, confidence=share)


def test_aggregate_follows_brain_scores_rule(linear_world):
    source, target = linear_world
    ceiling = xr.DataArray(np.linspace(0.7, 0.9, 5), dims="neuroid", coords={"neuroid_id": target["neuroid_id"]})
    score = predictivity(source, target, "ridge", ceiling=ceiling, n_permutations=10)
    raw = float(score["raw"].median("neuroid").mean("split"))
    assert aggregate(score)["raw"] == pytest.approx(raw)
    assert aggregate(score)["normalized"] == pytest.approx(raw**2 / 0.8)


def test_scores_can_be_written(linear_world, tmp_path):
    score = predictivity(*linear_world, "ridge", n_permutations=10)
    score.to_netcdf(tmp_path / "score.nc")
    with xr.open_dataset(tmp_path / "score.nc") as read:
        assert np.array_equal(read["raw"].values, score["raw"].values)


def test_predictivity_refuses_bad_input(linear_world):
    source, target = linear_world
    with pytest.raises(AssemblyError, match=r"'magic'.*Mend"):
        predictivity(source, target, "magic")
    with refused(AssemblyError, "10 row", "fold 0"):
        predictivity(source, target, splits=[(np.arange(20), np.arange(10, 30))])
    with pytest.raises(AssemblyError, match=r"0.*300.*0.*199"):
        predictivity(source, target, splits=[(np.arange(20), np.array([50, 51, 300]))])
    holes = source.copy(deep=True)
    holes.values[3, 4] = np.nan
    with pytest.raises(AssemblyError, match=r"1.*'s0003'.*'n4'.*Mend"):
        predictivity(holes, target)
    doubled = xr.concat([source, source.isel(presentation=[0])], dim="presentation")
    with refused(AssemblyError, "1 duplicate", "stimulus_id"):
        predictivity(doubled, target)


# ---- decoding --------------------------------------------------------------------------------------------------


@pytest.fixture
def classes() -> xr.DataArray:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    values = rng.normal(size=(240, 10)) + 3 * np.eye(4, 10)[labels]
    return assembly(values, category_name=np.array([f"c{k}" for k in labels]))


@pytest.mark.parametrize("readout", sorted(READOUTS))
def test_decode_reads_what_is_there(classes, readout):
    score = decode(classes, "category_name", readout=readout, n_permutations=300)
    assert score["raw"].shape == (10,)
    assert score["raw"].values.mean() > 0.85
    assert score["null"].values.mean() == pytest.approx(0.25, abs=0.03)
    assert score["p_value"].item() < 0.01


def test_decode_of_noise_is_at_chance(classes):
    noise = classes.copy(data=np.random.default_rng(1).normal(size=classes.shape))
    score = decode(noise, "category_name", n_permutations=300)
    assert abs(score["raw"].values.mean() - 0.25) < 0.12
    assert score["p_value"].item() > 0.05


def test_cross_decode_reads_another_system_and_knows_what_it_was_trained_on(classes):
    train, test = classes.isel(presentation=slice(0, 160)), classes.isel(presentation=slice(160, None))
    score = cross_decode(train, test, "category_name", n_permutations=100)
    assert score["raw"].shape == (1,)
    assert score["raw"].item() > 0.85
    assert score.attrs["n_stimuli"] == 80
    frozen = train_readout(train, "category_name")
    assert frozen.score(test, n_permutations=100)["raw"].item() == score["raw"].item()
    with pytest.raises(AssemblyError, match=r"1 stimuli.*'s0159'.*Mend"):
        frozen.score(classes.isel(presentation=slice(159, None)))
    with pytest.raises(AssemblyError, match=r"test.*neuroids.*Mend"):
        frozen.score(test.isel(neuroid=slice(None, None, -1)))


def test_decode_refuses_bad_input(classes):
    with pytest.raises(AssemblyError, match=r"'object_name'.*Mend"):
        decode(classes, "object_name")
    with pytest.raises(AssemblyError, match=r"'oracle'.*Mend"):
        decode(classes, "category_name", readout="oracle")
    one = classes.isel(presentation=classes["category_name"].values == "c0")
    with refused(AssemblyError, "category_name", "'c0'"):
        train_readout(one, "category_name")
