"""Command line: `neurobridge ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

import neurobridge
from neurobridge.aligners import BASELINES, AssemblyAligner, BridgeAligner
from neurobridge.assemblies import Pairs, open_assembly, resolve_pairs, save_assembly
from neurobridge.cli.common import Json, Mirror, Seed, make_console, print_json, print_tables
from neurobridge.cli.data import data_app
from neurobridge.cli.features import features_app
from neurobridge.cli.run import run_command
from neurobridge.cli.score import brainscore_app, score_command
from neurobridge.study import demo
from neurobridge.study.report import write_report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Align brain recordings and model activations through a few shared stimuli.",
)
app.add_typer(data_app, name="data")
app.add_typer(brainscore_app, name="brainscore")
app.command("score")(score_command)
app.add_typer(features_app, name="features")
app.command("run")(run_command)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(neurobridge.__version__)
        raise typer.Exit


@app.command("demo")
def demo_command(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(demo.DATASETS)}.")] = demo.SIMULATED,
    mirror: Mirror = None,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/demo"),
    n_seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Independent draws of held-out stimuli and pairs.")
    ] = 2,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Run the main job: recordings and model aligned over 5, 10 and 20 % of the stimuli, scored with ceiling and chance."""
    config = demo.DemoConfig(dataset=dataset, n_seeds=n_seeds, seed=seed)
    results = demo.run_demo(config, out, mirror=mirror, progress=not as_json)
    if as_json:
        print_json(results)
        return
    make_console().print(f"[bold]{results['title']}[/bold]\n{results['note']}")
    print_tables(results["tables"])
    for warning in results["warnings"]:
        typer.echo(f"warning: {warning}")
    run = results["run"]
    typer.echo(f"{run['seconds']} s, {run['peak_rss_gb']} GB peak; figures, scores.json and aligned.nc are in {out}")


@app.command("align")
def align_command(
    source: Annotated[Path, typer.Argument(help="netCDF assembly to move.")],
    target: Annotated[Path, typer.Argument(help="netCDF assembly whose space to move into.")],
    out: Annotated[Path, typer.Option(help="netCDF file to write.")],
    pairs: Annotated[
        str | None,
        typer.Option(help="Fraction of the shared stimuli, or a csv with source_id and target_id; all by default."),
    ] = None,
    method: Annotated[str, typer.Option(help=f"bridge, {', '.join(BASELINES)}.")] = "bridge",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Align one assembly to another over their pairs and write it in the other's space."""
    if method != "bridge" and method not in BASELINES:
        raise ValueError(
            f"found method {method!r}; expected one of {['bridge', *BASELINES]}. Mend: choose one of them."
        )
    left, right = open_assembly(source), open_assembly(target)
    chosen = resolve_pairs(left, right, _read_pairs(pairs), seed=seed)
    aligner: AssemblyAligner = BridgeAligner(seed=seed) if method == "bridge" else BASELINES[method]()
    aligned = aligner.fit(left, right, chosen).transform(left)
    save_assembly(aligned, out)
    summary = {
        "out": str(out),
        "method": method,
        "n_pairs": len(chosen),
        "shape": list(aligned.shape),
        "seed": seed,
    }
    if as_json:
        print_json(summary)
    else:
        typer.echo(
            f"aligned {aligned.shape[0]} presentations to {aligned.shape[1]} neuroids over {len(chosen)} pairs: {out}"
        )


def _read_pairs(pairs: str | None) -> Pairs | float | None:
    if pairs is None:
        return None
    try:
        return float(pairs)
    except ValueError:
        import pandas as pd

        return Pairs.from_table(pd.read_csv(pairs, dtype=str))


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="Results folder, as the demo writes it.")],
) -> None:
    """Write one self-contained HTML page from a results folder."""
    typer.echo(str(write_report(folder)))


def main() -> NoReturn:
    """Run the command line; expected errors are one message on stderr and exit code 1, not a traceback."""
    try:
        app()
    except (ValueError, OSError, MemoryError, RuntimeError, FloatingPointError, ImportError) as error:
        typer.echo(f"neurobridge: {error}", err=True)
        raise SystemExit(1) from error
    raise SystemExit(0)
