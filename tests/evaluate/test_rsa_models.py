"""Distances, comparators and inference of representational similarity: rsatoolbox's numbers, known truths, refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from scipy.spatial.distance import pdist, squareform

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate.similarity import (
    COMPARATORS,
    compare_rdms,
    compare_rsa_models,
    crossvalidated_rdm,
    noise_covariance,
    rdm,
    rdm_consistency,
    rdm_noise_ceiling,
    rdm_similarity,
)
from neurobridge.evaluate.similarity.comparators import rdm_scorer, tau_a
from neurobridge.evaluate.similarity.inference import bootstrap as kernels
from neurobridge.evaluate.similarity.inference.bootstrap import Compared, Draw
from neurobridge.evaluate.similarity.inference.models import contrast_variances

#: rsatoolbox's name of each comparator.
THEIRS = {name: {"pearson": "corr", "kendall": "tau-b"}.get(name, name) for name in COMPARATORS}


@pytest.fixture(scope="module")
def rsa():
    return pytest.importorskip("rsatoolbox", reason="needs the extra `rsa`")


def geometry(seed: int = 0, n: int = 9, n_rdms: int = 5, noise: float = 0.7) -> np.ndarray:
    """Simulate squared distances of the same points, measured with noise: array of shape (n_rdms, n, n)."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 4))
    return np.stack(
        [squareform(pdist(points + noise * rng.normal(size=points.shape), "sqeuclidean")) for _ in range(n_rdms)]
    )


def categories(n: int = 9) -> np.ndarray:
    """Return an RDM of two values: ties everywhere."""
    labels = np.arange(n) % 3
    return (labels[:, None] != labels[None, :]).astype(float)


def condensed(square: np.ndarray) -> np.ndarray:
    return squareform(square, checks=False)


def trials(seed: int = 0, counts=(4, 2, 3, 5, 2, 3), n_neuroids: int = 6) -> xr.DataArray:
    """Simulate positive responses with unequal numbers of repetitions."""
    rng = np.random.default_rng(seed)
    signal = rng.exponential(size=(len(counts), n_neuroids))
    stimulus = np.repeat(np.arange(len(counts)), counts)
    repetition = np.concatenate([np.arange(count) for count in counts])
    return make_assembly(
        np.abs(signal[stimulus] + 0.4 * rng.normal(size=(len(stimulus), n_neuroids))),
        presentation={"stimulus_id": [f"s{k}" for k in stimulus], "repetition": repetition},
        neuroid={"neuroid_id": range(n_neuroids)},
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
@pytest.mark.parametrize("tied", [False, True])
def test_comparators_agree_with_rsatoolbox(rsa, comparator, tied):
    first, second = geometry()[:2]
    first = categories() if tied else first
    theirs = rsa.rdm.compare(condensed(first), condensed(second), method=THEIRS[comparator])[0, 0]
    assert compare_rdms(condensed(first), condensed(second), comparator=comparator) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_a_scorer_of_permuted_stimuli_is_the_comparison_of_the_permuted_matrix(comparator):
    first, second = geometry()[:2]
    order = np.random.default_rng(1).permutation(9)
    score = rdm_scorer(condensed(first), condensed(second), 9, comparator=comparator)
    expected = compare_rdms(condensed(first), condensed(second[np.ix_(order, order)]), comparator=comparator)
    assert score(order) == pytest.approx(expected, abs=1e-12)
    assert score(slice(None)) == compare_rdms(condensed(first), condensed(second), comparator=comparator)


@pytest.mark.parametrize("comparator", ["tau-a", "rho-a"])
def test_ties_are_not_rewarded(comparator):
    """A model that predicts the truth has at least the value of its two-valued simplification."""
    truth = condensed(geometry(noise=0.0)[0])
    tied = (truth > np.median(truth)).astype(float)
    noisy = condensed(geometry()[0])
    assert compare_rdms(tied, tied, comparator=comparator) < 1
    with pytest.raises(ValueError, match="all equal"):
        compare_rdms(np.ones(36), noisy, comparator=comparator)
    assert compare_rdms(truth, truth, comparator=comparator) == pytest.approx(1)


def test_tau_a_counts_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 12).astype(float), rng.integers(0, 4, 12).astype(float)
    signs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i in range(12) for j in range(i)]
    assert tau_a(a, b) == pytest.approx(np.mean(signs), abs=1e-12)


