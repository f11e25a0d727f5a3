"""The error of everything that is read from disk."""

from __future__ import annotations


class StateFileError(ValueError):
    """A saved state that does not fit: missing, damaged, of another kind, version or shape, or holding what cannot be saved.

    Examples
    --------
    >>> from neurobridge.flow import FlowFileError
    >>> issubclass(FlowFileError, StateFileError)
    True
    """
