"""`neurobridge decode`: a label read from recordings, on held-out stimuli or conditions, in time, with a ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.choices import READOUTS
from neurobridge.cli.common import Json, Seed, print_json, print_tables, tell
from neurobridge.cli.reading import MaxMissing, TimeBin, complete, next_step, notes, read, unit_of, varying
from neurobridge.store.atomic import write_json

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def decode_command(
    recordings: Annotated[
        Path, typer.Argument(help="Assembly of recordings or activations, single trials or averages.")
    ],
    label: Annotated[str, typer.Argument(help="Coordinate of the presentations that is read, e.g. category_name.")],
    out: Annotated[Path, typer.Option(help="Folder for score.nc, scores.json and the figure.")],
    readout: Annotated[str, typer.Option(help=f"One of {', '.join(READOUTS)}.")] = "logistic",
    splits: Annotated[
        str | None, typer.Option(help="Folds such as kfold,n_splits=5; by default ten, or fewer of few stimuli.")
    ] = None,
    group: Annotated[
        str,
        typer.Option(help="Coordinate whose equal values stay on one side of every fold; none keeps none together."),
    ] = "stimulus_id",
    across: Annotated[
        str | None,
        typer.Option(help="Coordinate of conditions: train on each and test on the others' stimuli, instead of folds."),
    ] = None,
    by_time: Annotated[bool, typer.Option("--by-time", help="Decode every time bin.")] = False,
    across_time: Annotated[
        bool, typer.Option("--across-time", help="Train in every time bin and test in every other.")
    ] = False,
    ceiling: Annotated[
        bool, typer.Option("--ceiling", help="Also estimate the accuracy without noise, from single trials.")
    ] = False,
    n_permutations: Annotated[int, typer.Option(min=0, help="Size of the null.")] = 1000,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Decode a label from recordings on held-out stimuli, with chance: at once, in time or across conditions."""
    from neurobridge import figures
    from neurobridge.assemblies import open_assembly
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.figures.telling.words import words_of

    asked = [
        name for name, given in (("--by-time", by_time), ("--across-time", across_time), ("--across", across)) if given
    ]
    if len(asked) > 1:
        raise ValueError(f"found {' and '.join(asked)}; expected one of them. Mend: run the command once for each.")
    in_time = by_time or across_time
    if in_time and time_bin is not None:
        raise ValueError(
            f"found {asked[0]} with --time-bin {time_bin}; expected one of them. Mend: leave --time-bin out."
        )
    assembly = open_assembly(recordings) if in_time else read(recordings, time_bin=time_bin)
    if in_time:
        tell(f"read {recordings}: {assembly.sizes['presentation']} presentations, {assembly.sizes['neuroid']} {unit_of(assembly)}, "
             f"{assembly.sizes.get('time_bin', 1)} time bins.")  # fmt: skip
    assembly = complete(varying(assembly, recordings), recordings, max_missing)
    together = None if group == "none" else group
    options: dict[str, Any] = {"readout": readout, "n_permutations": n_permutations, "seed": seed}
    limit = None
    with notes():
        score = _scored(assembly, label, across, by_time, across_time, options, {"splits": splits, "group": together})
        if ceiling:
            limit = _ceiling(assembly, label, readout, "time_bin" if by_time else None, seed)
    save_variables(score, out / "score.nc")
    files = _draw(figures.plot(score, title=f"{recordings.name}: {label}, seed {seed}"), out, "decoding")
    if limit is not None:
        save_variables(limit, out / "ceiling.nc")
        if not by_time:
            files += _draw(figures.plot(limit, title=f"{recordings.name}: {label}, seed {seed}"), out, "ceiling")
    finding = " ".join(words_of(each).finding for each in (score, *([] if limit is None or by_time else [limit])))
    numbers = _numbers(score, limit)
    # The form in which `neurobridge report` reads results.
    summary: dict[str, Any] = {
        "title": f"{label} decoded from {recordings.name}",
        "note": finding,
        "tables": [{"title": "Accuracy", "columns": ["what", "value"], "rows": [[key, _text(n)] for key, n in numbers.items()]}],
        "run": {
            "recordings": str(recordings), "label": label, "seed": seed,
            **{key: score.attrs[key] for key in ("metric", "splits", "n_stimuli", "n_permutations", "digests", "version")},
        },
        "scores": numbers,
        "figures": files,
    }  # fmt: skip
    write_json(summary, out / "scores.json")
    if as_json:
        print_json(summary)
        return
    print_tables(summary["tables"])
    tell(finding)
    tell(f"wrote {out / 'score.nc'}, scores.json and {len(files)} files of figures.")
    next_step("report", out)


def _text(value: Any) -> str:
    return "n/a" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _scored(
    assembly: xr.DataArray,
    label: str,
    across: str | None,
    by_time: bool,
    across_time: bool,
    options: dict[str, Any],
    folds: dict[str, Any],
) -> xr.Dataset:
    """Decode as the options ask."""
    from neurobridge.evaluate.decoding import decode, generalise, generalise_time

    if across is not None:
        if folds["splits"] is not None:
            raise ValueError(
                f"found --across {across} with --splits {folds['splits']}; expected one of them: conditions are the folds. "
                "Mend: leave --splits out."
            )
        return generalise(assembly, label, across, **options)
    if across_time:
        return generalise_time(assembly, label, **options, **folds)
    return decode(assembly, label, by="time_bin" if by_time else None, **options, **folds)


def _ceiling(assembly: xr.DataArray, label: str, readout: str, by: str | None, seed: int) -> xr.Dataset:
    from neurobridge.evaluate.decoding import decoding_ceiling

    return decoding_ceiling(assembly, label, readout=readout, by=by, seed=seed)


def _draw(ax: Any, out: Path, name: str) -> list[str]:
    from neurobridge import figures

    return [str(path) for path in figures.save_figure(cast("Figure", ax.figure), out, name)]


def _numbers(score: xr.Dataset, limit: xr.Dataset | None) -> dict[str, Any]:
    """Return accuracy, chance and p of one cell, or of the best of several, and the ceiling."""
    import numpy as np

    from neurobridge.evaluate import aggregate, time_course

    table = aggregate(score, n_bootstrap=0)
    if isinstance(table, dict):
        numbers = {"accuracy": table["raw"], "chance_95": table["null_95"], "p_value": table["p_value"]}
    else:
        values = table["raw"].values
        numbers = {
            "cells": list(map(int, values.shape)),
            "largest": float(np.nanmax(values)),
            "mean": float(np.nanmean(values)),
        }
        if table["raw"].dims == ("time_bin",) and score["null"].shape[-1]:
            course = time_course(score)
            numbers |= {name: float(course[name]) for name in ("onset", "offset", "peak", "peak_value")}
    if limit is not None and limit["ceiling"].ndim == 0:
        numbers |= {name: float(limit[name]) for name in ("ceiling", "ceiling_low", "ceiling_high")}
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in numbers.items()}
