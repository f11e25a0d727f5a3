"""A file that keeps the records of a learning curve as they come, so that a run that was interrupted goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies.schema import coords_of
from neurobridge.evaluate.curves.folds import CurveSettings
from neurobridge.store.atomic import write_text

Record = dict[str, Any]


def curve_header(
    source: xr.DataArray,
    target: xr.DataArray,
    aligners: Mapping[str, Any],
    settings: CurveSettings,
    ceiling: xr.DataArray | None,
) -> dict[str, Any]:
    """Describe what a record depends on beside its own cell: data, settings, version, and the parameters of every method."""
    return {
        "version": __version__,
        "held_out": settings.held_out,
        "unpaired": settings.unpaired,
        "stratify": settings.stratify,
        "n_permutations": settings.n_permutations,
        "source": _digest(source),
        "target": _digest(target),
        "ceiling": None if ceiling is None else _digest(ceiling),
        "methods": {name: repr(sorted(aligner.get_params().items())) for name, aligner in aligners.items()},
    }


def _digest(array: xr.DataArray) -> str:
    """Digest the values and the labels of an array."""
    digest = hashlib.sha256(np.ascontiguousarray(array.values).tobytes())
    for dim in map(str, array.dims):
        for name, (_, labels) in sorted(coords_of(array, dim).items()):
            digest.update(f"{name}: {labels.tolist()}".encode())
    return digest.hexdigest()


class Journal:
    """The records of a learning curve on disk: a line of JSON each, after a line that says what they depend on.

    A line that a kill cut off is left out; its cell is computed again. Every line is on disk before the next cell begins.

    Parameters
    ----------
    path : path
    header : dict
        Of `curve_header`.

    Raises
    ------
    ValueError
        The file holds records of other data or settings, or is none of these.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.records: list[Record] = []
        known = dict(header)
        if self.path.exists():
            lines = self._read()
            self._check(lines[0], header)
            known["methods"] = {**lines[0]["methods"], **header["methods"]}
            self.records = lines[1:]
        # Written anew: without what a kill cut off, and with the methods that are new.
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in [known, *self.records])
        write_text(self.path, text)

    def _read(self) -> list[Record]:
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        try:
            lines = [json.loads(line) for line in whole.decode().splitlines()]
        except ValueError as error:
            raise self._stranger(f"a line that is not JSON ({error})") from error
        if (
            not lines
            or not all(isinstance(line, dict) for line in lines)
            or not isinstance(lines[0].get("methods"), dict)
        ):
            raise self._stranger("no line that says what the records depend on")
        return lines

    def _stranger(self, what: str) -> ValueError:
        return ValueError(
            f"{self.path}: found {what}; expected the records of a learning curve. Mend: write into another folder, or delete "
            "the file."
        )

    def _check(self, known: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        differing = [name for name, value in header.items() if name != "methods" and known.get(name) != value]
        differing += [
            name for name, params in header["methods"].items() if known["methods"].get(name, params) != params
        ]
        if differing:
            raise ValueError(
                f"{self.path}: found records with other values of {', '.join(differing)}; expected those of this run, as records "
                "of both cannot be told apart. Mend: write into another folder, or delete the file to begin anew."
            )

    def keep(self, record: Record) -> None:
        """Append a record and wait until it is on disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)

    def keep_all(self, new: Iterable[Record]) -> Iterator[Record]:
        """Keep new records as they come, and pass them on."""
        for record in new:
            self.keep(record)
            yield record
