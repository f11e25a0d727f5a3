"""Folds over pairs by which settings of a map are chosen, and the choice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

N_FOLDS = 5

Key = TypeVar("Key", bound=Hashable)


def folds_of(n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal n pairs at random into at most `N_FOLDS` folds, as (train, test) rows."""
    order = np.random.default_rng(seed).permutation(n)
    parts = np.array_split(order, min(N_FOLDS, n))
    return [(np.setdiff1d(order, part), part) for part in parts]


def least_error(errors: Sequence[Mapping[Key, float]]) -> Key:
    """Return the candidate of least summed error among those that every fold could fit; the first of equals."""
    common = [key for key in errors[0] if all(key in fold for fold in errors)]
    return min(common, key=lambda key: sum(fold[key] for fold in errors))