def test_whitened_cosine_is_the_linear_cka_of_the_points():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(9, 5)), rng.normal(size=(9, 7))
    K, L = ((A - A.mean(axis=0)) @ (A - A.mean(axis=0)).T for A in (X, Y))
    cka = np.sum(K * L) / np.linalg.norm(K) / np.linalg.norm(L)
    assert compare_rdms(pdist(X) ** 2, pdist(Y) ** 2, comparator="cosine_cov") == pytest.approx(cka, abs=1e-12)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_noise_ceilings_agree_with_rsatoolbox(rsa, comparator):
    rdms = np.stack([condensed(square) for square in geometry()])
    if "tau" in comparator or comparator == "kendall":
        with pytest.warns(UserWarning, match="ranks"):
            theirs = rsa.inference.noise_ceiling.boot_noise_ceiling(rsa.rdm.RDMs(rdms), method=THEIRS[comparator])
    else:
        theirs = rsa.inference.noise_ceiling.boot_noise_ceiling(rsa.rdm.RDMs(rdms), method=THEIRS[comparator])
    np.testing.assert_allclose(rdm_noise_ceiling(rdms, comparator=comparator), theirs, atol=1e-9)
    whole = Compared(geometry()[:1], geometry(), np.arange(9), comparator)
    np.testing.assert_allclose(whole.evaluate(np.arange(5))[1:], theirs, atol=1e-9)


@pytest.mark.parametrize("distance", ["poisson", "mahalanobis", "sqeuclidean"])
def test_distances_agree_with_rsatoolbox(rsa, distance):
    recordings = trials()
    responses = recordings.values[:6]
    assembly = make_assembly(responses, presentation={"stimulus_id": list("abcdef")}, neuroid={"neuroid_id": range(6)})
    covariance = noise_covariance(recordings)
    options = {"noise": covariance} if distance == "mahalanobis" else {}
    ours = rdm(assembly, distance=distance, **options)
    name = {"sqeuclidean": "euclidean"}.get(distance, distance)
    noise = np.linalg.inv(covariance) if distance == "mahalanobis" else None
    theirs = rsa.rdm.calc_rdm(rsa.data.Dataset(responses), method=name, **({} if noise is None else {"noise": noise}))
    np.testing.assert_allclose(ours.values, theirs.get_matrices()[0], atol=1e-9)


# rsatoolbox casts NaN.
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("whiten", [False, True])
def test_crossnobis_of_unequal_repetitions_agrees_with_rsatoolbox(rsa, whiten):
    recordings = trials()
    centred = recordings.values - recordings.values.mean(axis=0)
    dataset = rsa.data.Dataset(
        centred,
        obs_descriptors={"stimulus": recordings.stimulus_id.values, "run": recordings.repetition.values},
    )
    noise = np.linalg.inv(noise_covariance(recordings)) if whiten else None
    theirs = rsa.rdm.calc_unbalanced.calc_rdm_unbalanced(
        dataset, method="crossnobis", descriptor="stimulus", cv_descriptor="run", noise=noise
    )
    np.testing.assert_allclose(
        crossvalidated_rdm(recordings, whiten=whiten).values, theirs.get_matrices()[0], atol=1e-9
    )


def test_the_poisson_distance_is_the_symmetrised_divergence():
    counts = np.random.default_rng(0).poisson(3, size=(4, 7)).astype(float)
    assembly = make_assembly(counts, presentation={"stimulus_id": list("abcd")}, neuroid={"neuroid_id": range(7)})
    rates = (counts + 0.1) / 1.1

    def divergence(p, q):
        return (p * np.log(p / q) - p + q).mean()

    expected = [[divergence(p, q) + divergence(q, p) for q in rates] for p in rates]
    np.testing.assert_allclose(rdm(assembly, distance="poisson").values, expected, atol=1e-12)


def test_mahalanobis_takes_recordings_or_their_covariance_and_ignores_linear_maps():
    recordings = trials()
    assembly = make_assembly(
        recordings.values[:6], presentation={"stimulus_id": list("abcdef")}, neuroid={"neuroid_id": range(6)}
    )
    covariance = noise_covariance(recordings)
    given = rdm(assembly, distance="mahalanobis", noise=recordings)
    xr.testing.assert_identical(given, rdm(assembly, distance="mahalanobis", noise=covariance))
    A = np.random.default_rng(2).normal(size=(6, 6))
    turned = rdm(assembly.copy(data=assembly.values @ A), distance="mahalanobis", noise=A.T @ covariance @ A)
    np.testing.assert_allclose(turned.values, given.values, rtol=1e-6)


def test_rdms_of_single_trials_are_refused_with_the_repeated_stimuli():
    recordings = make_assembly(
        np.random.default_rng(0).normal(size=(6, 4)),
        presentation={"stimulus_id": ["a", "b", "c", "d", "a", "e"]},
        neuroid={"neuroid_id": range(4)},
    )
    one = rdm(recordings)
    with pytest.raises(AssemblyError, match=r"'x': found 1 repeated stimuli, e.g. 'a'.*average_repetitions"):
        compare_rsa_models({"m": one}, {"x": one, "y": one}, n_bootstrap=20)


