"""`neurobridge import`: a laboratory's own files become an assembly."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurobridge.cli.common import Json, print_json, print_tables, tell
from neurobridge.cli.reading import command, next_step

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def import_command(
    path: Annotated[
        Path,
        typer.Argument(
            help="Responses: .npy, .npz, .csv, .tsv, .parquet, .mat, .h5, .nwb, .zarr, .nc, or a folder with spike_times.npy."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write, .nc or .zarr.")] = None,
    trials: Annotated[
        str | None,
        typer.Option(
            help="Table with a row a trial and stimulus_id: .csv, .tsv, .parquet, .npy of ids; NWB: intervals/NAME."
        ),
    ] = None,
    sites: Annotated[
        str | None, typer.Option(help="Table with a row a site and neuroid_id: .csv, .tsv, .parquet, .npy of ids.")
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="Our name of a column, and theirs: stimulus_id=image_name. May be given several times."
        ),
    ] = None,
    inspect: Annotated[bool, typer.Option("--inspect", help="Show what is in the file, and stop.")] = False,
    variable: Annotated[
        str | None,
        typer.Option(
            "--var",
            "--dataset",
            help="The responses among several arrays: a name or path (/day1/rates); columns of a wide table: 'site_*'.",
        ),
    ] = None,
    dims: Annotated[
        str | None,
        typer.Option(
            help="Axes of the array in its order, e.g. neuroid,presentation,repetition or presentation,neuroid,time_bin."
        ),
    ] = None,
    windows: Annotated[
        list[str] | None,
        typer.Option("--window", help="Count spikes in NAME=START:STOP, ms after onset. May be given several times."),
    ] = None,
    bins: Annotated[
        str | None,
        typer.Option(
            "--bin", help="Count spikes in bins, START:STOP:WIDTH, ms after onset; or the times of a time axis."
        ),
    ] = None,
    sampling_rate: Annotated[
        float, typer.Option(help="Units of spike times in a second: 1 seconds, 1000 milliseconds, 30000 samples.")
    ] = 1.0,
    session: Annotated[
        str | None, typer.Option(help="Name of the session, or its column; ids of sites begin with it.")
    ] = None,
    animal: Annotated[
        str | None, typer.Option(help="Name of the animal, or its column; ids of sites begin with it.")
    ] = None,
    qualify: Annotated[
        list[str] | None,
        typer.Option(help="Ids that session and animal stand before: neuroid_id (default), stimulus_id, none."),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            help="Bring stimulus ids to a form: stem (no extension), name (no folder), casefold, nfc, strip; with commas."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read recordings from a laboratory's own files and write them as an assembly, or show what is in a file."""
    from neurobridge.assemblies import inspect_recordings, read_recordings, save_assembly

    if inspect:
        _show(inspect_recordings(path), path, as_json)
        return
    if out is None:
        raise ValueError(
            "found no --out; expected a file to write, .nc or .zarr. Mend: --out recordings.nc, or --inspect."
        )
    if out.suffix not in (".nc", ".zarr"):
        raise ValueError(
            f"--out: found {str(out)!r}; expected a name that ends in .nc or .zarr. Mend: --out {out.with_suffix('.nc')}."
        )
    recordings = read_recordings(
        path,
        trials=trials,
        sites=sites,
        variable=variable,
        columns=_columns(maps or []),
        dims=dims,
        windows=_windows(windows or []) or None,
        bins=_bins(bins),
        sampling_rate=sampling_rate,
        session=session,
        animal=animal,
        qualify_ids=_qualified(qualify),
        ids=ids or (),
    )
    save_assembly(recordings, out)
    _tell(recordings, out, as_json)


def _show(contents: pd.DataFrame, path: Path, as_json: bool) -> None:
    columns = list(map(str, contents.columns))
    rows = [[str(value) for value in row] for row in contents.itertuples(index=False)]
    if as_json:
        print_json(
            {
                "path": str(path),
                "format": contents.attrs["format"],
                "contents": [dict(zip(columns, r, strict=True)) for r in rows],
            }
        )
        return
    title = f"{path.name}: {contents.attrs['format']}"
    print_tables([{"title": title, "columns": columns, "rows": rows, "left": columns}])
    responses = [row[0] for row in rows if row[-1] == "responses"]
    choice = f" --var {shlex.quote(responses[0])}" if len(responses) > 1 else ""
    typer.echo(
        f"next: neurobridge import {shlex.quote(str(path))}{choice} --out recordings.nc, with --trials TABLE where the file "
        "has no ids of stimuli, "
        "and --map stimulus_id=NAME or --map neuroid_id=NAME where the ids of stimuli or sites have another name."
    )


