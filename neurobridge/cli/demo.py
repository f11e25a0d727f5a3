"""`neurobridge demo`: the main job on one dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.choices import DEMO_DATASETS
from neurobridge.cli.common import Json, Mirror, Seed, make_console, print_json, print_tables


def demo_command(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DEMO_DATASETS)}.")] = DEMO_DATASETS[0],
    mirror: Mirror = None,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/demo"),
    n_seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Independent draws of held-out stimuli and pairs.")
    ] = 2,
    seed: Seed = 0,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Draws at a time, in processes of their own. Default: one a core, at most 3."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the main job: recordings and model aligned over 5, 10 and 20 % of the stimuli, scored with ceiling and chance."""
    from neurobridge.points.devices import usable_cores
    from neurobridge.study.demo import DemoConfig, run_demo

    config = DemoConfig(dataset=dataset, n_seeds=n_seeds, seed=seed)
    n_processes = jobs or min(3, usable_cores())
    results = run_demo(config, out, mirror=mirror, n_processes=n_processes, progress=not as_json)
    if as_json:
        print_json(results)
        return
    make_console().print(f"[bold]{results['title']}[/bold]\n{results['note']}")
    print_tables(results["tables"])
    for warning in results["warnings"]:
        typer.echo(f"warning: {warning}")
    run = results["run"]
    typer.echo(f"{run['seconds']} s, {run['peak_rss_gb']} GB peak; figures, scores.json and aligned.nc are in {out}")
