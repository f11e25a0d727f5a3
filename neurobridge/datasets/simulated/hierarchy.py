"""The fixed hierarchy of the simulated sites: pixels -> V1 energy -> V4 conjunctions -> IT tolerance."""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.lib.stride_tricks import sliding_window_view
from tqdm.auto import tqdm

from neurobridge.datasets.simulated.stimuli import draw_stimuli, render_stimuli

N_SITES = {"V4": 88, "IT": 168}
_RETINA = 64
_WAVELENGTHS = (4.0, 8.0, 16.0)
_N_ORIENTATIONS = 6
_GRID = 8
_N_TYPES = 384
_N_DEVELOPMENT = 32
_N_TOLERANT = 40
_SEED = 70170


def responses(pixels: np.ndarray, *, progress: bool = False) -> np.ndarray:
    """Noiseless responses of the simulated sites.

    Parameters
    ----------
    pixels : uint8 array of shape (n_images, size, size)

    Returns
    -------
    float32 array of shape (n_images, 256)
        88 V4 sites, then 168 IT sites; each has mean 0 and standard deviation 1 over the development images.
    """
    sites = _sites()
    return np.concatenate([sites(batch) for batch in _batches(pixels, progress)]).astype(np.float32)


def _batches(array: np.ndarray, progress: bool) -> tqdm[np.ndarray]:
    starts = range(0, len(array), 128)
    return tqdm((array[s : s + 128] for s in starts), total=len(starts), desc="respond", disable=not progress)


