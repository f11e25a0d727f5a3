"""Frozen torch models in, activations assemblies out."""

from neurobridge.features.extract import extract
from neurobridge.features.frozen import weights_digest
from neurobridge.features.hooks import match_layers
from neurobridge.features.models import LoadedModel, ModelError, Program, load_model, load_weights
from neurobridge.features.pca import LayerPCA, fit_pca
from neurobridge.features.preprocess import Preprocess
from neurobridge.features.reduce import POOLINGS, RandomProjection
from neurobridge.features.reference import GaborEnergy
from neurobridge.features.storage import open_features

__all__ = [
    "POOLINGS",
    "GaborEnergy",
    "LayerPCA",
    "LoadedModel",
    "ModelError",
    "Preprocess",
    "Program",
    "RandomProjection",
    "extract",
    "fit_pca",
    "load_model",
    "load_weights",
    "match_layers",
    "open_features",
    "weights_digest",
]
