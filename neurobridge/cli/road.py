"""`neurobridge road`: two files of many feature rows, from an alignment to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.choices import METRICS, SIMILARITIES
from neurobridge.cli.common import Json, Seed, print_json, print_tables, require_choice, tell
from neurobridge.cli.reading import notes


def road_command(
    source: Annotated[
        Path, typer.Argument(help="Features to move: npy file or zarr folder of an array, a row a stimulus.")
    ],
    target: Annotated[Path, typer.Argument(help="Features whose space to move into, likewise.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a killed run goes on from what is there.")],
    pairs: Annotated[int, typer.Option(min=2, help="Pairs to fit on, drawn from the partners.")] = 1000,
    queries: Annotated[
        int, typer.Option(min=2, help="Partners that are held out of the fit and sought among all rows of the target.")
    ] = 2000,
    partners: Annotated[
        Path | None,
        typer.Option(help="csv with source_row and target_row, from 0; by default row i of both files shows the same."),
    ] = None,
    metric: Annotated[str, typer.Option(help=f"Distance within each space: {', '.join(METRICS)}.")] = "euclidean",
    similarity: Annotated[str, typer.Option(help=f"Of the retrieval: {', '.join(SIMILARITIES)}.")] = "cosine",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Align two large feature files, move one, seek held-out partners and report; a killed run goes on.

    What is read is never copied whole: millions of rows need some 4 GB.
    """
    from neurobridge.study.road import Road, expected_cost, walk

    require_choice("--metric", metric, METRICS)
    require_choice("--similarity", similarity, SIMILARITIES)
    road = Road(source, target, out, pairs, queries, partners, metric, similarity, seed)
    estimate, seconds = expected_cost(road)
    sides = road.sides()
    tell(
        f"{sides[0].shape[0]:,} x {sides[0].shape[1]} to {sides[1].shape[0]:,} x {sides[1].shape[1]}: about "
        f"{sum(seconds.values()):.0f} s on {estimate.n_threads} threads and {estimate.n_bytes / 1e9:.1f} GB."
    )
    with notes():
        result = walk(road, progress=True, tell=tell)
    summary = {"source": str(source), "target": str(target), "out": str(out), **result}
    if as_json:
        print_json(summary)
        return
    measures = result["measures"]
    names = ("value", "low", "high", "chance", "dealt")
    rows = [[name, *(f"{row[each]:.4g}" for each in names)] for name, row in measures["retrieval"].items()]
    title = f"{measures['n_queries']:,} held-out stimuli among {measures['n_points']:,}, {measures['n_pairs']:,} pairs, seed {seed}"
    columns = ["measure", "value", "95 % low", "95 % high", "chance", "partners dealt"]
    print_tables([{"title": title, "columns": columns, "rows": rows}])
    tell(
        f"R^2 of held-out rows {measures['r2']:.3f}; of ridge on the pairs {measures['r2_of_ridge_of_the_pairs']:.3f}."
    )
    tell(f"wrote {out}: aligned.npy, nearest.npy, retrieval.json and report.html.")
