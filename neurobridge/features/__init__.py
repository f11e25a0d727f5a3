"""Frozen torch models in, activations assemblies out."""

from neurobridge.features.extract import POOLINGS, extract, match_layers, weights_digest
from neurobridge.features.preprocess import Preprocess
from neurobridge.features.reference import GaborEnergy

__all__ = ["POOLINGS", "GaborEnergy", "Preprocess", "extract", "match_layers", "weights_digest"]
