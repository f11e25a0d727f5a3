"""`neurobridge align`: one assembly moved into the space of another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurobridge.cli.choices import BASELINES
from neurobridge.cli.common import Json, Seed, print_json

if TYPE_CHECKING:
    from neurobridge.assemblies import Pairs


def align_command(
    source: Annotated[Path, typer.Argument(help="Assembly to move, netCDF or zarr.")],
    target: Annotated[Path, typer.Argument(help="Assembly whose space to move into, netCDF or zarr.")],
    out: Annotated[Path, typer.Option(help="File to write, .nc or .zarr.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Number or fraction of the shared stimuli, or a csv with source_id and target_id; all by default."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=f"bridge, {', '.join(BASELINES)}.")] = "bridge",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Align one assembly to another over their pairs and write it in the other's space."""
    from neurobridge import aligners
    from neurobridge.assemblies import open_assembly, resolve_pairs, save_assembly

    if method != "bridge" and method not in BASELINES:
        raise ValueError(
            f"found method {method!r}; expected one of {['bridge', *BASELINES]}. Mend: choose one of them."
        )
    source_space, target_space = open_assembly(source), open_assembly(target)
    resolved = resolve_pairs(source_space, target_space, _read_pairs(pairs), seed=seed)
    aligner = aligners.BridgeAligner(seed=seed) if method == "bridge" else aligners.BASELINES[method]()
    aligned = aligner.fit(source_space, target_space, resolved).transform(source_space)
    save_assembly(aligned, out)
    summary = {
        "out": str(out),
        "method": method,
        "n_pairs": len(resolved),
        "shape": list(aligned.shape),
        "seed": seed,
    }
    if as_json:
        print_json(summary)
    else:
        typer.echo(
            f"aligned {aligned.shape[0]} presentations to {aligned.shape[1]} neuroids over {len(resolved)} pairs: {out}"
        )


def _read_pairs(pairs: str | None) -> Pairs | int | float | None:
    from neurobridge.assemblies import Pairs

    if pairs is None:
        return None
    try:
        number = float(pairs)
    except ValueError:
        return Pairs.load(pairs)
    if not 0 < number < math.inf or (number > 1 and not number.is_integer()):
        raise ValueError(
            f"--pairs: found {pairs}; expected a whole number, or a fraction above 0 and at most 1. Mend: e.g. --pairs 20, "
            "--pairs 0.2, or the path of a csv with source_id and target_id."
        )
    return int(number) if number > 1 else number
