"""Predictivity, ceilings and decoding, each with its chance level."""

from neurobridge.evaluate.ceiling import internal_consistency, spearman_brown
from neurobridge.evaluate.correlation import correlate
from neurobridge.evaluate.decoding import READOUTS, Readout, cross_decode, decode, train_readout
from neurobridge.evaluate.layers import LayerChoice, select_layer
from neurobridge.evaluate.predict import aggregate, predictivity
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.splits import Splits, shuffle_splits, stratified_splits

__all__ = [
    "READOUTS",
    "REGRESSIONS",
    "LayerChoice",
    "Readout",
    "Splits",
    "aggregate",
    "correlate",
    "cross_decode",
    "decode",
    "internal_consistency",
    "predictivity",
    "select_layer",
    "shuffle_splits",
    "spearman_brown",
    "stratified_splits",
    "train_readout",
]
