"""`neurobridge report`: one page from a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report_command(
    folder: Annotated[Path, typer.Argument(help="Results folder, as the demo writes it.")],
) -> None:
    """Write one self-contained HTML page from a results folder."""
    from neurobridge.study.report import write_report

    typer.echo(str(write_report(folder)))
