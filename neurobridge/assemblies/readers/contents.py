"""What is in a file of arrays: a name, a shape and a type for each, and a way to read one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.readers.axes import one_row_each
from neurobridge.assemblies.readers.notes import some
from neurobridge.points.memory import check_memory


class Part(NamedTuple):
    """One array in a file.

    Attributes
    ----------
    name : str
        With the names of its groups, as the file writes them.
    shape : tuple of int
    dtype : str
        ``text`` and ``cells`` beside the names of numpy's types.
    dims : tuple of str
        Names of the axes, where the file has them.
    n_bytes : int
        In memory.

    Examples
    --------
    >>> Part("responses", (640, 50), "float64").n_axes
    2
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] = ()
    n_bytes: int = 0

    @property
    def n_axes(self) -> int:
        """Number of axes; a vector that is stored as one row or one column has one."""
        return 1 if len(self.shape) == 2 and 1 in self.shape else len(self.shape)

    @property
    def holds_numbers(self) -> bool:
        """True for numbers and truth values."""
        return self.dtype not in ("text", "cells") and np.dtype(self.dtype).kind in "fiub"


@dataclass
class Contents:
    """The arrays in a file.

    Attributes
    ----------
    path : Path
    format : str
        In words.
    parts : list of Part
    reader : callable
        Gives the array of a part by its name.
    unread : list of str
        Names, with reasons, of what cannot be read.
    """

    path: Path
    format: str
    parts: list[Part]
    reader: Callable[[str], np.ndarray]
    unread: list[str] = field(default_factory=list)

    def part(self, name: str) -> Part:
        """Return a part by its name, or by the end of it if that is unique; a slash at the start is no part of a name.

        Raises
        ------
        AssemblyError
            There is no such part; the message lists those that there are.
        """
        wanted = name.strip("/")
        exact = [part for part in self.parts if part.name.strip("/") == wanted]
        ends = exact or [
            part for part in self.parts if part.name.replace("/", ".").endswith(f".{wanted.replace('/', '.')}")
        ]
        if len(ends) != 1:
            raise AssemblyError(
                f"{self.path}: found {len(ends)} arrays {name!r} among {self.listed()}{self._not_read()}; expected one. Mend: "
                f"variable={self._example()!r}"
                ", or --var on the command line; neurobridge import --inspect shows what is in the file."
            )
        return ends[0]

    def read(self, part: Part) -> np.ndarray:
        """Return the array of a part; refused where it needs more memory than there is."""
        check_memory(
            part.n_bytes,
            np.inf,
            f"{part.name} of {self.path.name}",
            mend="read a part of it with the file's own library",
        )
        return self.reader(part.name)

    def listed(self, parts: Sequence[Part] | None = None) -> str:
        """Return parts with their shapes, for messages."""
        shown = self.parts if parts is None else parts
        return some([f"{part.name} {part.shape} {part.dtype}" for part in shown], 12) or "no arrays"

    def _not_read(self) -> str:
        return f", and not read {some(self.unread)}" if self.unread else ""

    def values(self, variable: str | None) -> Part:
        """Choose the part that holds the responses.

        Parameters
        ----------
        variable : str, optional
            Its name; the only array of numbers with two or more axes by default.

        Raises
        ------
        AssemblyError
            There is no such array, or there are several.
        """
        if variable is not None:
            part = self.part(variable)
            if not part.holds_numbers:
                raise AssemblyError(
                    f"{self.path}: found {part.dtype} in {part.name}; expected numbers. Mend: another variable of {self.listed()}."
                )
            return part
        numbers = [part for part in self.parts if part.holds_numbers and 0 not in part.shape]
        arrays = [part for part in numbers if part.n_axes > 1]
        if len(arrays) == 1:
            return arrays[0]
        if not arrays and len(self.parts) == 1 and len(numbers) == 1 and numbers[0].shape:
            return numbers[0]
        raise AssemblyError(
            f"{self.path}: found {len(arrays)} arrays that may be the responses ({self.listed(arrays or None)}){self._not_read()}; "
            "expected one, or its "
            f"name. Mend: variable={self._example()!r}, or --var {self._example()} on the command line."
        )

    def _example(self) -> str:
        ranked = sorted(self.parts, key=lambda part: (part.holds_numbers, part.n_axes, part.n_bytes))
        return ranked[-1].name if ranked else "NAME"


def column_of(contents: Contents, part: Part) -> np.ndarray | None:
    """Return the vector of a part with a row a thing; None where it is none. Rows of characters are texts."""
    if part.n_axes != 1 or not part.shape:
        return None
    return one_row_each(contents.read(part))


def unreadable(path: Path, error: object, what: str) -> AssemblyError:
    """Make the error of a file that the library for its format cannot read."""
    reason = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
    return AssemblyError(
        f"{path}: found a file that cannot be read as {what} ({reason:.300}); expected a whole one. Mend: check the path, or write "
        "or fetch the file again; it may be cut off or damaged."
    )
