"""`neurobridge curve`: how well aligned activations predict held-out responses, by number of pairs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.choices import METHODS
from neurobridge.cli.common import Json, Seed, print_json, print_tables, tell
from neurobridge.cli.reading import (
    MaxMissing,
    TimeBin,
    averaged,
    complete,
    next_step,
    notes,
    read,
    read_ceiling,
    varying,
)
from neurobridge.store.atomic import write_json

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

#: File that keeps the records as they come.
RECORDS = "records.jsonl"
#: The curve itself.
CURVE = "learning_curve.nc"


def curve_command(
    source: Annotated[Path, typer.Argument(help="Assembly to move, a model's activations for example.")],
    target: Annotated[Path, typer.Argument(help="Assembly that is predicted: recordings, averaged over trials.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a run that was interrupted goes on in it.")],
    pairs: Annotated[
        str,
        typer.Option(help="Numbers of pairs with commas, or fractions of the shared stimuli: 10,20,40 or 0.05,0.1."),
    ] = "10,20,40",
    methods: Annotated[
        str, typer.Option(help=f"With commas, of: {', '.join(METHODS)}. 'fused' is the BridgeAligner of `align`.")
    ] = "fused,ridge",
    ceiling: Annotated[Path | None, typer.Option(help="File of `neurobridge ceiling`.")] = None,
    n_seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Independent draws of held-out stimuli and pairs.")
    ] = 5,
    held_out: Annotated[float, typer.Option(help="Share of the shared stimuli that is held out.")] = 0.2,
    unpaired: Annotated[
        str,
        typer.Option(help="Training stimuli that are not pairs: disjoint (each in one space alone), shared or none."),
    ] = "disjoint",
    stratify: Annotated[
        str | None, typer.Option(help="Label of the source whose values are held out in proportion.")
    ] = None,
    n_permutations: Annotated[int, typer.Option(min=0, help="Size of the null of every score.")] = 200,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; cpu by default.")] = None,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score aligned activations on held-out stimuli, from few pairs to many, and write table, figure and Dataset."""
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.evaluate import learning_curve
    from neurobridge.study.methods import make_aligner

    names = _names(methods)
    source_space, target_space = (
        varying(averaged(read(path, time_bin=time_bin), path), path) for path in (source, target)
    )
    source_space = complete(source_space, source, max_missing)
    # Stimuli that miss a value train nothing, and are scored for the sites that have one.
    target_space = complete(target_space, target, max_missing, presentations=False)
    counts = _counts(pairs, source_space, target_space)
    reliability = None if ceiling is None else read_ceiling(ceiling, target_space)
    options: dict[str, Any] = {} if device is None else {"device": device}
    with notes():
        curve = learning_curve(
            source_space,
            target_space,
            {name: make_aligner(name, **options) for name in names},
            n_pairs=counts,
            n_seeds=n_seeds,
            held_out=held_out,
            unpaired=cast("Any", unpaired),
            stratify=stratify,
            ceiling=reliability,
            n_permutations=n_permutations,
            seed=seed,
            journal=out / RECORDS,
        )
    save_variables(curve, out / CURVE)
    results = _results(curve, source, target, ceiling)
    figures = _draw(curve, out)
    write_json({**results, "figures": figures}, out / "scores.json")
    if as_json:
        print_json({**results, "out": str(out), "figures": figures})
        return
    print_tables(results["tables"])
    tell(results["note"])
    tell(f"wrote {out / CURVE}, {', '.join(figures)} and scores.json.")
    next_step("report", out)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise ValueError(
            f"--methods: found {text!r}; expected some of {list(METHODS)}, with commas. Mend: e.g. --methods fused,ridge."
        )
    return list(dict.fromkeys(names))


def _counts(text: str, source: xr.DataArray, target: xr.DataArray) -> list[int]:
    """Read numbers of pairs, or fractions of the shared stimuli."""
    from neurobridge.assemblies import match_stimuli

    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    whole = all(number > 1 and number.is_integer() for number in numbers if math.isfinite(number))
    shares = all(0 < number <= 1 for number in numbers)
    if not numbers or not all(map(math.isfinite, numbers)) or not (whole or shares):
        raise ValueError(
            f"--pairs: found {text!r}; expected whole numbers above 1 with commas, or fractions above 0 and at most 1. Mend: "
            "e.g. --pairs 10,20,40."
        )
    if whole:
        return sorted({int(number) for number in numbers})
    n_shared = match_stimuli(source, target).source.sizes["presentation"]
    return sorted({max(2, round(number * n_shared)) for number in numbers})


def _results(curve: xr.Dataset, source: Path, target: Path, ceiling: Path | None) -> dict[str, Any]:
    """Return the page of a results folder: title, note, tables, and how they were made."""
    from neurobridge.evaluate import aggregate
    from neurobridge.study.tables import format_mean, format_value

    summary = aggregate(curve, n_bootstrap=0)
    rows = []
    for name in curve["aligner"].values.tolist():
        for count in curve["n_pairs"].values.tolist():
            cell, of_null = (each.sel(aligner=name, n_pairs=count) for each in (curve, summary))
            rows.append(
                [
                    name,
                    count,
                    format_mean(cell["raw"].values.tolist()),
                    format_mean(cell["normalized"].values.tolist()) if ceiling is not None else "n/a",
                    format_value(float(of_null["null_95"].max())),
                    format_mean(cell["seconds"].values.tolist(), digits=1),
                ]
            )
    attrs, n_seeds = curve.attrs, curve.sizes["seed"]
    best = curve["auc_mean"].values
    top = str(curve["aligner"].values[int(best.argmax())])
    n_stimuli = attrs["n_stimuli"]
    held = n_stimuli if not isinstance(n_stimuli, list) else f"{n_stimuli[0]} to {n_stimuli[-1]}"
    bound = float(curve["ceiling"])
    note = (
        f"Mean and 95 % interval over {n_seeds} seeds of the median r over sites, on {held} held-out stimuli a seed. "
        f"{top} has the largest area under its curve, {best.max():.3f}"
        + (f"; the ceiling on r is {bound:.3f}." if math.isfinite(bound) else "; no ceiling was given (--ceiling).")
    )
    columns = ["method", "pairs", "median r", "normalised", "chance (95 %)", "seconds"]
    return {
        "title": f"{source.name} aligned to {target.name}",
        "note": note,
        "tables": [{"title": "Held-out predictivity by number of pairs", "columns": columns, "rows": rows}],
        "run": {
            "source": str(source),
            "target": str(target),
            "ceiling": None if ceiling is None else str(ceiling),
            "seeds": curve["seed"].values.tolist(),
            **{name: attrs[name] for name in ("metric", "splits", "unpaired", "n_permutations", "digests", "version")},
        },
    }


def _draw(curve: xr.Dataset, out: Path) -> list[str]:
    import numpy as np

    from neurobridge import figures
    from neurobridge.evaluate import aggregate

    counts = curve["n_pairs"].values.tolist()
    lines = {
        name: (counts, curve["raw"].sel(aligner=name).values.tolist()) for name in curve["aligner"].values.tolist()
    }
    null = aggregate(curve, n_bootstrap=0)["null_95"].values
    ax = figures.learning_curve(
        lines,
        null=float(np.nanmax(null)) if np.isfinite(null).any() else None,
        ceiling=float(curve["ceiling"]),
        title=f"held-out predictivity, n = {curve.sizes['seed']} seeds",
    )
    return [path.name for path in figures.save_figure(cast("Figure", ax.figure), out, "learning_curve")]
