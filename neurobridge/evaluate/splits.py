"""Splits of stimuli (or sites) into training and held-out rows, drawn once and shared by all metrics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.folds import GivenSplits, Splits

__all__ = [
    "Splits",
    "animal_splits",
    "brainscore_splits",
    "condition_splits",
    "group_splits",
    "kfold_splits",
    "resolve_splits",
    "shuffle_splits",
    "splits_from_text",
    "stratified_splits",
]


#: Label that Brain-Score stratifies on, and the share that it holds out.
OBJECT, HELD_OUT = "object_name", 0.1


def shuffle_splits(n_rows: int, *, n_splits: int = 10, train_size: float = 0.9, seed: int = 1) -> Splits:
    """Draw random folds.

    Parameters
    ----------
    n_rows : int
    n_splits : int
    train_size : float
        Share of the rows trained on, in (0, 1); the rest is held out.
    seed : int

    Returns
    -------
    Splits

    Raises
    ------
    AssemblyError
        No fold is asked for, the share is outside (0, 1), or there are too few rows for both sides.

    Examples
    --------
    >>> from neurobridge.evaluate.splits import shuffle_splits
    >>> shuffle_splits(20, n_splits=3)
    Splits(3 folds of presentation rows, 18 train, 2 test, '3 shuffled, 90% trained on, seed 1')
    """
    drawn = ShuffleSplit(n_splits, train_size=train_size, random_state=seed)
    try:
        folds = list(drawn.split(np.empty((n_rows, 0))))
    except ValueError as error:
        raise AssemblyError(
            f"splits: found {n_rows} row(s) and train_size={train_size}; expected a share in (0, 1) and a row on both sides "
            f"({error}). Mend: e.g. train_size=0.9 of ten rows or more."
        ) from error
    return Splits(folds, f"{n_splits} shuffled, {train_size:.0%} trained on, seed {seed}")


def stratified_splits(labels: npt.ArrayLike, *, n_splits: int = 10, train_size: float = 0.9, seed: int = 1) -> Splits:
    """Draw random folds in which every class has its share on both sides.

    Parameters
    ----------
    labels : array of shape (n_rows,)
        Class of each row.
    n_splits, train_size, seed
        As in `shuffle_splits`.

    Returns
    -------
    Splits

    Raises
    ------
    AssemblyError
        A label is missing, a class has one row only, or there are more classes than held-out (or training) rows.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.splits import stratified_splits
    >>> labels = np.array(["car", "face"] * 20)
    >>> train, test = stratified_splits(labels, train_size=0.8)[0]
    >>> np.unique(labels[test], return_counts=True)[1].tolist()
    [4, 4]
    """
    labels = present_labels(labels, name="label", role="splits")
    drawn = StratifiedShuffleSplit(n_splits, train_size=train_size, random_state=seed)
    try:
        folds = list(drawn.split(np.empty((len(labels), 0)), labels))
    except ValueError as error:
        classes, counts = np.unique(labels, return_counts=True)
        # The largest share, in hundredths, that leaves one held-out row a class.
        largest = (100 * (len(labels) - len(classes)) // len(labels)) / 100
        mend = (
            f"train_size={largest}" if counts.min() >= 2 else "leave out the classes with one row, or splits='shuffle'"
        )
        raise AssemblyError(
            f"splits: found {len(labels)} rows of {len(classes)} classes, the rarest {str(classes[counts.argmin()])!r} with "
            f"{counts.min()}, n_splits={n_splits} and train_size={train_size}; expected a split or more, a share in (0, 1), two "
            f"rows a class or more, and one held-out row a class. Mend: {mend}, or a coarser label."
        ) from error
    return Splits(folds, f"{n_splits} stratified, {train_size:.0%} trained on, seed {seed}")


def kfold_splits(n_rows: int, *, n_splits: int = 5, labels: npt.ArrayLike | None = None, seed: int = 1) -> Splits:
    """Deal the rows into ``n_splits`` parts, each held out once.

    Parameters
    ----------
    n_rows : int
    n_splits : int
    labels : array of shape (n_rows,), optional
        Every part has each class's share.
    seed : int

    Returns
    -------
    Splits
        One fold a part.

    Raises
    ------
    AssemblyError
        A label is missing, or there are fewer rows, or rows of a class, than parts.

    Examples
    --------
    >>> from neurobridge.evaluate.splits import kfold_splits
    >>> folds = kfold_splits(10, n_splits=5)
    >>> sorted(row for _, test in folds for row in test.tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    labels = None if labels is None else present_labels(labels, name="label", role="splits")
    if labels is not None and len(labels) != n_rows:
        raise AssemblyError(
            f"splits: found {len(labels)} labels; expected {n_rows}, one a row. Mend: pass the label of every row."
        )
    rarest = n_rows if labels is None else int(np.unique(labels, return_counts=True)[1].min())
    if not 2 <= n_splits <= rarest:
        raise AssemblyError(
            f"splits: found n_splits={n_splits} for {n_rows} rows, the rarest class with {rarest}; expected between 2 "
            f"and {rarest}. "
            "Mend: use fewer parts or a coarser label."
        )
    kind = KFold if labels is None else StratifiedKFold
    drawn = kind(n_splits, shuffle=True, random_state=seed).split(np.empty((n_rows, 0)), labels)
    how = "" if labels is None else " stratified"
    return Splits(list(drawn), f"{n_splits}-fold{how}, seed {seed}")


def group_splits(groups: npt.ArrayLike, *, n_splits: int | None = None, seed: int = 1) -> Splits:
    """Hold out whole groups: objects, backgrounds, sessions.

    Parameters
    ----------
    groups : array of shape (n_rows,)
        Group of each row, e.g. ``assembly["object_name"].values`` or ``assembly["background_id"].values``.
    n_splits : int, optional
        The shuffled groups are dealt into so many parts, each held out once. Default: one group at a time.
    seed : int

    Returns
    -------
    Splits
        One fold a part, with ``groups``.

    Raises
    ------
    AssemblyError
        A group is missing, there is one group only, or fewer groups than parts.

    Examples
    --------
    >>> from neurobridge.evaluate.splits import group_splits
    >>> [test.tolist() for _, test in group_splits(["ape", "ape", "boat", "boat"])]  # one object at a time
    [[0, 1], [2, 3]]
    """
    groups = present_labels(groups, name="group", role="splits")
    names, codes = np.unique(groups, return_inverse=True)
    n_parts = len(names) if n_splits is None else n_splits
    if not 2 <= n_parts <= len(names):
        raise AssemblyError(
            f"splits: found {len(names)} group(s), e.g. {str(names[0])!r}, and n_splits={n_splits}; expected at least "
            "two groups and "
            "no more parts than groups. Mend: use fewer parts or a finer label."
        )
    part = np.empty(len(names), dtype=np.intp)
    part[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % n_parts
    folds = [(np.flatnonzero(part[codes] != k), np.flatnonzero(part[codes] == k)) for k in range(n_parts)]
    return Splits(folds, f"{n_parts} parts of {len(names)} whole groups, seed {seed}", groups=groups)


def condition_splits(
    values: npt.ArrayLike, *, train: Sequence[str | int | float], test: Sequence[str | int | float]
) -> Splits:
    """Train on some conditions and hold out others: fit on variations 0 and 3, test on 6.

    Parameters
    ----------
    values : array of shape (n_rows,)
        Condition of each row, e.g. ``assembly["variation"].values``. Rows without one are not used.
    train, test : sequence
        Conditions of either side, disjoint. Rows of other conditions are not used.

    Returns
    -------
    Splits
        One fold.

    Raises
    ------
    AssemblyError
        A condition is on both sides, or no row has it.

    Examples
    --------
    >>> from neurobridge.evaluate.splits import condition_splits
    >>> ((train, test),) = condition_splits([0, 0, 3, 3, 6], train=[0, 3], test=[6])
    >>> train.tolist(), test.tolist()
    ([0, 1, 2, 3], [4])
    """
    values = plain(values, name="condition")
    shared = [value for value in train if value in list(test)]
    if shared:
        raise AssemblyError(
            f"splits: found condition {shared[0]!r} both trained on and held out; expected disjoint conditions. Mend: "
            "leave it out of one."
        )
    missing = [value for value in [*train, *test] if not (values == value).any()]
    if missing:
        raise AssemblyError(
            f"splits: found no row of condition {missing[0]!r}; expected some of {np.unique(values)[:10].tolist()}. "
            "Mend: name conditions that are there."
        )
    fold = np.flatnonzero(np.isin(values, list(train))), np.flatnonzero(np.isin(values, list(test)))
    return Splits([fold], f"train {list(train)}, test {list(test)}", groups=values)


def animal_splits(assembly: xr.DataArray, *, animal: str = "animal") -> Splits:
    """Part the neuroids by animal: each animal's sites are held out once, the others' are the predictors.

    Parameters
    ----------
    assembly : xarray.DataArray
        Recordings with the coordinate ``animal`` on ``neuroid``.
    animal : str
        Name of that coordinate.

    Returns
    -------
    Splits
        Folds of *neuroid* rows, one an animal in sorted order; see `cross_animal_consistency`.

    Raises
    ------
    AssemblyError
        No such coordinate, a neuroid without an animal, or one animal only.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.splits import animal_splits
    >>> recordings = make_assembly(
    ...     np.arange(12.0).reshape(3, 4),  # simulated
    ...     presentation={"stimulus_id": range(3)},
    ...     neuroid={"neuroid_id": range(4), "animal": ["Tito", "Chabo", "Tito", "Tito"]},
    ... )
    >>> [test.tolist() for _, test in animal_splits(recordings)]
    [[1], [0, 2, 3]]
    """
    if animal not in assembly.coords or assembly[animal].dims != (NEUROID,):
        on_neuroid = sorted(str(name) for name, coord in assembly.coords.items() if coord.dims == (NEUROID,))
        raise AssemblyError(
            f"recordings: found neuroid coordinates {on_neuroid}; expected {animal!r} among them. "
            f"Mend: assembly.assign_coords({animal}=('neuroid', names))."
        )
    mend = f"neurobridge.assemblies.drop_missing(assembly, {animal!r})"
    of_site = present_labels(assembly[animal].values, name=animal, role="recordings", mend=mend)
    names = np.unique(of_site)
    if len(names) < 2:
        raise AssemblyError(
            f"recordings: found one {animal}, {str(names[0])!r}; expected at least two. Mend: keep the sites of all animals."
        )
    folds = [(np.flatnonzero(of_site != name), np.flatnonzero(of_site == name)) for name in names]
    return Splits(folds, f"each of {len(names)} {animal}s from the others", groups=of_site, dim=NEUROID)


def brainscore_splits(assembly: xr.DataArray) -> Splits:
    """Draw Brain-Score's folds: ten of 90/10, stratified on ``object_name``, random state 1; shuffled where there is no such label.

    Brain-Score draws over the target's presentations as they stand. Its averaged recordings stand in the order of their stimulus
    ids, so its folds of these are the folds drawn here over the sorted ids, which do not depend on the order of the presentations.
    `BrainScoreMetric`, which may be handed a target in another order, draws over that order as Brain-Score does.

    Parameters
    ----------
    assembly : xarray.DataArray
        One presentation a stimulus: the *source* of the metrics that are to share the folds, with the stimuli of the target.

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
    return _drawn(assembly, OBJECT if OBJECT in assembly.coords else None, 1 - HELD_OUT)


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
    # The next number, for the share times the rows must not round below a whole number.
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


#: Kinds of folds that a text can name, with the options of each.
KINDS: dict[str, tuple[str, ...]] = {
    "shuffle": ("n_splits", "train_size", "seed"),
    "stratified": ("label", "n_splits", "train_size", "seed"),
    "kfold": ("label", "n_splits", "seed"),
    "group": ("label", "n_splits", "seed"),
    "condition": ("label", "train", "test"),
    "brainscore": (),
}


def splits_from_text(text: str, assembly: xr.DataArray) -> Splits:
    """Draw folds as a text describes them, for command lines and settings files.

    The text is a kind and its options, separated by commas: ``kfold,n_splits=5``. The kinds are

    - ``shuffle``: `shuffle_splits` (n_splits, train_size, seed);
    - ``stratified``: `stratified_splits` on ``label``, by default object_name (n_splits, train_size, seed);
    - ``kfold``: `kfold_splits`, of ``label`` if one is named (n_splits, seed);
    - ``group``: `group_splits` of ``label`` (n_splits, seed);
    - ``condition``: `condition_splits` of ``label``, with the values of ``train`` and ``test`` separated by bars;
    - ``brainscore``: `brainscore_splits`.

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
        return brainscore_splits(assembly)
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
        return float(value) if key == "train_size" else int(value)
    except ValueError as error:
        raise AssemblyError(
            f"splits: found {key}={value!r} in {text!r}; expected a number. Mend: e.g. {key}={0.8 if key == 'train_size' else 5}."
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
