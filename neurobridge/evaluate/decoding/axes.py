"""Decoding by number of sites and of training images, and across conditions such as variation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from neurobridge.assemblies import AssemblyError, as_matrix
from neurobridge.evaluate.decoding.discrimination import dprime, loglinear
from neurobridge.evaluate.decoding.readouts import (
    count_choices,
    fit_readout,
    label_null,
    labels_of,
    presentation_coordinate,
)
from neurobridge.evaluate.scores import SPLIT, p_value, score_attrs
from neurobridge.evaluate.splits import kfold_splits, stratified_splits


def decoding_curve(
    assembly: xr.DataArray,
    label: str,
    *,
    n_sites: Sequence[int],
    n_train: Sequence[int],
    readout: str = "svm",
    held_out: float = 0.2,
    n_seeds: int = 10,
    n_permutations: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Decode with some of the sites and some of the training images, as in figures 5 to 7 of Majaj et al. 2015.

    Each draw holds out the same share of every class, and takes sites and training images at random without replacement: fewer are
    among more, and all cells of a draw are tested on the same images.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus.
    label : str
        Coordinate on ``presentation``.
    n_sites, n_train : sequence of int
        Numbers of sites, and of training images of all classes together (each class its share).
    readout : str
        A key of `READOUTS`.
    held_out : float
        Share of the images, in (0, 1).
    n_seeds : int
        Draws.
    n_permutations : int
        Size of the null of each cell: labels of the held-out images are shuffled.
    seed : int
        Of all draws together: another seed gives other draws.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        ``raw`` (n_sites, n_train, draw), the fraction correct; ``dprime`` likewise, the mean over classes of the
        one-against-rest d' with the log-linear correction ``(count + 1/2) / (n + 1)`` of both rates (Hautus 1995, Behav. Res.
        Methods 27:46), which keeps it finite and draws both rates towards 1/2 where held-out images are few, so that d' at
        chance is not quite 0; ``null_mean``, ``null_95`` and ``p_value`` (n_sites, n_train) of ``raw``.

    Raises
    ------
    AssemblyError
        More sites or training images than there are, fewer training images than classes, bad assembly, label or readout.
    """
    truth, X = labels_of(assembly, label, role="assembly"), as_matrix(assembly)
    n_neuroids, n_classes = X.shape[1], len(np.unique(truth))
    folds = stratified_splits(truth, n_splits=n_seeds, train_size=1 - held_out, seed=seed)
    most = len(folds[0][0])
    if min(n_sites) < 1 or max(n_sites) > n_neuroids or min(n_train) < n_classes or max(n_train) > most:
        raise AssemblyError(
            f"found n_sites={list(n_sites)}, n_train={list(n_train)}; expected 1 to {n_neuroids} sites and {n_classes} (one a "
            f"class) to {most} training images. Mend: leave out those beyond."
        )
    shape = len(n_sites), len(n_train), n_seeds
    raw, sensitivity = np.empty(shape), np.empty(shape)
    said: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    cells = product(range(n_seeds), range(len(n_sites)), range(len(n_train)))
    for s, i, j in tqdm(cells, total=int(np.prod(shape)), desc="decoding curve", disable=not progress):
        train, test = folds[s]
        rng = np.random.default_rng([seed, s])
        sites = rng.permutation(n_neuroids)[: n_sites[i]]
        rows = _in_turn(train, truth, rng)[: n_train[j]]
        model = fit_readout(X[np.ix_(rows, sites)], truth[rows], label, readout, seed)
        choice = model.predict(X[np.ix_(test, sites)])
        raw[i, j, s] = (choice == truth[test]).mean()
        sensitivity[i, j, s] = _loglinear_dprime(choice, truth[test])
        said.setdefault((i, j), []).append((choice, truth[test]))
    nulls = {key: label_null(folds_said, n_permutations, seed) for key, folds_said in said.items()}
    axes = ("n_sites", "n_train")

    def table(measure):  # type: ignore[no-untyped-def]
        return axes, np.array([[measure(i, j) for j in range(shape[1])] for i in range(shape[0])], dtype=np.float64)

    attrs = {
        "metric": f"accuracy of {label}, {readout}",
        "splits": folds.description,
        "n_stimuli": len(truth),
        "n_classes": n_classes,
    }
    return xr.Dataset(
        {
            "raw": ((*axes, "draw"), raw),
            "dprime": ((*axes, "draw"), sensitivity),
            "null_mean": table(lambda i, j: nulls[i, j].mean() if n_permutations else np.nan),
            "null_95": table(lambda i, j: np.quantile(nulls[i, j], 0.95) if n_permutations else np.nan),
            "p_value": table(lambda i, j: p_value(float(raw[i, j].mean()), nulls[i, j])),
        },
        coords={"n_sites": list(n_sites), "n_train": list(n_train), "draw": np.arange(n_seeds)},
        attrs=score_attrs(attrs, n_seeds, n_permutations, seed, (assembly,)),
    )