def test_noise_that_does_not_fit_is_refused():
    recordings = trials()
    assembly = make_assembly(
        recordings.values[:6], presentation={"stimulus_id": list("abcdef")}, neuroid={"neuroid_id": range(6)}
    )
    for options, facts in (
        ({"distance": "mahalanobis"}, "without noise"),
        ({"distance": "poisson", "noise": np.eye(6)}, "'poisson' with noise"),
        ({"distance": "mahalanobis", "noise": np.eye(5)}, r"\(5, 5\)"),
        ({"distance": "mahalanobis", "noise": np.ones((6, 6))}, "5 of 6 directions"),
        ({"distance": "mahalanobis", "noise": trials(n_neuroids=5)}, "5 neuroids"),
        ({"distance": "manhattan"}, "manhattan"),
    ):
        with pytest.raises(AssemblyError, match=facts):
            rdm(assembly, **options)
    with pytest.raises(ValueError, match="1 stimuli of 6 with negative responses, \\['a'\\]"):
        rdm(
            assembly.copy(data=np.where(assembly.stimulus_id.values[:, None] == "a", -1.0, 1.0) * assembly.values),
            distance="poisson",
        )
    with pytest.raises(AssemblyError, match="one presentation of each of 6"):
        noise_covariance(assembly)
    with pytest.raises(ValueError, match="35 dissimilarities"):
        compare_rdms(np.arange(35.0), np.arange(35.0), comparator="cosine_cov")


@pytest.mark.parametrize("comparator", ["rho-a", "cosine_cov"])
def test_scores_take_the_new_comparators(comparator):
    rng = np.random.default_rng(0)
    names = {"presentation": {"stimulus_id": range(20)}, "neuroid": {"neuroid_id": range(5)}}
    X = rng.normal(size=(20, 5))
    spaces = [make_assembly(values, **names) for values in (X, X + 0.2 * rng.normal(size=X.shape))]
    score = rdm_similarity(*spaces, distance="sqeuclidean", comparator=comparator, n_permutations=19)
    assert float(score["p_value"]) == pytest.approx(0.05)


@pytest.mark.parametrize("comparator", ["cosine", "corr", "spearman", "rho-a", "cosine_cov", "corr_cov"])
def test_the_dual_bootstrap_agrees_with_rsatoolbox_draw_by_draw(rsa, comparator, monkeypatch):
    n, n_draws = 10, 8
    subjects, models = geometry(n=n), np.stack([geometry(1, n=n)[0], geometry(0, n=n, noise=0.3)[0]])
    draws: list[Draw] = []
    evaluate = sys.modules["rsatoolbox.inference.evaluate"]
    sample = evaluate.bootstrap_sample

    def noted(*args, **options):
        drawn, of_subjects, of_stimuli = sample(*args, **options)
        draws.append(Draw(of_stimuli, of_subjects))
        return drawn, of_subjects, of_stimuli

    monkeypatch.setattr(evaluate, "bootstrap_sample", noted)
    # rsatoolbox draws from numpy's global state.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    try:
        theirs = rsa.inference.eval_dual_bootstrap(
            [rsa.model.ModelFixed(str(k), condensed(square)) for k, square in enumerate(models)],
            rsa.rdm.RDMs(subjects), method=comparator, N=n_draws, use_correction=False,
        )  # fmt: skip
    finally:
        np.random.set_state(state)  # noqa: NPY002
    whole = Compared(models, subjects, np.arange(n), comparator)
    values = {"both": [], "subjects": [], "stimuli": []}
    for draw in draws:
        some = Compared(models, subjects, draw.stimuli, comparator)
        for kind, value in (
            ("both", some.evaluate(draw.subjects)),
            ("subjects", whole.evaluate(draw.subjects)),
            ("stimuli", some.evaluate(np.arange(5))),
        ):
            values[kind].append(value)
    for k, kind in enumerate(("both", "subjects", "stimuli")):
        np.testing.assert_allclose(np.array(values[kind])[:, :2], theirs.evaluations[:, :, 0, 0, k], atol=1e-9)
        np.testing.assert_allclose(np.array(values[kind])[:, 2:].T, theirs.noise_ceiling[:, :, 0, k], atol=1e-9)
    ours = contrast_variances({kind: np.array(v) for kind, v in values.items()}, 5, n)
    expected = [*theirs.model_var, *theirs.noise_ceil_var[:, 0], *theirs.diff_var]
    np.testing.assert_allclose(ours, expected, atol=1e-9)
    # The whole function on the same draws, up to what it says it does differently: the value is that on the data.
    monkeypatch.setattr("neurobridge.evaluate.similarity.inference.models.draw_samples", lambda *_: draws)
    score = compare_rsa_models({"a": models[0], "b": models[1]}, subjects, comparator=comparator, n_bootstrap=20)
    np.testing.assert_allclose(score["sem"].values ** 2, theirs.model_var, atol=1e-9)
    t = (score["raw"][0] - score["raw"][1]) / np.sqrt(theirs.diff_var[0])
    assert float(score["p_difference"][0, 1]) == pytest.approx(float(2 * scipy.stats.t.sf(abs(t), 4)), abs=1e-9)


