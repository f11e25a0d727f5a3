"""Splits of stimuli (or sites) into training and held-out rows, drawn once and shared by all metrics."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.assemblies.schema import NEUROID
from neurobridge.evaluate.folds import Splits
from neurobridge.points.options import require_count, require_seed


def _column(labels: npt.ArrayLike, name: str) -> np.ndarray:
    """Return one label a row, none missing."""
    column = present_labels(labels, name=name, role="splits")
    if column.ndim != 1 or not len(column):
        raise AssemblyError(
            f"splits: found {name}s of shape {column.shape}; expected a list of one or more. "
            f"Mend: pass the {name} of every row, e.g. assembly['object_name'].values."
        )
    return column


def _require_draws(n_splits: int, train_size: float, seed: int) -> None:
    require_count(n_splits, name="n_splits", error=AssemblyError)
    require_seed(seed, error=AssemblyError)
    # A share outside (0, 1) is refused where the rows are known.
    if not isinstance(train_size, Real) or np.isnan(train_size):
        raise AssemblyError(
            f"splits: found train_size={train_size!r:.40}; expected a share in (0, 1). Mend: e.g. train_size=0.9."
        )


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
    require_count(n_rows, name="n_rows", error=AssemblyError)
    _require_draws(n_splits, train_size, seed)
    drawn = ShuffleSplit(n_splits, train_size=float(train_size), random_state=seed)
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
    labels = _column(labels, "label")
    _require_draws(n_splits, train_size, seed)
    drawn = StratifiedShuffleSplit(n_splits, train_size=float(train_size), random_state=seed)
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
    require_count(n_rows, name="n_rows", error=AssemblyError)
    require_count(n_splits, name="n_splits", at_least=2, error=AssemblyError)
    require_seed(seed, error=AssemblyError)
    labels = None if labels is None else _column(labels, "label")
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
    groups = _column(groups, "group")
    require_seed(seed, error=AssemblyError)
    names, codes = np.unique(groups, return_inverse=True)
    n_parts = len(names) if n_splits is None else require_count(n_splits, name="n_splits", error=AssemblyError)
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


def stratified_group_splits(
    labels: npt.ArrayLike, groups: npt.ArrayLike, *, n_splits: int | None = None, seed: int = 1
) -> Splits:
    """Deal whole groups into parts in which every class has its share: single trials, grouped by stimulus.

    Where every group has one class, the groups of each class are dealt evenly; where classes vary within groups, scikit-learn's
    ``StratifiedGroupKFold`` balances them.

    Parameters
    ----------
    labels : array of shape (n_rows,)
        Class of each row.
    groups : array of shape (n_rows,)
        Group of each row, e.g. ``trials["stimulus_id"].values``.
    n_splits : int, optional
        Parts, each held out once. Default: as many as the rarest class has groups, at most ten.
    seed : int

    Returns
    -------
    Splits
        One fold a part, with ``groups``.

    Raises
    ------
    AssemblyError
        A label or group is missing, or a class has fewer groups than parts.

    Examples
    --------
    >>> from neurobridge.evaluate.splits import stratified_group_splits
    >>> stratified_group_splits(["car", "car", "car", "face", "face"], ["c1", "c1", "c2", "f1", "f2"])
    Splits(2 folds of presentation rows, 2 to 3 train, 2 to 3 test, '2-fold stratified, 4 whole groups, seed 1')
    """
    labels, groups = _column(labels, "label"), _column(groups, "group")
    require_seed(seed, error=AssemblyError)
    if len(labels) != len(groups):
        raise AssemblyError(
            f"splits: found {len(labels)} labels and {len(groups)} groups; expected one of each a row. "
            "Mend: pass the label and the group of every row."
        )
    classes, label_codes = np.unique(labels, return_inverse=True)
    names, group_codes = np.unique(groups, return_inverse=True)
    has = np.zeros((len(classes), len(names)), dtype=bool)
    has[label_codes, group_codes] = True
    counts = has.sum(axis=1)
    rarest = int(counts.min())
    n_parts = min(10, rarest) if n_splits is None else require_count(n_splits, name="n_splits", error=AssemblyError)
    if not 2 <= n_parts <= rarest:
        raise AssemblyError(
            f"splits: found n_splits={n_splits} and {len(names)} groups of {len(classes)} classes, the rarest "
            f"{str(classes[counts.argmin()])!r} in {rarest}; expected between 2 parts and as many as that. "
            "Mend: fewer parts, a coarser label, or kfold_splits(len(labels), labels=labels), which parts groups."
        )
    if (has.sum(axis=0) == 1).all():
        drawn = StratifiedKFold(n_parts, shuffle=True, random_state=seed)
        parts = [np.isin(group_codes, test) for _, test in drawn.split(names, has.argmax(axis=0))]
        folds = [(np.flatnonzero(~held_out), np.flatnonzero(held_out)) for held_out in parts]
    else:
        grouped = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
        folds = list(grouped.split(np.empty((len(labels), 0)), label_codes, group_codes))
    return Splits(folds, f"{n_parts}-fold stratified, {len(names)} whole groups, seed {seed}", groups=groups)


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
    if values.ndim != 1:
        raise AssemblyError(
            f"splits: found conditions of shape {values.shape}; expected one a row, (n_rows,). "
            "Mend: e.g. assembly['variation'].values."
        )
    train, test = (_column(side, "condition").tolist() for side in (train, test))
    shared = [value for value in train if value in test]
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
    fold = np.flatnonzero(np.isin(values, train)), np.flatnonzero(np.isin(values, test))
    return Splits([fold], f"train {train}, test {test}", groups=values)


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
            f"recordings: found {len(names)} {animal}(s), {names.tolist()}; expected at least two. "
            "Mend: keep the sites of all animals."
        )
    folds = [(np.flatnonzero(of_site != name), np.flatnonzero(of_site == name)) for name in names]
    return Splits(folds, f"each of {len(names)} {animal}s from the others", groups=of_site, dim=NEUROID)
