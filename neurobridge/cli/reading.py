"""Assemblies as commands read them: each is described in a sentence, and so is what was left out of it."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurobridge.cli.common import is_quiet, tell

if TYPE_CHECKING:
    import xarray as xr

TimeBin = Annotated[
    int | None, typer.Option("--time-bin", min=0, help="Number of the time bin to read, from 0, of files with several.")
]
MaxMissing = Annotated[
    float,
    typer.Option(
        "--max-missing",
        min=0,
        max=1,
        help="Largest share of missing values of a site that is kept; stimuli that still miss a value are left out.",
    ),
]


def read(path: Path, *, time_bin: int | None = None, words: bool = True) -> xr.DataArray:
    """Read an assembly with one time bin, or without, and say what is in it."""
    from neurobridge.assemblies import AssemblyError, missing_values, open_assembly

    assembly = open_assembly(path)
    if assembly.ndim == 3:
        n_bins = assembly.sizes["time_bin"]
        if time_bin is None and n_bins > 1:
            raise AssemblyError(
                f"{path}: found {n_bins} time bins; expected one. Mend: --time-bin 0, or another up to {n_bins - 1}."
            )
        if time_bin is not None and time_bin >= n_bins:
            raise AssemblyError(
                f"--time-bin: found {time_bin}; expected at most {n_bins - 1}, the last time bin of {path}. Mend: --time-bin 0."
            )
        assembly = assembly.isel(time_bin=time_bin or 0)
    if words:
        tell(f"read {path}: {describe(assembly)}.")
        absent = int(missing_values(assembly).sum())
        if absent:
            tell(f"{absent:,} of {assembly.size:,} values are missing ({100 * absent / assembly.size:.2g} %).")
    return assembly


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by their stems, refusing two of one stem."""
    named: dict[str, Path] = {}
    for path in paths:
        name = path.name.removesuffix(path.suffix)
        if name in named:
            raise ValueError(
                f"found {named[name]} and {path}, both named {name!r}; expected files with different stems, which are their names. "
                "Mend: rename one of them."
            )
        named[name] = path
    return named


def describe(assembly: xr.DataArray) -> str:
    """Describe the sizes of an assembly, e.g. "1,200 presentations of 120 stimuli, 8 sites"."""
    import numpy as np

    ids = assembly["stimulus_id"].values
    counts = np.unique(ids, return_counts=True)[1]
    stimuli = f"{len(counts):,} stimuli"
    if counts.max() > 1:
        each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        stimuli = f"{len(ids):,} presentations of {stimuli} ({each} of each)"
    return f"{stimuli}, {assembly.sizes['neuroid']:,} {unit_of(assembly)}"


def unit_of(assembly: xr.DataArray) -> str:
    """Name the neuroids: units of a model's layers, sites of anything else."""
    return "units" if "layer" in assembly.coords else "sites"


def averaged(assembly: xr.DataArray, path: Path) -> xr.DataArray:
    """Refuse repeated stimuli, with the command that averages them."""
    from neurobridge.assemblies import AssemblyError

    n_stimuli = len(set(assembly["stimulus_id"].values.tolist()))
    if n_stimuli < assembly.sizes["presentation"]:
        raise AssemblyError(
            f"{path}: found {assembly.sizes['presentation']} presentations of {n_stimuli} stimuli; expected one of each. "
            f"Mend: {command('average', path, '--out', path.with_name(f'{path.stem}-averaged.nc'))}, then use that file."
        )
    return assembly


def varying(assembly: xr.DataArray, path: Path) -> xr.DataArray:
    """Leave out sites whose response never changes, and say so."""
    from neurobridge.assemblies import AssemblyError, drop_constant

    kept = drop_constant(assembly)
    n_dead = assembly.sizes["neuroid"] - kept.sizes["neuroid"]
    if not n_dead:
        return assembly
    if not kept.sizes["neuroid"]:
        raise AssemblyError(
            f"{path}: found {n_dead} {unit_of(assembly)}, none of which ever changes over {assembly.sizes['presentation']} "
            "presentations; expected responses that vary. Mend: another file, or another layer of the model."
        )
    alive = set(kept["neuroid_id"].values.tolist())
    dead = [name for name in assembly["neuroid_id"].values.tolist() if name not in alive]
    shown = ", ".join(map(str, dead[:5])) + (", ..." if len(dead) > 5 else "")
    tell(
        f"left out {n_dead} of {assembly.sizes['neuroid']:,} {unit_of(assembly)} of {path}, whose response never changes: {shown}."
    )
    return kept.assign_attrs(assembly.attrs)


