"""`neurobridge rsa`: models against each other by their dissimilarity matrices, with several subjects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.choices import BOOTSTRAPS, COMPARATORS, DISTANCES
from neurobridge.cli.common import Json, Seed, print_json, print_tables, require_choice, tell
from neurobridge.cli.reading import (
    MaxMissing,
    TimeBin,
    averaged,
    by_stem,
    complete,
    next_step,
    notes,
    read,
    unit_of,
    varying,
)

if TYPE_CHECKING:
    import xarray as xr

    from neurobridge.evaluate.similarity.inference.models import Bootstrap

#: Coordinate of the sites that tells subjects apart.
SUBJECT = "animal"
# Distances over trials, and whether they are whitened by the noise; models have the squared ones beside them.
_CROSSVALIDATED = {"crossvalidated": False, "crossnobis": True}
# What the mends of distances say in Python, and the distance to type.
_TYPED = {"distance='euclidean'": "euclidean", "use rdm()": "sqeuclidean", "whiten=False": "crossvalidated"}


def rsa_command(
    models: Annotated[
        list[Path], typer.Argument(help="Assemblies of activations, netCDF or zarr, named by their files.")
    ],
    recordings: Annotated[
        list[Path],
        typer.Option(
            help="Recordings of a subject, or of several in one file; once for each file. Repetitions are averaged."
        ),
    ],
    out: Annotated[Path, typer.Option(help="netCDF file of the Score.")],
    subject: Annotated[
        str | None,
        typer.Option(
            help="Coordinate of the sites that tells the subjects in a file apart; animal by default, or none."
        ),
    ] = None,
    distance: Annotated[
        str,
        typer.Option(
            help=f"One of {', '.join(DISTANCES)}; the last two need single trials, and models have sqeuclidean."
        ),
    ] = "correlation",
    comparator: Annotated[str, typer.Option(help=f"One of {', '.join(COMPARATORS)}.")] = "corr_cov",
    bootstrap: Annotated[
        str, typer.Option(help=f"What is drawn, and so what p is about: {', '.join(BOOTSTRAPS)}.")
    ] = "both",
    n_bootstrap: Annotated[int, typer.Option(min=20, help="Draws.")] = 1000,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare the dissimilarities of models with those of several subjects: noise ceiling, paired differences, corrected p.

    With several files: --recordings FIRST.nc --recordings SECOND.nc.
    """
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.evaluate.similarity import compare_rsa_models
    from neurobridge.figures.telling.words import words_of

    require_choice("--distance", distance, DISTANCES)
    require_choice("--comparator", comparator, COMPARATORS)
    require_choice("--bootstrap", bootstrap, BOOTSTRAPS)
    files = by_stem(models)
    subjects = _subjects(recordings, subject, distance, max_missing, time_bin)
    if len(subjects) < 2 and bootstrap != "stimuli":
        raise ValueError(
            f"--recordings: found one subject, {next(iter(subjects))!r}, with --bootstrap {bootstrap}; expected two or more: sites "
            f"with a coordinate {subject or SUBJECT!r} (--subject), or a file for each. "
            "Mend: --recordings FIRST.nc --recordings SECOND.nc, or --bootstrap stimuli to speak of this subject alone."
        )
    spaces = {
        name: complete(varying(averaged(read(path, time_bin=time_bin), path), path), path, max_missing)
        for name, path in files.items()
    }
    of_models = "sqeuclidean" if distance in _CROSSVALIDATED else distance
    with notes():
        reference, n_largest = _shared([*subjects.values(), *spaces.values()])
        score = compare_rsa_models(
            {name: _rdm(_labelled(space, reference), of_models, str(files[name])) for name, space in spaces.items()},
            {name: _rdm(_labelled(part, reference), distance, f"subject {name!r}") for name, part in subjects.items()},
            comparator=comparator,
            bootstrap=cast("Bootstrap", bootstrap),
            n_bootstrap=n_bootstrap,
            seed=seed,
            progress=True,
        )
    score = score.assign_attrs(distance=distance)
    save_variables(score, out)
    n_stimuli, names = int(score.attrs["n_stimuli"]), score["subject"].values.tolist()
    numbers = _numbers(score)
    if as_json:
        print_json({
            "out": str(out), "models": {name: str(path) for name, path in files.items()}, "subjects": names, "distance": distance,
            **{key: score.attrs[key] for key in ("metric", "bootstrap", "n_bootstrap", "n_stimuli", "dof")}, "seed": seed,
            "scores": numbers,
        })  # fmt: skip
        return
    print_tables(_tables(score, numbers))
    tell(
        f"{n_stimuli} stimuli are in all files, {n_largest - n_stimuli} of the subject or model with most are left out; models: "
        f"{', '.join(files)}; subjects: {', '.join(names)}."
    )
    tell(words_of(score).finding)
    tell(f"p and intervals are about other {_spoken_of(bootstrap)}, with {score.attrs['dof']} degrees of freedom.")
    tell(f"wrote {out}.")
    next_step("report", out)


def _spoken_of(bootstrap: str) -> str:
    return "stimuli and subjects" if bootstrap == "both" else bootstrap


