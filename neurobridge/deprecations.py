"""Names and modules of version 0.1 that moved, and where they are now; they go on working for one release, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

#: Release in which the old names end.
END = "0.3"

#: Where the names are that stood at the top level of version 0.1.
NAMES: dict[str, str] = {
    **dict.fromkeys(
        ["AssemblyError", "bootstrap_repetitions", "drop_constant", "split_halves", "validate"], "assemblies"
    ),
    **dict.fromkeys(["Experiment", "fetch"], "datasets"),
    **dict.fromkeys(["GaborEnergy", "embed_text", "fit_pca", "train_reference"], "features"),
    **dict.fromkeys(
        ["BridgeCost", "Coupling", "align_unpaired", "bridge_cost", "couple", "diagnose", "fuse"], "bridge"
    ),
    "ConditionalFlow": "flow",
    **dict.fromkeys(
        ["CCAAligner", "KeypointAligner", "PLSAligner", "ProcrustesAligner", "RelativeAligner", "RidgeAligner"],
        "aligners",
    ),
    **dict.fromkeys(["NORMALIZATIONS", "cross_animal_consistency", "generate", "generation_fidelity"], "evaluate"),
    **dict.fromkeys(
        [
            "animal_splits",
            "brainscore_splits",
            "condition_splits",
            "group_splits",
            "kfold_splits",
            "shuffle_splits",
            "stratified_splits",
        ],
        "splits",
    ),
    **dict.fromkeys(
        [
            "choices",
            "cross_decode",
            "cross_space_decode",
            "decode_attributes",
            "decoding_curve",
            "discriminate",
            "generalise",
            "train_readout",
        ],
        "decoding",
    ),
    **dict.fromkeys(
        [
            "crossvalidated_rdm",
            "frechet_distance",
            "linear_cka",
            "mmd",
            "overlap",
            "procrustes_distance",
            "rdm",
            "sliced_wasserstein",
        ],
        "similarity",
    ),
}

#: Modules of version 0.1 that were documented, and the rooms that hold their names now.
MODULES: dict[str, str] = {
    "aligner": "neurobridge.aligners",
    "baselines": "neurobridge.aligners",
    "experiment": "neurobridge.study",
}
#: Names of those modules that changed as well.
RENAMED: dict[str, dict[str, str]] = {
    "experiment": {"Experiment": "Study", "ExperimentError": "StudyError", "run_experiment": "run_study"},
}


def warn_moved(old: str, new: str, *, stacklevel: int) -> None:
    """Warn that a name moved.

    Parameters
    ----------
    old, new : str
        Full names, as a user types them.
    stacklevel : int
        Frames between the caller of this function and the user's line, the caller included.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_moved("neurobridge.fuse", "neurobridge.bridge.fuse", stacklevel=1)
    >>> print(caught[0].message)
    neurobridge.fuse moved and ends in version 0.3. Mend: neurobridge.bridge.fuse
    """
    message = f"{old} moved and ends in version {END}. Mend: {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)


def resolve(name: str) -> Any:
    """Return what stood under ``name`` at the top level of version 0.1, with a `DeprecationWarning` that names its place.

    Parameters
    ----------
    name : str
        A key of `NAMES` or `MODULES`.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     resolve("bridge_cost").__module__
    'neurobridge.bridge.cost.measured'
    """
    if name in MODULES:
        warn_moved(f"neurobridge.{name}", MODULES[name], stacklevel=3)
        return import_module(MODULES[name])
    room = f"neurobridge.{NAMES[name]}"
    warn_moved(f"neurobridge.{name}", f"{room}.{name}", stacklevel=3)
    return getattr(import_module(room), name)


def forward(module: str) -> Callable[[str], Any]:
    """Warn that a module of version 0.1 moved, and return its ``__getattr__``, which looks names up in the new place.

    Parameters
    ----------
    module : str
        ``__name__`` of the old module.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     forward("neurobridge.baselines")("RidgeAligner").__module__
    'neurobridge.aligners.baselines.linear'
    """
    old = module.rpartition(".")[2]
    target, renamed = MODULES[old], RENAMED.get(old, {})
    warn_moved(module, target, stacklevel=3)

    def look_up(name: str) -> Any:
        return getattr(import_module(target), renamed.get(name, name))

    return look_up
