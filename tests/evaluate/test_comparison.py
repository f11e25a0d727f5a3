"""Comparison of models: agreement with the metrics alone, layers, paired statistics, kept cells, and what is refused."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from scipy.stats import rankdata

import neurobridge as nb
from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.storage.files import save_variables
from neurobridge.evaluate import METRICS, comparison_tables, kfold_splits
from neurobridge.evaluate.comparison.geometry import Geometry
from neurobridge.evaluate.comparison.regressed import Regressed, drawn_correlations
from neurobridge.evaluate.comparison.statistics import CORRECTIONS, corrected_draws, holm, paired_differences, ranks
from neurobridge.evaluate.layers import generalised_errors
from neurobridge.evaluate.regression import ALPHAS

N, SITES = 60, 8
FOLDS = kfold_splits(N, n_splits=4, seed=3)


def labelled(values, **columns):
    return nb.make_assembly(
        values,
        presentation={"stimulus_id": [f"s{k:03d}" for k in range(len(values))]},
        neuroid={"neuroid_id": range(values.shape[1]), **columns},
    )


def simulated(n=N, seed=0, noise=1.0):
    """Models that see all latents, half of them, and none; the last as a second layer after noise."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 6))
    responses = latents @ np.random.default_rng(9).normal(size=(6, SITES)) / 2 + noise * rng.normal(size=(n, SITES))
    layers = np.hstack([rng.normal(size=(n, 5)), latents])
    models = {
        "half": labelled(latents[:, :3]),
        "all": labelled(latents),
        "late": labelled(layers, layer=["first"] * 5 + ["second"] * 6),
    }
    return models, labelled(responses, animal=["Chabo", "Tito"] * (SITES // 2))


def test_trials_are_refused_by_the_name_of_what_has_them():
    models, recordings = simulated()
    for given, role in (
        ((models, _twice(recordings)), "recordings"),
        (({**models, "all": _twice(models["all"])}, recordings), "all"),
    ):
        with pytest.raises(AssemblyError, match=f"^{role}: found 60 duplicate"):
            nb.compare_models(*given, ("ridge",), n_bootstrap=20)


def _twice(space):
    return space.isel(presentation=np.tile(np.arange(N), 2))


@pytest.mark.parametrize("metric", ["ridge", "linear", "rdm", "rsa"])
def test_scores_are_those_of_the_metric_alone_on_the_same_folds(metric):
    models, recordings = simulated()
    compared = nb.compare_models(models, recordings, (metric,), splits=FOLDS, n_bootstrap=20)
    for name in ("half", "all"):
        alone = METRICS[metric](models[name], recordings, FOLDS, n_permutations=0)
        raw = alone["raw"].values
        by_split = np.median(raw, axis=1) if raw.ndim == 2 else raw
        np.testing.assert_allclose(compared["by_split"].sel(metric=metric, model=name), by_split, atol=1e-12)
        if metric == "rsa":
            assert compared["ceiling"].item() == pytest.approx(alone["ceiling"].item())
        if raw.ndim == 2:
            np.testing.assert_allclose(compared["site_value"].sel(metric=metric, model=name), raw.mean(axis=0))
    # The folds choose the layer that is the other model.
    assert set(compared["layer"].sel(model="late").values.ravel()) == {"second"}
    np.testing.assert_allclose(
        compared["by_split"].sel(model="late"), compared["by_split"].sel(model="all"), atol=1e-12
    )
    assert compared["draws"].sel(model="late").values == pytest.approx(compared["draws"].sel(model="all").values)


@pytest.mark.parametrize("metric", ["ridge", "linear", "rsa"])
def test_held_out_stimuli_have_no_part_in_the_choice_of_a_layer(metric):
    rng = np.random.default_rng(4)
    layers = {"first": rng.normal(size=(N, 4)), "second": rng.normal(size=(N, 4))}
    Y = rng.normal(size=(N, SITES))
    leaking = Y.copy()
    # On the held-out stimuli of the first fold alone, the responses are those of a layer.
    other = "second" if _chosen(metric, layers, Y) == "first" else "first"
    held_out = FOLDS[0][1]
    leaking[held_out] = 50 * layers[other][held_out] @ rng.normal(size=(4, SITES))
    assert _chosen(metric, layers, leaking) != other


def _chosen(metric, layers, Y):
    counts, sites = np.ones((1, N)), np.arange(SITES)[None]
    scorer = (
        Geometry(Y, np.arange(N), FOLDS, counts, ["a", "b"] * (SITES // 2))
        if metric == "rsa"
        else Regressed(metric, Y, FOLDS, counts, sites)
    )
    return scorer.score(layers).layer[0]


@pytest.mark.parametrize("n_features", [7, 80], ids=["tall", "wide"])
def test_the_error_of_a_layer_is_generalised_cross_validation(n_features):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(N, n_features)) * np.linspace(0.2, 2, n_features) + 3
    Y = X[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(N, 4))
    train, _ = FOLDS[1]
    n, A, B = len(train), X[train] - X[train].mean(axis=0), Y[train] - Y[train].mean(axis=0)
    spread = np.square(X - X.mean(axis=0)).mean()
    errors = []
    for alpha in ALPHAS * spread:
        hat = A @ np.linalg.solve(A.T @ A + alpha * np.eye(n_features), A.T) + 1 / n
        errors.append(np.square(B - hat @ B).mean(axis=0) / (1 - np.trace(hat) / n) ** 2)
    expected = np.min(errors, axis=0) / (np.square(B).mean(axis=0) / (1 - 1 / n) ** 2)
    np.testing.assert_allclose(list(generalised_errors(X, Y, FOLDS))[1], expected, rtol=1e-6)


def test_drawn_correlations_are_those_of_repeated_rows():
    rng = np.random.default_rng(6)
    P, Q = rng.normal(size=(15, 3)) + 5, rng.normal(size=(15, 3))
    counts = rng.multinomial(15, np.full(15, 1 / 15), size=4).astype(float)
    counts[3] = 0
    counts[3, 2] = 9
    r = drawn_correlations(P, Q, counts)
    for row, count in enumerate(counts[:3].astype(int)):
        rows = np.repeat(np.arange(15), count)
        np.testing.assert_allclose(r[row], [np.corrcoef(P[rows, k], Q[rows, k])[0, 1] for k in range(3)])
    assert r[3].tolist() == [0, 0, 0]


def test_drawn_rdms_leave_out_pairs_of_one_stimulus():
    models, recordings = simulated(24)
    rows = np.random.default_rng(7).integers(0, 24, 24)
    counts = np.bincount(rows, minlength=24)[None].astype(float)
    folds = [(np.arange(2), np.arange(24))]
    Y, X = recordings.values, models["all"].values
    drawn = Geometry(Y, np.arange(24), folds, counts).score({"all": X}).draws[0]
    ranked = []
    for space in (X, Y):
        full, upper = 1 - np.corrcoef(space), np.triu_indices(24, k=1)
        square = np.zeros((24, 24))
        square[upper] = rankdata(full[upper])
        ranked.append((square + square.T)[np.ix_(rows, rows)])
    different = rows[:, None] != rows[None, :]
    assert drawn.item() == pytest.approx(np.corrcoef(ranked[0][different], ranked[1][different])[0, 1])


@pytest.mark.parametrize("metric", ["ridge", "linear"])
def test_a_missing_value_costs_its_site_that_stimulus_and_no_other_site_anything(metric):
    models, recordings = simulated()
    whole = nb.compare_models(models, recordings, (metric,), splits=FOLDS, n_bootstrap=30)
    lacking = recordings.copy(data=recordings.values.copy())
    lacking.values[[3, 17], [1, 1]] = lacking.values[5, 4] = np.nan
    compared = nb.compare_models(models, lacking, (metric,), splits=FOLDS, n_bootstrap=30)
    assert compared.attrs["n_missing_values"] == 3
    others = [k for k in range(SITES) if k not in (1, 4)]
    np.testing.assert_allclose(
        compared["site_value"].values[..., others], whole["site_value"].values[..., others], atol=1e-12
    )
    for name in ("half", "all"):
        alone = METRICS[metric](models[name], lacking, FOLDS, n_permutations=0)["raw"]
        np.testing.assert_allclose(compared["site_value"].sel(metric=metric, model=name), alone.mean("split"))
    # Draws leave out what is missing, too.
    P, Q = np.random.default_rng(1).normal(size=(2, 12, 2))
    counts = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12), size=3).astype(float)
    Q[4, 1] = np.nan
    kept = np.delete(np.arange(12), 4)
    drawn = drawn_correlations(P, Q, counts)
    np.testing.assert_allclose(drawn[:, :1], drawn_correlations(P[:, :1], Q[:, :1], counts))
    np.testing.assert_allclose(drawn[:, 1:], drawn_correlations(P[kept, 1:], Q[kept, 1:], counts[:, kept]))


def test_missing_values_are_refused_by_dissimilarities_and_the_mend_works():
    models, recordings = simulated()
    lacking = recordings.copy(data=recordings.values.copy())
    lacking.values[3, 1] = np.nan
    with pytest.raises(AssemblyError, match=r"1 missing values of 480.*'rsa'.*drop_incomplete\(recordings\)"):
        nb.compare_models(models, lacking, ("ridge", "rsa"), n_bootstrap=2)
    mended = nb.compare_models(models, nb.assemblies.drop_incomplete(lacking), ("ridge", "rsa"), n_bootstrap=2)
    assert mended.attrs["n_stimuli"] == N - 1


def test_corrections_and_ranks_in_closed_form():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(holm(p), [0.04, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(CORRECTIONS["fdr"](p), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    rank, low, high = ranks(np.array([0.2, 0.5, 0.2]), np.array([[0.1, 0.3], [0.5, 0.6], [0.2, 0.2]]), 0.9999)
    assert rank.tolist() == [2.5, 1, 2.5]
    np.testing.assert_allclose([low, high], [[2, 1, 2], [3, 1, 3]], atol=1e-3)
    draws = np.array([[0.5] * 99, [0.4] * 98 + [0.6]])
    # Nothing depends on the sites.
    of_both = np.stack([draws, draws, np.full_like(draws, 0.5)], axis=1)
    paired = paired_differences(np.array([0.5, 0.4]), of_both, "holm", 0.95)
    assert paired.p_value[0, 1] == paired.p_value[1, 0] == pytest.approx(2 * 2 / 100)
    assert paired.difference[0, 1] == -paired.difference[1, 0] == pytest.approx(0.1)
    assert paired.low[0, 1] == -paired.high[1, 0]
    assert np.isnan(np.diag(paired.p_corrected)).all()


def test_draws_of_two_factors_are_shrunk_to_the_variance_of_both():
    """A mean over stimuli and sites of independent noise: drawing both at once has three times its variance."""
    noise = np.random.default_rng(8).normal(size=(40, 50))
    rng, draws = np.random.default_rng(9), np.empty((1, 3, 4000))
    for k in range(4000):
        rows, columns = rng.integers(0, 40, 40), rng.integers(0, 50, 50)
        draws[0, :, k] = noise[np.ix_(rows, columns)].mean(), noise[rows].mean(), noise[:, columns].mean()
    value = noise.mean(keepdims=True).ravel()
    assert draws[0, 0].var() == pytest.approx(3 / 2000, rel=0.2)
    shrunk = corrected_draws(value, draws)
    assert shrunk.var() == pytest.approx(1 / 2000, rel=0.3)
    np.testing.assert_allclose(corrected_draws(value, draws[:, [1, 1, 1]] * 0 + value[:, None, None]), value[0])


def test_the_better_model_wins_and_everything_is_in_the_tables(tmp_path):
    models, recordings = simulated(150)
    ceiling = recordings.isel(presentation=0, drop=True).copy(data=np.full(SITES, 0.8))
    compared = nb.compare_models(models, recordings, ceiling=ceiling, n_bootstrap=200, correction="fdr")
    best = compared.sel(metric="ridge", model="all", other="half")
    assert best["p_corrected"] < 0.02
    assert best["difference_low"] > 0
    assert best["share_of_sites"] > 0.8
    assert compared["rank"].sel(metric="ridge", model="half") == 3
    value = compared["value"].sel(metric="ridge")
    np.testing.assert_allclose(compared["normalized"].sel(metric="ridge"), value * abs(value) / 0.8)
    tables = comparison_tables(compared)
    assert tables["models"]["model"].tolist()[2] == "half"
    assert len(tables["models"]) == len(tables["pairs"]) == 6
    assert tables["models"].set_index(["metric", "model"]).loc[("ridge", "late"), "layers"] == "second (5)"
    with xr.open_dataset(save_variables(compared, tmp_path / "comparison.nc"), engine="netcdf4") as again:
        np.testing.assert_array_equal(again["p_corrected"].values, compared["p_corrected"].values)
    mpl.use("Agg")
    ax = nb.figures.compared_models(compared, "rsa")
    assert [tick.get_text() for tick in ax.get_yticklabels()][2] == "half"
    with pytest.raises(ValueError, match=r"'pls'.*'ridge', 'rsa'"):
        nb.figures.compared_models(compared, "pls")


def test_a_comparison_goes_on_where_it_stopped(tmp_path, monkeypatch):
    models, recordings = simulated()
    options = {"metrics": ("ridge", "rsa"), "n_bootstrap": 10, "keep": tmp_path}
    first = nb.compare_models(models, recordings, **options)
    assert len(list(tmp_path.glob("*.nc"))) == 6
    computed = []
    monkeypatch.setattr(
        Regressed, "score", lambda self, layers, score=Regressed.score: computed.append("ridge") or score(self, layers)
    )
    monkeypatch.setattr(
        Geometry, "score", lambda self, layers, score=Geometry.score: computed.append("rsa") or score(self, layers)
    )
    again = nb.compare_models(models, recordings, **options)
    xr.testing.assert_identical(again, first)
    assert computed == []
    changed = {**models, "half": models["half"] + 1e-3 * models["half"] ** 2}
    nb.compare_models(changed, recordings, **options)
    assert sorted(computed) == ["ridge", "rsa"]
    nb.compare_models(models, recordings, **{**options, "seed": 1})
    assert len(computed) == 8


MODELS, RECORDINGS = simulated(20)
REFUSED = {
    "one model": (({"a": MODELS["all"]}, RECORDINGS), {}, r"1 spaces \['a'\].*2 or more"),
    "no mapping": (([MODELS["all"]], RECORDINGS), {}, r"list for the models"),
    "a metric": ((MODELS, RECORDINGS, ("cka",)), {}, r"metric 'cka'.*'ridge'"),
    "no metric": ((MODELS, RECORDINGS, ()), {}, r"metric none"),
    "a correction": ((MODELS, RECORDINGS), {"correction": "bonferroni"}, r"'bonferroni'.*'fdr', 'holm'"),
    "a confidence": ((MODELS, RECORDINGS), {"confidence": 95}, r"confidence=95"),
    "one animal": ((MODELS, RECORDINGS.isel(neuroid=[0, 2, 4])), {"metrics": "rsa"}, r"1 animal\(s\).*'rdm'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_comparison_is_refused(case):
    arguments, options, facts = REFUSED[case]
    with pytest.raises(AssemblyError, match=facts):
        nb.compare_models(*arguments, **{"n_bootstrap": 2, **options})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_equal_models_differ_seldom_and_intervals_cover_the_true_difference():
    """Simulated, 200 draws of 100 stimuli and 10 sites: two models that see the latents through equal noise, and a noisier one."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        latents = rng.normal(size=(100, 5))
        Y = latents @ rng.normal(size=(5, 10)) / 2 + rng.normal(size=(100, 10))
        names = {"a": 0.7, "b": 0.7, "c": 1.0}
        models = {name: labelled(latents + noise * rng.normal(size=latents.shape)) for name, noise in names.items()}
        return models, labelled(Y, animal=["Chabo", "Tito"] * 5)

    expected = np.mean(
        [nb.compare_models(*draw(10_000 + k), n_bootstrap=0)["difference"].values for k in range(200)], axis=0
    )
    alarms, covered = [], []
    for k in range(200):
        compared = nb.compare_models(*draw(100 + k), n_bootstrap=300, seed=k)
        alarms.append(compared["p_value"].sel(model="a", other="b").values <= 0.05)
        low, high = compared["difference_low"].values, compared["difference_high"].values
        covered.append((low <= expected) & (expected <= high))
    pair = np.mean(covered, axis=0)[:, 0, 2]
    print("false alarms (ridge, rsa)", np.mean(alarms, axis=0), "coverage", pair)
    # 95 % of binomial draws at the level of 0.05 lie below 0.08.
    assert (np.mean(alarms, axis=0) <= 0.08).all()
    assert (pair > 0.9).all()
