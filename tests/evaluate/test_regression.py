"""Regressions against scikit-learn and closed forms; normalisation rules, options and intervals of predictivity."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import METRICS, NORMALIZATIONS, REGRESSIONS, aggregate, predictivity
from neurobridge.evaluate.regression import ALPHAS


def data(n: int, p: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + p)
    X = rng.normal(size=(n, p)) * np.linspace(0.3, 2, p) + 5
    noise = np.geomspace(0.1, 30, d)
    return X, X @ rng.normal(size=(p, d)) + noise * rng.normal(size=(n, d)) - 3, rng.normal(size=(9, p)) + 5


SHAPES = [(60, 10, 6), (20, 50, 6), (30, 30, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_per_site_is_scikit_learns(shape):
    X, Y, new = data(*shape)
    peer = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X, Y).predict(new).reshape(9, -1)
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
    by_hand = [REGRESSIONS["ridge"](X, Y[:, [k]], alpha=float(alpha))(new)[:, 0] for k in (0, 1) for alpha in ALPHAS]
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
    with pytest.raises(ValueError, match=r"found 2 features that do not vary.*Mend"):
        REGRESSIONS["neuron_to_neuron"](np.ones((9, 2)), Y[:9])


def test_penalties_are_checked():
    X, Y, _ = data(20, 4, 2)
    with pytest.raises(ValueError, match=r"found both alpha and alphas.*Mend"):
        REGRESSIONS["ridge"](X, Y, alpha=1.0, alphas=[1.0])
    with pytest.raises(ValueError, match=r"not positive.*Mend"):
        REGRESSIONS["ridge"](X, Y, alphas=[0.0, 1.0])


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
    with pytest.raises(AssemblyError, match=r"linear: found option 'alpha'; expected some of \[\].*Mend"):
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
    for rule, score in scores.items():
        summary = aggregate(score)
        assert summary["normalization"] == rule
        expected = {"explained_variance": summary["raw"] ** 2 / 0.8, "squared_ratio": (summary["raw"] / 0.8) ** 2}
        assert summary["normalized"] == pytest.approx(expected.get(rule, summary["raw"] / 0.8))
        assert summary["normalized_low"] < summary["normalized"] < summary["normalized_high"]
    with pytest.raises(AssemblyError, match=r"found normalization 'half'; expected one of.*Mend"):
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