class _Sites:
    """Weights of the hierarchy, imprinted on development images that no experiment shows."""

    def __init__(self) -> None:
        rng = np.random.default_rng(_SEED)
        stimuli = draw_stimuli({3: _N_DEVELOPMENT // 2, 6: _N_DEVELOPMENT // 2}, rng)
        maps = np.concatenate([energy_maps(b) for b in _batches(render_stimuli(stimuli, _RETINA, rng), False)])
        self.prototypes = _prototypes(maps, rng)
        n_v4, n_it = N_SITES["V4"], N_SITES["IT"]
        self.where = rng.integers(1, maps.shape[1] - 3, size=(2, n_v4))
        self.types = rng.choice(_N_TYPES, size=n_v4, replace=False)
        parts = [self._read(batch) for batch in _batches(maps, False)]
        v4, pooled = (np.concatenate(column) for column in zip(*parts, strict=True))
        self.mean, self.std = pooled.mean(axis=0), pooled.std(axis=0) + 1e-6
        self.fisher = _fisher((pooled - self.mean) / self.std, stimuli["object_name"].to_numpy())
        weights = rng.standard_normal((self.fisher.shape[1], n_it))
        self.mixing = weights / np.linalg.norm(weights, axis=0)
        drive = self._drive(v4, pooled)
        self.offset, self.scale = drive.mean(axis=0), drive.std(axis=0)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return (self._drive(*self._read(energy_maps(pixels))) - self.offset) / self.scale

    def _read(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """V4 sites, (n, 88), and what IT pools, (n, 6 * _N_TYPES), from V1 energy maps."""
        population = np.maximum(_patches(maps) @ self.prototypes.T - 0.1, 0)
        row, col = self.where
        around = [population[:, row + i, col + j, self.types] for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return np.mean(around, axis=0), _pool(population)

    def _drive(self, v4: np.ndarray, pooled: np.ndarray) -> np.ndarray:
        drive = ((pooled - self.mean) / self.std) @ self.fisher @ self.mixing
        return np.concatenate([v4, np.logaddexp(0, 2 * drive)], axis=1)


@functools.cache
def _sites() -> _Sites:
    return _Sites()


def energy_maps(pixels: np.ndarray) -> np.ndarray:
    """Normalised V1 energy, array of shape (n, grid, grid, n_channels), from uint8 images (n, size, size)."""
    W = _area_weights(pixels.shape[1], _RETINA)
    retina = W @ (pixels / np.float32(255)) @ W.T
    spectrum = scipy.fft.fft2(retina - retina.mean(axis=(1, 2), keepdims=True))
    energy = np.stack([np.abs(scipy.fft.ifft2(spectrum * gain)) for gain in _analytic_gabors()], axis=-1).astype(
        np.float32
    )
    pooled = energy.reshape(len(pixels), 2 * _GRID, 4, 2 * _GRID, 4, -1).mean(axis=(2, 4))
    return pooled / (0.1 + pooled.mean(axis=3, keepdims=True))


@functools.cache
def _analytic_gabors() -> np.ndarray:
    fy, fx = np.meshgrid(np.fft.fftfreq(_RETINA), np.fft.fftfreq(_RETINA), indexing="ij")
    gains = []
    for wavelength in _WAVELENGTHS:
        for k in range(_N_ORIENTATIONS):
            angle = np.pi * k / _N_ORIENTATIONS
            cy, cx = np.sin(angle) / wavelength, np.cos(angle) / wavelength
            # One-sided in frequency: the modulus of the response is the energy of a quadrature pair.
            gains.append(np.exp(-((fy - cy) ** 2 + (fx - cx) ** 2) / (2 * (0.25 / wavelength) ** 2)))
    return np.stack(gains).astype(np.float32)


def _area_weights(size: int, target: int) -> np.ndarray:
    """Matrix (target, size) that averages pixels by the area they share with each target pixel."""
    edges, marks = np.linspace(0, size, target + 1), np.arange(size + 1)
    upper = np.minimum(edges[1:, None], marks[None, 1:])
    lower = np.maximum(edges[:-1, None], marks[None, :-1])
    overlap = np.maximum(upper - lower, 0)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _patches(maps: np.ndarray) -> np.ndarray:
    """Centred and saturating patches of 3 x 3 positions and all channels, (n, side, side, 9 * n_channels)."""
    windows = sliding_window_view(maps, (3, 3), axis=(1, 2))
    flat = windows.reshape(*windows.shape[:3], -1)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=-1, keepdims=True) + 1.0)


def _prototypes(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patches seen in development, one a conjunction type, from the livelier places of as many images."""
    shown = maps[rng.choice(len(maps), size=_N_TYPES, replace=False)]
    patches = _patches(shown)
    energy = shown[:, 1:-1, 1:-1].sum(axis=-1).reshape(_N_TYPES, -1)
    lively = np.argsort(energy, axis=1)[:, -40:]
    at = lively[np.arange(_N_TYPES), rng.integers(40, size=_N_TYPES)]
    chosen = patches.reshape(_N_TYPES, -1, patches.shape[-1])[np.arange(_N_TYPES), at]
    return chosen / np.linalg.norm(chosen, axis=1, keepdims=True)


def _pool(population: np.ndarray) -> np.ndarray:
    """Maximum over quadrants and mean over all positions of each type."""
    half = population.shape[1] // 2
    quadrants = [
        population[:, r, c].max(axis=(1, 2))
        for r in (slice(half), slice(half, None))
        for c in (slice(half), slice(half, None))
    ]
    return np.concatenate([np.max(quadrants, axis=0), population.mean(axis=(1, 2)), *quadrants], axis=1)


def _fisher(features: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Directions that vary most between objects relative to the views of one object, array (n_features, _N_TOLERANT).

    What the trace rule learns from watching objects move (Foldiak 1991; Wallis & Rolls 1997), in closed form.
    """
    means = np.stack([features[objects == name].mean(axis=0) for name in np.unique(objects)])
    total = np.cov(features.T)
    between = np.cov(means.T)
    within = total - between
    within += 0.1 * np.trace(within) / len(within) * np.eye(len(within))
    _, vectors = scipy.linalg.eigh(between, within, subset_by_index=(len(within) - _N_TOLERANT, len(within) - 1))
    return vectors / np.sqrt(np.einsum("ik,ij,jk->k", vectors, total, vectors))
