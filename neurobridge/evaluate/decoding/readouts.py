"""Readouts: linear classifiers of the sites, trained once and frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from neurobridge.assemblies import AssemblyError, as_matrix, require_unique_stimuli, validate
from neurobridge.assemblies.schema import NEUROID_ID, STIMULUS_ID
from neurobridge.evaluate.correlation import unit_rows
from neurobridge.evaluate.decoding.trials import Reading, label_null, presentation_coordinate, trials_of
from neurobridge.evaluate.score.schema import SPLIT, make_score, score_attrs
from neurobridge.maps.logistic import LogisticReadout
from neurobridge.points.display import format_fact, html_repr, short_repr
from neurobridge.points.options import is_choice


class CorrelationTemplates(ClassifierMixin, BaseEstimator):
    """Classifier by the Pearson correlation of a response with each class's mean response; nothing is tuned.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    templates_ : array of shape (n_classes, n_sites)
        Mean responses, centred over sites and of unit length.
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> CorrelationTemplates:
        """Average the responses X of shape (n_stimuli, n_sites) of each class in y."""
        if X.shape[1] < 2:
            raise AssemblyError(
                f"found {X.shape[1]} site; expected at least two to correlate over. Mend: more sites, or another readout."
            )
        self.classes_, codes = np.unique(y, return_inverse=True)
        means = np.stack([X[codes == k].mean(axis=0) for k in range(len(self.classes_))])
        self.templates_ = unit_rows(means - means.mean(axis=1, keepdims=True))[0]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Correlate responses with the templates: array of shape (n_stimuli, n_classes)."""
        centred = X - X.mean(axis=1, keepdims=True)
        unit, norm = unit_rows(centred)
        flat = norm <= 1e-13 * np.sqrt(X.shape[1]) * np.abs(X).max(axis=1)
        if flat.any():
            raise AssemblyError(
                f"found {int(flat.sum())} of {len(X)} stimuli with the same standardised response in all {X.shape[1]} sites, the "
                f"first in row {int(flat.argmax())}; expected responses that differ: no correlation is defined. "
                "Mend: readout='centroid', or leave these stimuli out."
            )
        return unit @ self.templates_.T

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of the largest correlation."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]


#: Readouts by name: each entry makes an unfitted scikit-learn classifier from a seed.
READOUTS: dict[str, Callable[[int], Any]] = {
    "logistic": lambda seed: LogisticReadout(),
    "svm": lambda seed: LinearSVC(max_iter=50_000, random_state=seed),
    "ridge": lambda seed: RidgeClassifier(),
    "centroid": lambda seed: NearestCentroid(),
    "lda": lambda seed: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "correlation": lambda seed: CorrelationTemplates(),
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
    neuroid_id : array of shape (n_sites,)
        Sites that it reads, in their order.
    model : sklearn.pipeline.Pipeline
        The fitted classifier on standardised responses.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import train_readout
    >>> labels = np.array(["car", "face"] * 30)
    >>> rng = np.random.default_rng(0)  # simulated: four sites respond more to cars
    >>> responses = rng.normal(size=(60, 4)) + 2 * (labels == "car")[:, None]
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> head = train_readout(recordings[:40], "category_name", readout="lda")
    >>> head
    Readout(lda of category_name, n_stimuli=40, n_sites=4, n_classes=2)
    >>> float(head.score(recordings[40:], n_permutations=0)["raw"].mean()) > 0.9
    True
    """

    label: str
    readout: str
    trained_on: np.ndarray
    neuroid_id: np.ndarray
    model: Any

    def __repr__(self) -> str:
        return short_repr("Readout", f"{self.readout} of {format_fact(self.label)}", **self._facts())

    def _repr_html_(self) -> str:
        return html_repr("Readout", {"label": self.label, "readout": self.readout, **self._facts()})

    def _facts(self) -> dict[str, int]:
        n_classes = len(self.model.classes_)
        return {"n_stimuli": len(self.trained_on), "n_sites": len(self.neuroid_id), "n_classes": n_classes}

    def score(self, test: xr.DataArray, *, n_permutations: int = 1000, seed: int = 0) -> xr.Dataset:
        """Read the label of held-out stimuli.

        Parameters
        ----------
        test : xarray.DataArray
            Assembly of the same neuroids, dims ``(presentation, neuroid)``, with the label on ``presentation``.
        n_permutations : int
            Size of the null: the true labels are shuffled, among stimuli where these repeat.
        seed : int

        Returns
        -------
        xarray.Dataset
            Score, as `cross_decode` gives it.

        Raises
        ------
        AssemblyError
            A stimulus was trained on, the neuroids are others, or the label is missing.
        """
        truth, groups, _ = trials_of(test, self.label, STIMULUS_ID, role="test")
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
        predicted = self.model.predict(as_matrix(test, role="test"))
        attrs = {
            "metric": f"accuracy of {self.label}, {self.readout}",
            "splits": "one, given",
            "n_stimuli": int(groups.max()) + 1,
            "n_classes": len(np.unique(truth)),
        }
        return accuracy_score([Reading(predicted, truth, groups)], n_permutations, seed, attrs, (test,))


