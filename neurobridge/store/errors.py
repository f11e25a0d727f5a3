"""Errors of what is read from disk and written to it."""

from __future__ import annotations


class StateFileError(ValueError):
    """A saved state that does not fit: missing, damaged, of another kind, version or shape, or holding what cannot be saved.

    Examples
    --------
    >>> from neurobridge.flow import FlowFileError
    >>> issubclass(FlowFileError, StateFileError)
    True
    """


class DiskFullError(OSError):
    """Nothing more could be written: the disk is full, a quota is used up, or a file would exceed the limit of its size.

    Examples
    --------
    >>> import errno
    >>> DiskFullError(errno.ENOSPC, "scores.nc: found no space left on the disk").errno == errno.ENOSPC
    True
    """
