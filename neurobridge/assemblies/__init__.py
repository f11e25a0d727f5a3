"""What a labelled array is: schema, repeats, pairs, netCDF."""

from neurobridge.assemblies.netcdf import open_assembly, save_assembly
from neurobridge.assemblies.pairs import Matched, Pairs, match_stimuli, resolve_pairs
from neurobridge.assemblies.repeats import average_repetitions, bootstrap_repetitions, split_halves
from neurobridge.assemblies.schema import (
    AssemblyError,
    as_matrix,
    coords_of,
    drop_constant,
    make_assembly,
    require_unique_stimuli,
    require_varying_neuroids,
    validate,
)
from neurobridge.assemblies.select import select

__all__ = [
    "AssemblyError",
    "Matched",
    "Pairs",
    "as_matrix",
    "average_repetitions",
    "bootstrap_repetitions",
    "coords_of",
    "drop_constant",
    "make_assembly",
    "match_stimuli",
    "open_assembly",
    "require_unique_stimuli",
    "require_varying_neuroids",
    "resolve_pairs",
    "save_assembly",
    "select",
    "split_halves",
    "validate",
]
