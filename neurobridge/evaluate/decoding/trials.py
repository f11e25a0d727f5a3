"""Single trials: which of them stay together, their folds, and nulls that permute what is exchangeable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, validate
from neurobridge.assemblies.labels import present_labels
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.score.permutation import fold_null
from neurobridge.evaluate.splits import kfold_splits, resolve_splits, stratified_group_splits
from neurobridge.points.blocks import row_blocks
from neurobridge.points.options import require_options

#: Folds of repeated stimuli, where the rarest class has as many.
MAX_FOLDS = 10


class Trials(NamedTuple):
    """Labels of presentations, and the groups that stay together.

    Attributes
    ----------
    labels : array of shape (n_presentations,)
    groups : array of int of shape (n_presentations,)
        Number of each presentation's group; a number of its own where presentations are independent.
    group : str or None
        Coordinate of the groups; None where no two presentations are in one.
    """

    labels: np.ndarray
    groups: np.ndarray
    group: str | None


class Reading(NamedTuple):
    """Held-out trials of a fold as a readout read them.

    Attributes
    ----------
    predicted : array of shape (..., n_test)
        Labels or codes that were read, one row a readout.
    truth : array of shape (n_test,)
        True ones.
    groups : array of int of shape (n_test,), optional
        Trials that are exchanged together; by default none are.
    """

    predicted: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None = None


def trials_of(assembly: xr.DataArray, label: str, group: str | None, *, role: str) -> Trials:
    """Return the labels of an assembly's presentations and their groups.

    Parameters
    ----------
    assembly : xarray.DataArray
    label : str
        Coordinate on ``presentation``.
    group : str or None
        Coordinate on ``presentation`` whose equal values stay together; None keeps none together.
    role : str
        Name of the argument in messages.

    Raises
    ------
    AssemblyError
        A bad assembly, no such coordinate, or presentations without a value of it.
    """
    validate(assembly, role=role)
    labels = presentation_coordinate(assembly, label, role=role)
    n = len(labels)
    require_options(group=group, error=AssemblyError)
    if group is not None:
        codes = np.unique(presentation_coordinate(assembly, group, role=role), return_inverse=True)[1].ravel()
        if codes.max() + 1 < n:
            return Trials(labels, codes, group)
    return Trials(labels, np.arange(n), None)


def trial_attrs(trials: Trials, assembly: xr.DataArray) -> dict[str, Any]:
    """Return the numbers of stimuli, trials and classes, and the name of the groups, as attributes of a Score."""
    return {
        "n_stimuli": len(np.unique(assembly[STIMULUS_ID].values)),
        "n_trials": len(trials.labels),
        "n_classes": len(np.unique(trials.labels)),
        "group": trials.group or "",
    }


def presentation_coordinate(assembly: xr.DataArray, label: str, *, role: str) -> np.ndarray:
    """Return the values of a presentation coordinate, of which none is missing.

    Raises
    ------
    AssemblyError
        No such coordinate (the message lists those that exist), or presentations without a value of it.
    """
    if label not in assembly.coords or assembly.coords[label].dims != (PRESENTATION,):
        names = sorted(str(name) for name, coord in assembly.coords.items() if coord.dims == (PRESENTATION,))
        raise AssemblyError(
            f"{role}: found presentation coordinates {names}; expected {label!r} among them. "
            f"Mend: assembly.assign_coords({label}=('presentation', labels))."
        )
    mend = f"neurobridge.assemblies.drop_missing(assembly, {label!r}) leaves them out"
    return present_labels(assembly.coords[label].values, name=label, role=role, mend=mend)


def trial_splits(assembly: xr.DataArray, label: str, trials: Trials, splits: GivenSplits) -> Splits:
    """Check given folds of trials, or draw the default.

    The default of unrepeated stimuli is that of `resolve_splits`. Of repeated ones it is `stratified_group_splits`, or stratified
    folds of single trials where none stay together: as many as the rarest class has groups (or trials), at most `MAX_FOLDS`.

    Raises
    ------
    AssemblyError
        Bad folds; folds that part a group; a class with one group, or one trial.
    """
    if splits is not None:
        given = resolve_splits(assembly, splits, stratify=label)
        if trials.group is not None:
            _require_whole_groups(given, trials)
        return given
    if trials.group is not None:
        names, codes = np.unique(trials.labels, return_inverse=True)
        pairs = np.unique(np.stack([codes.ravel(), trials.groups]), axis=1)
        counts = np.bincount(pairs[0])
        if counts.min() < 2:
            raise AssemblyError(
                f"{label}: found {int((counts < 2).sum())} of {len(names)} classes with one {trials.group}, e.g. "
                f"{str(names[counts.argmin()])!r}; expected at least two: the presentations of one {trials.group} stay on one "
                "side of every fold. Mend: group=None, which treats presentations as independent, or a coarser label."
            )
        values = assembly[trials.group].values
        drawn = stratified_group_splits(trials.labels, values, n_splits=min(MAX_FOLDS, int(counts.min())))
        return Splits(list(drawn), f"{drawn.description}, on {label}, by {trials.group}", groups=values)
    stimuli = assembly[STIMULUS_ID].values
    if len(np.unique(stimuli)) == len(stimuli):
        return resolve_splits(assembly, None, stratify=label)
    names, counts = np.unique(trials.labels, return_counts=True)
    if counts.min() < 2:
        raise AssemblyError(
            f"{label}: found {int((counts < 2).sum())} of {len(names)} classes with one presentation, e.g. "
            f"{str(names[counts.argmin()])!r}; expected at least two. Mend: leave these classes out, or a coarser label."
        )
    drawn = kfold_splits(len(trials.labels), n_splits=min(MAX_FOLDS, int(counts.min())), labels=trials.labels)
    return Splits(list(drawn), f"{drawn.description}, on {label}, of single trials")


def _require_whole_groups(given: Splits, trials: Trials) -> None:
    for number, (train, test) in enumerate(given):
        shared = np.intersect1d(trials.groups[train], trials.groups[test])
        if len(shared):
            raise AssemblyError(
                f"splits: found {len(shared)} {trials.group} of fold {number} both trained on and held out; expected the "
                f"presentations of each on one side. Mend: splits='group,label={trials.group},n_splits=5', or group=None, which "
                "treats presentations as independent."
            )


def label_shuffler(truth: np.ndarray, groups: np.ndarray | None) -> Callable[[np.random.Generator], np.ndarray]:
    """Return a function that shuffles labels in a way that exchanges what is exchangeable.

    Groups of one label each (stimuli) exchange their labels as wholes. Where the label varies within groups (sessions), it is
    shuffled within each.

    Parameters
    ----------
    truth : array of shape (n,)
    groups : array of int of shape (n,), optional
        By default every label is exchangeable with every other.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        return lambda rng: rng.permutation(truth)
    first, codes = np.unique(groups, return_index=True, return_inverse=True)[1:]
    of_group = truth[first]
    if (of_group[codes] == truth).all():
        return lambda rng: rng.permutation(of_group)[codes]
    return block_shuffler(truth, codes)


