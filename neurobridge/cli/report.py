"""`neurobridge report`: one page from a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.common import Json, print_json


def report_command(
    folder: Annotated[Path, typer.Argument(help="Results folder, as the demo writes it.")],
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page from a results folder."""
    from neurobridge.study.report import write_report

    page = str(write_report(folder))
    if as_json:
        print_json({"page": page})
    else:
        typer.echo(page)
