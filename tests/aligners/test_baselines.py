"""Baselines against closed forms and their peers: what each recovers, what each matches, what each refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LinearRegression, Ridge

from neurobridge.aligners import (
    BASELINES,
    AlignerNotFittedError,
    AssemblyAligner,
    CCAAligner,
    KeypointAligner,
    PLSAligner,
    ProcrustesAligner,
    RelativeAligner,
)
from neurobridge.aligners.baselines.keypoints import jensen_shannon, relations
from neurobridge.aligners.baselines.relative import cosines
from neurobridge.aligners.baselines.subspaces import folds_of, least_error
from neurobridge.assemblies import AssemblyError, Pairs, make_assembly
from neurobridge.study.demo.task import COMPARED


def space(values, prefix, first=0):
    ids = [f"s{i}" for i in range(first, first + len(values))]
    names = [f"{prefix}{k}" for k in range(values.shape[1])]
    return make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": names})


def rotated_pair(n=200, d=5, seed=0, noise=0.0):
    """Two clouds of unit variance in every direction, one the other turned: standardising keeps the rotation."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X -= X.mean(axis=0)
    X = np.linalg.qr(X)[0] * np.sqrt(n)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return X, X @ turn + noise * rng.normal(size=(n, d))


def fitted_arrays(aligner, X, Y, rows=None):
    every = np.arange(len(X))
    aligner._fit_arrays(X, Y, (every, every) if rows is None else rows)
    return aligner


def test_the_demo_shows_ridge_and_procrustes_and_the_dict_has_all():
    assert set(BASELINES) == {
        "ridge",
        "procrustes",
        "pls",
        "cca",
        "relative",
        "keypoints",
        "whitened",
        "spectral",
        "fugw",
    }
    assert COMPARED[-2:] == ("ridge", "procrustes")


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_rotation_is_recovered_from_few_pairs_in_both_directions(name):
    X, Y = rotated_pair()
    source, target = space(X, "x"), space(Y, "y")
    pairs = Pairs.shared(source, target).draw(40, seed=1)
    aligner = BASELINES[name]().fit(source, target, pairs)
    rest = ~np.isin(source["stimulus_id"].values, pairs.source_id)
    forth, back = aligner.transform(source).values[rest], aligner.inverse_transform(target).values[rest]
    # Cosines do not see how far from the origin a point is; transport matches neighbours now and then.
    least = {"relative": 0.94, "keypoints": 0.9, "spectral": 0.99, "fugw": 0.99}.get(name, 0.999)
    assert np.corrcoef(forth.ravel(), Y[rest].ravel())[0, 1] > least
    assert np.corrcoef(back.ravel(), X[rest].ravel())[0, 1] > least


@pytest.mark.parametrize("name", ["ridge", "pls", "cca"])
def test_an_exact_linear_map_between_different_dimensions_is_recovered(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6)) * np.array([1, 2, 3, 4, 5, 6])
    Y = X @ rng.normal(size=(6, 9)) + 7
    train, test = slice(0, 40), slice(40, 80)
    aligner = BASELINES[name]().fit(space(X[train], "x"), space(Y[train], "y"))
    moved = aligner.transform(space(X[test], "x", 40)).values
    assert np.abs(moved - Y[test]).max() < (0.05 if name == "ridge" else 1e-6)
    back = aligner.inverse_transform(space(Y[test], "y", 40)).values
    assert np.abs(back - X[test]).max() < (0.05 if name == "ridge" else 1e-6)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_unrelated_spaces_are_not_predicted(name):
    rng = np.random.default_rng(0)
    source, target = space(rng.normal(size=(150, 6)), "x"), space(rng.normal(size=(150, 4)), "y")
    aligner = BASELINES[name]().fit(source[:100], target[:100])
    moved = aligner.transform(source[100:]).values
    assert abs(np.corrcoef(moved.ravel(), target[100:].values.ravel())[0, 1]) < 0.25 or moved.std() < 1e-9


@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("n_pairs", [2, 3])
def test_two_pairs_are_enough_to_run(name, n_pairs):
    X, Y = rotated_pair(30)
    source, target = space(X, "x"), space(Y, "y")
    aligner = BASELINES[name]().fit(source, target, Pairs.shared(source, target).draw(n_pairs, seed=0))
    assert np.isfinite(aligner.transform(source).values).all()
    assert np.isfinite(aligner.inverse_transform(target).values).all()


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_parameters_survive_cloning(name):
    aligner = BASELINES[name](seed=3)
    assert clone(aligner).get_params() == aligner.get_params()


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_saved_baseline_maps_as_before(name, tmp_path):
    X, Y = rotated_pair(60, noise=0.2)
    source, target = space(X, "x"), space(Y, "y")
    aligner = BASELINES[name]().fit(source, target, Pairs.shared(source, target).draw(20, seed=0))
    aligner.save(tmp_path / "kept")
    read = AssemblyAligner.load(tmp_path / "kept")
    assert type(read) is BASELINES[name]
    assert np.array_equal(read.transform(source).values, aligner.transform(source).values)
    assert np.array_equal(read.inverse_transform(target).values, aligner.inverse_transform(target).values)


