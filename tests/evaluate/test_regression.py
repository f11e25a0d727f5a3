"""Regressions against scikit-learn and closed forms; normalisation rules, options and intervals of predictivity."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

from neurobridge.assemblies import AssemblyError, average_repetitions, make_assembly
from neurobridge.evaluate import (
    METRICS,
    NORMALIZATIONS,
    REGRESSIONS,
    aggregate,
    correlate,
    internal_consistency,
    predictivity,
    regression,
    shuffle_splits,
)
from neurobridge.evaluate.regression import ALPHAS, fit_ridge, predict_held_out
from tests.refusals import refused


def data(n: int, p: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + p)
    X = rng.normal(size=(n, p)) * np.linspace(0.3, 2, p) + 5
    noise = np.geomspace(0.1, 30, d)
    return X, X @ rng.normal(size=(p, d)) + noise * rng.normal(size=(n, d)) - 3, rng.normal(size=(9, p)) + 5


SHAPES = [(60, 10, 6), (20, 50, 6), (30, 30, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_per_site_is_scikit_learns(shape):
    X, Y, new = data(*shape)
    peer = RidgeCV(alphas=ALPHAS * X.var(axis=0).mean(), alpha_per_target=True).fit(X, Y).predict(new).reshape(9, -1)
    assert np.allclose(REGRESSIONS["ridge"](X, Y)(new), peer, rtol=1e-6, atol=1e-6 * np.abs(peer).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_one_penalty_is_scikit_learns_ridge(shape):
    X, Y, new = data(*shape)
    peer = Ridge(alpha=2.5).fit(X, Y).predict(new).reshape(9, -1)
    assert np.allclose(REGRESSIONS["ridge"](X, Y, alpha=2.5)(new), peer)


def test_linear_is_scikit_learns():
    X, Y, new = data(60, 10, 6)
    assert np.allclose(REGRESSIONS["linear"](X, Y)(new), LinearRegression().fit(X, Y).predict(new))


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_linear_is_the_smallest_map_where_there_are_many(shape):
    """Older scikit-learn keeps the direction that centring took, and its predictions blow up; the pseudo-inverse does not."""
    X, Y, new = data(*shape)
    Xc, Yc = X - X.mean(axis=0), Y - Y.mean(axis=0)
    coef = np.linalg.pinv(Xc, rcond=1e-10) @ Yc
    predicted = REGRESSIONS["linear"](X, Y)
    assert np.allclose(predicted(new), (new - X.mean(axis=0)) @ coef + Y.mean(axis=0))
    assert np.allclose(predicted(X), Y)


def test_sites_with_more_noise_get_larger_penalties():
    X, Y, new = data(80, 40, 2)
    quiet, loud = REGRESSIONS["ridge"](X, Y)(new).T
    alphas = (ALPHAS * X.var(axis=0).mean()).tolist()
    by_hand = [REGRESSIONS["ridge"](X, Y[:, [k]], alpha=alpha)(new)[:, 0] for k in (0, 1) for alpha in alphas]
    chosen = [
        int(np.argmin([np.abs(row - by_hand[k * 19 + a]).max() for a in range(19)]))
        for k, row in enumerate((quiet, loud))
    ]
    assert chosen[0] < chosen[1]


def test_neuron_to_neuron_picks_the_feature_that_correlates_most():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 8))
    X[:, 3] = 7
    Y = np.column_stack([2 * X[:, 5] + 0.1 * rng.normal(size=50), -X[:, 1]])
    new = rng.normal(size=(4, 8))
    predicted = REGRESSIONS["neuron_to_neuron"](X, Y)(new)
    r = np.array([[np.corrcoef(X[:, i], Y[:, j])[0, 1] if i != 3 else -2 for i in range(8)] for j in range(2)])
    assert np.array_equal(predicted, new[:, r.argmax(axis=1)])
    assert np.array_equal(predicted[:, 0], new[:, 5])
    assert not np.array_equal(predicted[:, 1], new[:, 1]), "the most negative one is not the best"
    with pytest.raises(ValueError, match=r"2 features.*Mend"):
        REGRESSIONS["neuron_to_neuron"](np.ones((9, 2)), Y[:9])


def test_penalties_are_checked():
    X, Y, _ = data(20, 4, 2)
    with refused(ValueError, "alpha", "alphas"):
        REGRESSIONS["ridge"](X, Y, alpha=1.0, alphas=[1.0])
    with pytest.raises(ValueError, match=r"not positive.*Mend"):
        REGRESSIONS["ridge"](X, Y, alphas=[0.0, 1.0])


@pytest.fixture
def by_moments(monkeypatch) -> list[int]:
    """Numbers of folds that were predicted from moments."""
    found: list[int] = []
    from_moments = regression._ridge_folds

    def counted(X, Y, folds, alpha):
        found.append(len(folds))
        return from_moments(X, Y, folds, alpha)

    monkeypatch.setattr(regression, "_ridge_folds", counted)
    return found


def largest_gap(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    assert [a.shape for a in found] == [b.shape for b in expected]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("outlier", [1, 1e7])
@pytest.mark.parametrize("shift", [0, 1e3])
def test_folds_from_moments_are_fits_on_the_training_rows(by_moments, shift, outlier):
    X, Y, _ = data(120, 30, 6)
    # A held-out row that outweighs all others would take the digits of the difference with it.
    X[7] *= outlier
    Y[9, 2] *= outlier
    X, Y = X + shift, Y - shift
    rows = np.delete(np.arange(120), [7, 9])
    folds = [(np.setdiff1d(rows, rows[k::6]), np.append(rows[k::6], [7, 9])) for k in range(6)]
    expected = [Ridge(alpha=0.5).fit(X[train], Y[train]).predict(X[test]) for train, test in folds]
    found = predict_held_out(fit_ridge, X, Y, folds, alpha=0.5)
    assert by_moments == [6]
    assert largest_gap(found, expected) < 1e-9


def test_rows_held_out_do_not_reach_the_predictions_of_their_fold(by_moments):
    X, Y, _ = data(120, 30, 6)
    folds = shuffle_splits(120, n_splits=4, train_size=0.9)
    before = predict_held_out(fit_ridge, X, Y, folds, alpha=1.0)
    rng = np.random.default_rng(0)
    for number, (_, test) in enumerate(folds):
        other_x, other_y = X.copy(), Y.copy()
        other_x[test[1:]] += 3 * rng.normal(size=(len(test) - 1, 30))
        other_y[test] += 30 * rng.normal(size=(len(test), 6))
        after = predict_held_out(fit_ridge, other_x, other_y, folds, alpha=1.0)
        assert np.allclose(after[number][0], before[number][0], rtol=0, atol=1e-9 * np.abs(Y).max())
        assert not np.allclose(after[number - 1], before[number - 1], atol=1e-3), "training rows count"
    assert by_moments == [4] * 5


@pytest.mark.parametrize(
    ("n", "p", "share", "options"),
    [
        (60, 70, 0.9, {"alpha": 1.0}),
        (60, 10, 0.4, {"alpha": 1.0}),
        (60, 10, None, {"alpha": 1.0}),
        (60, 10, 0.9, {}),
        (60, 10, 0.9, {"alpha": None}),
        (60, 10, 0.9, {"alphas": [1.0]}),
    ],
)
def test_other_folds_are_fitted_on_their_rows(by_moments, n, p, share, options):
    X, Y, _ = data(n, p, 3)
    part = [(np.arange(30), np.arange(30, 50)), (np.arange(20, 60), np.arange(10))]
    folds = part if share is None else list(shuffle_splits(n, n_splits=3, train_size=share))
    expected = [fit_ridge(X[train], Y[train], **options)(X[test]) for train, test in folds]
    assert all(map(np.array_equal, predict_held_out(fit_ridge, X, Y, folds, **options), expected))
    assert by_moments == []
    with pytest.raises(ValueError, match=r"not positive.*Mend"):
        predict_held_out(fit_ridge, X, Y, folds, alpha=0.0)


@pytest.fixture
def spaces() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 10))
    Y = X @ rng.normal(size=(10, 6)) + 3 * rng.normal(size=(120, 6))

    def labelled(values):
        return make_assembly(
            values,
            presentation={"stimulus_id": [f"s{k:03d}" for k in range(120)]},
            neuroid={"neuroid_id": [f"n{k}" for k in range(values.shape[1])]},
        )

    return labelled(X), labelled(Y)


def test_options_reach_the_regression_and_the_score(spaces):
    source, target = spaces
    one = METRICS["pls"](source, target, n_components=1, n_permutations=0)
    many = METRICS["pls"](source, target, n_permutations=0)
    assert one.attrs["metric"] == "pls, n_components=1, pearson"
    assert many["raw"].values.mean() > one["raw"].values.mean()
    with pytest.raises(AssemblyError, match=r"'alpha'.*\[\].*Mend"):
        METRICS["linear"](source, target, alpha=1.0)


def test_rules_of_normalisation(spaces):
    source, target = spaces
    ceiling = xr.DataArray(np.full(6, 0.8), dims="neuroid", coords={"neuroid_id": target["neuroid_id"]})
    scores = {
        rule: predictivity(source, target, "ridge", ceiling=ceiling, normalization=rule, n_permutations=0)
        for rule in NORMALIZATIONS
    }
    r = scores["ratio"]["raw"].values.mean(axis=0)
    assert np.allclose(scores["explained_variance"]["normalized"].values, r * np.abs(r) / 0.8)
    assert np.allclose(scores["squared_ratio"]["normalized"].values, np.sign(r) * (r / 0.8) ** 2)
    assert np.allclose(scores["ratio"]["normalized"].values, r / 0.8)
    assert np.allclose(scores["noise_corrected"]["normalized"].values, r / np.sqrt(0.8))
    for rule, score in scores.items():
        summary = aggregate(score)
        assert summary["normalization"] == rule
        expected = {
            "explained_variance": summary["raw"] ** 2 / 0.8,
            "squared_ratio": (summary["raw"] / 0.8) ** 2,
            "noise_corrected": summary["raw"] / np.sqrt(0.8),
        }
        assert summary["normalized"] == pytest.approx(expected.get(rule, summary["raw"] / 0.8))
        assert summary["normalized_low"] < summary["normalized"] < summary["normalized_high"]
    with pytest.raises(AssemblyError, match=r"'half'.*Mend"):
        predictivity(source, target, "ridge", normalization="half", n_permutations=0)


def test_intervals_cover_the_score_and_shrink_with_more_sites(spaces):
    source, target = spaces
    summary = aggregate(predictivity(source, target, "ridge", n_permutations=0))
    assert summary["raw_low"] < summary["raw"] < summary["raw_high"]
    rng = np.random.default_rng(0)
    widths = []
    for n_sites in (20, 320):
        raw = 0.5 + 0.2 * rng.normal(size=(1, n_sites)) + 0.01 * rng.normal(size=(10, n_sites))
        score = xr.Dataset(
            {
                "raw": (("split", "neuroid"), raw),
                "ceiling": ("neuroid", np.full(n_sites, np.nan)),
                "null": ("permutation", []),
            },
            attrs={"metric": "m", "n_stimuli": 9, "n_splits": 10, "seed": 0},
        ).assign(normalized=np.nan, p_value=1.0)
        found = aggregate(score)
        widths.append(found["raw_high"] - found["raw_low"])
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.5)
    assert aggregate(score, n_bootstrap=0)["raw_low"] is None


def test_noise_corrected_correlations_do_not_depend_on_the_number_of_repetitions():
    rng = np.random.default_rng(100)
    signal = rng.normal(size=(400, 30))
    prediction = signal + rng.normal(size=signal.shape)  # r = .707 with the signal
    corrected = []
    for n_repetitions in (2, 10):
        names = {"neuroid": {"neuroid_id": range(30)}}
        trials = make_assembly(
            np.tile(signal, (n_repetitions, 1)) + 1.5 * rng.normal(size=(400 * n_repetitions, 30)),
            presentation={
                "stimulus_id": np.tile(np.arange(400), n_repetitions), "repetition": np.repeat(np.arange(n_repetitions), 400)
            },
            **names,
        )  # fmt: skip
        predicted = make_assembly(prediction, presentation={"stimulus_id": range(400)}, **names)
        ceiling = internal_consistency(trials, n_bootstrap=0)["ceiling"]
        options = {"ceiling": ceiling, "normalization": "noise_corrected", "n_permutations": 0}
        corrected.append(float(correlate(predicted, average_repetitions(trials), **options)["normalized"].mean()))
    assert corrected == pytest.approx([0.5**0.5] * 2, abs=0.02)
