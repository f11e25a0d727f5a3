"""Codes and their factors: simulated scenes, digits, DCI, MIG, and rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import ndimage, stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from neurobridge.assemblies import drop_constant, make_assembly
from neurobridge.datasets import load
from neurobridge.datasets.simulated.render import backgrounds, object_names, render, rotation, shapes
from neurobridge.features import extract, train_reference
from neurobridge.study.harness import Run

SIDE, N_SITES = 24, 60
OBJECTS = ("animal_1", "car_3", "face_2", "plane_5")
# Number of bins of Locatello et al. 2019.
N_BINS = 20


class Sizes(NamedTuple):
    """Images that train a VAE, measure factors, and align; epochs; images of the classifier."""

    train: int
    factors: int
    align: int
    epochs: int
    classifier: int


class FactorData(NamedTuple):
    """Images of one kind with their factors, and a second space.

    The target space belongs to the first of the measured images.
    """

    train: xr.DataArray
    measured: xr.DataArray
    factors: dict[str, np.ndarray]
    target: xr.DataArray
    head: tuple[np.ndarray, np.ndarray] | None
    digests: dict[str, str]

    def labels(self, images: xr.DataArray) -> np.ndarray:
        """Return the class or object of some of the measured images."""
        row_of = {stimulus: k for k, stimulus in enumerate(self.measured["stimulus_id"].values)}
        return next(iter(self.factors.values()))[[row_of[i] for i in images["stimulus_id"].values]]


def sizes(run: Run) -> Sizes:
    """Return the sizes of a run."""
    return Sizes(1000, 600, 300, 2, 2000) if run.quick else Sizes(7500, 3000, 600, 5, 15_000)


def factor_data(run: Run, name: str) -> FactorData:
    """Make or load both spaces once in a process; they are the same for all seeds."""
    return run.once(name, lambda: _scenes(run) if name == "scenes" else _digits(run))


def _scenes(run: Run) -> FactorData:
    size = sizes(run)
    pixels, factors = draw_scenes(size.train + size.factors, np.random.default_rng(20170424))
    ids = np.array([f"scene-{k:05d}" for k in range(len(pixels))])
    images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ("presentation", ids)})
    measured, measured_factors = images[size.train :], {name: values[size.train :] for name, values in factors.items()}
    target = make_assembly(
        tuned_sites(measured_factors)[: size.align],
        presentation={"stimulus_id": ids[size.train : size.train + size.align]},
        neuroid={"neuroid_id": [f"site-{k:02d}" for k in range(N_SITES)]},
    )
    return FactorData(images[: size.train], measured, measured_factors, target, None, {})


def _digits(run: Run) -> FactorData:
    size = sizes(run)
    train, test = (load("mnist", part=part, mirror=run.mirror) for part in ("train", "test"))
    assert train.images is not None
    assert test.images is not None
    measured = test.images[: size.factors]
    classifier_images = train.images[size.train : size.train + size.classifier]
    net = train_reference("conv_net", classifier_images, seed=0, epochs=3, n_features=64)
    target = drop_constant(extract(net.model, measured[: size.align], "features", preprocess=net.preprocess))
    varying_units = [int(name.split(".")[1]) for name in target["neuroid_id"].values]
    head: Any = net.model.head
    measured_factors = measure_digits(measured)
    return FactorData(
        train.images[: size.train], measured, measured_factors, target,
        (head.weight.numpy()[:, varying_units], head.bias.numpy()), {**train.attrs["digests"], **test.attrs["digests"]},
    )  # fmt: skip


def draw_scenes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Render images (n, 24, 24) of one lit object over a dim 1/f background.

    Returns them with the independent factors that they were made from.
    """
    span = {"ty": 0.5, "tz": 0.5, "s": 0.25, "ryz": 60.0}
    factors: dict[str, np.ndarray] = {key: half * rng.uniform(-1, 1, size=n) for key, half in span.items()}
    factors["s"] = np.exp(factors["s"])
    which = rng.integers(len(OBJECTS), size=n)
    canvas = (0.08 + 0.3 * (backgrounds(n, SIDE, rng) - 0.42)).repeat(2, axis=1).repeat(2, axis=2)
    turns = rotation(np.zeros(n), np.zeros(n), factors["ryz"])
    known = dict(zip(object_names()[0], shapes(), strict=True))
    for k, name in enumerate(OBJECTS):
        rows = np.flatnonzero(which == k)
        ty, tz, s = (factors[key][rows] for key in ("ty", "tz", "s"))
        light, covered = render(known[name], turns[rows], ty, tz, s, 2 * SIDE)
        canvas[rows] = np.where(covered, 0.5 + 0.5 * light, canvas[rows])
    pixels = canvas.reshape(n, SIDE, 2, SIDE, 2).mean(axis=(2, 4)).clip(0, 1)
    return np.rint(255 * pixels).astype(np.uint8), {"object": np.array(OBJECTS)[which], **factors}


def tuned_sites(factors: dict[str, np.ndarray]) -> np.ndarray:
    """Simulate noiseless responses (n, 60) of sites with mixed tuning.

    Each is a saturating function of a random mixture of all factors.
    """
    rng = np.random.default_rng(20170425)
    which = factors["object"][:, None] == np.array(OBJECTS)
    poses = np.stack([values for key, values in factors.items() if key != "object"], axis=1)
    F = np.concatenate([which / which.std(axis=0), poses / poses.std(axis=0)], axis=1)
    drive = (F - F.mean(axis=0)) @ rng.standard_normal((F.shape[1], N_SITES)) / np.sqrt(F.shape[1])
    return np.tanh(1.5 * drive + rng.normal(0, 0.5, size=N_SITES))


