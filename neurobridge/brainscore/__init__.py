"""Adapter to the Brain-Score packages; nothing else in the package knows their classes."""

from neurobridge.brainscore.convert import from_brainscore, to_brainscore

__all__ = ["from_brainscore", "to_brainscore"]
