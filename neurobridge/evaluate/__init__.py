"""Predictivity, ceilings and decoding, each with its chance level."""

from neurobridge.evaluate.ceiling import cross_animal_consistency, internal_consistency, spearman_brown
from neurobridge.evaluate.correlation import correlate
from neurobridge.evaluate.decoding import READOUTS, Readout, cross_decode, decode, train_readout
from neurobridge.evaluate.dissimilarity import COMPARATORS, DISTANCES, crossvalidated_rdm, rdm
from neurobridge.evaluate.layers import LayerChoice, select_layer
from neurobridge.evaluate.metrics import METRICS
from neurobridge.evaluate.predict import predictivity
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.scores import NORMALIZATIONS, aggregate
from neurobridge.evaluate.similarity import linear_cka, procrustes_distance
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
    "condition_splits",
    "correlate",
    "cross_animal_consistency",
    "cross_decode",
    "crossvalidated_rdm",
    "decode",
    "group_splits",
    "internal_consistency",
    "kfold_splits",
    "linear_cka",
    "predictivity",
    "procrustes_distance",
    "rdm",
    "select_layer",
    "shuffle_splits",
    "spearman_brown",
    "stratified_splits",
    "train_readout",
]
