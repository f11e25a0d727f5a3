"""`neurobridge curve`: how well aligned activations predict held-out responses, by number of pairs."""

from __future__ import annotations

import hashlib
import json
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
    plan: Annotated[
        float | None,
        typer.Option(help="Score that is wanted: say how many pairs it needs, extrapolated from the curve."),
    ] = None,
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
    if plan is not None:
        _check_plan(plan, counts, n_seeds)
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
    curve.attrs["digests"] = _with_files(curve.attrs["digests"], [source, target, ceiling])
    save_variables(curve, out / CURVE)
    results = _results(curve, source, target, ceiling)
    if plan is not None:
        results["tables"].append(_plans(curve, plan, held_out, seed))
    figures = _draw(curve, out)
    write_json({**results, "figures": figures}, out / "scores.json")
    if as_json:
        print_json({**results, "out": str(out), "figures": figures})
        return
    print_tables(results["tables"])
    tell(results["note"])
    tell(f"wrote {out / CURVE}, {', '.join(figures)} and scores.json.")
    next_step("report", out)


def _check_plan(plan: float, counts: list[int], n_seeds: int) -> None:
    """Refuse a plan before hours of work that would not give it."""
    if not 0 < plan < 1 or len(counts) < 4 or n_seeds < 3:
        raise ValueError(
            f"--plan: found {plan:g} with {len(counts)} number(s) of pairs and {n_seeds} seed(s); expected a score in (0, 1), at "
            "least 4 numbers of pairs and 3 seeds. Mend: e.g. --plan 0.5 --pairs 10,20,40,80 --seeds 10."
        )


def _plans(curve: xr.Dataset, score: float, held_out: float, seed: int) -> dict[str, Any]:
    """Tabulate the pairs that each method needs for a score."""
    from neurobridge.evaluate import plan_from_curve

    rows = []
    for name in curve["aligner"].values.tolist():
        plan = plan_from_curve(curve, score, aligner=name, held_out=held_out, seed=seed)
        numbers = [plan.n_pairs, plan.low, plan.high]
        needed, low, high = ("no number" if math.isinf(n) else str(math.ceil(n)) for n in numbers)
        rows.append([name, needed, f"{low} to {high}", f"{plan.plateau:.3f}"])
    columns = ["method", "pairs", "95 % interval", "median r with unlimited pairs"]
    return {
        "title": f"Pairs for a median r of {score:g}, by a power law of this curve",
        "columns": columns,
        "rows": rows,
    }


def _with_files(known: str, paths: list[Path | None]) -> str:
    """Add the digests of the files that were read to those of the data that these were made of, as JSON text."""
    digests = json.loads(known)
    for path in paths:
        if path is not None and path.is_file():
            with path.open("rb") as file:
                digests[path.name] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return json.dumps(digests, sort_keys=True)


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
                ]
            )
    attrs, n_seeds = curve.attrs, curve.sizes["seed"]
    best = curve["auc_mean"].values
    top = str(curve["aligner"].values[int(best.argmax())])
    n_stimuli = attrs["n_stimuli"]
    held = n_stimuli if not isinstance(n_stimuli, list) else f"{n_stimuli[0]} to {n_stimuli[-1]}"
    bound = float(curve["ceiling"])
    seeds = f"Mean and 95 % interval over {n_seeds} seeds of the median" if n_seeds > 1 else "One seed: median"
    note = (
        f"{seeds} r over sites, on {held} held-out stimuli{' a seed' if n_seeds > 1 else ''}. "
        f"{top} has the largest area under its curve, {best.max():.3f}"
        + (f"; the ceiling on r is {bound:.3f}." if math.isfinite(bound) else "; no ceiling was given (--ceiling).")
    )
    columns = ["method", "pairs", "median r", "normalised", "chance (95 %)"]
    return {
        "title": f"{source.name} aligned to {target.name}",
        "note": note,
        "tables": [{"title": "Held-out predictivity by number of pairs", "columns": columns, "rows": rows}],
        "run": {
            "source": str(source),
            "target": str(target),
            "ceiling": None if ceiling is None else str(ceiling),
            "seeds": curve["seed"].values.tolist(),
            "seconds": round(float(curve["seconds"].sum()), 1),
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
