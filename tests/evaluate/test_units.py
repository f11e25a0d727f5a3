"""Scores do not depend on the units of the responses; distances follow them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from neurobridge import evaluate
from neurobridge.aligners import ProcrustesAligner, RidgeAligner
from neurobridge.assemblies import make_assembly
from neurobridge.evaluate import METRICS, READOUTS, decoding, similarity
from neurobridge.evaluate.similarity import COMPARATORS, DISTANCES
from tests.units import COUNTS, SETTINGS, UNITS, check_every_callable_is_tried

N, SEED = 24, {"n_permutations": 9, "seed": 0}
RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(N, 3))
X = LATENTS @ RNG.normal(size=(3, 4)) + 0.3 * RNG.normal(size=(N, 4))
Y = LATENTS @ RNG.normal(size=(3, 6)) + 0.3 * RNG.normal(size=(N, 6))
LABELS = np.where(LATENTS[:, 0] > np.median(LATENTS[:, 0]), "boat", "car")


def labelled(values: np.ndarray, **stimuli: object) -> object:
    return make_assembly(
        values,
        presentation={
            "stimulus_id": [f"s{k:02d}" for k in range(N)],
            "category_name": LABELS,
            "tilt": LATENTS[:, 1],
            "variation": np.arange(N) // 2 % 2,
            **stimuli,
        },
        neuroid={
            "neuroid_id": range(values.shape[1]),
            "animal": [("Chabo", "Tito")[min(k // (values.shape[1] // 2), 1)] for k in range(values.shape[1])],
            "layer": [("first", "second")[k % 2] for k in range(values.shape[1])],
        },
    )


def trials(values: np.ndarray) -> object:
    noise = np.random.default_rng(1).normal(size=(4, *values.shape)) * values.std()
    return make_assembly(
        np.concatenate(values + noise),
        presentation={
            "stimulus_id": [f"s{k:02d}" for k in range(N)] * 4,
            "repetition": np.repeat(range(4), N),
            "category_name": list(LABELS) * 4,
        },
        neuroid={"neuroid_id": range(values.shape[1])},
    )


def binned(values: np.ndarray) -> object:
    return make_assembly(
        np.stack([values, values[::-1]], axis=2),
        presentation={"stimulus_id": [f"s{k:02d}" for k in range(N)], "category_name": LABELS},
        neuroid={"neuroid_id": range(values.shape[1])},
        time_bin={"time_bin_start": [0, 10], "time_bin_end": [10, 20]},
    )


def of_rsa(x: np.ndarray, y: np.ndarray) -> object:
    models = {"x": similarity.rdm(labelled(x), distance="euclidean")}
    subjects = {
        name: similarity.rdm(labelled(y)[:, k : k + 3], distance="euclidean") for k, name in ((0, "a"), (3, "b"))
    }
    return similarity.compare_rsa_models(models, subjects, n_bootstrap=20, seed=0)


def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values[:, 0], values[:, 0] + values[:, 1]


def score(result: object) -> np.ndarray:
    kept = [name for name in ("raw", "ceiling", "null", "p_value", "null_site_95") if name in result]
    return np.concatenate([np.ravel(result[name].values) for name in kept])


def decoded(assembly: object, **options: object) -> object:
    return evaluate.decode(assembly, "category_name", splits="kfold,n_splits=3", **SEED, **options)


def across(x: np.ndarray, y: np.ndarray) -> object:
    source, target = labelled(x), labelled(y)
    train, test = slice(0, 16), slice(16, N)
    aligner = ProcrustesAligner().fit(source[train], target[train])
    pairs = (source[train], target[train]), (source[test], target[test])
    return evaluate.cross_space_decode(aligner, *pairs, "category_name", readout="lda", **SEED)


def compared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    models = {"x": labelled(x).drop_vars("layer"), "y": labelled(y).drop_vars("layer")}
    result = evaluate.compare_models(models, labelled(y), ("ridge", "rsa"), splits="kfold,n_splits=3", n_bootstrap=9)
    return np.concatenate([np.ravel(result[name].values) for name in ("value", "value_low", "value_high")])


def partitioned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    pytest.importorskip("himalaya", reason="the extra `himalaya`")
    spaces = {"first": labelled(x[:, :2]), "second": labelled(x[:, 2:])}
    parts = evaluate.partition_variance(spaces, labelled(y), splits="kfold,n_splits=2", n_iter=2, n_bootstrap=5)
    return np.concatenate([np.ravel(parts[name].values) for name in ("value", "low", "high")])


def planned(x: np.ndarray, y: np.ndarray) -> list[float]:
    options = {"aligner": RidgeAligner(), "n_pairs": (4, 6, 9, 13), "n_seeds": 3, "n_bootstrap": 100, "progress": False}
    plan = evaluate.plan_pairs(labelled(y), labelled(x), **options)
    return [plan.plateau, plan.plateau_low, plan.plateau_high, *plan.predict([20, 50])["mean"].values]


#: What is the same whatever the units of x and of y.
FREE = {
    **{
        f"metric {name}": lambda x, y, name=name: score(
            METRICS[name](labelled(x), labelled(y), "kfold,n_splits=2", **SEED)
        )
        for name in METRICS
        if name != "svcca"
    },
    **{
        f"rdm {distance} {comparator}": lambda x, y, d=distance, c=comparator: score(
            similarity.rdm_similarity(
                labelled(x), trials(y) if d == "crossvalidated" else labelled(y), distance=d, comparator=c, **SEED
            )
        )
        # Rates of counts have no unit.
        for distance in (*sorted(set(DISTANCES) - {"poisson"}), "crossvalidated")
        for comparator in COMPARATORS
    },
    **{f"decode {name}": lambda x, y, name=name: score(decoded(labelled(y), readout=name)) for name in READOUTS},
    "svcca": lambda x, y: score(similarity.svcca(labelled(x), labelled(y), variance=0.9, **SEED)),
    "predictivity": lambda x, y: score(evaluate.predictivity(labelled(x), labelled(y), n_components=2, **SEED)),
    "correlate": lambda x, y: score(evaluate.correlate(labelled(y[:, :4]), labelled(x), **SEED)),
    "internal_consistency": lambda x, y: np.concatenate(
        [evaluate.internal_consistency(trials(y))[name].values for name in ("ceiling", "ceiling_low", "ceiling_high")]
    ),
    "cross_animal_consistency": lambda x, y: score(
        evaluate.cross_animal_consistency(labelled(y), regression="ridge", **SEED)
    ),
    "select_layer": lambda x, y: score(
        evaluate.select_layer(labelled(x), labelled(y), train=0.7, regression="ridge", **SEED).scores
    ),
    "learning_curve": lambda x, y: score(
        evaluate.learning_curve(
            labelled(x), labelled(y), {"ridge": RidgeAligner()}, n_pairs=(5, 10), n_seeds=1, progress=False, **SEED
        )
    ),
    "plan_pairs": lambda x, y: planned(x, y),
    "retrieve": lambda x, y: score(
        evaluate.retrieve(labelled(x), labelled(y[:, :4]), similarity="correlation", n_bootstrap=9, **SEED)
    ),
    "compare_models": lambda x, y: compared(x, y),
    "partition_variance": lambda x, y: partitioned(x, y),
    "overlap": lambda x, y: score(
        similarity.overlap(labelled(x), labelled(y), k=4, n_alignments=2, n_projections=9, **SEED)
    ),
    "generalise_time": lambda x, y: score(
        decoding.generalise_time(binned(y), "category_name", readout="lda", progress=False, **SEED)
    ),
    "decode_pseudo_population": lambda x, y: score(
        decoding.decode_pseudo_population(trials(y), "category_name", readout="lda", n_draws=2, progress=False, **SEED)
    ),
    "decoding_ceiling": lambda x, y: score(
        decoding.decoding_ceiling(trials(y), "category_name", readout="lda", n_draws=2, n_bootstrap=5)
    ),
    "compare_rsa_models": lambda x, y: np.concatenate(
        [np.ravel(of_rsa(x, y)[name].values) for name in ("raw", "raw_low", "p_value")]
    ),
    "rdm_consistency": lambda x, y: similarity.rdm_consistency(trials(y))["ceiling"].values,
    "linear_cka": similarity.linear_cka,
    "procrustes_distance": similarity.procrustes_distance,
    "compare_rdms": lambda x, y: [similarity.compare_rdms(x[:21, 0], y[:21, 0], comparator=c) for c in COMPARATORS],
    "rdm_noise_ceiling": lambda x, y: [similarity.rdm_noise_ceiling(y[:21].T, comparator=c) for c in COMPARATORS],
    "rdm": lambda x, y: [similarity.rdm(labelled(x), distance=d).values for d in ("correlation", "cosine")],
    "whitened crossvalidated_rdm": lambda x, y: similarity.crossvalidated_rdm(trials(y), whiten=True).values,
    "mmd": lambda x, y: similarity.mmd(x[:12], x[12:]),
    "cross_decode": lambda x, y: score(
        evaluate.cross_decode(labelled(y)[:16], labelled(y)[16:], "category_name", readout="lda", **SEED)
    ),
    "cross_space_decode": lambda x, y: score(across(x, y)),
    "decoding_curve": lambda x, y: score(
        evaluate.decoding_curve(
            labelled(y),
            "category_name",
            n_sites=(2, 6),
            n_train=(10,),
            readout="lda",
            n_seeds=2,
            progress=False,
            **SEED,
        )
    ),
    "generalise": lambda x, y: score(
        evaluate.generalise(labelled(y), "category_name", readout="lda", n_splits=2, **SEED)
    ),
    "decode_attributes": lambda x, y: score(
        evaluate.decode_attributes(labelled(y, tilt=x[:, 0]), {"tilt": None}, splits="kfold,n_splits=2", **SEED)
    ),
    "discriminate": lambda x, y: score(
        evaluate.discriminate(evaluate.choices(labelled(y), "category_name", readout="lda", n_repeats=1), **SEED)
    ),
    "consistency": lambda x, y: score(evaluate.consistency(halves(x), halves(y), **SEED)),
}
#: What follows the unit of y, with its power.
FOLLOWING = {
    "euclidean rdm": (1, lambda y: similarity.rdm(labelled(y), distance="euclidean").values),
    "noise_covariance": (2, lambda y: similarity.noise_covariance(trials(y))),
    "squared rdm": (2, lambda y: similarity.rdm(labelled(y), distance="sqeuclidean").values),
    "crossvalidated_rdm": (2, lambda y: similarity.crossvalidated_rdm(trials(y)).values),
    "sliced_wasserstein": (1, lambda y: similarity.sliced_wasserstein(y[:12], y[12:], n_projections=20)),
    "frechet_distance": (2, lambda y: similarity.frechet_distance(y[:12], y[12:])),
}
OF_NETWORK = "generated points have the unit of the network that made them"
OF_SCORES = "takes scores, which have no unit"
#: Public callables without units, and why.
WITHOUT = {
    "CurveSettings": SETTINGS,
    **dict.fromkeys(("generate", "generation_fidelity"), OF_NETWORK),
    **dict.fromkeys(
        ("aggregate", "check_score", "cluster_test", "comparison_tables", "curve_dataset", "find_clusters", "time_course",
         "curve_records", "make_score", "plan_from_curve", "spearman_brown"),
        OF_SCORES,
    ),
    **dict.fromkeys(
        (
            "CurveFold", "Splits", "animal_splits", "brainscore_splits", "condition_splits", "confusion", "dprime",
            "draw_curve_fold", "group_splits", "kfold_splits", "shuffle_splits", "stratified_group_splits",
            "stratified_splits", "tabulate_choices",
        ),
        COUNTS,
    ),
}  # fmt: skip
#: Tried inside another.
INSIDE = {
    "LayerChoice": "select_layer",
    "PairsPlan": "plan_pairs",
    "PseudoPopulation": "decode_pseudo_population",
    "Readout": "cross_decode",
    "choices": "discriminate",
    "pseudo_population": "decode_pseudo_population",
    "train_readout": "cross_decode",
}


@pytest.mark.filterwarnings("ignore:found .* (constant|ceiling)")
# Of scikit-learn's logistic regression, with a newer scipy than its own.
@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(FREE))
def test_a_score_does_not_depend_on_units(name):
    expected = np.asarray(FREE[name](X, Y))

    @settings(max_examples=3, deadline=None)
    @given(UNITS, UNITS)
    def unchanged(of_x: float, of_y: float) -> None:
        np.testing.assert_allclose(np.asarray(FREE[name](of_x * X, of_y * Y)), expected, rtol=1e-5, atol=1e-7)

    unchanged()


@pytest.mark.parametrize("name", sorted(FOLLOWING))
@settings(max_examples=5, deadline=None)
@given(unit=UNITS)
def test_a_distance_follows_its_unit(name, unit):
    power, measure = FOLLOWING[name]
    np.testing.assert_allclose(measure(unit * Y) / unit**power, measure(Y), rtol=1e-6, atol=1e-9)


def test_every_public_function_is_tried():
    tried = {name.split()[-1] for name in (*FREE, *FOLLOWING)} | {"decode", "rdm_similarity"}
    check_every_callable_is_tried(evaluate, similarity, decoding, tried=tried, inside=INSIDE, without=WITHOUT)


@pytest.mark.parametrize("unit", [1e-200, 1e150])
def test_units_whose_squares_are_beyond_double_precision(unit):
    assert similarity.linear_cka(unit * X, Y) == pytest.approx(similarity.linear_cka(X, Y))
    assert similarity.procrustes_distance(unit * X, Y) == pytest.approx(similarity.procrustes_distance(X, Y))
    for distance in ("correlation", "cosine"):
        np.testing.assert_allclose(DISTANCES[distance](unit * Y), DISTANCES[distance](Y), atol=1e-12)
    assert evaluate.correlate(labelled(unit * X), labelled(X), **SEED)["raw"].values == pytest.approx(np.ones((1, 4)))
