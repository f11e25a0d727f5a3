"""Decoding by number of sites and of training images, and across conditions such as variation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.evaluate.decoding.discrimination import dprime, loglinear
from neurobridge.evaluate.decoding.readouts import count_choices, fit_readout, labels_of
from neurobridge.evaluate.decoding.trials import Reading, label_null, presentation_coordinate, trial_attrs, trials_of
from neurobridge.evaluate.score.schema import DRAW, SPLIT, make_score, score_attrs
from neurobridge.evaluate.splits import kfold_splits, stratified_group_splits, stratified_splits
from neurobridge.points.options import require_options
from neurobridge.points.progress import progress_bar


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
        Score with the leading dims (n_sites, n_train): ``raw`` (n_sites, n_train, draw), the fraction correct. And ``dprime`` on
        the same dims, the mean over classes of the one-against-rest d' with the log-linear correction
        ``(count + 1/2) / (n + 1)`` of both rates (Hautus 1995, Behav. Res. Methods 27:46), which keeps it finite and draws both
        rates towards 1/2 where held-out images are few, so that d' at chance is not quite 0.

    Raises
    ------
    AssemblyError
        More sites or training images than there are, fewer training images than classes, bad assembly, label or readout.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import decoding_curve
    >>> labels = np.array(["car", "face"] * 40)
    >>> responses = np.random.default_rng(0).normal(size=(80, 16)) + (labels == "car")[:, None]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(80), "category_name": labels},
    ...     neuroid={"neuroid_id": range(16)},
    ... )
    >>> curve = decoding_curve(
    ...     recordings, "category_name", n_sites=(1, 16), n_train=(60,), readout="lda", n_seeds=4, progress=False
    ... )
    >>> accuracy = curve["raw"].mean("draw").values
    >>> bool(accuracy[1, 0] > accuracy[0, 0])
    True
    """
    truth, X = labels_of(assembly, label, role="assembly"), as_matrix(assembly)
    n_neuroids, n_classes = X.shape[1], len(np.unique(truth))
    folds = stratified_splits(truth, n_splits=n_seeds, train_size=1 - held_out, seed=seed)
    max_train = len(folds[0][0])
    if min(n_sites) < 1 or max(n_sites) > n_neuroids or min(n_train) < n_classes or max(n_train) > max_train:
        raise AssemblyError(
            f"found n_sites={list(n_sites)}, n_train={list(n_train)}; expected 1 to {n_neuroids} sites and {n_classes} (one a "
            f"class) to {max_train} training images. Mend: leave out those beyond."
        )
    shape = len(n_sites), len(n_train), n_seeds
    raw, sensitivity = np.empty(shape), np.empty(shape)
    chosen: dict[tuple[int, int], list[Reading]] = {}
    cells = product(range(n_seeds), range(len(n_sites)), range(len(n_train)))
    for s, i, j in progress_bar(cells, total=int(np.prod(shape)), desc="decoding curve", progress=progress):
        train, test = folds[s]
        rng = np.random.default_rng([seed, s])
        sites = rng.permutation(n_neuroids)[: n_sites[i]]
        rows = _in_turn(train, truth, rng)[: n_train[j]]
        model = fit_readout(X[np.ix_(rows, sites)], truth[rows], label, readout, seed)
        choice = model.predict(X[np.ix_(test, sites)])
        raw[i, j, s] = (choice == truth[test]).mean()
        sensitivity[i, j, s] = _loglinear_dprime(choice, truth[test])
        chosen.setdefault((i, j), []).append(Reading(choice, truth[test]))
    dims = ("n_sites", "n_train", DRAW)
    null = [[label_null(chosen[i, j], n_permutations, seed) for j in range(shape[1])] for i in range(shape[0])]
    attrs = {
        "metric": f"accuracy of {label}, {readout}",
        "splits": folds.description,
        "n_stimuli": len(truth),
        "n_classes": n_classes,
    }
    return make_score(
        raw,
        dims,
        null=null,
        extra={"dprime": (dims, sensitivity)},
        coords={"n_sites": list(n_sites), "n_train": list(n_train), DRAW: np.arange(n_seeds)},
        attrs=score_attrs(attrs, n_seeds, n_permutations, seed, (assembly,)),
    )


