"""Tables of stimuli, pairs and captions on disk: one reader for Python and the command line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurobridge.assemblies.errors import AssemblyError

#: Columns that are text whatever they look like: "007" and "NA" are names.
TEXT_COLUMNS = (
    "stimulus_id",
    "image_id",
    "source_id",
    "target_id",
    "file",
    "filename",
    "image_file_name",
    "caption",
    "wnid",
)
#: Texts that programs write for a number that is missing; in a column of text these are words.
NO_NUMBER = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf")
_BOOLEANS = {"true": True, "false": False}


@contextlib.contextmanager
def naming(source: Any) -> Iterator[None]:
    """Name the file that a table came from in an error about what the table holds; tables that are no file have no name.

    Raises
    ------
    AssemblyError
        That of the block, with the path in front.
    """
    try:
        yield
    except AssemblyError as error:
        if not isinstance(source, (str, os.PathLike)) or os.fspath(source) in str(error):
            raise
        raise AssemblyError(f"{os.fspath(source)}: {error}") from error


def read_table(
    path: str | os.PathLike[str],
    *,
    what: str = "table",
    required: Sequence[str] = (),
    numbers: bool = True,
    text: Sequence[str] = (),
) -> pd.DataFrame:
    r"""Read a csv table, separated by commas and encoded as UTF-8.

    Ids, file names and captions (`TEXT_COLUMNS`) stay the text that they are: "NA", "null" and "007" are names. Another
    column becomes numbers or booleans where each of its cells is one; blank cells and "NA", "NaN", "null", "None" among
    numbers are NaN. A blank cell among text is the empty text. The column in which pandas writes its index is left out.

    Parameters
    ----------
    path : path
    what : str
        Name of the table in messages.
    required : sequence of str
        Columns that have to be there, without a blank cell.
    numbers : bool
        False: every column is text.
    text : sequence of str
        Further columns that stay text.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        The file is no such table, a name stands over two columns, a required column is missing or has a blank cell.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.assemblies import read_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "stimuli.csv"
    ...     _ = path.write_text("stimulus_id,size\nNA,1.5\n007,NA\n")
    ...     table = read_table(path)
    >>> table["stimulus_id"].tolist(), table["size"].tolist()
    (['NA', '007'], [1.5, nan])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"found no file at {path}; expected a csv table ({what}). Mend: check the path.")
    table = _cells(path, what)
    missing = [name for name in required if name not in table]
    if missing:
        raise AssemblyError(
            f"{path} ({what}): found columns {table.columns.tolist()}; expected {' and '.join(required)}, separated by commas. "
            "Mend: rename the columns in the first line."
        )
    for name in required:
        blank = np.flatnonzero(table[name].str.strip() == "")
        if len(blank):
            raise AssemblyError(
                f"{path} ({what}): found {len(blank)} empty {name}, the first in row {blank[0] + 1}; expected one in every row. "
                "Mend: fill it or drop the row."
            )
    if numbers:
        typed = {name: table[name] if name in (*TEXT_COLUMNS, *text) else _typed(table[name]) for name in table.columns}
        table = pd.DataFrame(typed, columns=table.columns)
    return table


def _cells(path: Path, what: str) -> pd.DataFrame:
    try:
        # The first line is read as a row: pandas would rename columns that are there twice, and take the first for an index
        # where rows are longer than it.
        rows = pd.read_csv(
            path,
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            compression=None,
            low_memory=False,
        )
    except UnicodeDecodeError as error:
        raise AssemblyError(
            f"{path} ({what}): found a file that is not text in UTF-8 ({error}); expected a csv table. "
            "Mend: save it as csv in UTF-8, e.g. pandas.read_csv(path, encoding='latin-1').to_csv(path, index=False)."
        ) from error
    except (ValueError, pd.errors.ParserError) as error:
        raise AssemblyError(
            f"{path} ({what}): found a file that cannot be read as a table ({str(error).strip()}); expected one line of column "
            "names and lines of as many cells, separated by commas. Mend: put cells with commas in double quotes."
        ) from error
    rows = rows.fillna("")
    names = [str(name).strip() for name in rows.iloc[0]]
    table = rows.iloc[1:].reset_index(drop=True)
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise AssemblyError(
            f"{path} ({what}): found the column {repeated[0]!r} {names.count(repeated[0])} times; expected each name once. "
            "Mend: rename or delete one."
        )
    table.columns = pd.RangeIndex(len(names))
    kept = [k for k, name in enumerate(names) if not _says_nothing(name, table[k])]
    nameless = [k for k in kept if not names[k]]
    if nameless:
        raise AssemblyError(
            f"{path} ({what}): found no name over column {nameless[0] + 1}; expected one. Mend: name it, or delete the column."
        )
    table = table[kept]
    table.columns = pd.Index([names[k] for k in kept])
    return table


def _says_nothing(name: str, column: pd.Series) -> bool:
    """Tell the index that pandas writes, with or without its name, and the empty column that a spreadsheet leaves."""
    return (name == "" or name.startswith("Unnamed: ")) and (_is_index(column) or bool((column == "").all()))


def _is_index(column: pd.Series) -> bool:
    """Tell numbers of rows: whole and rising, with gaps where rows were left out before the frame was written."""
    cells = column.tolist()
    return all(_INTEGER.fullmatch(cell) for cell in cells) and all(int(a) < int(b) for a, b in pairwise(cells))


def _typed(column: pd.Series) -> pd.Series:
    cells = [cell.strip() for cell in column.tolist()]
    present = [cell for cell in cells if cell not in NO_NUMBER]
    if not present:
        return column
    if len(present) == len(cells) and all(cell.lower() in _BOOLEANS for cell in cells):
        return pd.Series([_BOOLEANS[cell.lower()] for cell in cells], index=column.index)
    if len(present) == len(cells) and all(_INTEGER.fullmatch(cell) for cell in cells):
        whole = np.array([int(cell) for cell in cells])
        return pd.Series(whole, index=column.index) if whole.dtype.kind in "iu" else column
    if all(_DECIMAL.fullmatch(cell) for cell in present) and not any(_padded(cell) for cell in present):
        numbers = [float(cell) if cell not in NO_NUMBER else np.nan for cell in cells]
        return pd.Series(numbers, index=column.index, dtype=np.float64)
    return column


def _padded(cell: str) -> bool:
    """Tell a number with leading zeros, which is a name: it is not what the number reads as."""
    digits = cell.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
