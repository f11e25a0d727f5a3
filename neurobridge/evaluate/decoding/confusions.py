"""Choices of a class for each image: by a readout of responses, or by an animal or a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix
from neurobridge.assemblies.labels import present_labels
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.decoding.readouts import fit_readout, labels_of
from neurobridge.evaluate.folds import GivenSplits
from neurobridge.evaluate.score.schema import score_attrs
from neurobridge.evaluate.splits import kfold_splits, resolve_splits
from neurobridge.points.options import require_options

CHOICE, TRUTH = "choice", "truth"


def choices(
    assembly: xr.DataArray,
    label: str,
    *,
    readout: str = "svm",
    splits: GivenSplits = None,
    n_repeats: int = 5,
    graded: bool = False,
    seed: int = 0,
) -> xr.DataArray:
    """Let a readout choose a class for every image while it is held out.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus.
    label : str
        Coordinate on ``presentation``.
    readout : str
        A key of `READOUTS`. For the weighted sums of "svm" and "correlation" the largest is the choice.
    splits : Splits, str or sequence of (train, test), optional
        Must hold every image out at least once. Default: ``n_repeats`` times five folds, stratified on the label.
    n_repeats : int
    graded : bool
        Average the readout's class probabilities ("logistic" and "lda") instead of its choices; finer with few repeats.
    seed : int
        Of the folds and the readout.

    Returns
    -------
    xarray.DataArray
        Dims (presentation, choice), fractions that sum to 1; coordinates ``stimulus_id``, ``truth`` and ``n_choices`` (how
        often the image was held out) on presentation, the classes on choice.

    Raises
    ------
    AssemblyError
        Bad assembly, label, readout or splits; an image that is never held out; probabilities of a readout that has none.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.decoding import choices
    >>> labels = np.array(["boat", "car", "face"] * 20)
    >>> responses = np.random.default_rng(0).normal(size=(60, 3)) + 2 * np.eye(3)[np.arange(60) % 3]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(3)},
    ... )
    >>> chosen = choices(recordings, "category_name", readout="lda", n_repeats=2)
    >>> chosen.dims, chosen.sizes["choice"], int(chosen["n_choices"][0])
    (('presentation', 'choice'), 3, 2)
    """
    require_options(graded=graded, seed=seed, error=AssemblyError)
    truth = labels_of(assembly, label, role="assembly")
    X, classes = as_matrix(assembly), np.unique(truth)
    if splits is None:
        folds = [
            fold
            for k in np.random.SeedSequence(seed).generate_state(n_repeats)
            for fold in kfold_splits(len(truth), labels=truth, seed=int(k))
        ]
        description = f"{n_repeats} times 5-fold stratified, seed {seed}"
    else:
        given = resolve_splits(assembly, splits)
        folds, description = list(given), given.description
    total, count = np.zeros((len(truth), len(classes))), np.zeros(len(truth), dtype=np.int64)
    for train, test in folds:
        model = fit_readout(X[train], truth[train], label, readout, seed)
        if graded and not hasattr(model, "predict_proba"):
            raise AssemblyError(
                f"found graded=True with readout {readout!r}, which has no probabilities; expected 'logistic' or 'lda'. "
                "Mend: choose one of them, or graded=False."
            )
        columns = np.searchsorted(classes, model.classes_)
        if graded:
            total[np.ix_(test, columns)] += model.predict_proba(X[test])
        else:
            np.add.at(total, (test, np.searchsorted(classes, model.predict(X[test]))), 1)
        count[test] += 1
    if not count.all():
        raise AssemblyError(
            f"splits: found {int((count == 0).sum())} images that are never held out, e.g. "
            f"{str(assembly[STIMULUS_ID].values[count == 0][0])!r}; expected each at least once. Mend: kfold_splits."
        )
    attrs = {"metric": f"choices of {label}, {readout}", "splits": description, "graded": int(graded)}
    return _choice_array(
        total / count[:, None], assembly[STIMULUS_ID].values, truth, count, classes,
        score_attrs(attrs, len(folds), 0, seed, (assembly,)),
    )  # fmt: skip


def tabulate_choices(
    stimulus_id: npt.ArrayLike, truth: npt.ArrayLike, choice: npt.ArrayLike, *, classes: Sequence[Any] | None = None
) -> xr.DataArray:
    """Make the array that `choices` describes from behavioural trials.

    Parameters
    ----------
    stimulus_id, truth, choice : arrays of shape (n_trials,)
        The image of each trial, its class, and the class that was answered.
    classes : sequence, optional
        All classes; default: those that occur.

    Returns
    -------
    xarray.DataArray
        Dims (presentation, choice), the fraction of an image's trials with each answer; coordinates ``stimulus_id`` (sorted),
        ``truth`` and ``n_choices`` (trials of the image) on presentation, the sorted classes on choice.

    Raises
    ------
    AssemblyError
        The columns differ in length or lack a value, an image has two classes, or a class is not among ``classes``.

    Examples
    --------
    >>> from neurobridge.evaluate.decoding import tabulate_choices
    >>> images, truth = ["a", "a", "b", "b"], ["car", "car", "face", "face"]  # simulated: two trials of two images
    >>> tabulate_choices(images, truth, ["car", "face", "face", "face"]).values.tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    given = {"stimulus_id": stimulus_id, "truth": truth, "choice": choice}
    ids, shown, answers = (
        present_labels(column, name=name, role="trials", mend="leave those trials out of all three columns")
        for name, column in given.items()
    )
    if not (ids.shape == shown.shape == answers.shape and ids.ndim == 1 and len(ids)):
        raise AssemblyError(
            f"trials: found columns of shapes {ids.shape}, {shown.shape} and {answers.shape}; expected three equally long ones. "
            "Mend: one row a trial."
        )
    names = np.unique(np.concatenate([shown, answers])) if classes is None else np.asarray(classes)
    unknown = np.setdiff1d(np.concatenate([shown, answers]), names)
    if len(unknown):
        raise AssemblyError(
            f"trials: found class {str(unknown[0])!r}; expected one of {names.tolist()}. Mend: list it in classes."
        )
    images, first, row = np.unique(ids, return_index=True, return_inverse=True)
    if (shown != shown[first][row]).any():
        ambiguous = str(ids[shown != shown[first][row]][0])
        raise AssemblyError(
            f"trials: found image {ambiguous!r} with two classes; expected one. Mend: correct the table."
        )
    order = np.argsort(names)
    names = names[order]
    total = np.zeros((len(images), len(names)))
    np.add.at(total, (row, np.searchsorted(names, answers)), 1)
    count = np.bincount(row)
    return _choice_array(total / count[:, None], images, shown[first], count, names, {"metric": "choices of trials"})


