"""Both views of all stimuli of a set, as plain arrays; what takes long to make is kept in a cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import average_repetitions, drop_constant
from neurobridge.datasets import load
from neurobridge.evaluate.curves.folds import draw_curve_fold
from neurobridge.features import GaborEnergy, Preprocess, embed_text, extract, train_reference
from neurobridge.store.atomic import atomic_path

CACHE = Path("results/cache")


@dataclass(frozen=True, eq=False, kw_only=True)
class Views:
    """Both views of all stimuli, row by row.

    Attributes
    ----------
    source, target : float64 arrays of shape (n_stimuli, n_dims)
    strata : array of shape (n_stimuli,), optional
        Classes that are held out in proportion.
    """

    source: np.ndarray
    target: np.ndarray
    strata: np.ndarray | None = None


def kept(cache: Path, name: str, data: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return an array that is made once for the digests of its data and kept as a file."""
    mark = hashlib.sha256(repr(sorted(data.attrs["digests"].items())).encode()).hexdigest()[:12]
    file = Path(cache) / f"alignment-{name}-{mark}.npy"
    if not file.exists():
        with atomic_path(file) as partial, partial.open("wb") as stream:
            np.save(stream, make())
    return np.load(file)


def halves(sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split sites into two halves, always the same."""
    order = np.random.default_rng(0).permutation(sites.shape[1])
    first, second = (np.sort(part) for part in np.array_split(order, 2))
    return sites[:, first], sites[:, second]


def flickr8k(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return MiniLM embeddings of 1,000 captions and CLIP embeddings of their images (real)."""
    data: Any = load("clip-flickr8k", mirror=mirror)
    captions = data.stimuli[["stimulus_id", "caption"]]
    text = kept(cache, "minilm-flickr8k", data, lambda: embed_text(captions).values)
    return Views(source=text.astype(float), target=data.activations.values.astype(float))


@lru_cache(maxsize=1)
def _session(mirror: Path | None) -> tuple[Any, xr.DataArray]:
    data: Any = load("cowley2023-v4-210325", mirror=mirror)
    return data, drop_constant(average_repetitions(data.recordings))


def v4_gabor(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return Gabor energies of 640 images and 50 V4 sites, averaged over repetitions (real)."""
    data, brain = _session(mirror)
    energies = kept(cache, "gabor-v4", data, lambda: drop_constant(extract(GaborEnergy(), data.images, "v1")).values)
    return Views(source=energies.astype(float), target=brain.values.astype(float))


def v4_contrastive(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return latents of an encoder trained on the images that a seed does not hold out, and the V4 sites (real)."""
    data, brain = _session(mirror)

    def make() -> np.ndarray:
        test = draw_curve_fold(brain, brain, 2, seed=seed).target_test["stimulus_id"].values
        rows = np.flatnonzero(~np.isin(data.images["stimulus_id"].values, test))
        reference = train_reference(
            "conv_contrastive", data.images[rows], epochs=40, batch_size=128, preprocess=Preprocess(size=32), seed=seed
        )
        return extract(reference.model, data.images, "encoder.latents", preprocess=reference.preprocess).values

    return Views(
        source=kept(cache, f"contrastive-v4-{seed}", data, make).astype(float), target=brain.values.astype(float)
    )


def v4_halves(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return two halves of the V4 sites (real)."""
    source, target = halves(_session(mirror)[1].values.astype(float))
    return Views(source=source, target=target)


@lru_cache(maxsize=1)
def _it(mirror: Path | None) -> tuple[xr.DataArray, xr.DataArray]:
    data: Any = load("majajhong2015-it-v6", mirror=mirror)
    return drop_constant(data.recordings), drop_constant(data.latents)


def it_halves(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return two halves of 168 IT sites on 640 images (real)."""
    brain, _ = _it(mirror)
    source, target = halves(brain.values.astype(float))
    return Views(source=source, target=target, strata=brain["object_name"].values.astype(str))


def it_latents(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return the generative latents of 640 images, with their object, and the IT sites (real)."""
    brain, latents = _it(mirror)
    return Views(
        source=latents.values.astype(float), target=brain.values.astype(float),
        strata=brain["object_name"].values.astype(str),
    )  # fmt: skip


def things(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return similarity embeddings of 1,854 objects by women and by men (real)."""
    if mirror is None:
        raise FileNotFoundError(
            "found no mirror; expected the folder with things-similarity/female_embeddings.npy and male_embeddings.npy. "
            "Mend: --mirror DIR."
        )
    folder = Path(mirror) / "things-similarity"
    source, target = (np.load(folder / f"{group}_embeddings.npy")[0].astype(float) for group in ("female", "male"))
    return Views(source=source, target=target)


def turned_clusters(mirror: Path | None, cache: Path, seed: int) -> Views:
    """Return SIMULATED clusters and a turned, noisy copy of them, 120 points each."""
    rng = np.random.default_rng(3)
    X = 2 * rng.normal(size=(5, 4))[rng.integers(5, size=120)] + rng.normal(size=(120, 4))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:4]
    return Views(source=X, target=X @ turn + 0.2 * rng.normal(size=(120, 6)))
