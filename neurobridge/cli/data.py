"""Command line of the datasets: `neurobridge data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.common import Json, Mirror, make_console, print_json, print_tables

data_app = typer.Typer(no_args_is_help=True, help="List, show, fetch, verify, find and mirror datasets.")

Names = Annotated[list[str] | None, typer.Argument(help="Datasets, as `neurobridge data list` names them.")]


def _megabytes(n_bytes: int | None) -> str:
    return "not stated" if n_bytes is None else f"{n_bytes / 1e6:.2f} MB"


def _report_sets_without_files(names: list[str]) -> None:
    from neurobridge import datasets

    for name in names:
        manifest = datasets.find_manifest(name)
        if not manifest.files:
            how = "made by neurobridge" if manifest.access == "embedded" else "yours: load it with folder=..."
            typer.echo(f"{name}: {manifest.access}, no files to fetch or verify; it is {how}", err=True)


@data_app.command("list")
def data_list(mirror: Mirror = None, as_json: Json = False) -> None:
    """List the datasets: what they are, and how many of their files are at hand (not verified: see verify)."""
    from neurobridge import datasets

    columns = ["name", "kind", "access", "loader", "files", "at hand", "licence", "title"]
    rows = []
    for manifest in datasets.list_datasets():
        places = datasets.locate(manifest.name, mirror=mirror).values()
        n_at_hand = sum(place is not None for place in places)
        loader = datasets.has_loader(manifest.name)
        rows.append(
            [
                manifest.name,
                manifest.kind,
                manifest.access,
                loader,
                len(places),
                n_at_hand,
                manifest.licence,
                manifest.title,
            ]
        )
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        shown = [[*row[:3], "yes" if row[3] else "files only", *row[4:]] for row in rows]
        print_tables([{"title": "Datasets", "columns": columns, "rows": shown, "left": columns}])


@data_app.command("show")
def data_show(name: str, as_json: Json = False) -> None:
    """Show one dataset: what it is and is not, files, digests, licence, citation."""
    from neurobridge import datasets

    manifest = datasets.find_manifest(name)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    about = [
        ["title", manifest.title],
        ["version", manifest.version],
        ["kind", manifest.kind],
        ["access", manifest.access],
    ]
    about += [["licence", manifest.licence], ["what it is", manifest.note]]
    about += [["what it is not", statement] for statement in manifest.is_not]
    about += [["post-processing", manifest.post_processing]]
    about += [["needs", f"{', '.join(files)} of {other}"] for other, files in manifest.requires.items()]
    about += [["folder", str(datasets.path_of(name))]]
    tables = [{"title": name, "columns": ["field", "value"], "rows": about, "left": ["value"]}]
    if manifest.files:
        rows = [
            [
                entry.name,
                _megabytes(entry.size),
                " or ".join(
                    [*entry.digests, *([] if entry.members is None else [f"the files of {entry.members.name}"])]
                ),
                entry.url or f"to be supplied: {entry.origin}",
            ]
            for entry in manifest.files
        ]
        columns = ["file", "size", "digest", "address"]
        tables.append({"title": "Files", "columns": columns, "rows": rows, "left": columns})
    print_tables(tables)
    make_console().print(manifest.citation.strip(), markup=False, highlight=False)


@data_app.command("fetch")
def data_fetch(
    names: Names = None,
    mirror: Mirror = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place", help="Verify files of the mirror where they are, without copying them to the cache."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring verified datasets into the cache, from a mirror or their public addresses; without names, all of the mirror."""
    from neurobridge import datasets

    chosen: dict[str, list[str] | None] = dict.fromkeys(names or [])
    if not names:
        # Of some datasets a mirror holds a part of the files.
        chosen = {
            name: [file for file, place in datasets.locate(name, mirror=mirror).items() if place is not None]
            for name in datasets.mirrored(mirror)
        }
    _report_sets_without_files(list(chosen))
    verified = {
        name: {
            file: str(path)
            for file, path in datasets.fetch(
                name, files=files, mirror=mirror, copy=not in_place, progress=not as_json
            ).items()
        }
        for name, files in chosen.items()
    }
    if as_json:
        print_json(verified)
    else:
        rows = [[name, file, path] for name, files in verified.items() for file, path in files.items()]
        columns = ["dataset", "file", "path"]
        print_tables([{"title": "Verified files", "columns": columns, "rows": rows, "left": columns}])


@data_app.command("verify")
def data_verify(
    name: Annotated[str | None, typer.Argument(help="One dataset; all by default.")] = None,
    mirror: Mirror = None,
    as_json: Json = False,
) -> None:
    """Check files against their digests; exits with 1 if one is wrong, or (for a named dataset) missing."""
    from neurobridge import datasets

    _report_sets_without_files([name] if name else [])
    names = [name] if name else [manifest.name for manifest in datasets.list_datasets() if manifest.files]
    status = {dataset: datasets.verify(dataset, mirror=mirror) for dataset in names}
    states = [state for files in status.values() for state in files.values()]
    if as_json:
        print_json(status)
    else:
        rows = [[dataset, file, state] for dataset, files in status.items() for file, state in files.items()]
        columns = ["dataset", "file", "status"]
        print_tables([{"title": "Files and their digests", "columns": columns, "rows": rows, "left": columns}])
        wrong = len(states) - states.count("ok") - states.count("missing")
        typer.echo(f"{states.count('ok')} ok, {states.count('missing')} not fetched, {wrong} wrong")
    accepted = {"ok"} if name else {"ok", "missing"}
    if any(state not in accepted for state in states):
        raise typer.Exit(1)


@data_app.command("path")
def data_path(name: str, mirror: Mirror = None, as_json: Json = False) -> None:
    """Print the folder where a dataset's files are kept; with --json also where each file is at hand."""
    from neurobridge import datasets

    folder = str(datasets.path_of(name))
    if as_json:
        places = {file: str(place) if place else None for file, place in datasets.locate(name, mirror=mirror).items()}
        print_json({"folder": folder, "files": places})
    else:
        typer.echo(folder)


@data_app.command("mirror")
def data_mirror(
    folder: Annotated[Path, typer.Argument(help="Folder to fill, laid out <dataset>/<file>.")],
    names: Annotated[list[str], typer.Argument(help="Datasets.")],
    mirror: Mirror = None,
    as_json: Json = False,
) -> None:
    """Copy verified datasets into a folder that serves as --mirror where there is no internet."""
    from neurobridge import datasets

    copied = datasets.copy_to_mirror(folder, names, mirror=mirror, progress=not as_json)
    if as_json:
        print_json([str(path) for path in copied])
    else:
        typer.echo(f"{len(copied)} verified files in {folder}")