# ---- PLS and CCA -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 40), seed=st.integers(0, 100))
def test_folds_leave_every_pair_out_once(n, seed):
    folds = folds_of(n, seed)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(n))
    assert all(len(np.intersect1d(train, test)) == 0 and len(train) + len(test) == n for train, test in folds)


def test_least_error_sums_over_folds_and_skips_what_some_fold_lacks():
    assert least_error([{"a": 1.0, "b": 0.0, "c": 0.0}, {"a": 1.0, "b": 3.0}]) == "a"


def test_pls_keeps_few_components_where_few_carry_the_relation():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(60, 2))
    X = latent @ rng.normal(size=(2, 20)) * 2 + rng.normal(size=(60, 20))
    Y = latent @ rng.normal(size=(2, 15)) + rng.normal(size=(60, 15))
    aligner = PLSAligner().fit(space(X, "x"), space(Y, "y"))
    assert max(aligner.n_components_) <= 4
    assert PLSAligner(n_components=3).fit(space(X, "x"), space(Y, "y")).n_components_ == (3, 3)


def test_cca_agrees_with_scikit_learn_on_full_rank_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5))
    Y = X[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(120, 4))
    peer = CCA(n_components=2, scale=False, tol=1e-15, max_iter=100_000).fit(X, Y)
    variates = peer.transform(X, Y)
    expected = [np.corrcoef(variates[0][:, k], variates[1][:, k])[0, 1] for k in range(2)]
    aligner = fitted_arrays(CCAAligner(penalty=0.0, n_canonical=2), X, Y)
    assert np.allclose(aligner.correlations_, expected, atol=1e-6)
    # The least-squares prediction of y from those two variates of x.
    best = LinearRegression().fit(variates[0], Y).predict(variates[0])
    assert np.allclose(aligner._forward(X), best, atol=1e-5)


def test_cca_with_all_components_is_least_squares():
    rng = np.random.default_rng(0)
    X, Y, new = rng.normal(size=(50, 4)), rng.normal(size=(50, 6)), rng.normal(size=(10, 4))
    aligner = fitted_arrays(CCAAligner(penalty=0.0, n_canonical=6), X, Y)
    assert np.allclose(aligner._forward(new), LinearRegression().fit(X, Y).predict(new), atol=1e-9)


def test_penalised_cca_with_all_variates_is_ridge_regression():
    rng = np.random.default_rng(0)
    X, Y, new = rng.normal(size=(30, 12)), rng.normal(size=(30, 40)), rng.normal(size=(10, 12))
    alpha = 0.3 * (np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2).mean()
    aligner = fitted_arrays(CCAAligner(penalty=0.3, n_canonical=40), X, Y)
    assert np.allclose(aligner._forward(new), Ridge(alpha=alpha).fit(X, Y).predict(new), atol=1e-8)


def test_cca_of_few_pairs_is_penalised_and_of_low_rank_where_the_relation_is():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(40, 1))
    X = latent @ rng.normal(size=(1, 60)) + rng.normal(size=(40, 60))
    Y = latent @ rng.normal(size=(1, 50)) + rng.normal(size=(40, 50))
    aligner = fitted_arrays(CCAAligner(), X, Y)
    assert min(penalty for penalty, _ in aligner.chosen_) > 0
    assert max(k for _, k in aligner.chosen_) <= 10


# ---- relative representations ----------------------------------------------------------------------------------


def test_relative_coordinates_are_cosines_and_do_not_see_rotation_or_scale():
    X, Y = rotated_pair()
    assert np.allclose(cosines(X, X[:7]), cosines(3 * Y, 3 * Y[:7]))
    assert np.allclose(np.diag(cosines(X[:7], X[:7])), 1)
    assert np.allclose(cosines(np.zeros((1, 5)), X[:3]), 0)


def test_relative_representations_of_a_turned_sphere_are_exact():
    X, Y = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in rotated_pair())
    aligner = fitted_arrays(RelativeAligner(), X, 5 * Y, (np.arange(20), np.arange(20)))
    assert np.abs(aligner._forward(X) - 5 * Y).max() < 1e-3
    assert np.abs(aligner._backward(5 * Y) - X).max() < 1e-3


def test_the_relative_decoder_is_trained_in_the_target_space_alone():
    """Spoiling unpaired source points changes nothing; spoiling unpaired target points does."""
    X, Y = rotated_pair(60, noise=0.1)
    rows = np.arange(15), np.arange(15)
    new = np.random.default_rng(1).normal(size=(5, 5))
    first = fitted_arrays(RelativeAligner(), X, Y, rows)._forward(new)
    other = X.copy()
    other[15:] += 5
    decoder_only = fitted_arrays(RelativeAligner(), other, Y, rows)._forward(new)
    assert np.array_equal(first, decoder_only)
    other = Y.copy()
    other[15:] *= np.linspace(0.2, 3, 5)
    assert not np.allclose(first, fitted_arrays(RelativeAligner(), X, other, rows)._forward(new))