def train_readout(train: xr.DataArray, label: str, *, readout: str = "logistic", seed: int = 0) -> Readout:
    """Train a linear readout on standardised responses.

    Parameters
    ----------
    train : xarray.DataArray
        Assembly, dims ``(presentation, neuroid)``.
    label : str
        Coordinate on ``presentation``.
    readout : {"logistic", "svm", "ridge", "centroid", "lda", "correlation"}
        A key of `READOUTS`: scikit-learn's estimators (the weighted sums of Majaj, Hong, Solomon & DiCarlo 2015 are "svm" and
        "correlation": one weighted sum of all sites a class, the largest wins); "lda" shrinks the covariance by Ledoit & Wolf's
        rule.
    seed : int
        Of the readouts that draw random numbers.

    Returns
    -------
    Readout

    Raises
    ------
    AssemblyError
        The label is missing or has one class only, the readout is unknown, or the assembly is bad.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import train_readout
    >>> labels = np.array(["car", "face"] * 20)
    >>> responses = np.random.default_rng(0).normal(size=(40, 4)) + 2 * (labels == "car")[:, None]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(40), "category_name": labels},
    ...     neuroid={"neuroid_id": range(4)},
    ... )
    >>> train_readout(recordings, "category_name", readout="svm").model.predict([[2, 2, 2, 2], [0, 0, 0, 0]]).tolist()
    ['car', 'face']
    """
    labels = trials_of(train, label, STIMULUS_ID, role="train").labels
    model = fit_readout(as_matrix(train, role="train"), labels, label, readout, seed)
    return Readout(label, readout, pd.unique(train[STIMULUS_ID].values), train[NEUROID_ID].values, model)


def labels_of(assembly: xr.DataArray, label: str, *, role: str) -> np.ndarray:
    """Return the values of a presentation coordinate of an assembly with one presentation a stimulus."""
    validate(assembly, role=role)
    require_unique_stimuli(assembly, role=role)
    return presentation_coordinate(assembly, label, role=role)


def fit_readout(X: np.ndarray, labels: np.ndarray, label: str, readout: str, seed: int) -> Any:
    """Train a readout of `READOUTS` on standardised responses X of shape (n_stimuli, n_sites)."""
    check_training(labels, label, readout)
    if readout == "centroid" and not np.ptp(X, axis=0).any():
        raise AssemblyError(
            f"found {len(X)} training stimuli with the same response in all {X.shape[1]} sites; expected sites that vary, as "
            "readout='centroid' divides by their spread. Mend: leave the silent sites out, or readout='logistic'."
        )
    return make_pipeline(StandardScaler(), READOUTS[readout](seed)).fit(X, labels)


def check_training(labels: np.ndarray, label: str, readout: str) -> None:
    """Refuse an unknown readout, and training labels that it cannot learn from.

    Raises
    ------
    AssemblyError
        Unknown readout; one class, or for "lda" no class with two stimuli.
    """
    if not is_choice(readout, READOUTS):
        raise AssemblyError(f"found readout {readout!r}; expected one of {sorted(READOUTS)}. Mend: choose one of them.")
    if len(np.unique(labels)) < 2:
        raise AssemblyError(
            f"{label}: found one class, {str(labels[0])!r}, among {len(labels)} training stimuli; expected at least two. "
            "Mend: train on more stimuli."
        )
    if readout == "lda" and len(np.unique(labels)) == len(labels):
        raise AssemblyError(
            f"{label}: found {len(labels)} classes of one training stimulus each with readout='lda'; expected more stimuli than "
            "classes. Mend: train on more stimuli, or readout='logistic'."
        )


def accuracy_score(
    readings: Sequence[Reading],
    n_permutations: int,
    seed: int,
    attrs: dict[str, Any],
    sources: tuple[xr.DataArray, ...],
    *,
    leading: Sequence[str] = (),
    classes: np.ndarray | None = None,
    null: np.ndarray | None = None,
    disjoint: bool = False,
    coords: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make a Score of accuracies, with its confusion matrix, from what was read of every fold.

    Parameters
    ----------
    readings : sequence of Reading
        Predictions of shape (..., n_test).
    n_permutations, seed : int
    attrs : dict
    sources : tuple of xarray.DataArray
    leading : sequence of str
        Names of the leading dims.
    classes : array of shape (n_classes,), optional
        Labels that the readings are numbers of; by default the readings hold labels.
    null : array of shape (..., n_permutations), optional
        By default `label_null`.
    disjoint : bool
        As in `label_null`.
    coords : mapping, optional
        Of the leading dims.
    """
    raw = np.stack([(reading.predicted == reading.truth).mean(axis=-1) for reading in readings], axis=-1)
    if null is None:
        null = label_null(readings, n_permutations, seed, disjoint=disjoint)
    shape = raw.shape[:-1]
    predicted = np.concatenate([reading.predicted for reading in readings], axis=-1)
    truth = np.concatenate([reading.truth for reading in readings])
    # Classes that are neither shown nor read have no row.
    occurring = np.unique(np.concatenate([predicted.ravel(), truth]))
    counts = np.stack([count_choices(row, truth, occurring)[1] for row in predicted.reshape(-1, len(truth))])
    names = occurring if classes is None else classes[occurring]
    return make_score(
        raw,
        (*leading, SPLIT),
        null=null,
        extra={"confusion": ((*leading, "truth", "choice"), counts.reshape(*shape, len(names), len(names)))},
        coords={**(coords or {}), "truth": names, "choice": names},
        attrs=score_attrs(attrs, len(readings), n_permutations, seed, sources),
    )


def count_choices(
    predicted: np.ndarray, truth: np.ndarray, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted classes, and the number of times each was predicted (columns) when each was true (rows)."""
    if classes is None:
        classes = np.unique(np.concatenate([truth, predicted]))
    n = len(classes)
    cells = np.searchsorted(classes, truth) * n + np.searchsorted(classes, predicted)
    return classes, np.bincount(cells, minlength=n * n).reshape(n, n)
