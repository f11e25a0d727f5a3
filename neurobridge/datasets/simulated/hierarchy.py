"""The fixed hierarchy of the simulated sites: pixels -> V1 energy -> V4 conjunctions -> IT tolerance."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import platform
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy
import scipy.fft
import scipy.linalg
from numpy.lib.stride_tricks import sliding_window_view

from neurobridge.datasets.files.places import cache_folder
from neurobridge.datasets.simulated.stimuli import draw_stimuli, render_stimuli
from neurobridge.points.progress import progress_bar
from neurobridge.store.atomic import write_bytes

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
    """Compute the noiseless responses of the simulated sites.

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


def _batches(array: np.ndarray, progress: bool) -> Iterable[np.ndarray]:
    starts = range(0, len(array), 128)
    batches: Iterable[np.ndarray] = progress_bar(
        (array[s : s + 128] for s in starts), total=len(starts), desc="respond", progress=progress
    )
    return batches


class _Sites:
    """Weights of the hierarchy, imprinted on development images that no experiment shows."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.prototypes, self.positions, self.types = (weights[name] for name in ("prototypes", "positions", "types"))

    @classmethod
    def develop(cls) -> _Sites:
        """Draw and fit the weights: about twelve seconds of processor time."""
        rng = np.random.default_rng(_SEED)
        stimuli = draw_stimuli({3: _N_DEVELOPMENT // 2, 6: _N_DEVELOPMENT // 2}, rng)
        maps = np.concatenate([energy_maps(b) for b in _batches(render_stimuli(stimuli, _RETINA, rng), False)])
        prototypes = _prototypes(maps, rng)
        n_v4, n_it = N_SITES["V4"], N_SITES["IT"]
        positions = rng.integers(1, maps.shape[1] - 3, size=(2, n_v4))
        types = rng.choice(_N_TYPES, size=n_v4, replace=False)
        sites = cls({"prototypes": prototypes, "positions": positions, "types": types})
        parts = [sites._read(batch) for batch in _batches(maps, False)]
        v4, pooled = (np.concatenate(column) for column in zip(*parts, strict=True))
        mean, std = pooled.mean(axis=0), pooled.std(axis=0) + 1e-6
        fisher = _fisher((pooled - mean) / std, stimuli["object_name"].to_numpy())
        mixing = rng.standard_normal((fisher.shape[1], n_it))
        sites.weights |= {"mean": mean, "std": std, "fisher": fisher, "mixing": mixing / np.linalg.norm(mixing, axis=0)}
        drive = sites._drive(v4, pooled)
        sites.weights |= {"offset": drive.mean(axis=0), "scale": drive.std(axis=0)}
        return sites

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return (self._drive(*self._read(energy_maps(pixels))) - self.weights["offset"]) / self.weights["scale"]

    def _read(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the V4 sites, (n, 88), and what IT pools, (n, 6 * _N_TYPES), from V1 energy maps."""
        population = np.maximum(_patches(maps) @ self.prototypes.T - 0.1, 0)
        row, col = self.positions
        around = [population[:, row + i, col + j, self.types] for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return np.mean(around, axis=0), _pool(population)

    def _drive(self, v4: np.ndarray, pooled: np.ndarray) -> np.ndarray:
        w = self.weights
        drive = ((pooled - w["mean"]) / w["std"]) @ w["fisher"] @ w["mixing"]
        return np.concatenate([v4, np.logaddexp(0, 2 * drive)], axis=1)


@functools.cache
def _sites() -> _Sites:
    """Sites of this code and these libraries: developed once on a machine, then read from the cache folder (2 MB)."""
    path = cache_folder() / "simulated" / f"hierarchy-{_version()}.weights"
    weights = _read_weights(path)
    if weights is not None:
        return _Sites(weights)
    sites = _Sites.develop()
    # Where the folder cannot be written, the next process develops the same sites again.
    with contextlib.suppress(OSError):
        _write_weights(path, sites.weights)
    return sites


def _version() -> str:
    """Digest of everything that the weights depend on: the code, the libraries, the machine's arithmetic."""
    code = [Path(__file__).with_name(f"{module}.py").read_bytes() for module in ("hierarchy", "render", "stimuli")]
    libraries = " ".join((np.__version__, scipy.__version__, platform.machine()))
    return hashlib.sha256(b"".join(code) + libraries.encode()).hexdigest()[:16]


def _write_weights(path: Path, weights: dict[str, np.ndarray]) -> None:
    payload = io.BytesIO()
    np.savez(payload, **weights)  # type: ignore[arg-type]  # numpy's stub takes no array by name
    write_bytes(path, hashlib.sha256(payload.getvalue()).digest() + payload.getvalue())


def _read_weights(path: Path) -> dict[str, np.ndarray] | None:
    """Weights of a file whose digest is right, else None."""
    try:
        contents = path.read_bytes()
    except OSError:
        return None
    digest, payload = contents[:32], contents[32:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        return dict(arrays)


def energy_maps(pixels: np.ndarray) -> np.ndarray:
    """Compute normalised V1 energy, array of shape (n, grid, grid, n_channels), from uint8 images (n, size, size)."""
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
    """Return the matrix (target, size) that averages pixels by the area they share with each target pixel."""
    edges, marks = np.linspace(0, size, target + 1), np.arange(size + 1)
    upper = np.minimum(edges[1:, None], marks[None, 1:])
    lower = np.maximum(edges[:-1, None], marks[None, :-1])
    overlap = np.maximum(upper - lower, 0)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _patches(maps: np.ndarray) -> np.ndarray:
    """Cut centred and saturating patches of 3 x 3 positions and all channels, (n, side, side, 9 * n_channels)."""
    windows = sliding_window_view(maps, (3, 3), axis=(1, 2))
    flat = windows.reshape(*windows.shape[:3], -1)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=-1, keepdims=True) + 1.0)


