"""Aligners on plain arrays: same numbers as on assemblies, same kind out, pipelines, model selection, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurobridge.aligners import (
    BASELINES,
    AlignerNotFittedError,
    AssemblyAligner,
    BridgeAligner,
    CCAAligner,
    PLSAligner,
    RidgeAligner,
    load,
)
from neurobridge.aligners.inputs import resolve_rows
from neurobridge.assemblies import AssemblyError, Pairs
from neurobridge.flow import OffSupportWarning, Training

ALIGNERS = {
    **{name: kind() for name, kind in BASELINES.items()},
    "bridge, linear": BridgeAligner(map="linear"),
    "bridge, factored": BridgeAligner(coupling="factored", map="barycentric", epsilon=0.3),
    "bridge, pairs, flow": BridgeAligner(
        coupling="pairs", map="flow", flow_options={"training": Training(n_steps=10, width=16)}
    ),
}
every_aligner = pytest.mark.parametrize("aligner", ALIGNERS.values(), ids=ALIGNERS)
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")


@pytest.fixture(scope="module")
def arrays(linear_spaces):
    source, target = linear_spaces
    return source.values, target.values


@every_aligner
def test_arrays_give_the_numbers_of_assemblies(aligner, linear_spaces, arrays):
    source, target = linear_spaces
    X, Y = arrays
    rows = np.arange(0, 60, 2), np.arange(0, 60, 2)
    ids = source["stimulus_id"].values[rows[0]]
    labelled = clone(aligner).fit(source[:60], target[:70], Pairs(ids, ids))
    plain = clone(aligner).fit(X[:60], Y[:70], rows)
    moved, back = plain.transform(X[70:]), plain.inverse_transform(Y[70:])
    assert type(moved) is type(back) is np.ndarray
    np.testing.assert_array_equal(moved, labelled.transform(source[70:]).values)
    np.testing.assert_array_equal(back, labelled.inverse_transform(target[70:]).values)
    assert plain.score(X[70:], Y[70:]) == labelled.score(source[70:], target[70:])
    assert plain.n_features_in_ == labelled.n_features_in_ == 4
    np.testing.assert_array_equal(plain.pairs_, rows)


def test_a_tensor_gives_a_tensor_and_lists_are_read_as_numpy(arrays):
    X, Y = arrays
    expected = RidgeAligner().fit(X, Y).transform(X[:5])
    tensors = torch.as_tensor(X), torch.as_tensor(Y)
    aligner = RidgeAligner().fit(*tensors, pairs=(torch.arange(120), torch.arange(120)))
    moved = aligner.transform(tensors[0][:5])
    assert isinstance(moved, torch.Tensor)
    assert moved.dtype == torch.float64
    np.testing.assert_array_equal(moved.numpy(), expected)
    # The kind is that of each call.
    np.testing.assert_array_equal(aligner.transform(X[:5].tolist()), expected)
    assert aligner.score(*tensors) == pytest.approx(aligner.score(X, Y))


def test_single_precision_is_mapped_in_double(arrays):
    X, Y = (side.astype(np.float32) for side in arrays)
    assert RidgeAligner().fit(X, Y).transform(X).dtype == np.float64


def test_fit_transform_is_fit_then_transform(linear_spaces, arrays):
    X, Y = arrays
    source, target = linear_spaces
    np.testing.assert_array_equal(RidgeAligner().fit_transform(X, Y), RidgeAligner().fit(X, Y).transform(X))
    assert RidgeAligner().fit_transform(source=source, target=target, pairs=0.5).attrs["n_pairs"] == 60


def test_arguments_may_be_given_by_name(arrays):
    X, Y = arrays
    aligner = RidgeAligner().fit(source=X, target=Y)
    assert aligner.transform(source=X).shape == Y.shape
    assert aligner.inverse_transform(target=Y).shape == X.shape


def test_rows_beyond_the_pairs_are_used_without_a_partner(arrays):
    X, Y = arrays
    mask = np.arange(120) < 30
    by_mask = RidgeAligner().fit(X, Y, mask).transform(X)
    by_rows = RidgeAligner().fit(X, Y, (np.arange(30), np.arange(30))).transform(X)
    np.testing.assert_array_equal(by_mask, by_rows)
    assert len(RidgeAligner().fit(X, Y[:40], (np.arange(30), np.arange(30))).pairs_[0]) == 30


@pytest.mark.parametrize(
    ("pairs", "sizes", "facts"),
    [
        (None, (5, 4), "5 source and 4 target"),
        (np.ones(5, dtype=bool), (5, 4), "5 source and 4 target"),
        (np.ones(4, dtype=bool), (5, 5), "ndarray"),
        (0.5, (5, 5), "float"),
        ([[0, 1], [0, 1]], (5, 5), "list"),
        (Pairs(np.array(["a", "b"]), np.array(["a", "b"])), (5, 5), "Pairs"),
        (([0, 1], [0]), (5, 5), "2 source and 1 target"),
        (([0, 5], [0, 1]), (5, 5), "source.*5.*4"),
        (([0, 1], [-1, 1]), (5, 5), "target.*-1"),
        (([0.0, 1.0], [0, 1]), (5, 5), "float64"),
        (([0, 0], [1, 1]), (5, 5), "twice"),
        (([0], [1]), (5, 5), "found 1 .*at least 2"),
        (np.arange(5) < 1, (5, 5), "found 1 .*at least 2"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(pairs, sizes, facts):
    with pytest.raises(AssemblyError, match=facts):
        resolve_rows(pairs, *sizes)


BAD_ARRAYS = {
    "frame": (lambda X, Y: (pd.DataFrame(X), Y), r"source.*DataFrame.*frame\.to_numpy\(\)"),
    "two frames": (lambda X, Y: (pd.DataFrame(X), pd.DataFrame(Y)), r"frame\.to_numpy\(\)"),
    "sparse": (lambda X, Y: (X, sparse.csr_matrix(Y)), r"target.*csr_matrix.*toarray\(\)"),
    "no target": (lambda X, Y: (X, None), "target.*None"),
    "one dimension": (lambda X, Y: (X, Y[:, 0]), r"target.*\(120,\).*target\.reshape\(-1, 1\)"),
    "NaN": (lambda X, Y: (np.where(X[3, 1] == X, np.nan, X), Y), "source.* 1 NaN.*480"),
    "text": (lambda X, Y: (X.astype(str), Y), "source.*<U"),
    "complex": (lambda X, Y: (X, Y * 1j), "target.*complex128"),
    "ragged": (lambda X, Y: ([[1.0, 2.0], [3.0]], Y), "source"),
    "constant": (lambda X, Y: (X * [1, 0, 1, 0], Y), r"source.* 2 column.*the first is\s+1"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_with_what_is_wrong_in_them(case, arrays):
    make, facts = BAD_ARRAYS[case]
    with pytest.raises(AssemblyError, match=facts):
        RidgeAligner().fit(*make(*arrays))


def test_dask_arrays_are_read_as_those_in_memory(arrays, linear_spaces):
    chunked = linear_spaces[0].chunk({"presentation": 40}).data
    mapped = RidgeAligner().fit(chunked, arrays[1]).transform(chunked)
    assert isinstance(mapped, np.ndarray)
    np.testing.assert_array_equal(mapped, RidgeAligner().fit(*arrays).transform(arrays[0]))


def test_a_fit_on_arrays_maps_arrays_and_a_fit_on_assemblies_maps_assemblies(linear_spaces, arrays):
    source, target = linear_spaces
    X, Y = arrays
    plain, labelled = RidgeAligner().fit(X, Y), RidgeAligner().fit(source, target)
    for call, mend in (
        (lambda: plain.transform(source), r"source\.values"),
        (lambda: plain.inverse_transform(target), r"target\.values"),
        (lambda: plain.score(source, target), r"target\.values"),
        (lambda: labelled.transform(X), "make_assembly"),
        (lambda: labelled.inverse_transform(Y), "make_assembly"),
        (lambda: labelled.score(X, Y, fitted_pairs="allow"), "make_assembly"),
        (lambda: RidgeAligner().fit(source, Y), r"DataArray.*ndarray.*source\.values"),
        (lambda: RidgeAligner().fit(X, target), r"ndarray.*DataArray.*target\.values"),
        (lambda: plain.transform(X[:, :3]), "3 columns.* 4 "),
        (lambda: plain.score(X, Y[:, :2]), "2 columns.* 7 "),
    ):
        with pytest.raises(AssemblyError, match=mend):
            call()
    # What the messages say to type works.
    np.testing.assert_array_equal(plain.transform(source.values), labelled.transform(source).values)


def test_a_warning_of_arrays_says_how_to_get_the_flags(arrays):
    X, Y = arrays
    aligner = BridgeAligner(map="linear").fit(X[:100], Y[:100])
    far = np.where(np.arange(20)[:, None] < 3, 50.0, X[100:])
    with pytest.warns(OffSupportWarning, match=r"aligner\.support_\['forward'\]\.off"):
        mapped = aligner.transform(far)
    flags = aligner.support_["forward"].off(aligner.target_scale_.forward(mapped))
    assert flags[:3].all()


def test_a_saved_fit_on_arrays_maps_arrays_as_before(arrays, tmp_path):
    X, Y = arrays
    for aligner in (RidgeAligner(), BridgeAligner(coupling="factored", map="barycentric", epsilon=0.3)):
        fitted = aligner.fit(X[:60], Y[:50], (np.arange(20), np.arange(20)))
        fitted.save(tmp_path)
        loaded = load(tmp_path)
        assert type(loaded) is type(fitted)
        np.testing.assert_array_equal(loaded.pairs_, fitted.pairs_)
        np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
        np.testing.assert_array_equal(loaded.inverse_transform(Y), fitted.inverse_transform(Y))


# ---- scikit-learn ----------------------------------------------------------------------------------------------


def test_an_aligner_is_the_last_step_of_a_pipeline(arrays):
    X, Y = arrays
    pipeline = make_pipeline(StandardScaler(), PCA(3), RidgeAligner()).fit(X[:100], Y[:100])
    by_hand = make_pipeline(StandardScaler(), PCA(3)).fit(X[:100])
    expected = RidgeAligner().fit(by_hand.transform(X[:100]), Y[:100])
    np.testing.assert_array_equal(pipeline.transform(X[100:]), expected.transform(by_hand.transform(X[100:])))
    assert pipeline.score(X[100:], Y[100:]) == expected.score(by_hand.transform(X[100:]), Y[100:])
    np.testing.assert_allclose(
        pipeline.inverse_transform(Y[100:]), by_hand.inverse_transform(expected.inverse_transform(Y[100:]))
    )
    assert pipeline.fit_transform(X, Y).shape == Y.shape


def test_parameters_of_a_step_are_searched(arrays):
    X, Y = arrays
    pipeline = make_pipeline(PCA(), CCAAligner(n_canonical=2))
    search = GridSearchCV(pipeline, {"pca__n_components": [1, 4], "ccaaligner__penalty": [0.0, 1.0]}, cv=3)
    search.fit(X, Y)
    assert search.best_params_["pca__n_components"] == 4
    assert search.transform(X).shape == Y.shape


def test_grid_search_on_assemblies_leaves_the_attributes_of_scikit_learn_alone(linear_spaces):
    source, target = linear_spaces
    search = GridSearchCV(PLSAligner(), {"n_components": [1, 4]}, cv=3, error_score="raise").fit(source, target)
    assert search.best_params_ == {"n_components": 4}
    aligner = RidgeAligner()
    aligner._of_scikit_learn = "kept"
    assert aligner.fit(source, target)._of_scikit_learn == "kept"


def test_cross_validation_scores_every_fold(arrays):
    X, Y = arrays
    scores = cross_val_score(RidgeAligner(), X, Y, cv=4)
    assert scores.shape == (4,)
    expected = RidgeAligner().fit(X[30:], Y[30:]).score(X[:30], Y[:30])
    assert scores[0] == pytest.approx(expected)


@pytest.fixture
def metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _routed(estimator, X, Y, **params):
    # Before scikit-learn 1.8 cross_validate took them all as `params` as well.
    return cross_validate(estimator, X, Y, cv=3, params=params, return_estimator=True, error_score="raise")


@pytest.mark.usefixtures("metadata_routing")
def test_a_mask_of_pairs_is_routed_to_fit_and_split_with_the_rows(arrays):
    X, Y = arrays
    mask = np.arange(120) % 4 == 0
    aligner = RidgeAligner().set_fit_request(pairs=True).set_score_request(pairs=False)
    result = _routed(aligner, X, Y, pairs=mask)
    assert [len(fold.pairs_[0]) for fold in result["estimator"]] == [20, 20, 20]
    by_hand = RidgeAligner().fit(X[40:], Y[40:], mask[40:])
    assert result["test_score"][0] == pytest.approx(by_hand.score(X[:40], Y[:40]))


@pytest.mark.usefixtures("metadata_routing")
def test_pairs_are_routed_to_score_under_a_name_of_their_own(arrays):
    X, Y = arrays
    # A quarter of the rows is paired wrongly, and left out of the score.
    shuffled = Y.copy()
    shuffled[::4] = shuffled[::4][::-1]
    aligner = RidgeAligner().set_fit_request(pairs="known").set_score_request(pairs="trusted")
    trusted = np.arange(120) % 4 != 0
    scores = _routed(aligner, X, shuffled, known=trusted, trusted=trusted)["test_score"]
    assert scores.min() > 0.99
    everything = aligner.set_score_request(pairs=False)
    assert _routed(everything, X, shuffled, known=trusted)["test_score"].max() < 0.9


@pytest.mark.usefixtures("metadata_routing")
def test_grid_search_routes_pairs(arrays):
    X, Y = arrays
    mask = np.arange(120) % 2 == 0
    aligner = PLSAligner().set_fit_request(pairs=True).set_score_request(pairs=True)
    search = GridSearchCV(aligner, {"n_components": [1, 4]}, cv=3).fit(X, Y, pairs=mask)
    assert search.best_params_ == {"n_components": 4}
    assert len(search.best_estimator_.pairs_[0]) == 60


@pytest.mark.usefixtures("metadata_routing")
def test_pairs_are_routed_through_a_pipeline(arrays):
    X, Y = arrays
    rows = np.arange(40), np.arange(40)
    pipeline = make_pipeline(StandardScaler(), RidgeAligner().set_fit_request(pairs=True)).fit(X, Y[:80], pairs=rows)
    np.testing.assert_array_equal(pipeline[-1].pairs_, rows)


@pytest.mark.usefixtures("metadata_routing")
def test_what_is_mapped_is_no_metadata():
    requests = RidgeAligner().get_metadata_routing()
    assert set(requests.fit.requests) == {"pairs"}
    assert set(requests.score.requests) == {"pairs", "fitted_pairs"}
    assert not requests.transform.requests
    assert not requests.inverse_transform.requests


def test_an_aligner_without_its_kernel_is_abstract():
    class Half(AssemblyAligner):
        def _forward(self, X):
            return X

    with pytest.raises(TypeError, match="_backward"):
        Half()
    with pytest.raises(AlignerNotFittedError):
        RidgeAligner().transform(np.zeros((2, 2)))
