"""`neurobridge score`: activations on a benchmark, or one assembly as predictor of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from neurobridge.cli.choices import REGRESSIONS
from neurobridge.cli.common import Json, Mirror, Seed, print_json, print_tables
from neurobridge.store.atomic import atomic_path, write_json

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from neurobridge.evaluate.splits import Splits

#: Rule by which stimuli are held out -> the options that go with it.
SPLITS: dict[str, tuple[str, ...]] = {
    "brainscore": (),
    "shuffled": ("--n-splits", "--test-size"),
    "stratified": ("--n-splits", "--test-size", "--group"),
    "kfold": ("--n-splits", "--group"),
    "groups": ("--n-splits", "--group"),
}


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
    splits: Annotated[
        str | None,
        typer.Option(help=f"Of two files: one of {', '.join(SPLITS)}; by default brainscore, ten of 90/10 by object."),
    ] = None,
    n_splits: Annotated[
        int | None, typer.Option(min=1, help="Number of splits; default 10, 5 of kfold, one a group of groups.")
    ] = None,
    test_size: Annotated[
        float | None, typer.Option(help="Share of the stimuli held out, of shuffled and stratified; default 0.1.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Coordinate of the target by which to split: whole groups are held out (groups, the default with --group), "
            "or each has its share on both sides (stratified, kfold)."
        ),
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
        rule = SplitRule(splits, n_splits, test_size, group, seed)
        _score_files(source, target, regression or "pls", rule, out, as_json=as_json)
        return
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


class SplitRule(NamedTuple):
    """The splits that the command line asks for; None where it leaves the choice."""

    name: str | None
    n_splits: int | None
    test_size: float | None
    label: str | None
    seed: int

    def draw(self, source: xr.DataArray, target: xr.DataArray) -> Splits | None:
        """Draw the splits over the stimuli that two assemblies share, whatever their order; None is the default of the metric.

        Raises
        ------
        ValueError
            The rule is unknown, or an option is not one of this rule.
        AssemblyError
            The label is missing, or there are too few stimuli or groups.
        """
        import numpy as np

        from neurobridge.assemblies import match_stimuli
        from neurobridge.evaluate import splits

        name = self.name or ("brainscore" if self.label is None else "groups")
        if name not in SPLITS:
            raise ValueError(f"--splits: found {name!r}; expected one of {list(SPLITS)}. Mend: choose one of them.")
        self._refuse_unused(name)
        if name == "brainscore":
            return None
        matched = match_stimuli(source, target).target
        order = np.argsort(matched["stimulus_id"].values, kind="stable")
        label = self.label or ("object_name" if name in ("stratified", "groups") else None)
        labels: Any = None if label is None else _labels(matched, label)[order]
        sizes: dict[str, Any] = {"seed": self.seed}
        if self.n_splits is not None:
            sizes["n_splits"] = self.n_splits
        if self.test_size is not None:
            sizes["train_size"] = 1 - self.test_size
        if name == "shuffled":
            drawn = splits.shuffle_splits(len(order), **sizes)
        elif name == "stratified":
            drawn = splits.stratified_splits(labels, **sizes)
        elif name == "kfold":
            drawn = splits.kfold_splits(len(order), labels=labels, **sizes)
        else:
            drawn = splits.group_splits(labels, **sizes)
        described = drawn.description + ("" if label is None else f", on {label}")
        return splits.Splits([(order[train], order[test]) for train, test in drawn], described)

    def _refuse_unused(self, name: str) -> None:
        given = {"--n-splits": self.n_splits, "--test-size": self.test_size, "--group": self.label}
        unused = [option for option, value in given.items() if value is not None and option not in SPLITS[name]]
        if unused:
            raise ValueError(
                f"--splits {name}: found {' and '.join(unused)}; expected {' and '.join(SPLITS[name]) or 'no such option'} "
                f"with it. Mend: leave {' and '.join(unused)} out, or choose another of {list(SPLITS)}."
            )
        if self.test_size is not None and not 0 < self.test_size < 1:
            raise ValueError(
                f"--test-size: found {self.test_size}; expected a share above 0 and below 1. Mend: e.g. --test-size 0.2."
            )


def _labels(assembly: xr.DataArray, name: str) -> Any:
    if name not in assembly.coords or assembly[name].dims != ("presentation",):
        known = sorted(str(label) for label, coord in assembly.coords.items() if coord.dims == ("presentation",))
        raise ValueError(
            f"--group: found no coordinate {name!r} of the target's stimuli; expected one of {known}. Mend: --group NAME, or "
            "--splits shuffled."
        )
    return assembly[name].values


def _score_files(
    source: Path, target: Path, regression: str, rule: SplitRule, out: Path | None, *, as_json: bool
) -> None:
    from neurobridge.assemblies import open_assembly
    from neurobridge.evaluate import aggregate, predictivity

    predictors, recordings = open_assembly(source), open_assembly(target)
    drawn = rule.draw(predictors, recordings)
    score = predictivity(predictors, recordings, regression=regression, splits=drawn, seed=rule.seed)
    summary = {**aggregate(score), "splits": score.attrs["splits"]}
    if out is not None:
        _keep(score, out)
    if as_json:
        print_json(summary)
    else:
        _print_summary(f"{regression}: {source.name} -> {target.name}", summary)


def _print_summary(title: str, summary: dict[str, Any]) -> None:
    rows = [[key, f"{value:.4f}" if isinstance(value, float) else value] for key, value in summary.items()]
    print_tables([{"title": title, "columns": ["what", "value"], "rows": rows}])
