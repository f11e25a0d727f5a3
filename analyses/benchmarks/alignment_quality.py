"""Quality of alignment: all methods on all sets, from few pairs to many, with paired intervals.

The protocols are those of `alignment/protocols.py`: Flickr8k captions and images, V4 and IT
recordings, the same at the size of an fMRI experiment, MNIST, and THINGS with few pairs or none.
Held-out points reach no fit, unpaired pools are disjoint, and with one seed the pairs of a smaller
number are among those of a larger one. Reported seeds are 0 to 4; settings are developed on seeds
100 to 104, which have records of their own (--development). The methods are those of
`alignment/methods.py`. Cells are kept as they come, a JSON line each, and a second run goes on
from them.

    python analyses/benchmarks/alignment_quality.py --mirror DIR
    python analyses/benchmarks/alignment_quality.py --mirror DIR --development --sets v4-gabor,it-halves
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import neurobridge
from analyses.benchmarks.alignment.figure import draw_figure
from analyses.benchmarks.alignment.methods import registry
from analyses.benchmarks.alignment.protocols import (
    DEVELOPMENT_SEEDS,
    PROTOCOLS,
    REPORTED_SEEDS,
    REPORTED_SETS,
    size_of,
    title_of,
)
from analyses.benchmarks.alignment.runner import Record, make_cells, run_cells
from analyses.parts.alignment import markdown, seconds_of, steps, table_rows
from analyses.parts.script import one_of, run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import machine_facts

KEPT = Path("docs/results/benchmarks")
DEVELOPMENT = Path("results/benchmarks")
NAME = "alignment_quality"


def summarise(records: Sequence[Record], *, development: bool = False) -> dict[str, Any]:
    """Make the tables of records: what the page of benchmarks reads."""
    methods = registry()
    order = list(methods)
    records = sorted(records, key=lambda r: (r["n_pairs"], r["seed"], order.index(r["method"])))
    ranked = [*REPORTED_SETS, *PROTOCOLS]
    sets = sorted(
        {record["set"] for record in records}, key=lambda name: ranked.index(name) if name in ranked else len(ranked)
    )
    measures = {name: dict(PROTOCOLS[size_of(name).name].measures) for name in sets}
    ours = {
        name: str(method.criterion) if method.criterion else None for name, method in methods.items() if method.ours
    }
    controls = [name for name, method in methods.items() if method.control]
    errors = Counter(
        f"{r['method']} on {r['set']}, {r['n_pairs']} pairs: {r['error']}" for r in records if "error" in r
    )
    return {
        "neurobridge": neurobridge.__version__,
        "versions": sorted({record["version"] for record in records}),
        "development": development,
        "seeds": sorted({record["seed"] for record in records}),
        "titles": {name: title_of(name) for name in sets},
        "ours": list(ours),
        "rows": table_rows(records, measures, ours=ours, controls=controls),
        "steps": steps(records, measures),
        "seconds": seconds_of(records),
        "errors": dict(errors),
        "machine": machine_facts(),
    }


def read_names(text: str) -> list[str]:
    """Read names between commas or semicolons; names of methods may hold a comma, and then semicolons part them."""
    return [name.strip() for name in text.split(";" if ";" in text else ",") if name.strip()]


def read_seeds(text: str) -> list[int]:
    """Read seeds: "0-4", or "0,2"."""
    seeds: list[int] = []
    for part in read_names(text):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise typer.BadParameter(f"found {text!r}; expected seeds. Mend: --seeds 0-4, or --seeds 0,2.")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real data files.")] = None,
    cache: Annotated[Path, typer.Option("--cache", help="Folder for extracted features.")] = Path("results/cache"),
    seeds: Annotated[str | None, typer.Option("--seeds", help="E.g. 0-4, or 0,2; default: all of the kind.")] = None,
    sets: Annotated[str, typer.Option("--sets", help="Names between commas.")] = ",".join(REPORTED_SETS),
    methods: Annotated[
        str | None, typer.Option("--methods", help="Names between commas (semicolons, if a name has a comma).")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option("--pairs", help="Numbers of pairs between commas; default: a set's.")
    ] = None,
    development: Annotated[bool, typer.Option("--development", help="Development seeds, and records apart.")] = False,
    records_file: Annotated[Path | None, typer.Option("--records", help="Kept cells, a JSON line each.")] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Tables, as JSON.")] = None,
    figure_file: Annotated[Path | None, typer.Option("--figure")] = None,
    n_processes: Annotated[int, typer.Option("--processes", min=1)] = 2,
    again: Annotated[bool, typer.Option("--again", help="Compute kept cells, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    known = DEVELOPMENT_SEEDS if development else REPORTED_SEEDS
    chosen_seeds = list(known) if seeds is None else read_seeds(seeds)
    wrong = sorted(set(chosen_seeds) & set(REPORTED_SEEDS if development else DEVELOPMENT_SEEDS))
    if wrong:
        kind = "reported" if development else "development"
        raise typer.BadParameter(
            f"found {kind} seeds {wrong}; expected seeds among {list(known)} {'with' if development else 'without'} "
            f"--development. Mend: {'leave out' if development else 'add'} --development."
        )
    folder = DEVELOPMENT if development else KEPT
    name = f"{NAME}_development" if development else NAME
    records_file = records_file or folder / f"{name}.jsonl"
    chosen_sets = read_names(sets)
    for name_of_set in chosen_sets:
        size_of(name_of_set)
    chosen_methods = list(registry()) if methods is None else one_of(registry())(read_names(methods))
    counts = None if pairs is None else [int(n) for n in read_names(pairs)]
    cells = make_cells(chosen_sets, chosen_seeds, chosen_methods, counts)
    records = run_cells(cells, records_file, mirror=mirror, cache=cache, n_processes=n_processes, again=again)
    results = summarise(records, development=development)
    write_json(results, out_file or folder / f"{name}.json")
    draw_figure(results, figure_file or (DEVELOPMENT if development else Path("docs/figures")) / f"{name}.png")
    print(json.dumps(results) if as_json else markdown(results))


if __name__ == "__main__":
    run_script(main, __doc__)