def block_shuffler(values: np.ndarray, blocks: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """Return a function that shuffles values within blocks, arrays of shape (n,)."""
    slots = np.argsort(blocks, kind="stable")

    def shuffle(rng: np.random.Generator) -> np.ndarray:
        shuffled = np.empty_like(values)
        shuffled[slots] = values[np.lexsort((rng.random(len(values)), blocks))]
        return shuffled

    return shuffle


def refit_shuffler(
    trials: Trials, folds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Callable[[np.random.Generator], np.ndarray]:
    """Return a function that shuffles the labels of all trials for readouts that are trained anew.

    Where every trial is held out once, groups exchange labels within the held-out part that they are in: the folds are then as
    stratified for shuffled labels as for true ones, and the permutation test is exact. Other folds exchange among all groups.
    """
    labels, groups = trials.labels, trials.groups
    part = np.zeros(len(labels), dtype=np.intp)
    if held_out_once(folds):
        for number, (_, test) in enumerate(folds, start=1):
            part[test] = number
    first, codes = np.unique(groups, return_index=True, return_inverse=True)[1:]
    of_group = labels[first]
    if (of_group[codes] == labels).all() and (part[first][codes] == part).all():
        shuffle = block_shuffler(of_group, part[first])
        return lambda rng: shuffle(rng)[codes]
    return block_shuffler(labels, np.unique(np.stack([codes, part]), axis=1, return_inverse=True)[1].ravel())


def held_out_once(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Return True where no row is held out by two folds."""
    rows = np.concatenate([test for _, test in folds])
    return len(np.unique(rows)) == len(rows)


def null_rule(n_folds: int, disjoint: bool) -> str:
    """Return the rule of `label_null` in words."""
    share = "half of the folds" if disjoint and n_folds >= 4 else "one fold"
    return f"held-out labels shuffled, {share} a permutation"


def label_null(readings: Sequence[Reading], n_permutations: int, seed: int, *, disjoint: bool = False) -> np.ndarray:
    """Draw fractions correct with the true labels of the held-out trials shuffled, as `label_shuffler` does.

    Every readout of a fold is compared with the same shuffles. Where held-out sets overlap, each permutation is of one fold
    (`fold_null`). Where they are disjoint, it is the mean over half of the folds, drawn at random. The mean over all of them would
    be too narrow: a pair of trials in different folds is counted from both sides, since each helps to train the readout of the
    other, which multiplies the variance of the mean accuracy under the null by up to two (nearest neighbours; about
    1 + 2 / pi for linear readouts), as halving the number of folds does.

    Parameters
    ----------
    readings : sequence of Reading
        One a fold.
    n_permutations, seed : int
    disjoint : bool
        No trial is held out by two folds.

    Returns
    -------
    array of shape (..., n_permutations)
    """
    if not n_permutations:
        return np.empty((*readings[0].predicted.shape[:-1], 0))

    def draw(k: int, rng: np.random.Generator, n: int) -> np.ndarray:
        reading = readings[k]
        shuffle = label_shuffler(reading.truth, reading.groups)
        return fractions_correct(reading.predicted, np.stack([shuffle(rng) for _ in range(n)]))

    n_half = len(readings) // 2
    if not disjoint or n_half < 2:
        return np.moveaxis(fold_null(len(readings), n_permutations, seed, draw), 0, -1)
    rng = np.random.default_rng(seed)
    used = rng.permuted(np.tile(np.arange(len(readings)), (n_permutations, 1)), axis=1)[:, :n_half]
    null = np.zeros((n_permutations, *readings[0].predicted.shape[:-1]))
    for k in range(len(readings)):
        rows = np.flatnonzero((used == k).any(axis=1))
        if len(rows):
            null[rows] += draw(k, rng, len(rows)) / n_half
    return np.moveaxis(null, 0, -1)


def fractions_correct(predicted: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Return the fraction of equal labels of rows of predictions with each of some truths.

    Parameters
    ----------
    predicted : array of shape (..., n_test)
    truths : array of shape (n, n_test)

    Returns
    -------
    array of shape (n, ...)
    """
    rows = predicted.reshape(-1, predicted.shape[-1])
    correct = np.empty((len(truths), len(rows)))
    for block in row_blocks(len(rows), rows.shape[1]):
        for k, truth in enumerate(truths):
            correct[k, block] = (rows[block] == truth).mean(axis=1)
    return correct.reshape(len(truths), *predicted.shape[:-1])
