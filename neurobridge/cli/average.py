"""`neurobridge average`: one response a stimulus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.common import Json, print_json, tell
from neurobridge.cli.reading import TimeBin, describe, next_step, read, unit_of


def average_command(
    recordings: Annotated[Path, typer.Argument(help="Assembly with a presentation a trial, netCDF or zarr.")],
    out: Annotated[Path, typer.Option(help="File to write, .nc or .zarr.")],
    min_repetitions: Annotated[
        int,
        typer.Option(min=1, help="Fewest trials of an average; with fewer it is missing, site by site."),
    ] = 1,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing/--keep-missing",
            help="Average the values that are there, or make an average missing with any of them.",
        ),
    ] = True,
    time_bin: TimeBin = None,
    as_json: Json = False,
) -> None:
    """Average the trials of every stimulus, site by site over the values that are there."""
    from neurobridge.assemblies import average_repetitions, open_assembly, save_assembly

    trials = open_assembly(recordings)
    if time_bin is not None or (trials.ndim == 3 and trials.sizes["time_bin"] == 1):
        trials = read(recordings, time_bin=time_bin, words=False)
    tell(f"read {recordings}: {describe(trials)}.")
    averaged = average_repetitions(trials, skipna=skip_missing, min_repetitions=min_repetitions)
    n_missing, n_holes = (int(averaged.attrs.get(f"n_missing_{name}", 0)) for name in ("values", "averages"))
    n_dropped = int(averaged.attrs.get("n_dropped_stimuli", 0))
    if n_missing:
        tell(
            f"{n_missing:,} of {trials.size:,} values are missing; every average is over the values that are there, and "
            f"{n_holes:,} of {averaged.size:,} averages have none."
            if skip_missing and min_repetitions == 1
            else f"{n_missing:,} of {trials.size:,} values are missing, and with them {n_holes:,} of {averaged.size:,} averages."
        )
    if n_dropped:
        tell(f"left out {n_dropped} stimuli with fewer than {min_repetitions} trials (--min-repetitions).")
    save_assembly(averaged, out)
    if as_json:
        summary = {"out": str(out), "shape": list(averaged.shape), "min_repetitions": min_repetitions}
        print_json(
            summary | {"n_missing_values": n_missing, "n_missing_averages": n_holes, "n_dropped_stimuli": n_dropped}
        )
        return
    tell(f"wrote {out}: {averaged.sizes['presentation']:,} stimuli, {averaged.sizes['neuroid']:,} {unit_of(averaged)}.")
    next_step(
        "features", "extract", "--model", "gabor_energy", "--stimuli", "FOLDER", "--layer", "v1", "--out", "model.nc"
    )
