"""Folds of rows that cannot leak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.assemblies.schema import PRESENTATION
from neurobridge.points.display import format_fact, html_repr, short_repr

Fold = tuple[np.ndarray, np.ndarray]


class Splits(Sequence[Fold]):
    """Folds of rows; no row of a fold, nor any of its group, is both trained on and held out.

    Folds that would leak cannot be built: the rows are checked here, copied and read-only.

    Parameters
    ----------
    folds : sequence of (train, test)
        Two integer arrays of rows a fold.
    description : str
        Rule by which they were drawn; written into every Score.
    groups : array of shape (n_rows,), optional
        Rows with the same value (object, background, animal) stay on one side of every fold.
    dim : {"presentation", "neuroid"}
        Dimension of the rows. Metrics take folds of presentations; folds of neuroids part animals.

    Raises
    ------
    AssemblyError
        There is no fold, a fold is empty on one side, a row is on both sides or twice on one, or a group is on both sides or
        missing.

    Examples
    --------
    >>> from neurobridge.evaluate.splits import Splits
    >>> splits = Splits([([0, 1], [2]), ([1, 2], [0])], "by hand")
    >>> splits
    Splits(2 folds of presentation rows, 2 train, 1 test, 'by hand')
    >>> train, test = splits[0]
    >>> train.tolist(), test.tolist()
    ([0, 1], [2])
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
        groups = None if groups is None else plain(groups, name="group")
        self._folds: list[Fold] = []
        for number, (train, test) in enumerate(_sides(folds)):
            fold = _rows(train, number), _rows(test, number)
            if min(map(len, fold)) == 0:
                raise AssemblyError(
                    f"splits: found {len(fold[0])} training and {len(fold[1])} held-out rows in fold {number}; expected "
                    "at least one of each. Mend: use fewer folds or a larger share."
                )
            shared = np.intersect1d(*fold)
            if len(shared):
                raise AssemblyError(
                    f"splits: found {len(shared)} row(s) of fold {number} both trained on and held out, e.g. {shared[0]}; "
                    "expected disjoint rows. Mend: draw the held-out rows from those not trained on."
                )
            if groups is not None:
                _refuse_shared_groups(groups, fold, number)
            self._folds.append(fold)
        if not self._folds:
            raise AssemblyError("splits: found no fold; expected at least one. Mend: n_splits=10.")

    def __repr__(self) -> str:
        facts = self._facts()
        sizes = [f"{facts['folds']} folds of {self.dim} rows", f"{facts['train']} train", f"{facts['test']} test"]
        return short_repr("Splits", *sizes, format_fact(repr(self.description)))

    def _repr_html_(self) -> str:
        return html_repr("Splits", {**self._facts(), "dim": self.dim, "description": self.description})

    def _facts(self) -> dict[str, int | str]:
        sizes = [sorted({len(fold[side]) for fold in self._folds}) for side in (0, 1)]
        train, test = (str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}" for n in sizes)
        return {"folds": len(self), "train": train, "test": test}

    def __len__(self) -> int:
        return len(self._folds)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._folds[index]

    def __iter__(self) -> Iterator[Fold]:
        return iter(self._folds)

    def check(self, n_rows: int, dim: str = PRESENTATION) -> Splits:
        """Refuse rows that are not among the ``n_rows`` of ``dim``, and return self.

        Parameters
        ----------
        n_rows : int
        dim : {"presentation", "neuroid"}

        Returns
        -------
        Splits

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


def _sides(folds: Any) -> list[tuple[npt.ArrayLike, npt.ArrayLike]]:
    try:
        return [(train, test) for train, test in folds]
    except (TypeError, ValueError) as error:
        raise AssemblyError(
            f"splits: found {type(folds).__name__} ({error}); expected a sequence of folds, [(train rows, test rows), ...]. "
            "Mend: kfold_splits(n_rows), or splits='kfold,n_splits=5'."
        ) from error


def _rows(rows: npt.ArrayLike, number: int) -> np.ndarray:
    """Copy the rows of one side of a fold, read-only; a boolean mask would be misread as rows 0 and 1."""
    given = plain(rows, name="row")
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
    # Rows that no fold uses may be without a group.
    train, test = (present_labels(groups[rows], name="group", role=f"splits, fold {number}") for rows in fold)
    shared = np.intersect1d(train, test)
    if len(shared):
        raise AssemblyError(
            f"splits: found {len(shared)} group(s) of fold {number} both trained on and held out, e.g. "
            f"{str(shared[0])!r}; expected "
            "whole groups on one side. Mend: group_splits(labels)."
        )


#: Splits as a caller may give them: a text is read by `splits_from_text`, None stands for a default that the function names.
GivenSplits = Splits | str | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None
