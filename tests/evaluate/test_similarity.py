"""CKA, canonical correlations, Procrustes distance and RDMs: invariances, closed forms, known truths, metric axioms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import (
    COMPARATORS,
    DISTANCES,
    METRICS,
    aggregate,
    crossvalidated_rdm,
    linear_cka,
    procrustes_distance,
    rdm,
    shuffle_splits,
)
from neurobridge.evaluate.similarity.arrays import cka_scorer, fit_cca, procrustes_scorer
from neurobridge.evaluate.similarity.comparators import compare_rdms, rdm_scorer
from neurobridge.evaluate.similarity.ranks import average_ranks
from neurobridge.evaluate.similarity.rdms import rdm_noise_ceiling
from tests.refusals import refused


def rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def spaces(seed: int = 0, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 7))
    return X, X[:, :5] @ rng.normal(size=(5, 4)) + rng.normal(size=(n, 4))


def labelled(values: np.ndarray, **neuroid) -> object:
    return make_assembly(
        values,
        presentation={"stimulus_id": [f"s{k:03d}" for k in range(len(values))]},
        neuroid={"neuroid_id": [f"n{k:02d}" for k in range(values.shape[1])], **neuroid},
    )


# ---- kernels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", [linear_cka, lambda X, Y: linear_cka(X, Y, unbiased=False), procrustes_distance])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_rotations_scalings_and_shifts_do_not_matter(similarity, seed, scale, shift):
    X, Y = spaces(seed)
    moved = scale * (X @ rotation(7, seed)) + shift
    assert similarity(moved, Y) == pytest.approx(similarity(X, Y), abs=1e-7)
    assert similarity(Y, X) == pytest.approx(similarity(X, Y), abs=1e-9)
    assert similarity(X, moved) == pytest.approx(similarity(X, X), abs=1e-6)


@pytest.mark.parametrize(("p", "d"), [(7, 4), (90, 80)])
def test_cka_is_its_textbook_formula(p, d):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, p)) + 3, rng.normal(size=(30, d))
    H = np.eye(30) - 1 / 30
    K, L = X @ X.T, Y @ Y.T

    def biased(K, L):
        return np.trace(K @ H @ L @ H)

    def unbiased(K, L):
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        one = np.ones(30)
        return np.trace(K @ L) + one @ K @ one * (one @ L @ one) / (29 * 28) - 2 * one @ K @ L @ one / 28

    for hsic, flag in ((biased, False), (unbiased, True)):
        expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
        assert linear_cka(X, Y, unbiased=flag) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("p", "d"), [(5, 4), (40, 1), (60, 50)])
@pytest.mark.parametrize("unbiased", [True, False])
def test_a_prepared_cka_of_an_order_is_that_of_the_reordered_rows(p, d, unbiased):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, p)), rng.normal(size=(20, d))
    score = cka_scorer(X, Y, unbiased=unbiased)
    for order in (rng.permutation(20), rng.permutation(20)):
        assert score(order) == pytest.approx(linear_cka(X, Y[order], unbiased=unbiased), rel=1e-9)


@pytest.mark.parametrize(("p", "d", "needed"), [(60, 50, 24 * 20**2), (15, 10, 8 * 15**2), (40, 8, 8 * 20**2)])
def test_cka_refuses_what_would_not_fit(p, d, needed):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, p)), rng.normal(size=(20, d))
    assert np.isfinite(linear_cka(X, Y, memory_limit=needed))
    with refused(MemoryError, "20 stimuli", p, f"{d} features"):
        linear_cka(X, Y, memory_limit=needed - 1)


def test_only_the_unbiased_cka_of_unrelated_spaces_is_zero_on_average():
    values = {True: [], False: []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(20, 100)), rng.normal(size=(20, 100))
        for flag, found in values.items():
            found.append(linear_cka(X, Y, unbiased=flag))
    assert abs(np.mean(values[True])) < 3 * np.std(values[True]) / np.sqrt(60)
    assert min(values[True]) < 0
    assert np.mean(values[False]) > 0.7


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_procrustes_is_a_metric_and_the_best_rotation(seed):
    rng = np.random.default_rng(seed)
    A, B, C = (rng.normal(size=(12, d)) for d in (3, 4, 20))
    ab, bc, ac = procrustes_distance(A, B), procrustes_distance(B, C), procrustes_distance(A, C)
    assert ac <= ab + bc + 1e-9
    assert 0 <= ab <= np.pi / 2
    X, Y = A - A.mean(axis=0), B - B.mean(axis=0)
    X = np.pad(X, ((0, 0), (0, 1)))
    for trial in range(20):
        Q = rotation(4, trial)
        cosine = np.sum((X @ Q) * Y) / np.linalg.norm(X) / np.linalg.norm(Y)
        assert np.arccos(cosine) >= ab - 1e-9


def test_cca_finds_the_shared_directions_and_their_correlation():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(4000, 2))
    X = np.column_stack([shared + 0.5 * rng.normal(size=(4000, 2)), rng.normal(size=(4000, 3))]) @ rng.normal(
        size=(5, 5)
    )
    Y = np.column_stack([shared, rng.normal(size=(4000, 2))]) @ rng.normal(size=(4, 4))
    to_x, to_y = fit_cca(X, Y)
    U, V = to_x(X), to_y(Y)
    r = np.corrcoef(U.T, V.T)[:4, 4:]
    assert np.allclose(np.diag(r)[:2], 1 / np.sqrt(1.25), atol=0.02)
    assert (np.abs(np.diag(r)[2:]) < 0.07).all()
    assert np.allclose(r - np.diag(np.diag(r)), 0, atol=1e-8)


def test_cca_agrees_with_the_generalised_eigenproblem_and_ignores_linear_maps():
    X, Y = spaces(3, n=80)
    to_x, to_y = fit_cca(X @ np.random.default_rng(1).normal(size=(7, 7)), Y)
    mixed = X @ np.random.default_rng(1).normal(size=(7, 7))
    r = np.array([np.corrcoef(u, v)[0, 1] for u, v in zip(to_x(mixed).T, to_y(Y).T, strict=True)])
    Xc, Yc = X - X.mean(axis=0), Y - Y.mean(axis=0)
    M = np.linalg.solve(Yc.T @ Yc, Yc.T @ Xc) @ np.linalg.solve(Xc.T @ Xc, Xc.T @ Yc)
    assert np.allclose(np.sort(r**2), np.sort(np.linalg.eigvals(M).real), atol=1e-8)


def test_svcca_keeps_the_leading_components():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3)) * [10, 10, 0.01]
    to_x, _ = fit_cca(X, rng.normal(size=(100, 3)), variance=0.99)
    assert to_x(X).shape == (100, 2)
    to_x, _ = fit_cca(X, rng.normal(size=(100, 3)), n_components=1)
    assert to_x(X).shape == (100, 1)
    wide, _ = fit_cca(rng.normal(size=(20, 50)), rng.normal(size=(20, 50)))
    assert wide(rng.normal(size=(5, 50))).shape == (5, 19)


# ---- RDMs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", sorted({*DISTANCES} - {"poisson"}))
@pytest.mark.parametrize("n", [15, 300])
def test_distances_are_scipys(distance, n):
    X = np.random.default_rng(0).normal(size=(n, 6))
    expected = pdist(X, distance) / (6 if distance == "sqeuclidean" else 1)
    assert np.allclose(DISTANCES[distance](X), expected)
    square = rdm(labelled(X), distance=distance)
    assert square.dims == ("presentation", "presentation_2")
    assert np.allclose(square.values, squareform(expected))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(-1e6, 1e6, width=32), st.integers(-3, 3).map(float)), min_size=1, max_size=60))
def test_ranks_are_scipys(values):
    assert np.array_equal(average_ranks(np.array(values)), scipy.stats.rankdata(values))


@pytest.mark.parametrize("n_values", [3, 5000, 10**9])
def test_ranks_and_their_correlation_are_scipys_over_many_blocks(n_values):
    rng = np.random.default_rng(0)
    first = rng.integers(-n_values, n_values, size=100_000) / 7
    second = np.where(rng.random(100_000) < 0.3, first, rng.integers(0, n_values, size=100_000))
    for values in (first, second):
        assert np.array_equal(average_ranks(values), scipy.stats.rankdata(values))
    expected = scipy.stats.spearmanr(first, second)[0]
    assert compare_rdms(first, second) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-1e6, 1e6, width=32)), min_size=2, max_size=60))
def test_rank_correlations_are_scipys(pairs):
    first, second = np.array(pairs, dtype=float).T
    if len(set(first)) > 1 and len(set(second)) > 1:
        expected = scipy.stats.spearmanr(first, second)[0]
        assert compare_rdms(first, second) == pytest.approx(expected, abs=1e-12)
    else:
        with pytest.raises(ValueError, match=r"all equal.*Mend"):
            compare_rdms(first, second)


@pytest.mark.parametrize(
    ("comparator", "theirs"),
    [
        ("spearman", lambda a, b: scipy.stats.spearmanr(a, b)[0]),
        ("pearson", lambda a, b: scipy.stats.pearsonr(a, b)[0]),
        ("kendall", lambda a, b: scipy.stats.kendalltau(a, b)[0]),
        ("cosine", lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
    ],
)
def test_comparators_are_scipys_and_permute_stimuli(comparator, theirs):
    X, Y = spaces(1, n=12)
    first, second = pdist(X), np.round(pdist(Y), 1)
    assert compare_rdms(first, second, comparator=comparator) == pytest.approx(theirs(first, second))
    order = np.random.default_rng(0).permutation(12)
    shuffled = squareform(second)[np.ix_(order, order)]
    score = rdm_scorer(first, second, 12, comparator=comparator)
    assert score(order) == pytest.approx(theirs(first, squareform(shuffled, checks=False)))
    assert score(slice(None)) == pytest.approx(theirs(first, second))


def test_crossvalidated_distances_are_unbiased_and_plain_ones_are_not():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(6, 40)) * np.array([0, 0, 1, 1, 1, 1])[:, None]
    expected = pdist(truth, "sqeuclidean") / 40
    crossed, plain = [], []
    for _ in range(60):
        # Noise that all stimuli of a repetition share must not count either.
        trials = truth + 2 * rng.normal(size=(4, 6, 40)) + rng.normal(size=(4, 1, 40))
        data = _trials(trials)
        crossed.append(crossvalidated_rdm(data).values[~np.tri(6, dtype=bool)])
        plain.append(pdist(trials.mean(axis=0), "sqeuclidean") / 40)
    error = np.std(crossed, axis=0) / np.sqrt(60)
    assert (np.abs(np.mean(crossed, axis=0) - expected) < 4 * error).all()
    assert np.allclose(np.mean(plain, axis=0) - expected, 2 * 4 / 4, atol=0.3)
    assert min(row[0] for row in crossed) < 0


def test_whitened_distances_count_reliable_directions():
    rng = np.random.default_rng(0)
    noise = np.array([1.0, 3.0])
    truth = np.array([[0, 0], [1, 0], [0, 6.0]])
    data = _trials(truth + noise * rng.normal(size=(400, 3, 2)))
    square = crossvalidated_rdm(data, whiten=True).values
    assert square[0, 1] == pytest.approx(1 / 2, rel=0.25)
    assert square[0, 2] == pytest.approx(36 / 9 / 2, rel=0.25)


def test_crossvalidated_distances_take_unequal_counts():
    trials = _trials(np.random.default_rng(0).normal(size=(3, 4, 5)))
    fewer = trials.isel(presentation=slice(0, 11))
    square = crossvalidated_rdm(fewer).values
    x = {(s, r): fewer.values[r * 4 + s] for r in range(3) for s in range(4) if r * 4 + s < 11}

    def inner(i, j):
        pairs = [x[i, r] @ x[j, q] for r in range(3) for q in range(3) if r != q and (i, r) in x and (j, q) in x]
        return np.mean(pairs)

    mean = fewer.values.mean(axis=0)
    x = {key: value - mean for key, value in x.items()}
    assert square[1, 3] == pytest.approx((inner(1, 1) + inner(3, 3) - 2 * inner(1, 3)) / 5)


def _trials(values: np.ndarray):
    repetitions, stimuli, sites = values.shape
    return make_assembly(
        values.reshape(-1, sites),
        presentation={
            "stimulus_id": [f"s{k:03d}" for k in range(stimuli)] * repetitions,
            "repetition": np.repeat(np.arange(repetitions), stimuli),
        },
        neuroid={"neuroid_id": [f"n{k:02d}" for k in range(sites)]},
    )


@pytest.mark.parametrize("comparator", sorted(COMPARATORS))
def test_noise_ceiling_bounds_hold(comparator):
    rng = np.random.default_rng(0)
    truth = np.abs(rng.normal(size=300))
    rdms = truth + 0.5 * rng.normal(size=(5, 300))
    lower, upper = rdm_noise_ceiling(rdms, comparator=comparator)
    of_truth = np.mean([compare_rdms(truth, d, comparator=comparator) for d in rdms])
    assert lower < of_truth
    assert lower < upper < 1
    if comparator != "kendall":
        assert of_truth <= upper + 1e-9
        for _ in range(20):
            other = truth + 0.2 * rng.normal(size=300)
            assert np.mean([compare_rdms(other, d, comparator=comparator) for d in rdms]) <= upper + 1e-9


# ---- Scores ----------------------------------------------------------------------------------------------------


@pytest.fixture
def worlds():
    X, Y = spaces(5, n=80)
    Y = np.column_stack([Y, Y @ np.random.default_rng(0).normal(size=(4, 4))])
    animals = ["Chabo", "Tito"] * 4
    stranger = np.random.default_rng(9).normal(size=Y.shape)
    return labelled(X), labelled(Y, animal=animals), labelled(stranger, animal=animals)


@pytest.mark.parametrize("name", ["cka", "cka_biased", "rdm", "rsa", "cca", "svcca", "procrustes"])
def test_similarities_find_a_relation_and_only_that(worlds, name, tmp_path):
    source, target, stranger = worlds
    score = METRICS[name](source, target, n_permutations=60)
    assert set(score.data_vars) >= {"raw", "ceiling", "normalized", "null", "p_value"}
    assert score["raw"].dims == ("split",)
    assert score["p_value"].item() == pytest.approx(1 / 61)
    assert METRICS[name](source, stranger, n_permutations=60)["p_value"].item() > 0.05
    again = METRICS[name](source, target, n_permutations=60)
    assert again.identical(score)
    summary = aggregate(score)
    assert summary["n_neuroids"] == 0
    assert summary["raw"] == pytest.approx(score["raw"].values.mean())
    score.to_netcdf(tmp_path / "score.nc")


def test_p_values_of_unrelated_rdms_are_uniform():
    p_values = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        a, b = labelled(rng.normal(size=(12, 5))), labelled(rng.normal(size=(12, 5)))
        p_values.append(METRICS["rdm"](a, b, n_permutations=40, seed=seed)["p_value"].item())
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_folds_are_scored_on_their_held_out_stimuli(worlds):
    source, target, _ = worlds
    splits = shuffle_splits(80, n_splits=3, train_size=0.4)
    score = METRICS["cka"](source, target, splits, n_permutations=0)
    expected = [linear_cka(source.values[test], target.values[test]) for _, test in splits]
    assert np.allclose(score["raw"].values, expected)
    assert score.attrs["splits"] == f"held-out stimuli of {splits.description}"


def test_rsa_reports_every_subject_between_the_bounds(worlds):
    source, target, _ = worlds
    score = METRICS["rsa"](source, target, n_permutations=10)
    assert score["raw_by_subject"].dims == ("split", "subject")
    assert score["subject"].values.tolist() == ["Chabo", "Tito"]
    assert score["raw_by_subject"].values.mean() == pytest.approx(score["raw"].item())
    assert score["ceiling_lower"].item() < score["ceiling"].item()
    assert score["normalized"].item() == pytest.approx(score["raw"].item() / score["ceiling"].item())
    kendall = METRICS["rsa"](source, target, comparator="kendall", n_permutations=5)
    assert kendall["p_value"].item() == pytest.approx(1 / 6)


def test_a_crossvalidated_rdm_is_matched_by_stimulus():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20, 30))
    trials = _trials(truth + 0.5 * rng.normal(size=(3, 20, 30)))
    order = rng.permutation(20)
    source = labelled(truth).isel(presentation=order[:15])
    score = METRICS["rdm"](source, trials, distance="crossvalidated", comparator="cosine", n_permutations=0)
    square = crossvalidated_rdm(trials).values[np.ix_(order[:15], order[:15])]
    expected = compare_rdms(pdist(source.values, "sqeuclidean"), square[~np.tri(15, dtype=bool)], comparator="cosine")
    assert score["raw"].item() == pytest.approx(expected)
    assert expected > 0.8


def test_a_ceiling_normalises_and_one_below_zero_is_said(worlds):
    source, target, _ = worlds
    score = METRICS["cka"](source, target, ceiling=0.5, n_permutations=0)
    assert score["normalized"].item() == pytest.approx(score["raw"].item() / 0.5)
    with pytest.warns(UserWarning, match=r"1.*1 ceiling.*-0.200"):
        low = METRICS["cka"](source, target, ceiling=-0.2, n_permutations=0)
    assert np.isnan(low["normalized"].item())


def test_what_cannot_be_compared_is_refused(worlds):
    source, target, _ = worlds
    X, Y = spaces()
    with pytest.raises(ValueError, match=r"\(3, 7\).*4.*Mend"):
        linear_cka(X[:3], Y[:3])
    with pytest.raises(ValueError, match=r"procrustes.*second.*Mend"):
        procrustes_scorer(X, np.ones_like(Y))
    with pytest.raises(ValueError, match=r"unbiased=False"):
        cka_scorer(np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match=r"variance=2.*Mend"):
        fit_cca(X, Y, variance=2)
    with pytest.raises(ValueError, match=r"1 stimuli.*2"):
        DISTANCES["correlation"](np.vstack([X[:2], np.ones((1, 7))]))
    with pytest.raises(ValueError, match=r"dissimilarities.*Mend"):
        compare_rdms(np.ones(6), np.arange(6.0))
    with pytest.raises(ValueError, match=r"'tau'.*Mend"):
        compare_rdms(np.ones(6), np.ones(6), comparator="tau")
    with pytest.raises(ValueError, match=r"\(6,\).*\(3,\).*Mend"):
        compare_rdms(np.ones(6), np.ones(3))
    with refused(ValueError, "(1, 6)"):
        rdm_noise_ceiling(np.ones((1, 6)))
    with pytest.raises(AssemblyError, match=r"'manhattan'.*Mend"):
        METRICS["rdm"](source, target, distance="manhattan")
    with pytest.raises(AssemblyError, match=r"'manhattan'.*Mend"):
        rdm(source, distance="manhattan")
    with pytest.raises(AssemblyError, match=r"'tau'.*Mend"):
        METRICS["rsa"](source, target, comparator="tau")
    with refused(AssemblyError, "'animal'", "'neuroid'"):
        METRICS["rsa"](source, source)
    with pytest.raises(AssemblyError, match=r"1 animal.*Mend"):
        METRICS["rsa"](source, target.isel(neuroid=slice(0, 8, 2)))
    with pytest.raises(AssemblyError, match=r"'repetition'.*Mend"):
        crossvalidated_rdm(source)
    once = _trials(np.random.default_rng(0).normal(size=(2, 3, 2))).isel(presentation=slice(0, 5))
    with pytest.raises(AssemblyError, match=r"1 stimuli.*'s002'.*Mend"):
        crossvalidated_rdm(once)
