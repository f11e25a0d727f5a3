"""Frozen torch models: their weights, hooks into their layers, and the axes of what these put out."""

from neurobridge.features.models.weights import load_weights as load_weights
