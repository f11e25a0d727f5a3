"""The two spaces of the quality protocol: VAE latents and CNN features of real MNIST digits.

5,000 real digits are used; both extractors and the target head are trained on *other* digits of
the official training part, frozen, and never see the 5,000. The features are kept in an npz file:
training takes a minute.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from neurobridge.datasets import load
from neurobridge.evaluate.curves.learning import interval
from neurobridge.store.atomic import atomic_path

N_DIGITS, N_VAE, N_CNN = 5000, 10_000, 5000


class Pools(NamedTuple):
    """Rows of one draw of the protocol.

    They are the held-out digits, those known in both spaces, and those of either pool (the known
    ones first).
    """

    test: np.ndarray
    known: np.ndarray
    source: np.ndarray
    target: np.ndarray


def draw_pools(n_digits: int, n_pairs: int, seed: int) -> Pools:
    """Hold out 1,000 digits, pair the first of the others, and deal the rest to one pool each."""
    order = np.random.default_rng(seed).permutation(n_digits)
    test, train = order[:1000], order[1000:]
    known, unpaired = train[:n_pairs], train[n_pairs:]
    return Pools(test, known, np.concatenate([known, unpaired[0::2]]), np.concatenate([known, unpaired[1::2]]))


def mean_and_ci(values: list[float]) -> dict[str, float]:
    """Return the mean over seeds, and half the width of its 95 % interval."""
    return {"mean": float(np.mean(values)), "ci95": float(interval(np.asarray(values)))}


class Spaces(NamedTuple):
    """Both views of 5,000 digits, row by row, and the frozen readout of the target space."""

    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    head_weight: np.ndarray
    head_bias: np.ndarray

    def accuracy(self, target: np.ndarray, rows: np.ndarray) -> float:
        """Return the accuracy of the frozen head on points of the target space."""
        return float((self.named(target) == self.labels[rows]).mean())

    def named(self, target: np.ndarray) -> np.ndarray:
        """Return the digits that the frozen head reads from points of the target space."""
        return np.asarray((target @ self.head_weight.T + self.head_bias).argmax(axis=1))


class VAE(nn.Module):
    """Convolutional encoder, two-layer decoder; the mean of 32 latents is the representation."""

    def __init__(self, n_latents: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 49, 2 * n_latents),
        )  # fmt: skip
        self.decoder = nn.Sequential(nn.Linear(n_latents, 256), nn.ReLU(), nn.Linear(256, 784))

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """Return the negative evidence bound, mean over the images."""
        mean, log_var = self.encoder(images).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), images.flatten(1), reduction="sum")
        return (reconstruction - 0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()) / len(images)


class CNN(nn.Module):
    """Small classifier; its 128 rectified units before the head are the representation."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores, shape (n, 10)."""
        return self.head(self.features(images))


def _batches(n: int, n_epochs: int, rng: np.random.Generator, size: int = 100) -> Iterator[np.ndarray]:
    for _ in range(n_epochs):
        yield from np.array_split(rng.permutation(n), n // size)


def build(mirror: str | os.PathLike[str] | None, cache: Path, *, seed: int = 0) -> Spaces:
    """Train both extractors once and return the views of the 5,000 digits.

    Parameters
    ----------
    mirror : path or None
        Folder with the real MNIST files; None downloads them.
    cache : path
        Folder of the npz file.
    seed : int
        Of the choice of digits and of training.
    """
    file = Path(cache) / f"mnist-spaces-{seed}.npz"
    if file.exists():
        with np.load(file, allow_pickle=False) as stored:
            return Spaces(**{name: stored[name] for name in Spaces._fields})
    digits: Any = load("mnist", part="train", mirror=mirror).images
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits))
    images = torch.as_tensor(digits.values[order, None], dtype=torch.float32) / 255
    labels = torch.as_tensor(digits["category_name"].values.astype(int)[order])
    kept_rows, vae_rows, cnn_rows = np.split(np.arange(N_DIGITS + N_VAE + N_CNN), [N_DIGITS, N_DIGITS + N_VAE])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae, cnn = VAE(), CNN()
        optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3)
        for batch in _batches(N_VAE, 12, rng):
            optimiser.zero_grad()
            vae.loss(images[vae_rows[batch]]).backward()
            optimiser.step()
        optimiser = torch.optim.Adam(cnn.parameters(), lr=1e-3)
        for batch in _batches(N_CNN, 8, rng):
            optimiser.zero_grad()
            F.cross_entropy(cnn(images[cnn_rows[batch]]), labels[cnn_rows[batch]]).backward()
            optimiser.step()
    with torch.inference_mode():
        source = vae.encoder(images[kept_rows]).chunk(2, dim=1)[0].double().numpy()
        target = cnn.features(images[kept_rows]).double().numpy()
        weight, bias = (p.double().numpy() for p in (cnn.head.weight, cnn.head.bias))
    spaces = Spaces(source, target, labels[kept_rows].numpy(), weight, bias)
    with atomic_path(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **spaces._asdict())
    return spaces


def file_digests(mirror: Path | None) -> dict[str, str]:
    """Return the sha256 of the real MNIST files that were read, by name."""
    folder = mirror / "mnist" if mirror else None
    if folder is None or not folder.is_dir():
        return {}
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("train-*"))}