def _in_turn(rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle rows such that every beginning has each class in proportion, and each class at least once."""
    order = rng.permutation(rows)
    classes, codes, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    rank = np.empty(len(order))
    for k in range(len(classes)):
        members = np.flatnonzero(codes == k)
        rank[members] = (np.arange(len(members)) + 0.5) / counts[k]
        rank[members[0]] = -1
    return order[np.argsort(rank, kind="stable")]


def _loglinear_dprime(choice: np.ndarray, truth: np.ndarray) -> float:
    _, counts = count_choices(choice, truth)
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
    group: str | None = STIMULUS_ID,
    equal: bool = True,
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Train a readout on each condition and read every condition with it, e.g. hard images with a readout of easy ones.

    Folds are over stimuli, stratified on label and condition together; single trials of a stimulus stay together. In each, one
    readout a condition is trained on that condition's training images, and reads the held-out images of every condition: all
    readouts are tested on the same images.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``; stimuli may repeat.
    label, condition : str
        Coordinates on ``presentation``.
    readout : str
        A key of `READOUTS`.
    n_splits : int
    group : str, optional
        As in `decode`: presentations with the same value stay on one side of every fold, None treats them as independent.
    equal : bool
        Train all on as many images as the smallest condition has, so that the number of images does not speak for a condition.
    n_permutations : int
        Size of the null of each cell.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score with the leading dims (trained, tested): ``raw`` (trained, tested, split), the fraction correct. And ``n_trained``
        (trained) and ``n_tested`` (tested), the number of images of a split, on average.

    Raises
    ------
    AssemblyError
        One condition only, a missing coordinate, too few images for the folds, a bad assembly or readout.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import generalise
    >>> labels, variation = np.array(["car", "face"] * 40), np.repeat([0, 3], 40)
    >>> gap = np.where(variation == 0, 4.0, 1.0)  # simulated: images of variation 3 are harder
    >>> responses = np.random.default_rng(0).normal(size=(80, 4)) + (gap * (labels == "car"))[:, None]
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(80), "category_name": labels, "variation": variation},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> accuracy = generalise(recordings, "category_name", "variation", n_permutations=0)["raw"].mean("split")
    >>> bool(accuracy.sel(trained=0, tested=0) > accuracy.sel(trained=0, tested=3))
    True
    """
    require_options(equal=equal, n_permutations=n_permutations, seed=seed, error=AssemblyError)
    trials, X = trials_of(assembly, label, group, role="assembly"), as_matrix(assembly)
    truth, groups = trials.labels, trials.groups
    level = presentation_coordinate(assembly, condition, role="assembly")
    levels = np.unique(level)
    if len(levels) < 2:
        raise AssemblyError(
            f"{condition}: found one condition, {levels.tolist()}; expected at least two. Mend: keep images of other conditions."
        )
    cell = np.unique(np.stack([truth.astype(str), level.astype(str)]), axis=1, return_inverse=True)[1].ravel()
    if trials.group is None:
        folds = kfold_splits(len(truth), n_splits=n_splits, labels=cell, seed=seed)
    else:
        folds = stratified_group_splits(cell, groups, n_splits=n_splits, seed=seed)
    n = len(levels)
    chosen: dict[tuple[int, int], list[Reading]] = {}
    sizes = np.zeros((2, n))
    for k, (train, test) in enumerate(folds):
        rng = np.random.default_rng([seed, k])
        pools = [train[level[train] == value] for value in levels]
        n_smallest = min(map(len, pools))
        for i, pool in enumerate(pools):
            rows = _in_turn(pool, truth, rng)[: n_smallest if equal else None]
            model = fit_readout(X[rows], truth[rows], label, readout, seed)
            sizes[0, i] += len(rows) / n_splits
            for j, value in enumerate(levels):
                held = test[level[test] == value]
                chosen.setdefault((i, j), []).append(Reading(model.predict(X[held]), truth[held], groups[held]))
    for j in range(n):
        sizes[1, j] = np.mean([len(reading.truth) for reading in chosen[0, j]])
    attrs = {"metric": f"accuracy of {label} across {condition}, {readout}", "splits": folds.description,
             **trial_attrs(trials, assembly), "equal": int(equal)}  # fmt: skip
    attrs = score_attrs(attrs, n_splits, n_permutations, seed, (assembly,))
    return make_score(
        [
            [[(reading.predicted == reading.truth).mean() for reading in chosen[i, j]] for j in range(n)]
            for i in range(n)
        ],
        ("trained", "tested", SPLIT),
        null=[[label_null(chosen[i, j], n_permutations, seed, disjoint=True) for j in range(n)] for i in range(n)],
        extra={"n_trained": ("trained", sizes[0]), "n_tested": ("tested", sizes[1])},
        coords={"trained": levels, "tested": levels},
        attrs=attrs,
    )