def _choice_array(
    fractions: np.ndarray,
    ids: np.ndarray,
    truth: np.ndarray,
    count: np.ndarray,
    classes: np.ndarray,
    attrs: dict[str, Any],
) -> xr.DataArray:
    return xr.DataArray(
        fractions,
        dims=(PRESENTATION, CHOICE),
        coords={
            STIMULUS_ID: (PRESENTATION, ids),
            TRUTH: (PRESENTATION, truth),
            "n_choices": (PRESENTATION, count),
            CHOICE: classes,
        },
        attrs=attrs,
        name="choices",
    )


def confusion(chosen: xr.DataArray) -> xr.DataArray:
    """Average the fractions of each choice over the images of each class.

    Parameters
    ----------
    chosen : xarray.DataArray
        From `choices` or `tabulate_choices`.

    Returns
    -------
    xarray.DataArray
        Dims (truth, choice); rows sum to 1, every image counting alike. Attribute ``n_stimuli`` is the number of images.

    Raises
    ------
    AssemblyError
        Not an array of choices, or classes without images.

    Examples
    --------
    >>> from neurobridge.evaluate.decoding import confusion, tabulate_choices
    >>> images, truth = ["a", "a", "b", "b"], ["car", "car", "face", "face"]  # simulated: two trials of two images
    >>> chosen = tabulate_choices(images, truth, ["car", "face", "face", "face"])
    >>> float(confusion(chosen).sel(truth="car", choice="face"))
    0.5
    """
    P, truth, classes = parts_of(chosen)
    return xr.DataArray(
        np.stack([P[truth == k].mean(axis=0) for k in range(len(classes))]),
        dims=(TRUTH, CHOICE),
        coords={TRUTH: classes, CHOICE: classes},
        attrs={**chosen.attrs, "n_stimuli": len(P)},
    )


def parts_of(chosen: xr.DataArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the fractions (n_images, n_classes), the column of each image's class, and the classes.

    Raises
    ------
    AssemblyError
        Not an array of choices, classes without images, or fractions that are not in [0, 1].
    """
    if chosen.dims != (PRESENTATION, CHOICE) or not {TRUTH, CHOICE} <= set(chosen.coords):
        raise AssemblyError(
            f"choices: found dims {chosen.dims} and coordinates {sorted(map(str, chosen.coords))}; expected "
            f"{(PRESENTATION, CHOICE)} with {TRUTH!r} and {CHOICE!r}. Mend: make them with choices(...) or tabulate_choices(...)."
        )
    classes, truth = (
        present_labels(chosen[name].values, name=name, role="choices", mend=f"chosen[chosen[{name!r}].notnull()]")
        for name in (CHOICE, TRUTH)
    )
    seen = np.unique(truth)
    if len(classes) < 2 or not np.array_equal(seen, classes):
        raise AssemblyError(
            f"choices: found images of {len(seen)} classes and {len(classes)} choices; expected the same classes on both sides, "
            "two or more. Mend: keep images of every class."
        )
    fractions = np.asarray(chosen.values, dtype=np.float64)
    # Sums of fractions may pass 1 by rounding.
    bad = np.asarray(~((fractions >= -1e-9) & (fractions <= 1 + 1e-9)).all(axis=1))
    if bad.any():
        raise AssemblyError(
            f"choices: found {int(bad.sum())} images of {len(bad)} with fractions that are NaN or outside [0, 1], the first in row "
            f"{int(bad.argmax())}; expected the share of each choice. Mend: leave these images out: chosen.dropna('presentation')."
        )
    return fractions, np.searchsorted(classes, truth), classes
