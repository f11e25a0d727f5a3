"""Predictivity, ceilings, decoding, similarity, overlap and generation, each with its chance level."""

from neurobridge.evaluate.ceiling import cross_animal_consistency, internal_consistency, spearman_brown
from neurobridge.evaluate.correlation import correlate
from neurobridge.evaluate.curves import curve_dataset, curve_records, draw_curve_fold, learning_curve
from neurobridge.evaluate.decoding.accuracy import (
    READOUTS,
    Readout,
    cross_decode,
    cross_space_decode,
    decode,
    train_readout,
)
from neurobridge.evaluate.decoding.attributes import decode_attributes
from neurobridge.evaluate.decoding.axes import decoding_curve, generalise
from neurobridge.evaluate.decoding.confusions import choices, confusion, tabulate_choices
from neurobridge.evaluate.decoding.discrimination import consistency, discriminate, dprime
from neurobridge.evaluate.generation import generate, generation_fidelity
from neurobridge.evaluate.layers import LayerChoice, select_layer
from neurobridge.evaluate.metrics import METRICS
from neurobridge.evaluate.predict import predictivity
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.scores import NORMALIZATIONS, aggregate
from neurobridge.evaluate.similarity.arrays import linear_cka, procrustes_distance
from neurobridge.evaluate.similarity.distribution import frechet_distance, mmd, sliced_wasserstein
from neurobridge.evaluate.similarity.rdms import (
    COMPARATORS,
    DISTANCES,
    compare_rdms,
    crossvalidated_rdm,
    rdm,
    rdm_noise_ceiling,
)
from neurobridge.evaluate.similarity.relations import overlap
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
    "LayerChoice",
    "Readout",
    "Splits",
    "aggregate",
    "animal_splits",
    "brainscore_splits",
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
