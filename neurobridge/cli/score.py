"""`neurobridge score`: activations on a benchmark, or one assembly as predictor of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.choices import REGRESSIONS
from neurobridge.cli.common import Json, Mirror, Seed, print_json, print_tables
from neurobridge.store.atomic import atomic_path, write_json

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def score_command(
    source: Annotated[
        Path | None, typer.Argument(help="netCDF assembly of activations; leave out with --benchmark.")
    ] = None,
    target: Annotated[
        Path | None, typer.Argument(help="netCDF assembly of recordings, averaged over repetitions; likewise.")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="<dataset>.<region>-<metric>, e.g. majajhong2015.public.IT-pls: our loader, ceiling and metric."
        ),
    ] = None,
    activations: Annotated[
        Path | None, typer.Option(help="netCDF assembly with an activation of every stimulus of the benchmark.")
    ] = None,
    regression: Annotated[
        str | None, typer.Option(help=f"Of two files: one of {', '.join(REGRESSIONS)}; pls by default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --benchmark: folder for score.json, score.nc and the figure by site. Of two files: netCDF file."
        ),
    ] = None,
    mirror: Mirror = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score activations on a benchmark, or one assembly as predictor of another: cross-validated, with ceiling and chance."""
    if benchmark is None:
        if source is None or target is None or activations is not None:
            raise ValueError(
                f"found source={source}, target={target}, --activations={activations} and no --benchmark; expected two files, or "
                "--benchmark with --activations. "
                "Mend: neurobridge score --benchmark majajhong2015.public.IT-pls --activations FILE.nc."
            )
        _score_files(source, target, regression or "pls", out, seed=seed, as_json=as_json)
        return
    if activations is None or source is not None or regression is not None:
        raise ValueError(
            f"found --benchmark {benchmark} with --activations={activations}, source={source}, --regression={regression}; expected "
            "--activations alone: the benchmark's name says the metric. "
            "Mend: neurobridge score --benchmark NAME --activations FILE.nc."
        )
    from neurobridge.assemblies import open_assembly
    from neurobridge.brainscore.scoring import score_benchmark

    result = score_benchmark(benchmark, open_assembly(activations), mirror=mirror, seed=seed)
    summary = {**result.summary, "activations": str(activations)}
    if out is not None:
        summary["figures"] = _write(result.score, summary, out)
    if as_json:
        print_json(summary)
        return
    title = f"{benchmark}: {activations.name}" + (" (SIMULATED recordings)" if summary["kind"] == "simulated" else "")
    notes = summary.pop("notes")
    _print_summary(title, summary)
    for note in notes:
        typer.echo(f"note: {note}")


def _write(score: xr.Dataset, summary: dict[str, Any], folder: Path) -> list[str]:
    """Write score.json, score.nc and, where there are sites, the figure by site; gives the files of the figure."""
    from neurobridge import figures

    _keep(score, folder / "score.nc")
    paths: list[str] = []
    if score["raw"].ndim == 2:
        kind = "SIMULATED, " if summary["kind"] == "simulated" else ""
        counts = f"{summary['n_stimuli']} stimuli, {summary['n_neuroids']} sites, seed {summary['seed']}"
        title = f"{summary['benchmark']}\n{kind}{counts}"
        ax = figures.sites({summary["metric"].split(",")[0]: score}, title=title)
        paths = [str(path) for path in figures.save_figure(cast("Figure", ax.figure), folder, "sites")]
    write_json({**summary, "figures": paths}, folder / "score.json")
    return paths


def _keep(score: xr.Dataset, path: Path) -> None:
    with atomic_path(path) as partial:
        score.to_netcdf(partial, engine="netcdf4")


def _score_files(source: Path, target: Path, regression: str, out: Path | None, *, seed: int, as_json: bool) -> None:
    from neurobridge.assemblies import open_assembly
    from neurobridge.evaluate import aggregate, predictivity

    score = predictivity(open_assembly(source), open_assembly(target), regression=regression, seed=seed)
    summary = aggregate(score)
    if out is not None:
        _keep(score, out)
    if as_json:
        print_json(summary)
    else:
        _print_summary(f"{regression}: {source.name} -> {target.name}", summary)


def _print_summary(title: str, summary: dict[str, Any]) -> None:
    rows = [[key, f"{value:.4f}" if isinstance(value, float) else value] for key, value in summary.items()]
    print_tables([{"title": title, "columns": ["what", "value"], "rows": rows}])
