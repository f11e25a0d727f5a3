"""Splits that fit an assembly: the default ones, those a caller gives, and those a text describes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.splits.drawing import (
    condition_splits,
    group_splits,
    kfold_splits,
    shuffle_splits,
    stratified_splits,
)
from neurobridge.points.options import require_count, require_share

#: Label that Brain-Score stratifies on, and the share that it holds out.
OBJECT, HELD_OUT = "object_name", 0.1


def share_trained_on(n_rows: int, test_size: float) -> float:
    """Return the share of rows that is trained on where the share held out is given, which is rounded up as scikit-learn does.

    Raises
    ------
    AssemblyError
        Not a share in (0, 1).

    Examples
    --------
    >>> int(12 * share_trained_on(12, 0.9))
    1
    """
    require_share(test_size, name="test_size", error=AssemblyError)
    # The next number, for the share times the rows must not round below a whole number.
    return float(np.nextafter((n_rows - int(np.ceil(test_size * n_rows))) / n_rows, 1))


def brainscore_splits(assembly: xr.DataArray, *, test_size: float | None = None) -> Splits:
    """Draw Brain-Score's folds: ten of 90/10, stratified on ``object_name``, random state 1; shuffled where there is no such label.

    Brain-Score draws over the target's presentations as they stand. Its averaged recordings stand in the order of their stimulus
    ids, so its folds of these are the folds drawn here over the sorted ids, which do not depend on the order of the presentations.
    `BrainScoreMetric`, which may be handed a target in another order, draws over that order as Brain-Score does.

    Parameters
    ----------
    assembly : xarray.DataArray
        One presentation a stimulus: the *source* of the metrics that are to share the folds, with the stimuli of the target.
    test_size : float, optional
        Share that is held out instead of a tenth: 0.9 gives the folds of Brain-Score's metrics that fit nothing (``cka_cv``,
        ``rdm_cv``), which are computed on the held-out nine tenths.

    Returns
    -------
    Splits
        Rows of ``assembly``.

    Raises
    ------
    AssemblyError
        An object with one stimulus only, or fewer held-out stimuli than objects.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.splits import brainscore_splits
    >>> responses = np.random.default_rng(0).normal(size=(40, 3))  # simulated
    >>> stimuli = {"stimulus_id": range(40), "object_name": ["car", "face"] * 20}
    >>> brainscore_splits(make_assembly(responses, presentation=stimuli, neuroid={"neuroid_id": range(3)}))
    Splits(10 folds of presentation rows, 36 train, 4 test, '10 stratified, 90% trained on, seed 1, on object_name')
    """
    share = 1 - HELD_OUT if test_size is None else share_trained_on(assembly.sizes[PRESENTATION], test_size)
    return _drawn(assembly, OBJECT if OBJECT in assembly.coords else None, share)


def resolve_splits(
    assembly: xr.DataArray,
    splits: GivenSplits,
    *,
    stratify: str | None = None,
    min_held_out: int = 1,
) -> Splits:
    """Check given folds, draw those that a text describes, or draw the default: those of `brainscore_splits` where these can be.

    The default holds out 10 %, or more where that is fewer stimuli than ``min_held_out`` or than there are classes. Objects that
    cannot be on both sides, such as one image an object, are not stratified on, with a warning.

    Parameters
    ----------
    assembly : xarray.DataArray
        One presentation a stimulus.
    splits : Splits, str or sequence of (train, test), optional
        Rows of the assembly, or a text as `splits_from_text` reads it. Default: drawn over the sorted stimulus ids, whatever the
        order of the presentations.
    stratify : str, optional
        Presentation coordinate of the classes, which must be on both sides of every fold. Default: ``object_name`` where it is
        there and can be.
    min_held_out : int
        Stimuli that the score needs in every fold.

    Returns
    -------
    Splits
        Rows of ``assembly``.

    Raises
    ------
    AssemblyError
        Rows out of range, folds of neuroids, too few held-out stimuli, or classes that cannot be on both sides.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.splits import resolve_splits
    >>> responses = np.random.default_rng(0).normal(size=(12, 2))  # simulated
    >>> assembly = make_assembly(responses, presentation={"stimulus_id": range(12)}, neuroid={"neuroid_id": range(2)})
    >>> resolve_splits(assembly, [([0, 1], [2, 3])])
    Splits(1 folds of presentation rows, 2 train, 2 test, 'given')
    >>> resolve_splits(assembly, None, min_held_out=3)
    Splits(10 folds of presentation rows, 9 train, 3 test, '10 shuffled, 75% trained on, seed 1')
    """
    n_rows = assembly.sizes[PRESENTATION]
    require_count(min_held_out, name="min_held_out", error=AssemblyError)
    if stratify is not None and (stratify not in assembly.coords or assembly[stratify].dims != (PRESENTATION,)):
        raise AssemblyError(
            f"splits: found no coordinate {stratify!r:.60} on {PRESENTATION}; expected the label to stratify on. "
            "Mend: name one of the assembly's coordinates, or leave stratify out."
        )
    if isinstance(splits, str):
        splits = splits_from_text(splits, assembly)
    n_parts = min(5, n_rows // min_held_out)
    if splits is not None:
        given = (splits if isinstance(splits, Splits) else Splits(splits)).check(n_rows)
        fewest = min(len(test) for _, test in given)
        if fewest < min_held_out:
            mend = f"splits='kfold,n_splits={n_parts}' holds out enough" if n_parts > 1 else "score more stimuli"
            raise AssemblyError(
                f"splits: found {fewest} held-out stimuli in a fold of {n_rows}; expected at least {min_held_out}, to correlate "
                f"over. Mend: {mend}."
            )
        return given
    if n_parts < 2:
        raise AssemblyError(
            f"splits: found {n_rows} stimuli; expected at least {2 * min_held_out}, {min_held_out} of them held out. "
            "Mend: score more stimuli."
        )
    label = stratify or (OBJECT if OBJECT in assembly.coords else None)
    n_held_out = max(min_held_out, n_rows - int((1 - HELD_OUT) * n_rows))
    if label is not None:
        mend = f"neurobridge.assemblies.drop_missing(assembly, {label!r}) leaves them out, or splits='shuffle'"
        labels = present_labels(assembly[label].values, name=label, role="splits", mend=mend)
        counts = np.unique(labels, return_counts=True)[1]
        possible = counts.min() >= 2
        if possible:
            n_held_out = max(n_held_out, len(counts))
        elif stratify is None:
            warnings.warn(
                f"splits: found {len(counts)} objects among {n_rows} stimuli, {int((counts < 2).sum())} of them with one stimulus: "
                "no fold has each on both sides, and they are shuffled instead. With splits='shuffle' this warning goes.",
                UserWarning,
                stacklevel=4,
            )
            label = None
    if n_held_out == n_rows - int((1 - HELD_OUT) * n_rows):
        return _drawn(assembly, label, 1 - HELD_OUT)
    return _drawn(assembly, label, float(np.nextafter((n_rows - n_held_out) / n_rows, 1)))


def _drawn(assembly: xr.DataArray, label: str | None, train_size: float) -> Splits:
    """Draw ten folds over the sorted stimulus ids, stratified on a coordinate where one is named."""
    order = np.argsort(assembly[STIMULUS_ID].values, kind="stable")
    if label is None:
        return _over(order, shuffle_splits(len(order), train_size=train_size))
    drawn = stratified_splits(assembly[label].values[order], train_size=train_size)
    return _over(order, drawn, f", on {label}")


def _over(order: np.ndarray, drawn: Splits, on: str = "") -> Splits:
    return Splits([(order[train], order[test]) for train, test in drawn], f"{drawn.description}{on}")


_SHARES = ("train_size", "test_size")
#: Kinds of folds that a text can name, with the options of each.
KINDS: dict[str, tuple[str, ...]] = {
    "shuffle": ("n_splits", "train_size", "seed"),
    "stratified": ("label", "n_splits", "train_size", "seed"),
    "kfold": ("label", "n_splits", "seed"),
    "group": ("label", "n_splits", "seed"),
    "condition": ("label", "train", "test"),
    "brainscore": ("test_size",),
}


def splits_from_text(text: str, assembly: xr.DataArray) -> Splits:
    """Draw folds as a text describes them, for command lines and settings files.

    The text is a kind and its options, separated by commas: ``kfold,n_splits=5``. The kinds are

    - ``shuffle``: `shuffle_splits` (n_splits, train_size, seed);
    - ``stratified``: `stratified_splits` on ``label``, by default object_name (n_splits, train_size, seed);
    - ``kfold``: `kfold_splits`, of ``label`` if one is named (n_splits, seed);
    - ``group``: `group_splits` of ``label`` (n_splits, seed);
    - ``condition``: `condition_splits` of ``label``, with the values of ``train`` and ``test`` separated by bars;
    - ``brainscore``: `brainscore_splits` (test_size; 0.9 for its metrics that fit nothing).

    Parameters
    ----------
    text : str
    assembly : xarray.DataArray
        One presentation a stimulus: the source of the metric that is to use the folds, or the stimuli shared with its target.
        Labels are its coordinates. Folds do not depend on the order of its presentations.

    Returns
    -------
    Splits
        Rows of ``assembly``.

    Raises
    ------
    AssemblyError
        An unknown kind, option or coordinate, an option that is no number, or an error of the function that draws.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.splits import splits_from_text
    >>> responses = np.random.default_rng(0).normal(size=(12, 2))  # simulated
    >>> stimuli = {"stimulus_id": range(12), "variation": [0, 3, 6] * 4}
    >>> assembly = make_assembly(responses, presentation=stimuli, neuroid={"neuroid_id": range(2)})
    >>> splits_from_text("kfold,n_splits=4", assembly)
    Splits(4 folds of presentation rows, 9 train, 3 test, '4-fold, seed 1')
    >>> splits_from_text("condition,label=variation,train=0|3,test=6", assembly)
    Splits(1 folds of presentation rows, 8 train, 4 test, 'train [0, 3], test [6]')
    """
    kind, *rest = [part.strip() for part in text.split(",")]
    if kind not in KINDS:
        raise AssemblyError(
            f"splits: found the kind {kind!r} in {text!r}; expected one of {sorted(KINDS)}. Mend: e.g. 'kfold,n_splits=5'."
        )
    named = {key: value for key, _, value in (part.partition("=") for part in rest)}
    unknown = sorted(set(named) - set(KINDS[kind])) or [key for key, value in named.items() if not value]
    if unknown:
        raise AssemblyError(
            f"splits: found {unknown[0]!r} in {text!r}; expected options of {kind} as name=value, of {list(KINDS[kind])}. "
            f"Mend: e.g. '{kind}{',label=object_name' if 'label' in KINDS[kind] else ''}'."
        )
    label = named.pop("label", OBJECT if kind == "stratified" else None)
    of_stimuli = sorted(str(name) for name, coord in assembly.coords.items() if coord.dims == (PRESENTATION,))
    if label not in of_stimuli and (label is not None or kind in ("group", "condition")):
        others = [name for name in of_stimuli if name != STIMULUS_ID]
        mend = f"'{kind},label={others[0]}'" if others else "'kfold,n_splits=5', which needs no label"
        raise AssemblyError(
            f"splits: found presentation coordinates {of_stimuli} and the label {label!r} in {text!r}; expected it among them. "
            f"Mend: {mend}."
        )
    if kind == "brainscore":
        sizes = {key: _number(key, value, text) for key, value in named.items()}
        return brainscore_splits(assembly, **sizes)
    order = np.argsort(assembly[STIMULUS_ID].values, kind="stable")
    labels: Any = None if label is None else plain(assembly[label].values, name=label)[order]
    if kind == "condition":
        sides = {side: _conditions(named.get(side, ""), labels, text) for side in ("train", "test")}
        return _over(order, condition_splits(labels, **sides))
    numbers = {key: _number(key, value, text) for key, value in named.items()}
    if kind == "shuffle":
        return _over(order, shuffle_splits(len(order), **numbers))
    if kind == "stratified":
        return _over(order, stratified_splits(labels, **numbers), f", on {label}")
    if kind == "kfold":
        return _over(
            order, kfold_splits(len(order), labels=labels, **numbers), "" if label is None else f", on {label}"
        )
    return _over(order, group_splits(labels, **numbers), f", by {label}")


def _number(key: str, value: str, text: str) -> Any:
    try:
        return float(value) if key in _SHARES else int(value)
    except ValueError as error:
        raise AssemblyError(
            f"splits: found {key}={value!r} in {text!r}; expected a number. Mend: e.g. {key}={0.8 if key in _SHARES else 5}."
        ) from error


def _conditions(value: str, labels: Any, text: str) -> list[Any]:
    """Return the values between bars, in the type of the labels."""
    parts = [part.strip() for part in value.split("|") if part.strip()]
    if not parts:
        raise AssemblyError(
            f"splits: found no conditions to train on or to test in {text!r}; expected both. "
            "Mend: e.g. 'condition,label=variation,train=0|3,test=6'."
        )
    try:
        return parts if labels.dtype.kind not in "iufb" else np.array(parts, dtype=float).astype(labels.dtype).tolist()
    except ValueError as error:
        raise AssemblyError(
            f"splits: found conditions {parts} in {text!r} and labels such as {labels[:3].tolist()}; expected numbers. "
            "Mend: name conditions that are there."
        ) from error
