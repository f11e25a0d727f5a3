"""The stimuli that several spaces and the recordings share, in one order, and draws of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, match_stimuli, require_varying_neuroids, validate
from neurobridge.assemblies.schema import require_unique_stimuli


def checked_names(spaces: Mapping[str, xr.DataArray], *, at_least: int, at_most: int | None = None) -> list[str]:
    """Return the names of spaces.

    Raises
    ------
    AssemblyError
        Not a mapping of texts to assemblies, or too few or too many.
    """
    if not isinstance(spaces, Mapping) or not all(isinstance(name, str) and name for name in spaces):
        raise AssemblyError(
            f"found {type(spaces).__name__} for the models; expected a mapping of names to assemblies. "
            "Mend: {'gabor': first, 'deep': second}."
        )
    if len(spaces) < at_least or (at_most is not None and len(spaces) > at_most):
        counts = f"{at_least} or more" if at_most is None else f"{at_least} to {at_most}"
        raise AssemblyError(
            f"found {len(spaces)} spaces {list(spaces)}; expected {counts}. "
            f"Mend: {'name more of them' if len(spaces) < at_least else 'join or leave out some'}."
        )
    return list(spaces)


def shared_target(
    spaces: Mapping[str, xr.DataArray], recordings: xr.DataArray, *, allow_missing: bool = False
) -> xr.DataArray:
    """Return the recordings of the stimuli that all spaces have, in the order of the recordings.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimulus, a site that is constant over the shared ones, or missing values where they are not
        allowed.
    """
    validate(recordings, role="recordings", allow_missing=allow_missing)
    require_unique_stimuli(recordings, role="recordings")
    target = recordings
    for name in spaces:
        require_unique_stimuli(spaces[name], role=name)
        target = match_stimuli(target, spaces[name]).source
    require_varying_neuroids(target, role="recordings")
    return target


def in_order_of(space: xr.DataArray, target: xr.DataArray, name: str) -> xr.DataArray:
    """Return the stimuli of the target in its order, from a space that has them all."""
    validate(space, role=name)
    return match_stimuli(target, space).target


def drawn_counts(n_stimuli: int, n_draws: int, seed: int) -> np.ndarray:
    """Draw stimuli with replacement: how often each stands in each draw.

    The same numbers and seed give the same draws, which pairs all that is computed on them.

    Returns
    -------
    array of shape (n_draws, n_stimuli)
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_stimuli, np.full(n_stimuli, 1 / n_stimuli), size=n_draws).astype(np.float64)


def interval(draws: np.ndarray, confidence: float, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper bound of draws along an axis; NaN without draws."""
    if draws.shape[axis] == 0:
        nothing = np.full(np.delete(draws.shape, axis), np.nan)
        return nothing, nothing
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=axis)
    return low, high
