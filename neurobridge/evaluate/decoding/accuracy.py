"""Decoding of labels within a space, across recordings, and across aligned spaces."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, coords_of
from neurobridge.assemblies.schema import STIMULUS_ID, TIME_BIN
from neurobridge.evaluate.decoding.batches import bin_arrays, check_room, in_threads, read_folds
from neurobridge.evaluate.decoding.readouts import (
    READOUTS,
    Readout,
    accuracy_score,
    train_readout,
)
from neurobridge.evaluate.decoding.trials import (
    Reading,
    Trials,
    held_out_once,
    null_rule,
    refit_shuffler,
    trial_attrs,
    trial_splits,
    trials_of,
)
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.evaluate.time_bins.stacking import require_bins, require_by
from neurobridge.points.options import require_options

_LOG = logging.getLogger(__name__)

__all__ = ["READOUTS", "Readout", "cross_decode", "cross_space_decode", "decode", "train_readout"]


def cross_decode(
    train: xr.DataArray,
    test: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Train a readout on one assembly and read another of the same neuroids with it.

    The second may be what an aligner transported into the first one's space: the readout never saw that system.

    Parameters
    ----------
    train, test : xarray.DataArray
        Assemblies with the same neuroids and no stimulus in common.
    label : str
        Coordinate on ``presentation`` of both.
    readout, seed
        As in `train_readout`.
    n_permutations : int
        Size of the null: the true labels are shuffled.

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split), the fraction correct; ``null`` (permutation); ``p_value``; and ``confusion`` (truth, choice), the
        number of times each class was chosen when each was true, summed over splits. The attribute ``n_classes`` is their
        number.

    Raises
    ------
    AssemblyError
        A stimulus is in both, the neuroids differ, the label is missing or has one class.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import cross_decode
    >>> labels = np.array(["car", "face"] * 30)
    >>> responses = np.random.default_rng(0).normal(size=(60, 4)) + 2 * (labels == "car")[:, None]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> score = cross_decode(recordings[:40], recordings[40:], "category_name", n_permutations=99)
    >>> float(score["raw"].mean()) > 0.9, float(score["p_value"])
    (True, 0.01)
    """
    return train_readout(train, label, readout=readout, seed=seed).score(test, n_permutations=n_permutations, seed=seed)


