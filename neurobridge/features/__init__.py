"""Frozen torch models in, activations assemblies out."""

from neurobridge.features.extraction import extract
from neurobridge.features.loading import LoadedModel, ModelError, Program, load_model, load_weights
from neurobridge.features.models.frozen import weights_digest
from neurobridge.features.models.hooks import match_layers
from neurobridge.features.pca import LayerPCA, fit_pca
from neurobridge.features.reduction import POOLINGS, RandomProjection
from neurobridge.features.references.conv import ConvContrastive, ConvNet, ConvVAE
from neurobridge.features.references.gabor import GaborEnergy
from neurobridge.features.references.training import (
    REFERENCES,
    Reference,
    ReferenceFileError,
    load_reference,
    save_reference,
    train_reference,
)
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.features.storage import open_features
from neurobridge.features.text.captions import captions_from_templates, read_captions
from neurobridge.features.text.encode import embed_text

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
