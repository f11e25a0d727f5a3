"""`neurobridge score`: activations on a benchmark, or one assembly as predictor of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.choices import REGRESSIONS, SPLITS
from neurobridge.cli.common import Json, Mirror, Seed, print_json, print_tables, tell
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

# Kinds of splits that take the share to hold out.
_SHARES = ("shuffle", "stratified")


def score_command(
    source: Annotated[
        Path | None, typer.Argument(help="Assembly of activations, netCDF or zarr; leave out with --benchmark.")
    ] = None,
    target: Annotated[
        Path | None, typer.Argument(help="Assembly of recordings, averaged over repetitions; likewise.")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="<dataset>.<region>-<metric>, e.g. majajhong2015.public.IT-pls: our loader, ceiling and metric."
        ),
    ] = None,
    activations: Annotated[
        Path | None,
        typer.Option(help="Assembly with an activation of every stimulus of the benchmark, netCDF or zarr."),
    ] = None,
    regression: Annotated[
        str | None, typer.Option(help=f"Of two files: one of {', '.join(REGRESSIONS)}; pls by default.")
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            help=f"Of two files: one of {', '.join(SPLITS)}, perhaps with options of its own (kfold,n_splits=5); by default "
            "Brain-Score's ten of 90/10 by object."
        ),
    ] = None,
    n_splits: Annotated[int | None, typer.Option(min=1, help="With --splits: number of splits.")] = None,
    test_size: Annotated[
        float | None, typer.Option(help="With --splits shuffle or stratified: share of the stimuli held out.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Label of the stimuli of which whole groups are held out; with --splits stratified or kfold, of which each value "
            "has its share on both sides."
        ),
    ] = None,
    n_components: Annotated[
        int | None, typer.Option(min=1, help="Of --regression pls: components, 25 by default.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Of --regression ridge: one penalty for all sites, instead of one chosen for each."),
    ] = None,
    ceiling: Annotated[Path | None, typer.Option(help="Of two files: the file of `neurobridge ceiling`.")] = None,
    normalization: Annotated[
        str,
        typer.Option(help="Of two files: explained_variance (r |r| / ceiling) or squared_ratio (r |r| / ceiling^2)."),
    ] = "explained_variance",
    n_permutations: Annotated[int, typer.Option(min=0, help="Of two files: size of the null.")] = 1000,
    save_figure: Annotated[
        Path | None,
        typer.Option("--save-figure", help="Of two files: figure by site to write, FOLDER/NAME.png; as svg beside it."),
    ] = None,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
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
        text = _splits_text(splits, n_splits, test_size, group)
        spaces = _read_spaces(source, target, max_missing, time_bin)
        reliability = None if ceiling is None else read_ceiling(ceiling, spaces[1])
        options = {"n_components": n_components, "alpha": alpha}
        _score_files(
            spaces,
            f"{regression or 'pls'}: {source.name} -> {target.name}",
            out,
            save_figure,
            as_json=as_json,
            regression=regression or "pls",
            splits=text,
            ceiling=reliability,
            normalization=normalization,
            n_permutations=n_permutations,
            seed=seed,
            **{name: value for name, value in options.items() if value is not None},
        )
        return
    of_files = {"--ceiling": ceiling, "--save-figure": save_figure, "--alpha": alpha, "--n-components": n_components}
    given = [name for name, value in of_files.items() if value is not None]
    if given:
        raise ValueError(
            f"found --benchmark {benchmark} with {', '.join(given)}; expected none of them: the benchmark has its own ceiling and "
            "metric, and --out has the figure. Mend: leave them out."
        )
    if any(option is not None for option in (splits, n_splits, test_size, group)):
        raise ValueError(
            f"found --benchmark {benchmark} with --splits={splits}, --n-splits={n_splits}, --test-size={test_size}, "
            f"--group={group}; expected none of them: the benchmark has its own splits. Mend: leave them out."
        )
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
    """Write score.json, score.nc and, where there are sites, the figure by site; return the files of the figure."""
    from neurobridge import figures
    from neurobridge.assemblies.storage.files import save_variables

    save_variables(score, folder / "score.nc")
    paths: list[str] = []
    if score["raw"].ndim == 2:
        kind = "SIMULATED, " if summary["kind"] == "simulated" else ""
        counts = f"{summary['n_stimuli']} stimuli, {summary['n_neuroids']} sites, seed {summary['seed']}"
        title = f"{summary['benchmark']}\n{kind}{counts}"
        ax = figures.sites({summary["metric"].split(",")[0]: score}, title=title)
        paths = [str(path) for path in figures.save_figure(cast("Figure", ax.figure), folder, "sites")]
    write_json({**summary, "figures": paths}, folder / "score.json")
    return paths


def _splits_text(splits: str | None, n_splits: int | None, test_size: float | None, group: str | None) -> str | None:
    """Put the options together in one text, as `neurobridge.evaluate.splits.splits_from_text` reads it; None for the default."""
    if splits is None and group is None:
        if n_splits is None and test_size is None:
            return None
        given = "--n-splits" if n_splits is not None else "--test-size"
        raise ValueError(
            f"{given}: found it without --splits; expected the kind of splits that it is for. Mend: e.g. --splits kfold "
            "--n-splits 5, --splits shuffle --test-size 0.2, or --group object_name."
        )
    if test_size is not None and not 0 < test_size < 1:
        raise ValueError(
            f"--test-size: found {test_size}; expected a share above 0 and below 1. Mend: e.g. --test-size 0.2."
        )
    kind = (splits or "group").partition(",")[0]
    if test_size is not None and kind not in _SHARES:
        raise ValueError(
            f"--test-size: found {test_size} with splits of the kind {kind!r}; expected one of {list(_SHARES)}, the kinds that "
            "hold out a share. Mend: leave it out, or --splits shuffle."
        )
    parts = [splits or "group"]
    parts += [] if group is None else [f"label={group}"]
    parts += [] if n_splits is None else [f"n_splits={n_splits}"]
    parts += [] if test_size is None else [f"train_size={1 - test_size:.15g}"]
    return ",".join(parts)


def _read_spaces(
    source: Path, target: Path, max_missing: float, time_bin: int | None
) -> tuple[xr.DataArray, xr.DataArray]:
    spaces = [varying(averaged(read(path, time_bin=time_bin), path), path) for path in (source, target)]
    # Predictors need a value of every unit; a site without a value loses that stimulus alone.
    return complete(spaces[0], source, max_missing), complete(spaces[1], target, max_missing, presentations=False)


def _score_files(
    spaces: tuple[xr.DataArray, xr.DataArray],
    title: str,
    out: Path | None,
    figure: Path | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    from neurobridge import figures
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.evaluate import aggregate, predictivity

    with notes():
        score = predictivity(*spaces, progress=True, **options)
    summary = {**aggregate(score), "splits": score.attrs["splits"]}
    if out is not None:
        save_variables(score, out)
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        ax = figures.sites({options["regression"]: score}, title=f"{title}\n{summary['n_stimuli']} stimuli")
        paths = figures.save_figure(cast("Figure", ax.figure), figure.parent, figure.stem)
        summary["figures"] = [str(path) for path in paths]
    if as_json:
        print_json(summary)
        return
    _print_summary(title, summary)
    if options["ceiling"] is None:
        tell("Nothing is normalised without a ceiling: --ceiling takes the file of neurobridge ceiling.")
    if out is not None:
        tell(f"wrote {out}.")
        next_step("report", out)
    else:
        tell("Nothing is kept without a file: --out score.nc writes the score of every site and split.")


def _print_summary(title: str, summary: dict[str, Any]) -> None:
    shown = {key: value for key, value in summary.items() if value is not None}
    rows = [[key, f"{value:.4f}" if isinstance(value, float) else value] for key, value in shown.items()]
    print_tables([{"title": title, "columns": ["what", "value"], "rows": rows}])
