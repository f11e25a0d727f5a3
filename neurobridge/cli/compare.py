"""`neurobridge compare`: several models against the same recordings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.choices import COMPARED, REGRESSIONS
from neurobridge.cli.common import Json, Seed, print_json, print_tables, tell
from neurobridge.cli.reading import MaxMissing, TimeBin, by_stem, complete, read, read_ceiling, varying
from neurobridge.store.atomic import write_json, write_text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


class _Files(Mapping[str, "xr.DataArray"]):
    """Assemblies by the stems of their files, each read when it is asked for: they need not fit in memory together."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = dict(paths)

    def __getitem__(self, name: str) -> xr.DataArray:
        from neurobridge.assemblies import open_assembly

        return open_assembly(self.paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def compare_command(
    models: Annotated[list[Path], typer.Argument(help="Two or more assemblies of activations, netCDF or zarr.")],
    recordings: Annotated[Path, typer.Option(help="Assembly of recordings; repetitions are averaged.")],
    out: Annotated[
        Path, typer.Option(help="Folder for comparison.nc, scores.json, models.csv, pairs.csv and a figure a metric.")
    ],
    ceiling: Annotated[
        Path | None,
        typer.Option(help="File with the ceiling of every site, from neurobridge ceiling, or a Score with a ceiling."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help=f"Separated by commas, of {', '.join(COMPARED)}. Default: ridge,rsa, or ridge,rdm where the recordings have no "
            "two animals, which rsa needs."
        ),
    ] = None,
    splits: Annotated[str | None, typer.Option(help="Folds such as kfold,n_splits=10; five by default.")] = None,
    correction: Annotated[str, typer.Option(help="Of p for the number of pairs: holm or fdr.")] = "holm",
    n_bootstrap: Annotated[int, typer.Option(min=0, help="Draws of stimuli and sites.")] = 1000,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare models on the same recordings: scores, paired differences, corrected p-values and ranks.

    What was computed is kept in OUT/cells: a command that was interrupted goes on where it stopped.
    """
    from neurobridge import figures
    from neurobridge.assemblies import average_repetitions
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.evaluate import compare_models, comparison_tables

    paths = _named(models)
    given = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    averaged = varying(average_repetitions(read(recordings, time_bin=time_bin)), recordings)
    # Regressions treat sites one by one; dissimilarities need a value of every site.
    by_site = metrics is not None and all(name in REGRESSIONS for name in given)
    averaged = complete(averaged, recordings, max_missing, presentations=not by_site)
    chosen = given if metrics is not None else _metrics_of(averaged, recordings)
    comparison = compare_models(
        _Files(paths),
        averaged,
        chosen,
        splits=splits,
        ceiling=None if ceiling is None else read_ceiling(ceiling, averaged),
        correction=correction,
        n_bootstrap=n_bootstrap,
        seed=seed,
        keep=out / "cells",
        progress=not as_json,
    )
    tables = comparison_tables(comparison)
    save_variables(comparison, out / "comparison.nc")
    for name, table in tables.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False))
    files = []
    for metric in comparison["metric"].values.tolist():
        title = f"{recordings.name}: {comparison.attrs['n_stimuli']} stimuli, {comparison.attrs['n_sites']} sites, seed {seed}"
        ax = figures.compared_models(comparison, metric, title=title)
        files += [str(path) for path in figures.save_figure(cast("Figure", ax.figure), out, f"comparison_{metric}")]
    n_left_out = averaged.sizes["presentation"] - int(comparison.attrs["n_stimuli"])
    told = _told(comparison, tables, len(paths), n_left_out)
    # The form in which `neurobridge report` reads results, and the numbers themselves.
    summary: dict[str, Any] = {
        "title": f"{', '.join(paths)} compared on {recordings.name}",
        "note": " ".join(told),
        "tables": [_shown(comparison, tables, metric) for metric in comparison["metric"].values.tolist()],
        "run": {
            "recordings": str(recordings),
            "models": {name: str(path) for name, path in paths.items()},
            "ceiling": None if ceiling is None else str(ceiling),
            "n_sites": int(comparison.attrs["n_sites"]),
            "correction": correction,
            "seed": seed,
            **{
                name: comparison.attrs[name]
                for name in ("metric", "splits", "n_stimuli", "n_bootstrap", "digests", "version")
            },
        },
        "scores": {name: _records(table) for name, table in tables.items()},
        "figures": files,
    }
    write_json(summary, out / "scores.json")
    if as_json:
        print_json(summary)
        return
    print_tables(summary["tables"])
    for sentence in told:
        tell(sentence)
    tell(f"Wrote {out / 'comparison.nc'}, scores.json, models.csv, pairs.csv and {len(files)} figures.")
    tell(f"Next: neurobridge report {out}")


def _metrics_of(averaged: xr.DataArray, path: Path) -> list[str]:
    """Return the metrics that recordings allow: RDMs of each animal where there are two, else one RDM of all sites."""
    import numpy as np

    sites = averaged.coords.get("animal")
    counts = (
        np.unique(sites.values.astype(str), return_counts=True)[1]
        if sites is not None and sites.dims == ("neuroid",)
        else np.array([averaged.sizes["neuroid"]])
    )
    if len(counts) > 1 and counts.min() >= 3:
        return ["ridge", "rsa"]
    tell(
        f"{path} does not have two animals of three sites or more, which rsa needs: dissimilarities are compared by rdm, over all "
        "sites (--metrics)."
    )
    return ["ridge", "rdm"]


def _named(models: list[Path]) -> dict[str, Path]:
    """Return the files by their stems, refusing fewer than two."""
    paths = by_stem(models)
    if len(paths) < 2:
        raise ValueError(
            f"found {len(paths)} model(s); expected two or more. "
            "Mend: neurobridge compare a.nc b.nc --recordings r.nc --out folder."
        )
    return paths


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table; what is not defined is None."""
    return [
        {str(key): None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in table.to_dict(orient="records")
    ]


def _shown(comparison: xr.Dataset, tables: dict[str, pd.DataFrame], metric: str) -> dict[str, Any]:
    """Return the table of a metric as text, the best model first."""
    models = tables["models"]
    rows = [
        [
            row.model, f"{row.rank:g} [{row.rank_low:g}, {row.rank_high:g}]",
            f"{row.value:.3f} [{row.value_low:.3f}, {row.value_high:.3f}]", _number(row.normalized), row.layers,
        ]
        for row in models[models["metric"] == metric].itertuples()
    ]  # fmt: skip
    columns = ["model", "rank", "score", "of ceiling", "layers (folds)"]
    return {"title": f"{metric}: {comparison.attrs['splits']}, held out", "columns": columns, "rows": rows}


def _number(value: Any) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _lacking_ceilings(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Say why there is no number of the ceiling, a sentence a reason."""
    models = tables["models"]
    lacking = models[models["normalized"].isna()]["metric"].unique().tolist()
    by_site = [name for name in lacking if name in REGRESSIONS]
    others = [name for name in lacking if name not in REGRESSIONS]
    sentences = []
    if by_site:
        sentences.append(
            f"{', '.join(by_site)} has no ceiling here (-): --ceiling takes the file of neurobridge ceiling, made of the trials."
        )
    if others:
        sentences.append(
            f"{', '.join(others)} has no ceiling in a comparison (-); neurobridge.similarity.rdm_consistency of the trials "
            "estimates one."
        )
    return sentences


def _told(comparison: xr.Dataset, tables: dict[str, pd.DataFrame], n_models: int, n_left_out: int) -> list[str]:
    """Return what was read and found, in sentences."""
    pairs = tables["pairs"]
    differ = int((pairs["p_corrected"] < 0.05).sum())
    return [
        f"Read {n_models} models and {comparison.attrs['n_sites']} sites; {comparison.attrs['n_stimuli']} stimuli are in all of "
        f"them, {n_left_out} of the recordings are left out.",
        f"{differ} of {len(pairs)} differences are significant (p < 0.05, corrected by {comparison.attrs['correction']} within a "
        "metric); intervals and p are over stimuli and sites, with the fits as they are.",
        *_lacking_ceilings(tables),
    ]
