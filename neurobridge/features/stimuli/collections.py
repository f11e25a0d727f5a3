"""Stimuli as people have them: a folder, a glob, a zip, a csv, a list of files, a StimulusSet of Brain-Score, or plain pixels."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.ids import alike, join_rows, show_ids
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.frames import is_table, read_frame
from neurobridge.assemblies.readers.names import known_column, with_ids
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.tables import naming
from neurobridge.store.archives import Archive, ArchiveError

Root = str | os.PathLike[str] | np.ndarray | None
Stimuli = xr.DataArray | pd.DataFrame | np.ndarray | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
FILE_COLUMNS = ("file", "filename")
#: Ends of the names of image files.
IMAGE_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif",
)  # fmt: skip


def collect(stimuli: Stimuli, root: Root = None) -> tuple[Any, Root]:
    """Return labelled pixels, or a table of stimuli and where its files are.

    Parameters
    ----------
    stimuli : DataArray, DataFrame, array, path, or sequence of paths
        Labelled pixels and complete tables come back as they are. A folder, a glob and a zip give a table in the order of the
        names, with the name of each file, its extension included, as ``stimulus_id``. A csv or parquet table, and a table in
        memory, may lack ``file``: files are then found in ``root`` by the ids, with or without extension; a table of trials may
        list a stimulus many times. A StimulusSet of Brain-Score knows where its files are. An array of pixels has the numbers
        of its rows as ids.
    root : path or array, optional
        Folder or zip of the files of a table; that of a csv by default.

    Returns
    -------
    stimuli : xarray.DataArray or pandas.DataFrame
        What is none of the above comes back as it is.
    root : path, array or None

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    AssemblyError
        No images are there, two have one name, or a table names files that are not there.

    Examples
    --------
    >>> from PIL import Image
    >>> Path("shown").mkdir()
    >>> for name in ("b.png", "a.png"):
    ...     Image.new("L", (4, 4)).save(Path("shown") / name)
    >>> table, root = collect("shown")
    >>> table["stimulus_id"].tolist(), root
    (['a.png', 'b.png'], PosixPath('shown'))
    """
    if isinstance(stimuli, pd.DataFrame):
        paths = getattr(stimuli, "stimulus_paths", None)
        if isinstance(paths, Mapping) and root is None:
            return _stimulus_set(stimuli, paths)
        return (stimuli, root) if isinstance(root, np.ndarray) else _completed(stimuli, root)
    if isinstance(stimuli, np.ndarray):
        return _numbered(stimuli), root
    if isinstance(stimuli, (str, os.PathLike)):
        return _at(stimuli, root)
    if isinstance(stimuli, (list, tuple)) and stimuli and all(isinstance(p, (str, os.PathLike)) for p in stimuli):
        return _listed([Path(path) for path in stimuli], f"{len(stimuli)} paths")
    return stimuli, root


def _at(given: str | os.PathLike[str], root: Root) -> tuple[pd.DataFrame, Root]:
    path, text = Path(given), os.fspath(given)
    if os.path.isdir(path):
        files = [file for file in sorted(path.iterdir()) if file.suffix.casefold() in IMAGE_ENDINGS and file.is_file()]
        if not files:
            raise AssemblyError(
                f"stimuli: found no images in the folder {path}; expected files that end in {', '.join(IMAGE_ENDINGS)}. Mend: "
                "name the "
                f"folder that holds them, or {str(path / '**' / '*.png')!r} for folders inside it."
            )
        return pd.DataFrame({"stimulus_id": [file.name for file in files], "file": [file.name for file in files]}), path
    if not os.path.exists(path):
        if not glob.has_magic(text):
            raise FileNotFoundError(
                f"found no file or folder at {path}; expected images, a zip or a table of them. Mend: check the path."
            )
        named = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        return _listed(
            [file for file in named if file.is_file() and file.suffix.casefold() in IMAGE_ENDINGS], repr(text)
        )
    if is_table(path):
        table = read_frame(path, what="stimuli")
        with naming(path):
            if not len(table):
                raise AssemblyError("stimuli: found a table without rows; expected one at least. Mend: check the file.")
            return _completed(table, path.parent if root is None else root)
    if path.suffix.casefold() in IMAGE_ENDINGS:
        return _listed([path], str(path))
    return _members(path)


def _listed(files: Sequence[Path], what: str) -> tuple[pd.DataFrame, Path]:
    if not files:
        raise AssemblyError(
            f"stimuli: found no images at {what}; expected files that end in {', '.join(IMAGE_ENDINGS)}. Mend: check the pattern; "
            "'**' stands for folders at any depth."
        )
    _refuse_repeated([file.name for file in files], list(map(str, files)))
    parent = Path(os.path.commonpath([file.parent.absolute() for file in files]))
    inside = [file.absolute().relative_to(parent).as_posix() for file in files]
    return pd.DataFrame({"stimulus_id": [file.name for file in files], "file": inside}), parent


def _members(path: Path) -> tuple[pd.DataFrame, Path]:
    try:
        with Archive(path) as archive:
            names = [name for name in archive.names if PurePosixPath(name).suffix.casefold() in IMAGE_ENDINGS]
    except ArchiveError as error:
        raise AssemblyError(f"stimuli: {error}") from error
    if not names:
        raise AssemblyError(f"stimuli: found no images in {path}; expected some. Mend: check the file.")
    ids = [PurePosixPath(name).name for name in names]
    _refuse_repeated(ids, names)
    return pd.DataFrame({"stimulus_id": ids, "file": names}), path


def _refuse_repeated(names: Sequence[str], places: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name, place in zip(names, places, strict=True):
        other = first.setdefault(name, place)
        if other != place:
            raise AssemblyError(
                f"stimuli: found two files {name!r}, {other} and {place}; expected each name once, as it is the stimulus_id. "
                "Mend: a csv "
                "with the columns stimulus_id and file, e.g. the paths of the files as both."
            )


def _stimulus_set(stimuli: pd.DataFrame, paths: Mapping[Any, Any]) -> tuple[pd.DataFrame, Path]:
    """Return the columns of a StimulusSet of Brain-Score, with the files that it knows."""
    name = "stimulus_id" if "stimulus_id" in stimuli else "image_id"
    table = pd.DataFrame(
        {str(column): stimuli[column].to_numpy() for column in stimuli.columns if column not in FILE_COLUMNS}
    )
    known = {str(key): Path(str(value)) for key, value in paths.items()}
    missing = [str(key) for key in stimuli[name].tolist() if str(key) not in known]
    if missing:
        raise AssemblyError(
            f"stimuli: found no path for {len(missing)} of {len(stimuli)} stimuli of the set, e.g. {missing[0]!r}; expected "
            "one for each. "
            "Mend: load the set again, or pass a table with stimulus_id and file."
        )
    files = [known[str(key)].absolute() for key in stimuli[name].tolist()]
    parent = Path(os.path.commonpath([file.parent for file in files]))
    table["stimulus_id"] = id_texts(stimuli[name].to_numpy())
    table["file"] = [file.relative_to(parent).as_posix() for file in files]
    return table, parent


def _numbered(pixels: np.ndarray) -> xr.DataArray:
    dims = ("presentation", "row", "column", "channel")
    if pixels.ndim not in (3, 4):
        raise AssemblyError(
            f"stimuli: found an array of shape {pixels.shape}; expected (n, row, column) or (n, row, column, channel). Mend: "
            "numpy.stack(images)."
        )
    ids = np.arange(len(pixels)).astype(str)
    return xr.DataArray(pixels, dims=dims[: pixels.ndim], coords={"stimulus_id": ("presentation", ids)})


def _completed(table: pd.DataFrame, root: Root) -> tuple[pd.DataFrame, Root]:
    """Give a table the column that it lacks: the ids by the names of the files, or the files by the ids."""
    has_file = next((name for name in FILE_COLUMNS if name in table.columns), None)
    if ("stimulus_id" in table.columns and has_file) or not len(table):
        return table, root
    notes = Notes()
    attrs = table.attrs
    if has_file is not None and "stimulus_id" not in table.columns:
        names = [PurePosixPath(str(file).replace("\\", "/")).name for file in table[has_file]]
        _refuse_repeated(names, list(map(str, table[has_file])))
        table = table.assign(stimulus_id=names)
    else:
        if "stimulus_id" not in table.columns and known_column(list(table.columns), "stimulus_id") is None:
            raise AssemblyError(
                f"stimuli: found a table with columns {some(table.columns, 20)}; expected 'stimulus_id' or 'file', or a usual "
                "name of ids, "
                "such as 'image_name'. Mend: call the column of ids stimulus_id, in the first line of the csv or by "
                "table.rename(columns={...: 'stimulus_id'})."
            )
        table = _once(with_ids(table.reset_index(drop=True), "stimulus_id", notes, what="stimuli"))
        table = table.assign(file=_files_of(table["stimulus_id"].to_numpy(), Path(os.fspath(root or "."))))  # type: ignore[arg-type]
    table.attrs = dict(attrs)
    return table, root


def _once(table: pd.DataFrame) -> pd.DataFrame:
    """Return each stimulus of a table of trials once, with the columns that are the same in all of its trials."""
    codes, _ = pd.factorize(table["stimulus_id"])
    _, first = np.unique(codes, return_index=True)
    if len(first) == len(table):
        return table
    kept = []
    for name in table.columns:
        values = pd.factorize(pd.Series(plain(table[name].to_numpy(), name=str(name))), use_na_sentinel=False)[0]
        if (values == values[first][codes]).all():
            kept.append(name)
    return table.iloc[first][kept].reset_index(drop=True)


def _files_of(ids: np.ndarray, root: Path) -> list[str]:
    """Find the file of each id in a folder or zip, with or without its extension."""
    if root.is_file():
        table, _ = _members(root)
    elif root.is_dir():
        files = [file for file in sorted(root.rglob("*")) if file.suffix.casefold() in IMAGE_ENDINGS and file.is_file()]
        table = pd.DataFrame(
            {"stimulus_id": [f.name for f in files], "file": [f.relative_to(root).as_posix() for f in files]}
        )
    else:
        raise FileNotFoundError(
            f"found no folder or zip at {root}; expected the files of the stimuli. Mend: root=FOLDER (--root)."
        )
    table = table.drop_duplicates("stimulus_id", keep=False)
    joined = join_rows(ids, table["stimulus_id"].to_numpy().astype(str))
    missing = ids[joined.rows < 0]
    if len(missing):
        near = alike(missing, table["stimulus_id"].to_numpy().astype(str)) if len(table) else None
        raise AssemblyError(
            f"stimuli: found no image for {len(missing)} of {len(ids)} ids, e.g. {show_ids(missing)}, among {len(table)} "
            "files of other "
            f"names in {root} ({some(table['stimulus_id'], 3) or 'none'}){f', which differ in {near.what}' if near else ''}; "
            "expected "
            "one for each. Mend: root=FOLDER (--root) with the images, or a column file in the table."
        )
    if joined.by_extension.any():
        row = int(np.flatnonzero(joined.by_extension)[0])
        warnings.warn(
            f"stimuli: joined {int(joined.by_extension.sum())} ids with files that have an extension more or less, e.g. "
            f"{ids[row]!r} with "
            f"{table['file'].iloc[joined.rows[row]]!r}. Mend: nothing where they are the same; a column file says so itself.",
            UserWarning,
            stacklevel=5,
        )
    return table["file"].iloc[joined.rows].tolist()
