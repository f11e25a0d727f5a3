"""`neurobridge plot`: the figure of a file that the package wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurobridge.cli.common import Json, print_json, tell
from neurobridge.cli.reading import next_step


def plot_command(
    path: Annotated[
        Path,
        typer.Argument(
            help="netCDF of a Score, a learning curve, a ceiling or an assembly; zarr; folder of a saved aligner."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Figure to write, FOLDER/NAME.png; svg and pdf lie beside it. By default beside the file."),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(help="Width and size of text of a journal: nature (one column of 89 mm) or wide (183 mm)."),
    ] = None,
    title: Annotated[str, typer.Option(help="Title; by default what the figure says itself.")] = "",
    as_json: Json = False,
) -> None:
    """Draw the figure of a result as PNG, SVG and PDF: learning curve, sites, confusions, plan, dissimilarities, ..."""
    import matplotlib as mpl

    from neurobridge import figures
    from neurobridge.study.pages.reading import is_results, read_result

    suffixes = {"", ".png", ".svg", ".pdf"}
    if out is not None and out.suffix not in suffixes:
        raise ValueError(
            f"--out: found {out.name}; expected a name that ends in .png, .svg or .pdf, or none. "
            f"Mend: --out {out.with_suffix('.png')}."
        )
    # A command only writes its figures; it never shows them.
    mpl.use("Agg")
    result = read_result(path)
    if is_results(result):
        raise ValueError(
            f"{path}: found tables, of which there is no one figure; expected a netCDF file or an aligner. "
            f"Mend: neurobridge report {path.parent}."
        )
    target = path.parent / path.stem if out is None else out.with_suffix("") if out.suffix in suffixes - {""} else out
    with figures.journal(style):
        files = figures.save_figure(figures.plot(result, title=title), target.parent, target.name)
    text = figures.caption(result)
    if as_json:
        print_json({"files": [str(file) for file in files], "caption": text, "alt_text": figures.alt_text(result)})
        return
    tell(f"wrote {', '.join(str(file) for file in files)}.")
    tell(f"Caption: {text}")
    next_step("report", path)
