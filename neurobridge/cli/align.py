"""`neurobridge align`: one assembly moved into the space of another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurobridge.cli.choices import BASELINES, CRITERIA
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
    criterion: Annotated[
        str | None,
        typer.Option(help=f"What the bridge is chosen for on held-out pairs: {', '.join(CRITERIA)}."),
    ] = None,
    representation: Annotated[
        str | None,
        typer.Option(help="What the bridge reads of several layers: auto (default), balanced, equal, all, or a layer."),
    ] = None,
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
    chosen = {"criterion": criterion, "representation": representation}
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if options and method != "bridge":
        raise ValueError(
            f"found {options} with method {method!r}; expected them with 'bridge' alone. Mend: --method bridge, or leave them out."
        )
    if criterion is not None and criterion not in CRITERIA:
        raise ValueError(
            f"--criterion: found {criterion!r}; expected one of {list(CRITERIA)}. Mend: choose one of them; 'labels' needs a "
            "classifier, which neurobridge.BridgeAligner takes in Python."
        )
    source_space, target_space = open_assembly(source), open_assembly(target)
    resolved = resolve_pairs(source_space, target_space, _read_pairs(pairs), seed=seed)
    aligner = aligners.BridgeAligner(seed=seed, **options) if method == "bridge" else aligners.BASELINES[method]()
    aligned = aligner.fit(source_space, target_space, resolved).transform(source_space)
    save_assembly(aligned, out)
    summary = {
        "out": str(out),
        "method": method,
        **options,
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
