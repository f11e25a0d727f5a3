"""Frozen torch models in, activations assemblies out."""

from neurobridge.features.captions import captions_from_templates, read_captions
from neurobridge.features.conv import ConvContrastive, ConvNet, ConvVAE
from neurobridge.features.extract import extract
from neurobridge.features.frozen import weights_digest
from neurobridge.features.hooks import match_layers
from neurobridge.features.models import LoadedModel, ModelError, Program, load_model, load_weights
from neurobridge.features.pca import LayerPCA, fit_pca
from neurobridge.features.preprocess import Preprocess
from neurobridge.features.reduce import POOLINGS, RandomProjection
from neurobridge.features.reference import GaborEnergy
from neurobridge.features.storage import open_features
from neurobridge.features.text import embed_text
from neurobridge.features.training import (
    REFERENCES,
    Reference,
    ReferenceFileError,
    load_reference,
    save_reference,
    train_reference,
)

__all__ = [
    "POOLINGS",
    "REFERENCES",
    "ConvContrastive",
    "ConvNet",
    "ConvVAE",
    "GaborEnergy",
    "LayerPCA",
    "LoadedModel",
    "ModelError",
    "Preprocess",
    "Program",
    "RandomProjection",
    "Reference",
    "ReferenceFileError",
    "captions_from_templates",
    "embed_text",
    "extract",
    "fit_pca",
    "load_model",
    "load_reference",
    "load_weights",
    "match_layers",
    "open_features",
    "read_captions",
    "save_reference",
    "train_reference",
    "weights_digest",
]
