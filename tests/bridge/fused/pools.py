"""Simulated pools of points that share some pairs, for the tests of the fused bridge."""

from __future__ import annotations

import numpy as np

# Few candidates: the choice among many is tested once.
ONE = {"lams": (0.9,), "epsilons": (0.02,)}
QUICK = ONE | {"n_rounds": (10,), "kernel_rounds": (0,), "n_folds": 3, "n_neighbors": 8}


def clustered(n, *, bent=False, n_pairs=10, seed=0, noise=0.02, n_clusters=8, n_dims=6):
    """Two pools of the same clustered cloud without common points but the pairs; the second is seen through an unknown map."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(n_clusters, n_dims))
    Z = centres[rng.integers(0, n_clusters, 2 * n + 100)] + 0.6 * rng.normal(size=(2 * n + 100, n_dims))
    mix = rng.normal(size=(n_dims, 9)) / 2
    image = np.tanh(Z @ mix / 2) * 2 + 0.15 * Z @ mix if bent else Z @ mix
    image = image + noise * rng.normal(size=image.shape)
    # Source: the cloud in ten dimensions, most of them noise, so that few pairs do not determine the map.
    X = np.hstack([Z, 0.3 * rng.normal(size=(len(Z), 4))])
    X, Y = (side - side.mean(axis=0) for side in (X, image))
    X, Y = X / X.std(), Y / Y.std()
    known, test = np.arange(n_pairs), np.arange(2 * n, 2 * n + 100)
    left = np.concatenate([known, np.arange(n_pairs, n)])
    right = np.concatenate([known, np.arange(n, 2 * n - n_pairs)])
    return X[left], Y[right], (known, known), X[test], Y[test]


def r2(predicted, truth):
    return 1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()