def _subjects(
    paths: list[Path], subject: str | None, distance: str, max_missing: float, time_bin: int | None
) -> dict[str, xr.DataArray]:
    """Read the recordings of every subject: a file's own, or its sites by a coordinate; trials where the distance needs them."""
    import numpy as np

    from neurobridge.assemblies import AssemblyError, average_repetitions, drop_missing

    parts: dict[str, xr.DataArray] = {}
    origin: dict[str, Path] = {}
    for stem, path in by_stem(paths).items():
        whole = read(path, time_bin=time_bin)
        split = {stem: whole}
        of_sites = sorted(str(name) for name, coord in whole.coords.items() if coord.dims == ("neuroid",))
        if subject not in (None, "none", *of_sites):
            raise AssemblyError(
                f"--subject: found {subject!r}, which is no coordinate of the sites of {path}; expected one of {of_sites}, or "
                "none for a subject a file. Mend: --subject none."
            )
        label = subject or SUBJECT
        if label in of_sites:
            named = drop_missing(whole, label)
            if named.sizes["neuroid"] < whole.sizes["neuroid"]:
                n_lacking = whole.sizes["neuroid"] - named.sizes["neuroid"]
                tell(f"left out {n_lacking} {unit_of(whole)} of {path} without a value of {label}.")
            labels = named[label].values.astype(str)
            split = {str(name): named.isel(neuroid=np.flatnonzero(labels == name)) for name in np.unique(labels)}
            if len(split) == 1:
                split = {stem: named}
        for name, part in split.items():
            if name in parts:
                raise AssemblyError(
                    f"--recordings: found subject {name!r} in {origin[name]} and in {path}; expected each once. "
                    "Mend: leave one of the files out, or rename it."
                )
            of_subject = varying(part, path)
            of_subject = of_subject if distance in _CROSSVALIDATED else average_repetitions(of_subject)
            parts[name], origin[name] = complete(of_subject, path, max_missing), path
            if distance == "correlation" and parts[name].sizes["neuroid"] < 3:
                raise AssemblyError(
                    f"{path}: found {parts[name].sizes['neuroid']} site(s) of subject {name!r} with --distance correlation; "
                    "expected three or more, over which it correlates. Mend: --distance sqeuclidean, or --subject none to take "
                    "the sites of a file together."
                )
    return parts


def _means(space: xr.DataArray) -> xr.DataArray:
    from neurobridge.assemblies import average_repetitions

    unique = len(set(space["stimulus_id"].values.tolist())) == space.sizes["presentation"]
    return space if unique else average_repetitions(space)


def _shared(spaces: list[xr.DataArray]) -> tuple[xr.DataArray, int]:
    """Return the first of several with the stimuli that all have, and how many stimuli the largest has."""
    from neurobridge.assemblies import match_stimuli

    means = [_means(space) for space in spaces]
    reference = means[0]
    for other in means[1:]:
        reference = match_stimuli(reference, other).source
    return reference, max(mean.sizes["presentation"] for mean in means)


def _labelled(space: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Return the presentations of the stimuli of a reference, under its ids."""
    import numpy as np

    from neurobridge.assemblies import match_stimuli
    from neurobridge.assemblies.ids import find_rows

    ids = match_stimuli(reference, _means(space)).target["stimulus_id"].values
    rows = find_rows(space["stimulus_id"].values, ids)
    kept = np.flatnonzero(rows >= 0)
    return space.isel(presentation=kept).assign_coords(
        stimulus_id=("presentation", reference["stimulus_id"].values[rows[kept]])
    )


def _rdm(space: xr.DataArray, distance: str, where: str) -> xr.DataArray:
    from neurobridge.evaluate.similarity import crossvalidated_rdm, rdm

    try:
        if distance in _CROSSVALIDATED:
            return crossvalidated_rdm(space, whiten=_CROSSVALIDATED[distance])
        return rdm(space, distance=distance)
    except ValueError as error:
        text = str(error)
        for call, option in _TYPED.items():
            text = text.replace(call, f"--distance {option}")
        raise type(error)(f"{where}: {text}") from error


def _numbers(score: xr.Dataset) -> dict[str, Any]:
    """Return value, interval and corrected p of every model, the ceiling, and the difference of every two models."""
    columns = {"value": "raw", "low": "raw_low", "high": "raw_high", "sem": "sem", "p_fdr": "p_value_fdr",
               "p_ceiling_fdr": "p_ceiling_fdr"}  # fmt: skip
    names = score["model"].values.tolist()
    return {
        "models": {
            name: {column: float(score[key].sel(model=name)) for column, key in columns.items()} for name in names
        },
        "ceiling": float(score["ceiling"].max()),
        "ceiling_upper": float(score["ceiling_upper"]),
        "pairs": [
            {
                "model": first, "other": second,
                **{column: float(score[key].sel(model=first, model_2=second))
                   for column, key in {"difference": "difference", "p_fdr": "p_difference_fdr"}.items()},
            }
            for k, first in enumerate(names) for second in names[k + 1 :]
        ],
    }  # fmt: skip


def _tables(score: xr.Dataset, numbers: dict[str, Any]) -> list[dict[str, Any]]:
    order = sorted(numbers["models"].items(), key=lambda item: -item[1]["value"])
    rows = [
        [name, f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", f"{row['p_fdr']:.3g}", f"{row['p_ceiling_fdr']:.3g}"]
        for name, row in order
    ]  # fmt: skip
    title = f"{score.attrs['metric']}, {score.attrs['distance']} distances: {score.attrs['n_stimuli']} stimuli"
    columns = ["model", "similarity [95 %]", "p above 0 (fdr)", "p against ceiling (fdr)"]
    tables = [{"title": title, "columns": columns, "rows": rows}]
    if numbers["pairs"]:
        pairs = [
            [f"{row['model']} - {row['other']}", f"{row['difference']:.3f}", f"{row['p_fdr']:.3g}"]
            for row in numbers["pairs"]
        ]
        tables.append({"title": "Differences", "columns": ["models", "difference", "p (fdr)"], "rows": pairs})
    return tables