def test_an_untrustworthy_relative_space_is_penalised_more():
    X, Y = rotated_pair(100)
    rows = np.arange(30), np.arange(30)
    clean = fitted_arrays(RelativeAligner(), X, Y, rows)
    noisy = fitted_arrays(RelativeAligner(), X, Y + 1.5 * np.random.default_rng(0).normal(size=Y.shape), rows)
    assert clean.alpha_[0] < noisy.alpha_[0]


# ---- keypoint-guided transport ---------------------------------------------------------------------------------


def test_keypoints_match_themselves_and_nothing_else():
    X, Y = rotated_pair(60, noise=0.3)
    order = np.random.default_rng(0).permutation(60)
    rows = np.arange(10), order[:10]
    aligner = fitted_arrays(KeypointAligner(), X, np.ascontiguousarray(Y), rows)
    plan = aligner.plan_.toarray()
    for i, j in zip(*rows, strict=True):
        assert np.flatnonzero(plan[i]).tolist() == [j]
        assert np.flatnonzero(plan[:, j]).tolist() == [i]
    rest = np.delete(np.delete(plan, rows[0], axis=0), rows[1], axis=1)
    assert np.allclose(rest.sum(axis=0), 1 / 50)
    assert np.allclose(rest.sum(axis=1), 1 / 50)


def test_points_are_matched_exactly_where_relations_are_kept():
    X, Y = rotated_pair(50)
    order = np.random.default_rng(0).permutation(50)
    rows = np.arange(8), np.argsort(order)[:8]
    plan = fitted_arrays(KeypointAligner(), X, Y[order], rows).plan_.toarray()
    assert np.array_equal(order[plan.argmax(axis=1)], np.arange(50))


def test_relations_are_distributions_that_prefer_near_keypoints():
    X = np.array([[0.0, 0], [1, 0], [10, 0], [9, 0]])
    R = relations(X, np.array([0, 2]), 0.1)
    assert np.allclose(R.sum(axis=1), 1)
    assert R[1, 0] > 0.99
    assert R[3, 1] > 0.99
    # exp(-2 * 1 / (0.1 * 100)) against exp(-2 * 81 / (0.1 * 100)): the authors' code has the factor 2.
    assert R[1, 0] / R[1, 1] == pytest.approx(np.exp(2 * (81 - 1) / 10))


def test_divergence_of_relations_agrees_with_scipy_and_is_zero_for_equals():
    rng = np.random.default_rng(0)
    R, S = rng.dirichlet(np.ones(6), 9), rng.dirichlet(np.ones(6), 7)
    assert np.allclose(jensen_shannon(R, S), cdist(R, S, "jensenshannon") ** 2, atol=1e-12)
    assert np.allclose(np.diag(jensen_shannon(R, R)), 0)
    assert jensen_shannon(np.array([[1.0, 0]]), np.array([[0, 1.0]])).item() == pytest.approx(np.log(2))


def test_several_partners_share_a_keypoint_and_lone_sides_are_left_out():
    X, Y = rotated_pair(20)
    rows = np.array([0, 0, 1]), np.array([0, 1, 2])
    plan = fitted_arrays(KeypointAligner(), X, Y[:3], rows).plan_.toarray()
    assert np.allclose(plan[0, :2], 1 / 3)
    assert np.allclose(plan[2:], 0)


# ---- errors ----------------------------------------------------------------------------------------------------


def test_bad_settings_are_refused():
    X, Y = rotated_pair(20)
    source, target = space(X, "x"), space(Y, "y")
    with pytest.raises(ValueError, match=r"n_components=0.* 1"):
        PLSAligner(n_components=0).fit(source, target)
    with pytest.raises(ValueError, match=r"n_canonical=0.* 1"):
        CCAAligner(n_canonical=0).fit(source, target)
    with pytest.raises(ValueError, match=r"penalty=-1.* 0"):
        CCAAligner(penalty=-1).fit(source, target)
    with pytest.raises(ValueError, match="tau=0"):
        KeypointAligner(tau=0).fit(source, target)
    with pytest.raises(MemoryError, match=r"20 x 20 .*BridgeAligner.*memory_limit"):
        KeypointAligner(memory_limit=100).fit(source, target)
    for name in BASELINES:
        with pytest.raises(AssemblyError, match=r"pairs: .* 1.* 2"):
            BASELINES[name]().fit(source, target, Pairs(np.array(["s1"]), np.array(["s1"])))
        with pytest.raises(AlignerNotFittedError, match=BASELINES[name].__name__):
            BASELINES[name]().transform(source)
    assert ProcrustesAligner().fit(source, target).scale_[0] > 0


def test_procrustes_fits_where_divide_and_conquer_does_not_converge(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    source, target = space(X, "s"), space(X @ rng.normal(size=(5, 5)), "t")
    usual = ProcrustesAligner().fit(source, target)
    calls = []

    def fails(*args, **options):
        calls.append(args)
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    other = ProcrustesAligner().fit(source, target)
    assert calls
    np.testing.assert_allclose(other.rotation_, usual.rotation_, atol=1e-10)
    np.testing.assert_allclose(other.scale_, usual.scale_)