def _prototypes(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose patches seen in development, one a conjunction type, from the livelier places of as many images."""
    shown = maps[rng.choice(len(maps), size=_N_TYPES, replace=False)]
    patches = _patches(shown)
    energy = shown[:, 1:-1, 1:-1].sum(axis=-1).reshape(_N_TYPES, -1)
    lively = np.argsort(energy, axis=1)[:, -40:]
    at = lively[np.arange(_N_TYPES), rng.integers(40, size=_N_TYPES)]
    chosen = patches.reshape(_N_TYPES, -1, patches.shape[-1])[np.arange(_N_TYPES), at]
    return chosen / np.linalg.norm(chosen, axis=1, keepdims=True)


def _pool(population: np.ndarray) -> np.ndarray:
    """Take the maximum over quadrants and the mean over all positions of each type."""
    half = population.shape[1] // 2
    quadrants = [
        population[:, r, c].max(axis=(1, 2))
        for r in (slice(half), slice(half, None))
        for c in (slice(half), slice(half, None))
    ]
    return np.concatenate([np.max(quadrants, axis=0), population.mean(axis=(1, 2)), *quadrants], axis=1)


def _fisher(features: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Find the directions that vary most between objects relative to the views of one object, array (n_features, _N_TOLERANT).

    What the trace rule learns from watching objects move (Foldiak 1991; Wallis & Rolls 1997), in closed form.
    """
    means = np.stack([features[objects == name].mean(axis=0) for name in np.unique(objects)])
    total = np.cov(features.T)
    between = np.cov(means.T)
    within = total - between
    within += 0.1 * np.trace(within) / len(within) * np.eye(len(within))
    _, vectors = scipy.linalg.eigh(between, within, subset_by_index=(len(within) - _N_TOLERANT, len(within) - 1))
    return vectors / np.sqrt(np.einsum("ik,ij,jk->k", vectors, total, vectors))
