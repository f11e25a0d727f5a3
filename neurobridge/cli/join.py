"""`neurobridge join`: recordings of several sessions, animals or days become one population."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurobridge.cli.common import Json, print_json, tell
from neurobridge.cli.reading import TimeBin, describe, next_step, notes, read

if TYPE_CHECKING:
    import xarray as xr


def join_command(
    recordings: Annotated[
        list[Path], typer.Argument(help="Two or more assemblies, all of averages or all of trials, netCDF or zarr.")
    ],
    out: Annotated[Path, typer.Option(help="File to write, .nc or .zarr.")],
    by: Annotated[
        str, typer.Option(help="Coordinate of the sites that tells the files apart: session, animal or another name.")
    ] = "session",
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="Value of --by, once for each file; else what the file has, or the file's name without ending.",
        ),
    ] = None,
    all_stimuli: Annotated[
        bool,
        typer.Option(
            "--all-stimuli/--common-stimuli", help="Keep the stimuli of any file, with missing values, or those of all."
        ),
    ] = False,
    time_bin: TimeBin = None,
    as_json: Json = False,
) -> None:
    """Join recordings of several sessions, animals or days of the same stimuli into one population of sites."""
    from neurobridge.assemblies import join_sites, open_assembly, save_assembly

    _require_files(recordings, names)
    parts = {}
    for number, path in enumerate(recordings):
        part = open_assembly(path)
        if time_bin is not None or (part.ndim == 3 and part.sizes["time_bin"] == 1):
            part = read(path, time_bin=time_bin, words=False)
        tell(f"read {path}: {describe(part)}.")
        parts[str(path)] = _named(part, by, path, None if names is None else names[number])
    with notes():
        joined = join_sites(parts, by=by, all_stimuli=all_stimuli)
    save_assembly(joined, out)
    n_missing = int(joined.attrs.get("n_missing_values", 0))
    left_out = dict(zip(parts, joined.attrs["n_left_out_stimuli"], strict=True))
    repeated = "repetition" in joined.coords
    if as_json:
        facts = {name: joined.attrs[name] for name in ("joined", "left_out_columns", "qualified_ids")}
        print_json(
            {"out": str(out), "shape": list(joined.shape), "by": by, **facts}
            | {"n_left_out_stimuli": left_out, "n_missing_values": n_missing}
        )
        return
    for sentence in _sentences(joined, left_out, by, all_stimuli):
        tell(sentence)
    tell(f"wrote {out}: {describe(joined)}.")
    if repeated:
        next_step("ceiling", out, "--out", "ceiling.nc")
    else:
        next_step("score", "MODEL.nc", out)


def _require_files(recordings: list[Path], names: list[str] | None) -> None:
    if len(recordings) < 2:
        raise ValueError(
            f"found {recordings[0]} alone; expected two or more files. Mend: neurobridge join {recordings[0]} SECOND --out OUT."
        )
    repeated = next((path for path in recordings if recordings.count(path) > 1), None)
    if repeated is not None:
        raise ValueError(f"found {repeated} more than once; expected each file once. Mend: leave one of them out.")
    if names is not None and len(names) != len(recordings):
        raise ValueError(
            f"--name: found {len(names)} names, {names}, for {len(recordings)} files; expected one for each, in their order. "
            "Mend: --name FIRST --name SECOND."
        )


def _named(part: xr.DataArray, by: str, path: Path, name: str | None) -> xr.DataArray:
    """Set the coordinate that was named, or the name of the file where it has none of its own."""
    import numpy as np

    if name is None and by in part.coords and (part[by].dims == ("neuroid",) or len(np.unique(part[by].values)) == 1):
        return part
    stem = path.name.removesuffix(path.suffix)
    if name is None:
        tell(f"{path} has no {by} of its sites: it is named {stem} (--name).")
    return part.drop_vars(by, errors="ignore").assign_coords({by: ("neuroid", [name or stem] * part.sizes["neuroid"])})


def _sentences(joined: xr.DataArray, left_out: dict[str, int], by: str, all_stimuli: bool) -> list[str]:
    """Say what was left out, what is missing and what the ids are."""
    sentences = []
    n_left_out = [f"{count:,} stimuli of {path}" for path, count in left_out.items() if count]
    if n_left_out:
        sentences.append(
            f"left out {' and '.join(n_left_out)}, which not all files have (--all-stimuli keeps them, with missing values)."
        )
    if "repetition" in joined.coords:
        sentences.append(
            "Trials are matched by their number within each stimulus: sites of different files were not recorded together, so that "
            "their noise is independent."
        )
    n_missing = int(joined.attrs.get("n_missing_values", 0))
    if n_missing:
        share = f"{n_missing:,} of {joined.size:,} values are missing ({100 * n_missing / joined.size:.2g} %)"
        why = (
            "where a file lacks a stimulus or has fewer trials of it"
            if all_stimuli
            else "where a file has fewer trials"
        )
        sentences.append(f"{share}: in the files, or {why}.")
    if joined.attrs["qualified_ids"]:
        example = str(joined["neuroid_id"].values[0])
        sentences.append(f"ids of sites occur in several files: each now begins with its {by}, e.g. {example}.")
    if joined.attrs["left_out_columns"]:
        names = ", ".join(joined.attrs["left_out_columns"])
        sentences.append(f"left out columns that a file lacks, or in which files differ for a stimulus: {names}.")
    return sentences
