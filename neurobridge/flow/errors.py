"""The error of saved flows."""

from __future__ import annotations

from neurobridge.store.errors import StateFileError


class FlowFileError(StateFileError):
    """A saved flow or checkpoint that does not fit: missing, damaged, of another kind, version or shape."""
