"""Frozen torch models in, activations assemblies out."""

from neurobridge.features.captions import captions_from_templates, read_captions
from neurobridge.features.extract import POOLINGS, extract, match_layers, weights_digest
from neurobridge.features.preprocess import Preprocess
from neurobridge.features.reference import GaborEnergy
from neurobridge.features.text import embed_text

__all__ = [
    "POOLINGS",
    "GaborEnergy",
    "Preprocess",
    "captions_from_templates",
    "embed_text",
    "extract",
    "match_layers",
    "read_captions",
    "weights_digest",
]
