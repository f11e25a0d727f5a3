"""Error of the room."""

from __future__ import annotations


class AssemblyError(ValueError):
    """Error of an array that does not meet the schema; the message says what was found, expected and how to mend it.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import AssemblyError, validate
    >>> try:
    ...     validate(np.zeros((3, 2)))
    ... except AssemblyError as error:
    ...     print(str(error).split(". Mend")[0])
    assembly: found ndarray; expected an xarray.DataArray
    """