def complete(assembly: xr.DataArray, path: Path, max_missing: float, *, presentations: bool = True) -> xr.DataArray:
    """Leave out the sites that miss much, then the stimuli that miss a value, and say so."""
    from neurobridge.assemblies import drop_incomplete, missing_values

    if not missing_values(assembly).any():
        return assembly
    kept = drop_incomplete(assembly, max_missing=max_missing, presentations=presentations)
    n_sites, n_stimuli = (kept.attrs[f"dropped_incomplete_{name}"] for name in ("neuroids", "presentations"))
    if n_sites:
        tell(
            f"left out {n_sites} of {assembly.sizes['neuroid']:,} {unit_of(assembly)} of {path}, which miss more than "
            f"{max_missing:.0%} of their values (--max-missing)."
        )
    if n_stimuli:
        repeated = len(set(assembly["stimulus_id"].values.tolist())) < assembly.sizes["presentation"]
        rows = "presentations" if repeated else "stimuli"
        tell(
            f"left out {n_stimuli:,} of {assembly.sizes['presentation']:,} {rows} of {path}, of which a value is missing: this "
            "analysis needs a value of every site."
        )
        if repeated:
            average = command("average", path, "--out", path.with_name(f"{path.stem}-averaged.nc"))
            tell(f"To keep more stimuli, average their presentations first: {average}.")
    return kept


def read_ceiling(path: Path, like: xr.DataArray) -> xr.DataArray:
    """Read the ceiling of the sites of an assembly from the file of `neurobridge ceiling`; NaN for sites without one."""
    import numpy as np
    import xarray as xr

    from neurobridge.assemblies import AssemblyError

    score = _read_score(path)
    if "ceiling" not in score or score["ceiling"].dims != ("neuroid",) or "neuroid_id" not in score.coords:
        raise AssemblyError(
            f"{path}: found variables {sorted(map(str, score.data_vars))}; expected a ceiling of every site. "
            "Mend: neurobridge ceiling RECORDINGS.nc --out ceiling.nc."
        )
    values = dict(zip(map(str, score["neuroid_id"].values), score["ceiling"].values.tolist(), strict=True))
    ids = [str(name) for name in like["neuroid_id"].values]
    lacking = [name for name in ids if name not in values]
    if len(lacking) == len(ids):
        raise AssemblyError(
            f"{path}: found ceilings of {len(values)} sites, e.g. {next(iter(values), None)!r}, and none of the {len(ids)} that "
            f"are scored, e.g. {ids[0]!r}; expected the same sites. Mend: neurobridge ceiling of the recordings that are scored."
        )
    if lacking:
        tell(
            f"{len(lacking)} of {len(ids)} sites have no ceiling in {path}, e.g. {lacking[0]}; their normalised value is NaN."
        )
    ceiling = np.array([values.get(name, np.nan) for name in ids])
    return xr.DataArray(ceiling, dims="neuroid", coords={"neuroid_id": ("neuroid", like["neuroid_id"].values)})


def _read_score(path: Path) -> xr.Dataset:
    import xarray as xr

    from neurobridge.assemblies.storage.netcdf import unreadable

    if not path.is_file():
        raise FileNotFoundError(
            f"found no file at {path}; expected ceilings. Mend: neurobridge ceiling RECORDINGS.nc --out {path}."
        )
    try:
        return xr.load_dataset(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise unreadable(path, error) from error


@contextmanager
def notes() -> Iterator[None]:
    """Turn the warnings of what runs inside into sentences, each once; with --quiet and --json they stay warnings, on stderr."""
    if is_quiet():
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(
        str(each.message) for each in caught if not issubclass(each.category, DeprecationWarning)
    ):
        tell(f"note: {text}")


def command(*words: Any) -> str:
    """Write a command that works when typed."""
    return " ".join(["neurobridge", *(shlex.quote(str(word)) for word in words)])


def next_step(*words: Any) -> None:
    """Say which command comes next."""
    tell(f"next: {command(*words)}")
