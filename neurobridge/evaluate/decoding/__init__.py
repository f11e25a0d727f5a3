"""Decoding of labels and attributes, sensitivity d' and confusions, with chance levels."""

from neurobridge.evaluate.decoding.accuracy import cross_decode, cross_space_decode, decode
from neurobridge.evaluate.decoding.attributes import decode_attributes
from neurobridge.evaluate.decoding.axes import decoding_curve, generalise
from neurobridge.evaluate.decoding.confusions import choices, confusion, tabulate_choices
from neurobridge.evaluate.decoding.discrimination import consistency, discriminate, dprime
from neurobridge.evaluate.decoding.readouts import READOUTS, Readout, train_readout

__all__ = [
    "READOUTS",
    "Readout",
    "choices",
    "confusion",
    "consistency",
    "cross_decode",
    "cross_space_decode",
    "decode",
    "decode_attributes",
    "decoding_curve",
    "discriminate",
    "dprime",
    "generalise",
    "tabulate_choices",
    "train_readout",
]