def _tell(recordings: xr.DataArray, out: Path, as_json: bool) -> None:
    """Say what was read, guessed and left out, and what to run next."""
    facts = _facts(recordings)
    if as_json:
        print_json({"out": str(out), **facts})
        return
    repeats = f", {facts['n_repetitions']} times each" if facts["n_repetitions"] != "1" else ""
    bins = f", {facts['n_time_bins']} time bins" if facts["n_time_bins"] > 1 else ""
    tell(
        f"read {facts['n_presentations']} presentations of {facts['n_stimuli']} stimuli{repeats}, {facts['n_neuroids']} "
        f"sites{bins} "
        f"from {facts['read_from']} ({facts['format']})."
    )
    if facts["n_missing_values"]:
        share = facts["n_missing_values"] / recordings.size
        tell(f"missing: {facts['n_missing_values']} of {recordings.size} values ({share:.1%}), kept as missing.")
    for sentence in facts["guessed"]:
        tell(f"guessed: {sentence}.")
    for sentence in facts["left_out"]:
        tell(f"left out: {sentence}.")
    tell(f"wrote {out}.")
    if facts["n_presentations"] > facts["n_stimuli"]:
        next_step("ceiling", out, "--out", out.with_name("ceiling.nc"))
    else:
        tell(
            f"next: {command('score', 'MODEL.nc', out)}; activations of a model: {command('features', 'extract', '--help')}."
        )


def _facts(recordings: xr.DataArray) -> dict[str, Any]:
    import numpy as np

    _, counts = np.unique(recordings["stimulus_id"].values, return_counts=True)
    low, high = int(counts.min()), int(counts.max())
    return {
        "shape": list(recordings.shape),
        "dims": list(map(str, recordings.dims)),
        "n_presentations": recordings.sizes["presentation"],
        "n_stimuli": len(counts),
        "n_repetitions": str(low) if low == high else f"{low} to {high}",
        "n_neuroids": recordings.sizes["neuroid"],
        "n_time_bins": recordings.sizes.get("time_bin", 1),
        "n_missing_values": int(recordings.attrs.get("n_missing_values", 0)),
        "coordinates": sorted(map(str, recordings.coords)),
        **{name: str(recordings.attrs.get(name, "")) for name in ("read_from", "format", "sha256")},
        **{name: list(recordings.attrs.get(name, [])) for name in ("guessed", "left_out")},
    }


def _columns(maps: list[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for text in maps:
        ours, equals, theirs = text.partition("=")
        if not (equals and ours.strip() and theirs.strip()) or ours.strip() in columns:
            raise ValueError(
                f"--map: found {text!r}; expected OURS=THEIRS, each of ours once. Mend: e.g. --map stimulus_id=image_name."
            )
        columns[ours.strip()] = theirs.strip()
    return columns


def _windows(texts: list[str]) -> dict[str, tuple[float, float]]:
    windows: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, equals, span = text.partition("=")
        edges = _numbers(span)
        if not equals or len(edges) != 2 or name in windows:
            raise ValueError(
                f"--window: found {text!r}; expected NAME=START:STOP in milliseconds, each name once. Mend: e.g. --window "
                "early=70:120."
            )
        windows[name] = (edges[0], edges[1])
    return windows


def _bins(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    edges = _numbers(text)
    if len(edges) != 3:
        raise ValueError(
            f"--bin: found {text!r}; expected START:STOP:WIDTH in milliseconds. Mend: e.g. --bin 0:300:20."
        )
    return edges[0], edges[1], edges[2]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        return []


def _qualified(names: list[str] | None) -> tuple[str, ...]:
    if names is None:
        return ("neuroid_id",)
    wrong = [name for name in names if name not in ("neuroid_id", "stimulus_id", "none")]
    if wrong:
        raise ValueError(
            f"--qualify: found {wrong[0]!r}; expected neuroid_id, stimulus_id or none. Mend: --qualify neuroid_id --qualify "
            "stimulus_id."
        )
    return tuple(name for name in names if name != "none")
