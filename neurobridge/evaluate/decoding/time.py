"""Temporal generalisation: readouts of one time bin on the responses of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.schema import STIMULUS_ID, TIME_BIN
from neurobridge.evaluate.decoding.batches import bin_arrays, read_folds
from neurobridge.evaluate.decoding.readouts import accuracy_score
from neurobridge.evaluate.decoding.trials import Reading, held_out_once, null_rule, trial_attrs, trial_splits, trials_of
from neurobridge.evaluate.folds import GivenSplits
from neurobridge.evaluate.time_bins.courses import END, START, TESTED, TRAINED, bin_centres
from neurobridge.evaluate.time_bins.stacking import require_bins
from neurobridge.points.options import require_options


def generalise_time(
    assembly: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    splits: GivenSplits = None,
    group: str | None = STIMULUS_ID,
    n_permutations: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Train a readout in every time bin, and read the held-out trials of every time bin with it.

    A code that is stable lets readouts of one time read another; a code that changes is read at its own time alone (King & Dehaene
    2014, Trends Cogn. Sci. 18:203). The diagonal is `decode` with ``by="time_bin"``.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid, time_bin)``; stimuli may repeat.
    label, readout, splits, group, seed
        As in `decode`.
    n_permutations : int
        Size of the null: the labels of the held-out trials are shuffled, the same in all pairs of bins.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Score with the leading dims (trained, tested): ``raw`` (trained, tested, split). The coordinates ``trained`` and
        ``tested`` are the middles of the bins, with ``trained_start``, ``trained_end``, ``tested_start`` and ``tested_end``
        beside them; or the numbers of the bins where ``time_bin_start`` and ``time_bin_end`` are missing. `find_clusters` finds
        the areas above chance.

    Raises
    ------
    AssemblyError
        No time bins, or an error of `decode`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.decoding import generalise_time
    >>> labels = np.array(["car", "face"] * 30)
    >>> values = np.random.default_rng(0).normal(size=(60, 4, 4))  # simulated: the code of the last bin is another
    >>> for site, time_bin in ((0, 1), (0, 2), (1, 3)):
    ...     values[:, site, time_bin] += 4 * (labels == "car")
    >>> recordings = make_assembly(
    ...     values,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ...     time_bin={"time_bin_start": [0, 50, 100, 150], "time_bin_end": [50, 100, 150, 200]},
    ... )
    >>> accuracy = generalise_time(recordings, "category_name", n_permutations=0, progress=False)["raw"].mean("split")
    >>> (accuracy > 0.8).values.astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    """
    require_options(n_permutations=n_permutations, seed=seed, progress=progress, error=AssemblyError)
    trials = trials_of(assembly, label, group, role="assembly")
    X = bin_arrays(require_bins(assembly))
    folds = trial_splits(assembly, label, trials, splits)
    classes, codes = np.unique(trials.labels, return_inverse=True)
    predicted = read_folds(X, trials.labels, folds, label, readout, seed, across=True, progress=progress)
    readings = [
        Reading(read, codes[test], trials.groups[test]) for read, (_, test) in zip(predicted, folds, strict=True)
    ]
    centres = bin_centres(assembly)
    coords: dict[str, Any] = {TRAINED: centres, TESTED: centres}
    for name in (START, END):
        if name in assembly.coords:
            suffix = name.removeprefix(TIME_BIN)
            coords |= {f"{dim}{suffix}": (dim, assembly[name].values) for dim in (TRAINED, TESTED)}
    attrs = {"metric": f"accuracy of {label} across time, {readout}", "splits": folds.description}
    disjoint = held_out_once(folds)
    attrs |= trial_attrs(trials, assembly) | {"null": null_rule(len(folds), disjoint)}
    return accuracy_score(
        readings,
        n_permutations,
        seed,
        attrs,
        (assembly,),
        leading=(TRAINED, TESTED),
        classes=classes,
        disjoint=disjoint,
        coords=coords,
    )