@pytest.mark.parametrize("bootstrap", ["both", "stimuli", "subjects"])
def test_a_true_model_beats_a_wrong_one_and_reaches_the_ceiling(bootstrap):
    subjects = geometry(n=16, n_rdms=8)
    models = {
        "true": geometry(n=16, noise=0.0)[0],
        "wrong": geometry(7, n=16)[0],
        "again": geometry(n=16, noise=0.0)[0],
    }
    score = compare_rsa_models(models, subjects, bootstrap=bootstrap, n_bootstrap=100)
    pair = {"model": "true", "model_2": "wrong"}
    assert float(score["p_difference_fdr"].sel(pair)) < 0.01
    assert float(score["difference"].sel(pair)) > 0
    assert float(score["p_value_fdr"].sel(model="true")) < 0.01
    assert float(score["p_ceiling"].sel(model="wrong")) < 0.01
    assert float(score["ceiling"]) < float(score["ceiling_upper"])
    assert float(score["raw_low"].sel(model="true")) < float(score["raw"].sel(model="true"))
    assert np.isnan(score["p_difference"].sel(model="true", model_2="true"))
    # The same model twice does not differ, and has no variance of its difference.
    assert float(score["p_difference"].sel(model="true", model_2="again")) == pytest.approx(1)
    np.testing.assert_allclose(score["raw_by_subject"].mean("subject"), score["raw"])


def test_variance_over_stimuli_and_subjects_is_larger_than_over_either():
    subjects, models = geometry(n=16, n_rdms=8), {"m": geometry(n=16, noise=0.5)[0]}
    sem = {b: float(compare_rsa_models(models, subjects, bootstrap=b, n_bootstrap=60)["sem"][0])
           for b in ("both", "stimuli", "subjects")}  # fmt: skip
    assert sem["both"] >= max(sem["stimuli"], sem["subjects"]) - 1e-12


def test_draws_are_seeded_and_stimuli_are_put_in_order():
    subjects = geometry(n=8)
    ids = [f"s{k}" for k in range(8)]

    def labelled(square, order):
        return xr.DataArray(
            square[np.ix_(order, order)],
            dims=("presentation", "presentation_2"),
            coords={"stimulus_id": ("presentation", [ids[k] for k in order])},
        )

    order = np.random.default_rng(0).permutation(8)
    model = geometry(1, n=8)[0]
    given = {f"subject {k}": labelled(square, np.arange(8)) for k, square in enumerate(subjects)}
    plain = compare_rsa_models({"m": model}, subjects, n_bootstrap=30, seed=1)
    moved = compare_rsa_models({"m": labelled(model, order)}, given, n_bootstrap=30, seed=1)
    np.testing.assert_allclose(plain["raw"], moved["raw"])
    np.testing.assert_allclose(plain["sem"], moved["sem"])
    assert moved["subject"].values[0] == "subject 0"
    assert float(compare_rsa_models({"m": model}, subjects, n_bootstrap=30, seed=2)["sem"][0]) != float(plain["sem"][0])


def test_one_subject_has_no_lower_ceiling_and_only_the_stimuli_can_be_drawn():
    subjects, models = geometry(n=10, n_rdms=1), {"m": geometry(1, n=10)[0]}
    score = compare_rsa_models(models, subjects, bootstrap="stimuli", n_bootstrap=30)
    assert np.isnan(score["ceiling"]).all()
    assert np.isnan(score["p_ceiling"]).all()
    assert np.isfinite(score["sem"]).all()
    with pytest.raises(AssemblyError, match="1 subject"):
        compare_rsa_models(models, subjects)


def test_a_draw_leaves_out_pairs_of_a_stimulus_with_its_copy():
    some = Compared(geometry()[:1], geometry(), np.array([0, 0, 1, 2, 3]), "pearson")
    assert int(some.apart.sum()) == 9
    assert kernels.FEWEST_STIMULI == 3


