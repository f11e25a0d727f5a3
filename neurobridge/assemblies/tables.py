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
from neurobridge.points.options import require_options

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
#: Ends of the names of text tables, with what stands between their cells.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
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
    r"""Read a csv table, separated by commas and encoded as UTF-8; by tabs where the name ends in .tsv or .tab.

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
        The file is no such table (a spreadsheet, or separated otherwise), a name stands over two columns, a required column is
        missing or has a blank cell.

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
    require_options(numbers=numbers, error=AssemblyError)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"found no file at {path}; expected a csv table ({what}). Mend: check the path.")
    refuse_spreadsheet(path, what)
    _refuse_other_separators(path, what)
    table = _cells(path, what)
    missing = [name for name in required if name not in table]
    if missing:
        raise AssemblyError(
            f"{path} ({what}): found columns {table.columns.tolist()}; expected {' and '.join(required)}, separated by "
            f"{_words(path)}. Mend: rename the columns in the first line."
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


def separator_of(path: Path) -> str:
    """Return what stands between the cells of a text table, by the end of its name: a tab in .tsv and .tab, else a comma."""
    return SEPARATORS.get(path.suffix.casefold(), ",")


def _words(path: Path) -> str:
    return "tabs" if separator_of(path) == "\t" else "commas"


def refuse_spreadsheet(path: Path, what: str) -> None:
    """Refuse a spreadsheet, whose cells are typed by a program: ids such as 007 and 3-1 come out as numbers and dates.

    Raises
    ------
    AssemblyError
        The name ends as that of a spreadsheet.
    """
    if path.suffix.casefold() in SPREADSHEETS:
        raise AssemblyError(
            f"{path} ({what}): found a spreadsheet; expected a text table, .csv or .tsv, whose ids stay as they are. Mend: save it "
            f"as csv in UTF-8, or pandas.read_excel({path.name!r}, dtype=str).to_csv({path.stem + '.csv'!r}, index=False)."
        )


def _refuse_other_separators(path: Path, what: str) -> None:
    """Refuse a table whose first line has other marks between its names, as spreadsheets write them in some countries."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            names = stream.readline(10_000).strip()
    except UnicodeDecodeError:
        # Told where the cells are read.
        return
    own = separator_of(path)
    other = next((mark for mark in (";", "\t", ",") if mark in names and own not in names), None)
    if other is not None:
        raise AssemblyError(
            f"{path} ({what}): found the first line {names!r:.80}; expected names separated by {_words(path)}. Mend: "
            f"pandas.read_csv({path.name!r}, sep={other!r}, dtype=str).to_csv({path.stem + '-commas.csv'!r}, index=False); with "
            "decimal commas, decimal=',' in place of dtype=str."
        )


def _cells(path: Path, what: str) -> pd.DataFrame:
    try:
        # The first line is read as a row: pandas would rename columns that are there twice, and take the first for an index
        # where rows are longer than it.
        rows = pd.read_csv(
            path,
            sep=separator_of(path),
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
            f"names and lines of as many cells, separated by {_words(path)}. Mend: put cells with commas in double quotes."
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
