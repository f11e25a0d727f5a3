"""The pairs of spaces of the no-anchor experiment: real, simulated, and rotated copies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from neurobridge.assemblies import average_repetitions, split_halves
from neurobridge.datasets import load
from neurobridge.features import captions_from_templates, embed_text, extract, train_reference
from neurobridge.study.harness import Run

from ..digits import NAMES, WORDINGS

CASES = (
    "MNIST images, captions",
    "Flickr8k captions, images", "CLIP, turned CLIP", "HvM IT, two animals (simulated)", "HvM V4, IT (simulated)",
    "HvM IT, two halves (simulated)", "clusters, turned (simulated)", "clusters, unrelated (simulated)",
)  # fmt: skip
HVM_SIDES = {
    "HvM IT, two animals (simulated)": ("IT 0", "IT 1"),
    "HvM V4, IT (simulated)": ("V4", "IT"),
    "HvM IT, two halves (simulated)": ("half 0", "half 1"),
}


class UnpairedTask(NamedTuple):
    """Training pools and held-out views, row by row.

    Row ``partner[i]`` of the target pool is row i of the source pool.
    """

    source: np.ndarray
    target: np.ndarray
    partner: np.ndarray
    source_test: np.ndarray
    target_test: np.ndarray
    labels_test: np.ndarray | None


def sizes(run: Run) -> tuple[int, int, int]:
    """Return the numbers of training stimuli, held-out stimuli and principal components."""
    return (80, 20, 10) if run.quick else (200, 75, 30)


class PairedViews(NamedTuple):
    """Both views of all stimuli of a case, row by row, and their classes if they have any."""

    source: np.ndarray
    target: np.ndarray
    labels: np.ndarray | None = None


def paired_views(run: Run, case: str, seed: int) -> PairedViews:
    """Return both views of a case."""
    rng = np.random.default_rng([seed, CASES.index(case)])
    n = sum(sizes(run)[:2])
    if case.startswith("clusters"):
        (X, label), (Z, _) = (_clusters(n, np.random.default_rng([seed, 50 + k])) for k in range(2))
        if "turned" in case:
            return PairedViews(X, _rotated_copy(X, 12, 0.1, rng), label)
        return PairedViews(X, _rotated_copy(rng.permutation(Z), 12, 0.1, rng))
    if case.startswith("HvM"):
        data = run.once("hvm", lambda: _hvm(run))
        source_name, target_name = HVM_SIDES[case]
        return PairedViews(data[source_name], data[target_name], data["category"])
    if case.startswith("MNIST"):
        latents, labels, captions, caption_labels = run.once("mnist", lambda: _mnist(run))
        return PairedViews(
            latents, captions[[rng.choice(np.flatnonzero(caption_labels == label)) for label in labels]], labels
        )
    text, images = run.once("flickr", lambda: _flickr(run))
    return (
        PairedViews(images, _rotated_copy(images, images.shape[1], 0.3, rng))
        if "turned" in case
        else PairedViews(text, images)
    )


def _mnist(run: Run) -> tuple[np.ndarray, ...]:
    """Return latents and digits of images, and embedded captions and their digits.

    The VAE was not trained on these images.
    """
    data: Any = load("mnist", part="train", mirror=run.mirror)
    run.shared.setdefault("digests", {}).update(data.attrs["digests"])
    n = 1000 if run.quick else 10_000
    images = data.images[n : n + 1000]
    vae = train_reference("conv_vae", data.images[:n], seed=0, epochs=1 if run.quick else 4)
    latents = extract(vae.model, images, "encoder.mean", preprocess=vae.preprocess, batch_size=500)
    text = embed_text(captions_from_templates(list(NAMES), WORDINGS, names=NAMES, n_captions=2 * len(WORDINGS)))
    labels, caption_labels = images["category_name"].values.astype(str), text["category_name"].values.astype(str)
    return latents.values.astype(float), labels, text.values.astype(float), caption_labels


def _flickr(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return embedded captions and CLIP embeddings of their images."""
    flickr: Any = load("clip-flickr8k", mirror=run.mirror)
    run.shared.setdefault("digests", {}).update(flickr.attrs["digests"])
    n = sum(sizes(run)[:2]) if run.quick else len(flickr.stimuli)
    text = embed_text(flickr.stimuli.iloc[:n][["stimulus_id", "caption"]])
    return text.values.astype(float), flickr.activations.values[:n].astype(float)


def _hvm(run: Run) -> dict[str, np.ndarray]:
    """Return the views of the simulated recordings by name."""
    data: Any = load(
        "simulated-hvm",
        images_per_object={0: 1, 3: 1 if run.quick else 5},
        n_repetitions=10,
        image_size=64,
        seed=run.seed,
    )
    run.shared.setdefault("digests", {}).update(data.attrs["digests"])
    recordings = data.recordings.isel(time_bin=0, drop=True)
    region, animal = recordings["region"].values, recordings["animal"].values
    mean = average_repetitions(recordings)
    first, second = split_halves(recordings.isel(neuroid=np.flatnonzero(region == "IT")), seed=run.seed)
    out = {"category": mean["category_name"].values.astype(str)}
    sites_of = {"V4": region == "V4", "IT": region == "IT"}
    sites_of |= {f"IT {k}": (region == "IT") & (animal == name) for k, name in enumerate(np.unique(animal))}
    for name, mask in sites_of.items():
        out[name] = mean.values[:, mask].astype(float)
    row_of = {stimulus: row for row, stimulus in enumerate(first["stimulus_id"].values)}
    rows = [row_of[stimulus] for stimulus in mean["stimulus_id"].values]
    return {**out, "half 0": first.values[rows].astype(float), "half 1": second.values[rows].astype(float)}


def _clusters(n: int, rng: np.random.Generator, k: int = 6, n_dims: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Draw clusters of unequal size, spread and place, and the cluster of every point."""
    label = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
    spread = rng.uniform(0.3, 1.5, k)[label, None]
    return 3 * rng.standard_normal((k, n_dims))[label] + spread * rng.standard_normal((n, n_dims)), label


def _rotated_copy(X: np.ndarray, n_dims: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate at random and add noise, in units of the mean spread of a dimension."""
    turn = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))[0][: X.shape[1]]
    return X @ turn + noise * X.std(axis=0).mean() * rng.standard_normal((len(X), n_dims))


def draw_task(run: Run, case: str, seed: int) -> UnpairedTask:
    """Draw pools and held-out stimuli, and reduce each view to its principal components."""
    n_train, n_test, n_dims = sizes(run)
    X, Y, labels = paired_views(run, case, seed)
    rng = np.random.default_rng([seed, 99])
    order = rng.permutation(len(X))[: n_train + n_test]
    train, test = order[:n_train], order[n_train:]
    shuffled = rng.permutation(n_train)
    reduced = []
    for side, rows in ((X, train), (Y, train[shuffled])):
        pca = PCA(min(n_dims, side.shape[1], n_train - 1), random_state=0).fit(side[rows])
        fitted = pca.transform(side[rows])
        reduced.append((fitted / fitted.std(), pca.transform(side[test]) / fitted.std()))
    return UnpairedTask(
        reduced[0][0],
        reduced[1][0],
        np.argsort(shuffled),
        reduced[0][1],
        reduced[1][1],
        None if labels is None else labels[test],
    )


def digests(run: Run) -> dict[str, str]:
    """Return the digests of all data read."""
    run.once("hvm", lambda: _hvm(run))
    run.once("mnist", lambda: _mnist(run))
    run.once("flickr", lambda: _flickr(run))
    return dict(run.shared["digests"])
