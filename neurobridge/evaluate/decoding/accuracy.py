"""Decoding of labels within a space, across recordings, and across aligned spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix
from neurobridge.evaluate.decoding.readouts import (
    READOUTS,
    Readout,
    accuracy_score,
    fit_readout,
    labels_of,
    train_readout,
)
from neurobridge.evaluate.folds import GivenSplits
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.points.options import require_options

__all__ = ["READOUTS", "Readout", "cross_decode", "cross_space_decode", "decode", "train_readout"]


def cross_decode(
    train: xr.DataArray,
    test: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Train a readout on one assembly and read another of the same neuroids with it.

    The second may be what an aligner transported into the first one's space: the readout never saw that system.

    Parameters
    ----------
    train, test : xarray.DataArray
        Assemblies with the same neuroids and no stimulus in common.
    label : str
        Coordinate on ``presentation`` of both.
    readout, seed
        As in `train_readout`.
    n_permutations : int
        Size of the null: the true labels are shuffled.

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split), the fraction correct; ``null`` (permutation); ``p_value``; and ``confusion`` (truth, choice), the
        number of times each class was chosen when each was true, summed over splits. The attribute ``n_classes`` is their
        number.

    Raises
    ------
    AssemblyError
        A stimulus is in both, the neuroids differ, the label is missing or has one class.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import cross_decode
    >>> labels = np.array(["car", "face"] * 30)
    >>> responses = np.random.default_rng(0).normal(size=(60, 4)) + 2 * (labels == "car")[:, None]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> score = cross_decode(recordings[:40], recordings[40:], "category_name", n_permutations=99)
    >>> float(score["raw"].mean()) > 0.9, float(score["p_value"])
    (True, 0.01)
    """
    return train_readout(train, label, readout=readout, seed=seed).score(test, n_permutations=n_permutations, seed=seed)


def decode(
    assembly: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    splits: GivenSplits = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Decode a label, cross-validated over stimuli.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus.
    label : str
        Coordinate on ``presentation``, e.g. ``category_name``.
    splits : Splits, str or sequence of (train, test), optional
        Rows of the assembly. Default: ten splits, stratified on the label, that hold out 10 % or, where that is fewer, as many
        stimuli as there are classes.
    readout, n_permutations, seed
        As in `cross_decode`.

    Returns
    -------
    xarray.Dataset
        Score, as `cross_decode`, with one value of ``raw`` a split.

    Raises
    ------
    AssemblyError
        Bad assembly or splits, an unknown readout; the label is missing, has one class (in a fold's training stimuli), or a class
        with too few stimuli to stratify on.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import decode
    >>> labels = np.array(["car", "face"] * 30)
    >>> responses = np.random.default_rng(0).normal(size=(60, 4)) + 2 * (labels == "car")[:, None]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> score = decode(recordings, "category_name", n_permutations=99)
    >>> score["raw"].sizes["split"], float(score["raw"].mean()) > 0.9
    (10, True)
    """
    require_options(n_permutations=n_permutations, seed=seed, error=AssemblyError)
    labels = labels_of(assembly, label, role="assembly")
    X = as_matrix(assembly)
    folds = resolve_splits(assembly, splits, stratify=label)
    chosen = [
        (fit_readout(X[train], labels[train], label, readout, seed).predict(X[test]), labels[test])
        for train, test in folds
    ]
    attrs = {
        "metric": f"accuracy of {label}, {readout}",
        "splits": folds.description,
        "n_stimuli": len(labels),
        "n_classes": len(np.unique(labels)),
    }
    return accuracy_score(chosen, n_permutations, seed, attrs, (assembly,))


def cross_space_decode(
    aligner: Any,
    train: tuple[xr.DataArray, xr.DataArray],
    test: tuple[xr.DataArray, xr.DataArray],
    label: str,
    *,
    readout: str = "logistic",
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Decode each space with the frozen readout of the other, through a fitted aligner, and with its own.

    Parameters
    ----------
    aligner : fitted aligner
        With ``transform`` (source to target) and ``inverse_transform``; fitted on none of the test stimuli.
    train : tuple of two xarray.DataArray
        Source and target assemblies that the readouts are trained on; need not be paired.
    test : tuple of two xarray.DataArray
        Source and target assemblies of held-out stimuli.
    label : str
        Coordinate on ``presentation`` of all four.
    readout, n_permutations, seed
        As in `cross_decode`.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``reading``: "source to target" is the target's readout on transported source stimuli,
        "target to source" the reverse, "source" and "target" are the readouts in their own space, which bound the others. And
        ``confusion`` (reading, truth, choice).

    Raises
    ------
    AssemblyError
        A test stimulus was trained on, the neuroids differ, the label is missing or has one class.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import ProcrustesAligner
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import cross_space_decode
    >>> labels = np.array(["car", "face"] * 40)
    >>> rng = np.random.default_rng(0)
    >>> brain = rng.normal(size=(80, 4)) + 3 * np.eye(4)[0] * (labels == "car")[:, None]  # simulated
    >>> stimuli = {"stimulus_id": range(80), "category_name": labels}
    >>> source = make_assembly(brain, presentation=stimuli, neuroid={"neuroid_id": range(4)})
    >>> target = make_assembly(brain[:, ::-1], presentation=stimuli, neuroid={"neuroid_id": range(4)})
    >>> train, test = slice(0, 50), slice(50, 80)
    >>> aligner = ProcrustesAligner().fit(source[train], target[train])
    >>> score = cross_space_decode(
    ...     aligner, (source[train], target[train]), (source[test], target[test]), "category_name", n_permutations=50
    ... )
    >>> bool((score["raw"] > 0.8).all()), score["p_value"].dims
    (True, ('reading',))
    """
    heads = [train_readout(space, label, readout=readout, seed=seed) for space in train]
    readings = {
        "source to target": (heads[1], aligner.transform(test[0])),
        "target to source": (heads[0], aligner.inverse_transform(test[1])),
        "source": (heads[0], test[0]),
        "target": (heads[1], test[1]),
    }
    scores = [head.score(read, n_permutations=n_permutations, seed=seed) for head, read in readings.values()]
    classes = np.unique(np.concatenate([score["truth"].values for score in scores]))
    tables = [score["confusion"].reindex(truth=classes, choice=classes, fill_value=0).values for score in scores]
    attrs = {
        "metric": f"accuracy of {label}, {readout}, across spaces",
        "splits": "one, given",
        "n_stimuli": [int(score.attrs["n_stimuli"]) for score in scores],
        "n_classes": len(classes),
        "aligner": type(aligner).__name__,
    }
    return make_score(
        [score["raw"].item() for score in scores],
        ("reading",),
        null=np.stack([score["null"].values for score in scores]),
        extra={"confusion": (("reading", "truth", "choice"), np.stack(tables))},
        coords={"reading": list(readings), "truth": classes, "choice": classes},
        attrs=score_attrs(attrs, 1, n_permutations, seed, (*train, *test)),
    )
