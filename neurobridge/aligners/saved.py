"""Saved aligners of any kind, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurobridge.aligners.estimator import AlignerEstimator


def load(folder: str | Path, *, device: str | None = None, **params: Any) -> Any:
    """Read a saved aligner of any kind.

    Parameters
    ----------
    folder : path
        As given to `AssemblyAligner.save`.
    device : str, optional
        Where to map, for aligners that have this parameter.
    **params
        Parameters that are code, which is not kept on disk.

    Returns
    -------
    AssemblyAligner or CommonSpace
        Of the class that was saved, fitted.

    Raises
    ------
    AlignerFileError
        As in `AssemblyAligner.load`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from neurobridge.aligners import RidgeAligner, load
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = RidgeAligner().fit(X, 2 * X).save(folder)
    ...     load(folder)
    RidgeAligner()
    """
    return AlignerEstimator.load(folder, device=device, **params)
