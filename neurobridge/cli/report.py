"""`neurobridge report`: one page on results of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.common import Json, print_json, tell


def report_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Results folder, netCDF file of a Score, a learning curve or a ceiling, folder of a saved aligner; or several.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Page to write; by default report.html in the folder, or beside the file under its name."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page; by default what the results say.")] = "",
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page on results: findings, figures, tables, data, methods, references."""
    from neurobridge.study.pages.make import report

    first = paths[0]
    if out is None:
        out = first / "report.html" if first.is_dir() and first.suffix != ".zarr" else first.with_suffix(".html")
    page = report(paths, out, title=title)
    if as_json:
        print_json({"page": str(page)})
        return
    text = page.read_text(encoding="utf-8")
    tell(f"read {', '.join(map(str, paths))}.")
    tell(
        f"wrote {page}: {text.count('<figure')} figure(s), {text.count('<table')} table(s), {len(text) / 1024:.0f} kB. Any browser "
        "opens it, and it needs no other file."
    )