def decode(
    assembly: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    splits: GivenSplits = None,
    group: str | None = STIMULUS_ID,
    by: str | None = None,
    refit: bool = False,
    n_permutations: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Decode a label, cross-validated over stimuli: of averaged responses or single trials, of one response or every time bin.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, or ``(presentation, neuroid, time_bin)`` with ``by="time_bin"``. Stimuli may repeat.
    label : str
        Coordinate on ``presentation``, e.g. ``category_name``.
    readout, seed
        As in `cross_decode`.
    splits : Splits, str or sequence of (train, test), optional
        Rows of the assembly. Default of unrepeated stimuli: ten splits, stratified on the label, that hold out 10 % or, where that
        is fewer, as many stimuli as there are classes. Default of single trials: parts with each class's share, each held out
        once, as many as the rarest class has groups, at most ten (`stratified_group_splits`).
    group : str, optional
        Coordinate on ``presentation``: presentations with the same value stay on one side of every fold, and the null exchanges
        the labels of whole groups. None treats presentations as independent, where the question is about stimuli that were
        trained on: which of them was shown.
    by : {"time_bin"}, optional
        Train and test a readout in every time bin, all on the same folds; `generalise_time` also tests each in the others.
    refit : bool
        Draw the null by training every readout anew on shuffled labels, ``n_permutations`` times: the exact permutation test, at
        the cost of as many decodings. By default the labels of the held-out trials are shuffled: of half of the folds a
        permutation where every trial is held out once, otherwise of one fold, which errs on the safe side, the more, the fewer
        stimuli it holds out.
    n_permutations : int
        Size of the null. Every time bin has the same permutations.
    progress : bool
        Show a progress bar of time bins or refits.

    Returns
    -------
    xarray.Dataset
        Score, as `cross_decode`, with one value of ``raw`` a split. With ``by="time_bin"`` all has the leading dim ``time_bin``
        and its coordinates; `time_course` finds onset, peak and clusters.

    Raises
    ------
    AssemblyError
        Bad assembly or splits, an unknown readout; folds that part a group; the label is missing, has one class (in a fold's
        training stimuli), or a class with too few stimuli or groups to stratify on.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import decode
    >>> labels = np.array(["car", "face"] * 30)
    >>> responses = np.random.default_rng(0).normal(size=(60, 4)) + 2 * (labels == "car")[:, None]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> score = decode(recordings, "category_name", n_permutations=99)
    >>> score["raw"].sizes["split"], float(score["raw"].mean()) > 0.9
    (10, True)

    Single trials in time: twelve stimuli of two categories, five repetitions, a signal from the second bin on.

    >>> stimulus = np.tile(np.arange(12), 5)
    >>> values = np.random.default_rng(0).normal(size=(60, 4, 3))  # simulated
    >>> values[:, :, 1:] += 2 * (stimulus % 2)[:, None, None]
    >>> trials = make_assembly(
    ...     values,
    ...     presentation={"stimulus_id": stimulus, "category_name": np.array(["car", "face"])[stimulus % 2]},
    ...     neuroid={"neuroid_id": range(4)},
    ...     time_bin={"time_bin_start": [0, 50, 100], "time_bin_end": [50, 100, 150]},
    ... )
    >>> score = decode(trials, "category_name", by="time_bin", n_permutations=99, progress=False)
    >>> dict(score["raw"].sizes), (score["raw"].mean("split") > 0.8).values.tolist()
    ({'time_bin': 3, 'split': 6}, [False, True, True])
    """
    require_options(n_permutations=n_permutations, seed=seed, progress=progress, refit=refit, error=AssemblyError)
    require_by(by)
    trials = trials_of(assembly, label, group, role="assembly")
    X = as_matrix(check_room(assembly))[None] if by is None else bin_arrays(require_bins(assembly))
    folds = trial_splits(assembly, label, trials, splits)
    classes, codes = np.unique(trials.labels, return_inverse=True)
    predicted = read_folds(X, trials.labels, folds, label, readout, seed, progress=progress and by is not None)
    readings = [
        Reading(read if by else read[0], codes[test], trials.groups[test])
        for read, (_, test) in zip(predicted, folds, strict=True)
    ]
    null = None
    if refit and n_permutations:
        null = _refitted(X, trials, folds, label, readout, n_permutations, seed, progress)
        null = null if by else null[0]
    attrs = {"metric": f"accuracy of {label}, {readout}", "splits": folds.description, **trial_attrs(trials, assembly)}
    disjoint = held_out_once(folds)
    attrs["null"] = null_rule(len(folds), disjoint) if null is None else "readouts trained on shuffled labels"
    return accuracy_score(
        readings,
        n_permutations,
        seed,
        attrs,
        (assembly,),
        leading=(TIME_BIN,) if by else (),
        classes=classes,
        null=null,
        disjoint=disjoint,
        coords=coords_of(assembly, TIME_BIN) if by else None,
    )


def _refitted(
    X: np.ndarray,
    trials: Trials,
    folds: Splits,
    label: str,
    readout: str,
    n_permutations: int,
    seed: int,
    progress: bool,
) -> np.ndarray:
    """Draw mean accuracies of readouts that are trained on shuffled labels, array of shape (n_bins, n_permutations)."""
    shuffle, rng = refit_shuffler(trials, folds), np.random.default_rng(seed)

    def accuracies(labels: np.ndarray) -> np.ndarray:
        codes = np.unique(labels, return_inverse=True)[1].ravel()
        predicted = read_folds(X, labels, folds, label, readout, seed, threads=False)
        correct = [(read == codes[test]).mean(axis=-1) for read, (_, test) in zip(predicted, folds, strict=True)]
        return np.asarray(np.mean(correct, axis=0))

    shuffled = [shuffle(rng) for _ in range(n_permutations)]
    started = time.perf_counter()
    null = np.stack(list(in_threads(shuffled, accuracies, description="permutations", progress=progress)), axis=-1)
    _LOG.info("fitted the readouts anew on %d permutations, %.2f s", n_permutations, time.perf_counter() - started)
    return null


def cross_space_decode(
    aligner: Any,
    train: tuple[xr.DataArray, xr.DataArray],
    test: tuple[xr.DataArray, xr.DataArray],
    label: str,
    *,
    readout: str = "logistic",
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Decode each space with the frozen readout of the other, through a fitted aligner, and with its own.

    Parameters
    ----------
    aligner : fitted aligner
        With ``transform`` (source to target) and ``inverse_transform``; fitted on none of the test stimuli.
    train : tuple of two xarray.DataArray
        Source and target assemblies that the readouts are trained on; need not be paired.
    test : tuple of two xarray.DataArray
        Source and target assemblies of held-out stimuli.
    label : str
        Coordinate on ``presentation`` of all four.
    readout, n_permutations, seed
        As in `cross_decode`.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``reading``: "source to target" is the target's readout on transported source stimuli,
        "target to source" the reverse, "source" and "target" are the readouts in their own space, which bound the others. And
        ``confusion`` (reading, truth, choice).

    Raises
    ------
    AssemblyError
        A test stimulus was trained on, the neuroids differ, the label is missing or has one class.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import ProcrustesAligner
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import cross_space_decode
    >>> labels = np.array(["car", "face"] * 40)
    >>> rng = np.random.default_rng(0)
    >>> brain = rng.normal(size=(80, 4)) + 3 * np.eye(4)[0] * (labels == "car")[:, None]  # simulated
    >>> stimuli = {"stimulus_id": range(80), "category_name": labels}
    >>> source = make_assembly(brain, presentation=stimuli, neuroid={"neuroid_id": range(4)})
    >>> target = make_assembly(brain[:, ::-1], presentation=stimuli, neuroid={"neuroid_id": range(4)})
    >>> train, test = slice(0, 50), slice(50, 80)
    >>> aligner = ProcrustesAligner().fit(source[train], target[train])
    >>> score = cross_space_decode(
    ...     aligner, (source[train], target[train]), (source[test], target[test]), "category_name", n_permutations=50
    ... )
    >>> bool((score["raw"] > 0.8).all()), score["p_value"].dims
    (True, ('reading',))
    """
    heads = [train_readout(space, label, readout=readout, seed=seed) for space in train]
    readings = {
        "source to target": (heads[1], aligner.transform(test[0])),
        "target to source": (heads[0], aligner.inverse_transform(test[1])),
        "source": (heads[0], test[0]),
        "target": (heads[1], test[1]),
    }
    scores = [head.score(read, n_permutations=n_permutations, seed=seed) for head, read in readings.values()]
    classes = np.unique(np.concatenate([score["truth"].values for score in scores]))
    tables = [score["confusion"].reindex(truth=classes, choice=classes, fill_value=0).values for score in scores]
    attrs = {
        "metric": f"accuracy of {label}, {readout}, across spaces",
        "splits": "one, given",
        "n_stimuli": [int(score.attrs["n_stimuli"]) for score in scores],
        "n_classes": len(classes),
        "aligner": type(aligner).__name__,
    }
    return make_score(
        [score["raw"].item() for score in scores],
        ("reading",),
        null=np.stack([score["null"].values for score in scores]),
        extra={"confusion": (("reading", "truth", "choice"), np.stack(tables))},
        coords={"reading": list(readings), "truth": classes, "choice": classes},
        attrs=score_attrs(attrs, 1, n_permutations, seed, (*train, *test)),
    )
