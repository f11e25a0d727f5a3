"""Decoding: which label did the animal, or the model, see?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from neurobridge.assemblies import AssemblyError, as_matrix, require_unique_stimuli, validate
from neurobridge.assemblies.schema import NEUROID_ID, PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.correlation import PERMUTATION, SPLIT, fold_null, p_value, score_attrs
from neurobridge.evaluate.splits import Splits, resolve_splits

READOUTS: dict[str, Callable[[int], Any]] = {
    "logistic": lambda seed: LogisticRegression(max_iter=5000, random_state=seed),
    "svm": lambda seed: LinearSVC(max_iter=50_000, random_state=seed),
    "ridge": lambda seed: RidgeClassifier(),
    "centroid": lambda seed: NearestCentroid(),
}


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear readout of one label, trained and frozen; made by `train_readout`.

    Attributes
    ----------
    label : str
    readout : str
        A key of `READOUTS`.
    trained_on : array of shape (n_stimuli,)
        Stimulus ids of training; they are refused in `score`.
    """

    label: str
    readout: str
    trained_on: np.ndarray
    neuroid_id: np.ndarray
    model: Any

    def score(self, test: xr.DataArray, *, n_permutations: int = 1000, seed: int = 0) -> xr.Dataset:
        """Read the label of held-out stimuli; see `cross_decode`.

        Raises
        ------
        AssemblyError
            A stimulus was trained on, the neuroids are others, or the label is missing.
        """
        truth = _labels(test, self.label, role="test")
        shared = np.intersect1d(self.trained_on, test[STIMULUS_ID].values)
        if len(shared):
            raise AssemblyError(
                f"test: found {len(shared)} stimuli that the readout was trained on, e.g. {str(shared[0])!r}; expected held-out "
                "stimuli. Mend: split the stimuli first."
            )
        if not np.array_equal(test[NEUROID_ID].values, self.neuroid_id):
            raise AssemblyError(
                f"test: found neuroids (first {str(test[NEUROID_ID].values[0])!r}) that are not those of training (first "
                f"{str(self.neuroid_id[0])!r}) in the same order; expected the same. Mend: select the same neuroids."
            )
        said = self.model.predict(as_matrix(test, role="test"))
        attrs = {
            "metric": f"accuracy of {self.label}, {self.readout}",
            "splits": "one, given",
            "n_stimuli": len(truth),
            "n_classes": len(np.unique(truth)),
        }
        return _accuracy([(said, truth)], n_permutations, seed, attrs, (test,))


def train_readout(train: xr.DataArray, label: str, *, readout: str = "logistic", seed: int = 0) -> Readout:
    """Train a linear readout on standardised responses.

    Parameters
    ----------
    train : xarray.DataArray
        Assembly, dims ``(presentation, neuroid)``.
    label : str
        Coordinate on ``presentation``.
    readout : {"logistic", "svm", "ridge", "centroid"}
        A key of `READOUTS`: scikit-learn estimators at their defaults.
    seed : int

    Raises
    ------
    AssemblyError
        The label is missing or has one class only, the readout is unknown, or the assembly is bad.
    """
    labels = _labels(train, label, role="train")
    model = _fit(as_matrix(train, role="train"), labels, label, readout, seed)
    return Readout(label, readout, train[STIMULUS_ID].values, train[NEUROID_ID].values, model)


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
        ``raw`` (split), the fraction correct; ``null`` (permutation); ``p_value``. Attributes give the number of
        held-out stimuli and classes.

    Raises
    ------
    AssemblyError
        A stimulus is in both, the neuroids differ, the label is missing or has one class.
    """
    return train_readout(train, label, readout=readout, seed=seed).score(test, n_permutations=n_permutations, seed=seed)


def decode(
    assembly: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    splits: Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
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
    splits : Splits or sequence of (train, test), optional
        Rows of the assembly. Default: ten 90/10 splits, stratified on the label.
    readout, n_permutations, seed
        As in `cross_decode`.

    Returns
    -------
    xarray.Dataset
        As `cross_decode`, one value of ``raw`` a split.
    """
    labels = _labels(assembly, label, role="assembly")
    X = as_matrix(assembly)
    folds = resolve_splits(assembly, splits, stratify=label)
    said = [(_fit(X[a], labels[a], label, readout, seed).predict(X[b]), labels[b]) for a, b in folds]
    attrs = {
        "metric": f"accuracy of {label}, {readout}",
        "splits": folds.description,
        "n_stimuli": len(labels),
        "n_classes": len(np.unique(labels)),
    }
    return _accuracy(said, n_permutations, seed, attrs, (assembly,))


def _labels(assembly: xr.DataArray, label: str, *, role: str) -> np.ndarray:
    validate(assembly, role=role)
    require_unique_stimuli(assembly, role=role)
    if label not in assembly.coords or assembly.coords[label].dims != (PRESENTATION,):
        found = sorted(str(name) for name, coord in assembly.coords.items() if coord.dims == (PRESENTATION,))
        raise AssemblyError(
            f"{role}: found presentation coordinates {found}; expected {label!r} among them. "
            f"Mend: assembly.assign_coords({label}=('presentation', labels))."
        )
    return np.asarray(assembly.coords[label].values)


def _fit(X: np.ndarray, labels: np.ndarray, label: str, readout: str, seed: int) -> Any:
    if readout not in READOUTS:
        raise AssemblyError(f"found readout {readout!r}; expected one of {sorted(READOUTS)}. Mend: choose one of them.")
    if len(np.unique(labels)) < 2:
        raise AssemblyError(
            f"{label}: found one class, {str(labels[0])!r}, among {len(labels)} training stimuli; expected at least two. "
            "Mend: train on more stimuli."
        )
    return make_pipeline(StandardScaler(), READOUTS[readout](seed)).fit(X, labels)


def _accuracy(
    folds: list[tuple[np.ndarray, np.ndarray]],
    n_permutations: int,
    seed: int,
    attrs: dict[str, Any],
    sources: tuple[xr.DataArray, ...],
) -> xr.Dataset:
    raw = np.array([(said == truth).mean() for said, truth in folds])

    def draw(k: int, rng: np.random.Generator, n: int) -> np.ndarray:
        said, truth = folds[k]
        return np.array([(said == rng.permutation(truth)).mean() for _ in range(n)])

    null = fold_null(len(folds), n_permutations, seed, draw)
    return xr.Dataset(
        {"raw": (SPLIT, raw), "null": (PERMUTATION, null), "p_value": p_value(float(raw.mean()), null)},
        attrs=score_attrs(attrs, len(folds), n_permutations, seed, sources),
    )
