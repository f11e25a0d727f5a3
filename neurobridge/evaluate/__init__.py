"""Predictivity, ceilings, decoding, similarity, overlap and generation, each with its chance level."""

from neurobridge.evaluate.aggregation import aggregate
from neurobridge.evaluate.ceiling import cross_animal_consistency, internal_consistency, spearman_brown
from neurobridge.evaluate.correlation import correlate
from neurobridge.evaluate.curve_folds import CurveFold, CurveSettings, draw_curve_fold
from neurobridge.evaluate.curves import curve_dataset, curve_records, learning_curve
from neurobridge.evaluate.decoding import (
    READOUTS,
    Readout,
    choices,
    confusion,
    consistency,
    cross_decode,
    cross_space_decode,
    decode,
    decode_attributes,
    decoding_curve,
    discriminate,
    dprime,
    generalise,
    tabulate_choices,
    train_readout,
)
from neurobridge.evaluate.generation import generate, generation_fidelity
from neurobridge.evaluate.layers import LayerChoice, select_layer
from neurobridge.evaluate.metrics import METRICS
from neurobridge.evaluate.predict import predictivity
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.scores import NORMALIZATIONS, check_score, make_score
from neurobridge.evaluate.similarity import (
    COMPARATORS,
    DISTANCES,
    compare_rdms,
    crossvalidated_rdm,
    frechet_distance,
    linear_cka,
    mmd,
    overlap,
    procrustes_distance,
    rdm,
    rdm_noise_ceiling,
    sliced_wasserstein,
)
from neurobridge.evaluate.splits import (
    Splits,
    animal_splits,
    brainscore_splits,
    condition_splits,
    group_splits,
    kfold_splits,
    shuffle_splits,
    stratified_splits,
)

__all__ = [
    "COMPARATORS",
    "DISTANCES",
    "METRICS",
    "NORMALIZATIONS",
    "READOUTS",
    "REGRESSIONS",
    "CurveFold",
    "CurveSettings",
    "LayerChoice",
    "Readout",
    "Splits",
    "aggregate",
    "animal_splits",
    "brainscore_splits",
    "check_score",
    "choices",
    "compare_rdms",
    "condition_splits",
    "confusion",
    "consistency",
    "correlate",
    "cross_animal_consistency",
    "cross_decode",
    "cross_space_decode",
    "crossvalidated_rdm",
    "curve_dataset",
    "curve_records",
    "decode",
    "decode_attributes",
    "decoding_curve",
    "discriminate",
    "dprime",
    "draw_curve_fold",
    "frechet_distance",
    "generalise",
    "generate",
    "generation_fidelity",
    "group_splits",
    "internal_consistency",
    "kfold_splits",
    "learning_curve",
    "linear_cka",
    "make_score",
    "mmd",
    "overlap",
    "predictivity",
    "procrustes_distance",
    "rdm",
    "rdm_noise_ceiling",
    "select_layer",
    "shuffle_splits",
    "sliced_wasserstein",
    "spearman_brown",
    "stratified_splits",
    "tabulate_choices",
    "train_readout",
]