@pytest.mark.parametrize(
    ("models", "rdms", "options", "facts"),
    [
        ({"m": np.zeros((9, 5))}, geometry(), {}, r"'m'.*\(9, 5\)"),
        ({"m": geometry()[0][:8, :8]}, geometry(), {}, "8 stimuli; expected 9"),
        ({}, geometry(), {}, "none"),
        ({"m": np.zeros((0, 0))}, geometry(), {}, r"\(0, 0\)"),
        ({"m": np.triu(geometry()[0])}, geometry(), {}, "symmetric"),
        ({"m": np.full((9, 9), np.nan)}, geometry(), {}, "72 dissimilarities"),
        ({"m": geometry()[0]}, geometry()[0], {}, r"\(9, 9\)"),
        ({"m": geometry()[0]}, geometry(), {"comparator": "angle"}, "angle"),
        ({"m": geometry()[0]}, geometry(), {"bootstrap": "sites"}, "sites"),
        ({"m": geometry()[0]}, geometry(), {"n_bootstrap": 3}, "3"),
    ],
)
def test_what_cannot_be_compared_is_refused(models, rdms, options, facts):
    with pytest.raises(ValueError, match=facts):
        compare_rsa_models(models, rdms, **options)


def repeated(noise: float, seed: int, n_repetitions: int = 6) -> tuple[xr.DataArray, np.ndarray]:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(40, 12))
    recordings = make_assembly(
        np.tile(signal, (n_repetitions, 1)) + noise * rng.normal(size=(40 * n_repetitions, 12)),
        presentation={
            "stimulus_id": np.tile(np.arange(40), n_repetitions), "repetition": np.repeat(np.arange(n_repetitions), 40)
        },
        neuroid={"neuroid_id": range(12)},
    )  # fmt: skip
    return recordings, signal


@pytest.mark.parametrize("comparator", ["pearson", "spearman"])
def test_a_perfect_model_reaches_the_ceiling_of_an_rdm(comparator):
    reached, ceilings = [], []
    for seed in range(100, 108):
        recordings, signal = repeated(1.5, seed)
        score = rdm_consistency(recordings, distance="sqeuclidean", comparator=comparator, n_splits=4)
        average = recordings.values.reshape(6, 40, 12).mean(axis=0)
        reached.append(compare_rdms(pdist(signal) ** 2, pdist(average) ** 2, comparator=comparator))
        ceilings.append(float(score["ceiling"]))
        assert float(score["ceiling"]) == pytest.approx(float(score["reliability"]) ** 0.5)
    assert 0.6 < np.mean(ceilings) < 0.95
    assert np.mean(ceilings) == pytest.approx(np.mean(reached), abs=0.03)


def test_recordings_without_a_geometry_have_no_ceiling():
    recordings, _ = repeated(1.0, 0)
    mixed = recordings.copy(data=np.random.default_rng(12).normal(size=recordings.shape))
    with pytest.warns(UserWarning, match="no geometry"):
        score = rdm_consistency(mixed, comparator="pearson", n_splits=2, seed=1)
    assert np.isnan(score["ceiling"])
    for options, facts in (
        ({"distance": "angle"}, "angle"),
        ({"comparator": "angle"}, "angle"),
        ({"n_splits": 0}, "n_splits=0"),
    ):
        with pytest.raises(AssemblyError, match=facts):
            rdm_consistency(recordings, **options)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bootstrap", ["subjects", "both"])
def test_false_alarms_of_equal_models_are_at_the_stated_level(bootstrap):
    """200 simulations: swapping neighbouring stimuli swaps the models, so that subjects favour neither on average."""
    alarms = 0
    swap = np.arange(20).reshape(10, 2)[:, ::-1].ravel()
    for seed in range(100, 300):
        rng = np.random.default_rng(seed)
        first = squareform(pdist(rng.normal(size=(20, 5)), "sqeuclidean"))
        models = {"a": first, "b": first[np.ix_(swap, swap)]}
        share = rng.uniform(size=12)
        noise = [squareform(pdist(rng.normal(size=(20, 5)), "sqeuclidean")) for _ in share]
        subjects = np.stack(
            [w * models["a"] + (1 - w) * models["b"] + error for w, error in zip(share, noise, strict=True)]
        )
        score = compare_rsa_models(
            models, subjects, comparator="cosine_cov", bootstrap=bootstrap, n_bootstrap=60, seed=seed
        )
        alarms += float(score["p_difference"][0, 1]) < 0.05
    # The 99 % interval of a binomial variable about 10.
    assert 3 <= alarms <= 18