def _in_turn(rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in random order, such that every beginning of it has each class in proportion, and each class at least once."""
    order = rng.permutation(rows)
    classes, codes, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    place = np.empty(len(order))
    for k in range(len(classes)):
        members = np.flatnonzero(codes == k)
        place[members] = (np.arange(len(members)) + 0.5) / counts[k]
        place[members[0]] = -1
    return order[np.argsort(place, kind="stable")]


def _loglinear_dprime(said: np.ndarray, truth: np.ndarray) -> float:
    _, counts = count_choices(said, truth)
    n, shown = counts.sum(), counts.sum(axis=1)
    hits = np.diag(counts)
    alarms = counts.sum(axis=0) - hits
    value = dprime(loglinear(hits, shown), loglinear(alarms, n - shown), cap=np.inf)
    return float(value[shown > 0].mean())


def generalise(
    assembly: xr.DataArray,
    label: str,
    condition: str = "variation",
    *,
    readout: str = "svm",
    n_splits: int = 5,
    equal: bool = True,
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Train on one condition and read every other: does a readout of easy images read hard ones?

    Folds are over images, stratified on label and condition together. In each, one readout a condition is trained on that
    condition's training images, and reads the held-out images of every condition: all readouts are tested on the same images.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus.
    label, condition : str
        Coordinates on ``presentation``.
    readout : str
        A key of `READOUTS`.
    n_splits : int
    equal : bool
        Train all on as many images as the smallest condition has, so that the number of images does not speak for a condition.
    n_permutations : int
        Size of the null of each cell.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``raw`` (trained, tested, split), the fraction correct; ``null_mean``, ``null_95`` and ``p_value`` (trained, tested);
        ``n_trained`` and ``n_tested`` images of a split, on average.

    Raises
    ------
    AssemblyError
        One condition only, a missing coordinate, too few images for the folds, a bad assembly or readout.
    """
    truth, X = labels_of(assembly, label, role="assembly"), as_matrix(assembly)
    level = presentation_coordinate(assembly, condition, role="assembly")
    levels = np.unique(level)
    if len(levels) < 2:
        raise AssemblyError(
            f"{condition}: found one condition, {levels.tolist()}; expected at least two. Mend: keep images of other conditions."
        )
    both = np.unique(np.stack([truth.astype(str), level.astype(str)]), axis=1, return_inverse=True)[1].ravel()
    folds = kfold_splits(len(truth), n_splits=n_splits, labels=both, seed=seed)
    n = len(levels)
    said: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    sizes = np.zeros((2, n))
    for k, (train, test) in enumerate(folds):
        rng = np.random.default_rng([seed, k])
        pools = [train[level[train] == value] for value in levels]
        least = min(map(len, pools))
        for i, pool in enumerate(pools):
            rows = _in_turn(pool, truth, rng)[: least if equal else None]
            model = fit_readout(X[rows], truth[rows], label, readout, seed)
            sizes[0, i] += len(rows) / n_splits
            for j, value in enumerate(levels):
                held = test[level[test] == value]
                said.setdefault((i, j), []).append((model.predict(X[held]), truth[held]))
    for j in range(n):
        sizes[1, j] = np.mean([len(t) for _, t in said[0, j]])
    attrs = {"metric": f"accuracy of {label} across {condition}, {readout}", "splits": folds.description, "n_stimuli": len(truth),
             "n_classes": len(np.unique(truth)), "equal": int(equal)}  # fmt: skip
    attrs = score_attrs(attrs, n_splits, n_permutations, seed, (assembly,))
    axes = ("trained", "tested")
    raw = np.array([[[(s == t).mean() for s, t in said[i, j]] for j in range(n)] for i in range(n)])
    nulls = np.array([[label_null(said[i, j], n_permutations, seed) for j in range(n)] for i in range(n)])
    p_values = np.array([[p_value(float(raw[i, j].mean()), nulls[i, j]) for j in range(n)] for i in range(n)])
    empty = np.full((n, n), np.nan)
    return xr.Dataset(
        {
            "raw": ((*axes, SPLIT), raw),
            "null_mean": (axes, nulls.mean(axis=2) if n_permutations else empty),
            "null_95": (axes, np.quantile(nulls, 0.95, axis=2) if n_permutations else empty),
            "p_value": (axes, p_values),
            "n_trained": ("trained", sizes[0]),
            "n_tested": ("tested", sizes[1]),
        },
        coords={"trained": levels, "tested": levels},
        attrs=attrs,
    )
