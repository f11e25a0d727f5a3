"""`neurobridge align`: one assembly moved into the space of another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurobridge.cli.choices import BASELINES, COUPLINGS, CRITERIA, MAPS, METRICS
from neurobridge.cli.common import Json, Seed, print_json, tell
from neurobridge.cli.reading import MaxMissing, TimeBin, averaged, complete, next_step, notes, read, varying

if TYPE_CHECKING:
    import xarray as xr

    from neurobridge.assemblies import Pairs

#: Attributes of an aligned assembly with the ids of its pairs, of the source and of the target: `neurobridge retrieve` reads them.
FITTED_PAIRS = ("fitted_source_ids", "fitted_target_ids")
#: Options that the bridge alone takes, with their choices.
_OF_BRIDGE = {"criterion": CRITERIA, "map": MAPS, "metric": METRICS, "coupling": COUPLINGS}


def align_command(
    source: Annotated[Path, typer.Argument(help="Assembly to move, netCDF or zarr.")],
    target: Annotated[Path, typer.Argument(help="Assembly whose space to move into, netCDF or zarr.")],
    out: Annotated[Path, typer.Option(help="File to write, .nc or .zarr.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Number or fraction of the shared stimuli, their ids with commas or a line each (.txt), or a csv with source_id "
            "and target_id (or with stimulus_id alone); all by default."
        ),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(help="Label of the source, e.g. category_name: the drawn pairs have every value of it."),
    ] = None,
    method: Annotated[str, typer.Option(help=f"bridge, {', '.join(BASELINES)}.")] = "bridge",
    criterion: Annotated[
        str | None,
        typer.Option(help=f"What the bridge is chosen for on held-out pairs: {', '.join(CRITERIA)}."),
    ] = None,
    map_kind: Annotated[
        str | None, typer.Option("--map", help=f"How the bridge moves points: {', '.join(MAPS)}.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help=f"Distance within each space: {', '.join(METRICS)}.")] = None,
    coupling: Annotated[str | None, typer.Option(help=f"What the map is read from: {', '.join(COUPLINGS)}.")] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Temperature of the transport, relative to the mean cost; chosen by default.")
    ] = None,
    unbalanced: Annotated[
        float | None, typer.Option(help="Weight of the penalty on the marginals; balanced transport by default.")
    ] = None,
    representation: Annotated[
        str | None,
        typer.Option(help="What the bridge reads of several layers: auto (default), balanced, equal, all, or a layer."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; cpu by default.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to keep the fitted aligner in, too.")] = None,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Align one assembly to another over their pairs and write it in the other's space."""
    from neurobridge import aligners
    from neurobridge.assemblies import resolve_pairs, save_assembly

    if method != "bridge" and method not in BASELINES:
        raise ValueError(
            f"found method {method!r}; expected one of {['bridge', *BASELINES]}. Mend: choose one of them."
        )
    chosen = {
        "criterion": criterion,
        "map": map_kind,
        "metric": metric,
        "coupling": coupling,
        "epsilon": epsilon,
        "unbalanced": unbalanced,
        "representation": representation,
    }
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if options and method != "bridge":
        raise ValueError(
            f"found {options} with method {method!r}; expected them with 'bridge' alone. Mend: --method bridge, or leave them out."
        )
    for name, choices in _OF_BRIDGE.items():
        if name in options and options[name] not in choices:
            raise ValueError(
                f"--{name}: found {options[name]!r}; expected one of {list(choices)}. Mend: choose one of them{_in_python(name)}."
            )
    wanted = read_pairs(pairs)
    source_space, target_space = (
        complete(varying(averaged(read(path, time_bin=time_bin), path), path), path, max_missing)
        for path in (source, target)
    )
    # What is left out above may have been all that varied in a site.
    source_space, target_space = varying(source_space, source), varying(target_space, target)
    with notes():
        resolved = resolve_pairs(source_space, target_space, wanted, seed=seed, stratify=stratify)
        aligner = (
            aligners.BridgeAligner(seed=seed, device=device, **options)
            if method == "bridge"
            else aligners.BASELINES[method]().set_params(**({"device": device} if device else {}))
        )
        aligner.fit(source_space, target_space, resolved, progress=True)
        aligned = aligner.transform(source_space)
    ids = {FITTED_PAIRS[0]: resolved.source_id, FITTED_PAIRS[1]: resolved.target_id}
    aligned.attrs.update({name: list(map(str, column)) for name, column in ids.items()})
    save_assembly(aligned, out)
    if save is not None:
        aligner.save(save)
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
        return
    tell(f"aligned {aligned.shape[0]} presentations to {aligned.shape[1]} neuroids over {len(resolved)} pairs: {out}")
    names = [set(map(str, space["stimulus_id"].values)) for space in (source_space, target_space)]
    # Ids that are joined without their extensions share no text.
    n_shared = len(names[0] & names[1]) or min(map(len, names))
    counts = ",".join(str(n) for n in curve_counts(len(resolved), n_shared))
    next_step("curve", source, target, "--pairs", counts, *_ceiling_beside(target, target_space), "--out", "curve/")


def _in_python(name: str) -> str:
    if name != "criterion":
        return ""
    return "; 'labels' needs a classifier, which neurobridge.BridgeAligner takes in Python"


def curve_counts(n_pairs: int, n_shared: int) -> list[int]:
    """Return three numbers of pairs around one, or fewer where a fifth of the shared stimuli has to be held out as well."""
    most = n_shared - math.ceil(n_shared / 5)
    return sorted({max(2, min(count, most)) for count in (n_pairs // 2, n_pairs, 2 * n_pairs)})


def _ceiling_beside(path: Path, space: xr.DataArray) -> list[str]:
    """Return the option that names the ceilings, where the file of the road lies beside and has some of the sites."""
    import xarray as xr

    ceiling = path.parent / "ceiling.nc"
    try:
        with xr.open_dataset(ceiling) as score:
            known = set(map(str, score["neuroid_id"].values))
    except (OSError, ValueError, KeyError):
        return []
    return ["--ceiling", str(ceiling)] if known & set(map(str, space["neuroid_id"].values)) else []


def read_pairs(pairs: str | None, *, option: str = "--pairs") -> Pairs | list[str] | int | float | None:
    """Read pairs from the text of an option: a number, a fraction, ids with commas, a file of ids (.txt), or a table.

    Raises
    ------
    ValueError
        A number that is neither whole nor a fraction.
    FileNotFoundError
        No file of that name.
    AssemblyError
        The table is not one of pairs.
    """
    from neurobridge.assemblies import Pairs, read_table

    if pairs is None:
        return None
    try:
        number = float(pairs)
    except ValueError:
        if "," in pairs and not Path(pairs).exists():
            return [name.strip() for name in pairs.split(",") if name.strip()]
        if Path(pairs).suffix.casefold() == ".txt" and Path(pairs).is_file():
            lines = Path(pairs).read_text(encoding="utf-8-sig").splitlines()
            return [line.strip() for line in lines if line.strip()]
        table = read_table(pairs, what="pairs", required=(), numbers=False)
        if "stimulus_id" in table and "source_id" not in table:
            return list(map(str, table["stimulus_id"]))
        return Pairs.load(pairs)
    if not 0 < number < math.inf or (number > 1 and not number.is_integer()):
        raise ValueError(
            f"{option}: found {pairs}; expected a whole number, or a fraction above 0 and at most 1. Mend: e.g. {option} 20, "
            f"{option} 0.2, or the path of a csv with source_id and target_id."
        )
    return int(number) if number > 1 else number
