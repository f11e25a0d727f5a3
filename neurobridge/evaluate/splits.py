"""Which stimuli train and which are held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID

Fold = tuple[np.ndarray, np.ndarray]


class Splits(Sequence[Fold]):
    """Folds of rows; no row of a fold is both trained on and held out.

    Parameters
    ----------
    folds : sequence of (train, test)
        Two integer arrays of rows a fold.
    description : str
        How they were drawn; written into every Score.

    Raises
    ------
    AssemblyError
        There is no fold, a fold is empty on one side, or a row is on both sides.
    """

    def __init__(self, folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], description: str = "given") -> None:
        self.description = description
        self._folds: list[Fold] = []
        for number, (train, test) in enumerate(folds):
            fold = np.asarray(train, dtype=np.intp), np.asarray(test, dtype=np.intp)
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
            self._folds.append(fold)
        if not self._folds:
            raise AssemblyError("splits: found no fold; expected at least one. Mend: n_splits=10.")

    def __len__(self) -> int:
        return len(self._folds)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._folds[index]

    def __iter__(self) -> Iterator[Fold]:
        return iter(self._folds)

    def check(self, n_rows: int) -> Splits:
        """Refuse rows that are not among ``n_rows``, and return self.

        Raises
        ------
        AssemblyError
            A row is out of range.
        """
        rows = np.concatenate([np.concatenate(fold) for fold in self._folds])
        if rows.min() < 0 or rows.max() >= n_rows:
            raise AssemblyError(
                f"splits: found rows from {rows.min()} to {rows.max()}; expected them within 0 to {n_rows - 1}. "
                "Mend: draw the splits for these stimuli."
            )
        return self


def shuffle_splits(n_rows: int, *, n_splits: int = 10, train_size: float = 0.9, seed: int = 1) -> Splits:
    """Draw random folds.

    Parameters
    ----------
    n_rows : int
    n_splits : int
    train_size : float
        Share of the rows trained on, in (0, 1); the rest is held out.
    seed : int
    """
    drawn = ShuffleSplit(n_splits, train_size=train_size, random_state=seed)
    folds = list(drawn.split(np.empty((n_rows, 0))))
    return Splits(folds, f"{n_splits} shuffled, {train_size:.0%} trained on, seed {seed}")


def stratified_splits(labels: npt.ArrayLike, *, n_splits: int = 10, train_size: float = 0.9, seed: int = 1) -> Splits:
    """Draw random folds in which every class has its share on both sides.

    Parameters
    ----------
    labels : array of shape (n_rows,)
        Class of each row.
    n_splits, train_size, seed
        As in `shuffle_splits`.

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


def resolve_splits(
    assembly: xr.DataArray,
    splits: Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None,
    *,
    stratify: str = "object_name",
) -> Splits:
    """Check given folds, or draw Brain-Score's: ten of 90/10, stratified where the label is there, seed 1.

    Brain-Score draws over the sorted stimulus ids; so do we, which makes the folds its own and independent of the order of
    the presentations.
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
