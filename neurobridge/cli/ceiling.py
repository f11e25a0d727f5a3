"""`neurobridge ceiling`: the reliability of every site over its repetitions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.common import Json, Seed, print_json, tell
from neurobridge.cli.reading import TimeBin, next_step, notes, read, varying


def ceiling_command(
    recordings: Annotated[Path, typer.Argument(help="Assembly with a presentation a trial, netCDF or zarr.")],
    out: Annotated[Path, typer.Option(help="File to write, .nc: the Score of `internal_consistency`.")],
    n_splits: Annotated[int, typer.Option(min=1, help="Random halvings that are averaged.")] = 10,
    halves: Annotated[
        str,
        typer.Option(help="stimulus (trials of every stimulus are dealt afresh) or repetition (Brain-Score's halves)."),
    ] = "stimulus",
    n_bootstrap: Annotated[
        int, typer.Option(min=0, help="Draws of the stimuli for the intervals; 0 leaves them out.")
    ] = 200,
    confidence: Annotated[float, typer.Option(help="Of the intervals, above 0 and below 1.")] = 0.95,
    time_bin: TimeBin = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Estimate the reliability of every site by split halves of its trials, Spearman-Brown corrected."""
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.evaluate import internal_consistency

    if not 0 < confidence < 1:
        raise ValueError(f"--confidence: found {confidence}; expected above 0 and below 1. Mend: --confidence 0.95.")
    trials = varying(read(recordings, time_bin=time_bin), recordings)
    with notes():
        score = internal_consistency(
            trials,
            n_splits=n_splits,
            halves=halves,
            n_bootstrap=n_bootstrap,
            confidence=confidence,
            seed=seed,
            progress=True,
        )
    save_variables(score, out)
    median = float(score["median"])
    low, high = (float(score[name]) if name in score else math.nan for name in ("median_low", "median_high"))
    if as_json:
        print_json(
            {
                "out": str(out),
                "median": median,
                "median_low": low,
                "median_high": high,
                "n_stimuli": int(score.attrs["n_stimuli"]),
                "n_neuroids": int(score.sizes["neuroid"]),
                "n_missing_values": int(score.attrs.get("n_missing_values", 0)),
                "seed": seed,
            }
        )
        return
    interval = f" ({confidence:.0%} interval {low:.3f} to {high:.3f})" if n_bootstrap else ""
    tell(
        f"median ceiling {median:.3f}{interval} over {score.sizes['neuroid']} sites and "
        f"{score.attrs['n_stimuli']} stimuli, seed {seed}."
    )
    if median > 0:
        tell(f"A perfect model correlates with the averages at most by its square root, {math.sqrt(median):.3f}.")
    tell(f"wrote {out}.")
    next_step("average", recordings, "--out", "avg.nc")