def measure_digits(images: xr.DataArray) -> dict[str, np.ndarray]:
    """Measure class, slant, width, height and thickness of digits.

    Slant, width and height follow from the second moments of the ink; thickness is ink over the
    length of its middle line.

    The middle line is where the distance to the nearest blank pixel is largest along a row or a
    column.
    """
    ink = images.values / 255.0
    rows, columns = np.mgrid[: ink.shape[1], : ink.shape[2]]
    mass = ink.sum(axis=(1, 2))
    y, x = ((ink * axis).sum(axis=(1, 2)) / mass for axis in (rows, columns))
    dy, dx = rows - y[:, None, None], columns - x[:, None, None]
    syy, sxx, sxy = ((ink * product).sum(axis=(1, 2)) / mass for product in (dy**2, dx**2, dx * dy))
    thickness = []
    for is_ink in ink > 0.5:
        depth = ndimage.distance_transform_edt(np.pad(is_ink, 1))
        middle = (depth > 0) & (
            (depth == ndimage.maximum_filter1d(depth, 3, axis=0))
            | (depth == ndimage.maximum_filter1d(depth, 3, axis=1))
        )
        thickness.append(2 * depth[middle].mean())
    slant = -sxy / syy
    return {
        "class": images["category_name"].values,
        "slant": slant,
        "width": np.sqrt(np.maximum(sxx - sxy**2 / syy, 0)),
        "height": np.sqrt(syy),
        "thickness": np.array(thickness),
    }


def importances(codes: np.ndarray, factors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each latent in a random forest for each factor, and held-out scores.

    Shares have shape (n_latents, n_factors); scores are accuracy or R^2.
    """
    half, columns, scores = len(codes) * 2 // 3, [], []
    for values in factors.values():
        kind = RandomForestRegressor if values.dtype.kind == "f" else RandomForestClassifier
        forest = kind(n_estimators=20, max_depth=8, min_samples_leaf=3, random_state=0).fit(codes[:half], values[:half])
        columns.append(forest.feature_importances_)
        scores.append(forest.score(codes[half:], values[half:]))
    return np.stack(columns, axis=1), np.array(scores)


def dci(codes: np.ndarray, factors: dict[str, np.ndarray]) -> dict[str, float]:
    """Return disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Informativeness is the mean held-out accuracy or R^2.
    """
    R, accuracies = importances(codes, factors)

    def concentration(weights: np.ndarray) -> np.ndarray:
        """Return one less the entropy of each row, in units of the entropy of an even row."""
        share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        return 1 + (share * np.log(np.maximum(share, 1e-12))).sum(axis=1) / np.log(weights.shape[1])

    disentanglement = float((concentration(R) * R.sum(axis=1)).sum() / R.sum())
    return {
        "dci": disentanglement,
        "completeness": float(concentration(R.T).mean()),
        "informativeness": float(accuracies.mean()),
    }


def mig(codes: np.ndarray, factors: dict[str, np.ndarray]) -> float:
    """Return the mutual information gap (Chen et al. 2018).

    It is the gap of the two latents most informative of a factor, in units of its entropy, mean
    over factors.
    """
    binned = [_binned(column) for column in codes.T]
    gaps = []
    for values in factors.values():
        states = _binned(values) if values.dtype.kind == "f" else np.unique(values, return_inverse=True)[1]
        share = np.bincount(states) / len(states)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        first, second = np.sort([_information(states, code) for code in binned])[::-1][:2]
        gaps.append((first - second) / entropy)
    return float(np.mean(gaps))


def _binned(values: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.quantile(values, np.arange(1, N_BINS) / N_BINS), values)


def _information(a: np.ndarray, b: np.ndarray) -> float:
    joint = np.histogram2d(a, b, bins=(a.max() + 1, b.max() + 1))[0] / len(a)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    nonzero = joint > 0
    return float((joint[nonzero] * np.log(joint[nonzero] / product[nonzero])).sum())


def rotate_codes(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standardise codes and rotate them at random."""
    unit = (codes - codes.mean(axis=0)) / np.maximum(codes.std(axis=0), 1e-12)
    return unit @ stats.ortho_group.rvs(codes.shape[1], random_state=rng)


def partial_rank_correlation(
    x: Sequence[float], y: Sequence[float], control: Sequence[float] | None = None
) -> tuple[float, float]:
    """Return Spearman's rho, partial where a control is given, and its two-sided p.

    The p value is from 9,999 permutations.
    """
    a, b = stats.rankdata(x), stats.rankdata(y)
    if control is not None:
        basis = np.stack([np.ones(len(a)), stats.rankdata(control)], axis=1)
        a, b = (v - basis @ np.linalg.lstsq(basis, v, rcond=None)[0] for v in (a, b))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    if scale < 1e-9:
        return 0.0, 1.0
    rng = np.random.default_rng(0)
    null = np.array([a @ rng.permutation(b) for _ in range(9999)]) / scale
    rho = float(a @ b / scale)
    return rho, float((1 + (np.abs(null) >= abs(rho) - 1e-12).sum()) / 10_000)


def rises_text(x: Sequence[float], y: Sequence[float]) -> str:
    """Count the steps at which y rises in the order of x, as "5 of 6"."""
    rises = np.diff(np.asarray(y)[np.argsort(x)]) > 0
    return f"{int(rises.sum())} of {len(rises)}"
