"""Align brain recordings and model activations through a few shared stimuli."""

__version__ = "0.1.0"
