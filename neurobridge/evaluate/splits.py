"""Which stimuli (or sites) train and which are held out: integer rows, drawn once, shared by all metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID

__all__ = [
    "Splits",
    "animal_splits",
    "brainscore_splits",
    "condition_splits",
    "group_splits",
    "kfold_splits",
    "shuffle_splits",
    "stratified_splits",
]

Fold = tuple[np.ndarray, np.ndarray]


class Splits(Sequence[Fold]):
    """Folds of rows; no row of a fold, nor any of its group, is both trained on and held out.

    What would leak cannot be built: the rows are checked here, copied and read-only.

    Parameters
    ----------
    folds : sequence of (train, test)
        Two integer arrays of rows a fold.
    description : str
        How they were drawn; written into every Score.
    groups : array of shape (n_rows,), optional
        Rows with the same value (object, background, animal) stay on one side of every fold.
    dim : {"presentation", "neuroid"}
        What the rows are. Metrics take folds of presentations; folds of neuroids part animals.

    Raises
    ------
    AssemblyError
        There is no fold, a fold is empty on one side, a row is on both sides or twice on one, or a group is on both sides.
    """

    def __init__(
        self,
        folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
        description: str = "given",
        *,
        groups: npt.ArrayLike | None = None,
        dim: str = PRESENTATION,
    ) -> None:
        self.description, self.dim = description, dim
        self._folds: list[Fold] = []
        for number, (train, test) in enumerate(folds):
            fold = _rows(train, number), _rows(test, number)
            if min(map(len, fold)) == 0:
                raise AssemblyError(
                    f"splits: found {len(fold[0])} training and {len(fold[1])} held-out rows in fold {number}; expected "
                    "at least one of each. Mend: use fewer folds or a larger share."
                )
            both = np.intersect1d(*fold)
            if len(both):
                raise AssemblyError(
                    f"splits: found {len(both)} row(s) of fold {number} both trained on and held out, e.g. {both[0]}; "
                    "expected disjoint rows. Mend: draw the held-out rows from those not trained on."
                )
            if groups is not None:
                _refuse_shared_groups(np.asarray(groups), fold, number)
            self._folds.append(fold)
        if not self._folds:
            raise AssemblyError("splits: found no fold; expected at least one. Mend: n_splits=10.")

    def __len__(self) -> int:
        return len(self._folds)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._folds[index]

    def __iter__(self) -> Iterator[Fold]:
        return iter(self._folds)

    def check(self, n_rows: int, dim: str = PRESENTATION) -> Splits:
        """Refuse rows that are not among the ``n_rows`` of ``dim``, and return self.

        Raises
        ------
        AssemblyError
            A row is out of range, or the folds part another dimension.
        """
        if dim != self.dim:
            raise AssemblyError(
                f"splits: found folds of {self.dim} rows ({self.description}); expected folds of {dim} rows. "
                f"Mend: draw splits over {dim}s, e.g. stratified_splits(assembly['object_name'].values) for presentations."
            )
        rows = np.concatenate([np.concatenate(fold) for fold in self._folds])
        if rows.min() < 0 or rows.max() >= n_rows:
            raise AssemblyError(
                f"splits: found rows from {rows.min()} to {rows.max()}; expected them within 0 to {n_rows - 1}. "
                "Mend: draw the splits for these stimuli."
            )
        return self


def _rows(rows: npt.ArrayLike, number: int) -> np.ndarray:
    """Rows of one side of a fold, copied and read-only; a boolean mask would be misread as rows 0 and 1."""
    given = np.asarray(rows)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise AssemblyError(
            f"splits: found rows of dtype {given.dtype} and shape {given.shape} in fold {number}; expected a list of integer rows. "
            "Mend: np.flatnonzero(mask)."
        )
    if len(np.unique(given)) != len(given):
        raise AssemblyError(
            f"splits: found a row twice on one side of fold {number}; expected each row once. Mend: np.unique(rows)."
        )
    copied = np.array(given, dtype=np.intp)
    copied.flags.writeable = False
    return copied


def _refuse_shared_groups(groups: np.ndarray, fold: Fold, number: int) -> None:
    if max(rows.max() for rows in fold) >= len(groups):
        raise AssemblyError(
            f"splits: found {len(groups)} group labels and row {max(rows.max() for rows in fold)} in fold {number}; expected one "
            "label a row. Mend: pass the label of every row."
        )
    shared = np.intersect1d(groups[fold[0]], groups[fold[1]])
    if len(shared):
        raise AssemblyError(
            f"splits: found {len(shared)} group(s) of fold {number} both trained on and held out, e.g. "
            f"{str(shared[0])!r}; expected "
            "whole groups on one side. Mend: group_splits(labels)."
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
        A class has one row only, or there are more classes than held-out (or training) rows.
    """
    labels = np.asarray(labels)
    drawn = StratifiedShuffleSplit(n_splits, train_size=train_size, random_state=seed)
    try:
        folds = list(drawn.split(np.empty((len(labels), 0)), labels))
    except ValueError as error:
        classes, counts = np.unique(labels, return_counts=True)
        raise AssemblyError(
            f"splits: found {len(labels)} rows of {len(classes)} classes, the rarest {str(classes[counts.argmin()])!r} with "
            f"{counts.min()}; expected at least two rows a class and one held-out row a class ({error}). "
            "Mend: use a smaller train_size, a coarser label, or shuffle_splits."
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
        Fewer rows, or rows of a class, than parts.
    """
    if labels is not None and len(np.asarray(labels)) != n_rows:
        raise AssemblyError(
            f"splits: found {len(np.asarray(labels))} labels; expected {n_rows}, one a row. Mend: pass the label of every row."
        )
    rarest = n_rows if labels is None else int(np.unique(np.asarray(labels), return_counts=True)[1].min())
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
        One group only, or fewer groups than parts.
    """
    groups = np.asarray(groups)
    found, codes = np.unique(groups, return_inverse=True)
    n_parts = len(found) if n_splits is None else n_splits
    if not 2 <= n_parts <= len(found):
        raise AssemblyError(
            f"splits: found {len(found)} group(s), e.g. {str(found[0])!r}, and n_splits={n_splits}; expected at least "
            "two groups and "
            "no more parts than groups. Mend: use fewer parts or a finer label."
        )
    part = np.empty(len(found), dtype=np.intp)
    part[np.random.default_rng(seed).permutation(len(found))] = np.arange(len(found)) % n_parts
    folds = [(np.flatnonzero(part[codes] != k), np.flatnonzero(part[codes] == k)) for k in range(n_parts)]
    return Splits(folds, f"{n_parts} parts of {len(found)} whole groups, seed {seed}", groups=groups)


def condition_splits(
    values: npt.ArrayLike, *, train: Sequence[str | int | float], test: Sequence[str | int | float]
) -> Splits:
    """Train on some conditions and hold out others: fit on variations 0 and 3, test on 6.

    Parameters
    ----------
    values : array of shape (n_rows,)
        Condition of each row, e.g. ``assembly["variation"].values``.
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
    """
    values = np.asarray(values)
    both = [value for value in train if value in list(test)]
    if both:
        raise AssemblyError(
            f"splits: found condition {both[0]!r} both trained on and held out; expected disjoint conditions. Mend: "
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

    Returns
    -------
    Splits
        Folds of *neuroid* rows, one an animal in sorted order; see `cross_animal_consistency`.

    Raises
    ------
    AssemblyError
        No such coordinate, or one animal only.
    """
    if animal not in assembly.coords or assembly[animal].dims != (NEUROID,):
        on_neuroid = sorted(str(name) for name, coord in assembly.coords.items() if coord.dims == (NEUROID,))
        raise AssemblyError(
            f"recordings: found neuroid coordinates {on_neuroid}; expected {animal!r} among them. "
            f"Mend: assembly.assign_coords({animal}=('neuroid', names))."
        )
    names = assembly[animal].values
    found = np.unique(names)
    if len(found) < 2:
        raise AssemblyError(
            f"recordings: found one {animal}, {str(found[0])!r}; expected at least two. Mend: keep the sites of all animals."
        )
    folds = [(np.flatnonzero(names != name), np.flatnonzero(names == name)) for name in found]
    return Splits(folds, f"each of {len(found)} {animal}s from the others", groups=names, dim=NEUROID)


def brainscore_splits(assembly: xr.DataArray) -> Splits:
    """Brain-Score's folds: ten of 90/10, stratified on ``object_name``, random state 1; shuffled where there is no such label.

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
    """
    return resolve_splits(assembly, None)


def resolve_splits(
    assembly: xr.DataArray,
    splits: Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None,
    *,
    stratify: str = "object_name",
) -> Splits:
    """Check given folds, or draw those of `brainscore_splits`: ten of 90/10, stratified where the label is there, seed 1.

    Parameters
    ----------
    assembly : xarray.DataArray
        One presentation a stimulus.
    splits : Splits or sequence of (train, test), optional
        Rows of the assembly. Default: drawn over the sorted stimulus ids, whatever the order of the presentations.
    stratify : str
        Presentation coordinate of the classes; the folds are shuffled where there is none.

    Returns
    -------
    Splits
        Rows of ``assembly``.

    Raises
    ------
    AssemblyError
        Rows out of range, folds of neuroids, or classes that cannot be on both sides.
    """
    n_rows = assembly.sizes[PRESENTATION]
    if splits is not None:
        return (splits if isinstance(splits, Splits) else Splits(splits)).check(n_rows)
    order = np.argsort(assembly[STIMULUS_ID].values, kind="stable")
    if stratify in assembly.coords:
        drawn = stratified_splits(assembly[stratify].values[order])
        description = f"{drawn.description}, on {stratify}"
    else:
        drawn = shuffle_splits(n_rows)
        description = drawn.description
    return Splits([(order[train], order[test]) for train, test in drawn], description)
