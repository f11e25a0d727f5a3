"""Spaces whose points show classes: pairs of one class, frozen heads, and scores of points that are carried over."""

from __future__ import annotations

import warnings
import zlib
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from neurobridge.aligners import AssemblyAligner
from neurobridge.flow import OffSupportWarning
from neurobridge.points.arrays import Rows
from neurobridge.study.methods import make_aligner

from .common import shuffled_accuracies

#: Fused bridge by the criterion that chooses its settings on held-out pairs.
NAMING, FINDING = "fused, labels", "fused, retrieval"
FUSED = {NAMING: "labels", FINDING: "retrieval"}
_TINY = 1e-12


class Space(NamedTuple):
    """A frozen space: points that may be fitted on, held-out points, and a head that was fitted on the former alone.

    Attributes
    ----------
    name : str
    train, test : arrays of shape (n, n_dims)
    labels, test_labels : arrays of shape (n,)
        Class of each point.
    head : Pipeline
        Frozen readout of the classes, which has seen this space only.
    """

    name: str
    train: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    head: Pipeline

    @property
    def ceiling(self) -> float:
        """Accuracy of the head on the held-out points of its own space."""
        return float(self.head.score(self.test, self.test_labels))


class Draw(NamedTuple):
    """Pools of two spaces, whose first rows are the pairs.

    Attributes
    ----------
    source, target : arrays of shape (n, n_dims)
    rows : tuple of two int arrays of shape (n_pairs,)
    labels : array of shape (n_target,)
        Classes of the pairs; of the other rows nothing is told.
    known : tuple of two int arrays of shape (n_pairs,)
        Rows of the pairs in both spaces.
    """

    source: np.ndarray
    target: np.ndarray
    rows: Rows
    labels: np.ndarray
    known: Rows


def turned_components(train: np.ndarray, test: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce both to the first principal components of the training points, turned by a fixed random rotation.

    Aligners and heads divide every dimension by its standard deviation. On principal components that would raise the last ones
    to the height of the first; after the rotation all dimensions have a like spread, and the geometry stays.
    """
    axes = PCA(n_components, svd_solver="covariance_eigh").fit(train)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(n_components, n_components)))[0]
    return axes.transform(train) @ turn, axes.transform(test) @ turn


def make_head(points: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Fit logistic regression on dimensions in standard deviations."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)).fit(points, labels)


def known_rows(space: Space, n_pairs: int, seed: int, *, skip: int = 0) -> np.ndarray:
    """Return rows of as many points of each class, in random order within a class; fewer are among more.

    Parameters
    ----------
    space : Space
    n_pairs : int
        A multiple of the number of classes.
    seed : int
    skip : int
        Leave out as many of the first points, so that two draws share none.

    Returns
    -------
    int array of shape (n_pairs,)
        Class after class is taken in turn: row k of two spaces shows the same class.

    Raises
    ------
    ValueError
        A class has too few points, or the number is no multiple.
    """
    rng = np.random.default_rng([seed, zlib.crc32(space.name.encode())])
    classes = sorted(set(space.labels.tolist()))
    each, rest = divmod(n_pairs, len(classes))
    first, _ = divmod(skip, len(classes))
    columns = [rng.permutation(np.flatnonzero(space.labels == name))[first : first + each] for name in classes]
    if rest or min(map(len, columns)) < each:
        raise ValueError(
            f"found {n_pairs} pairs after {skip} of {len(classes)} classes with {len(space.labels)} points; expected a multiple "
            "of the number of classes, and enough points of each. Mend: fewer pairs."
        )
    return np.stack(columns, axis=1).ravel()


def named_by_labels(space: Space, rows: np.ndarray) -> np.ndarray:
    """Name the held-out points by the labels of some training points alone; the others tell their spread."""
    scale, readout = space.head[0], clone(space.head[-1])
    readout.fit(scale.transform(space.train[rows]), space.labels[rows])
    return np.asarray(readout.predict(scale.transform(space.test)))


def draw_pairs(
    source: Space, target: Space, n_pairs: int, seed: int, *, pool: int, skip: tuple[int, int] = (0, 0)
) -> Draw:
    """Draw pairs of one class, each point in one pair at most, and unpaired points of both spaces.

    Partners share nothing but their class, so that no unpaired point has a partner.
    """
    rng = np.random.default_rng([seed, n_pairs, 5])
    known, clouds = [], []
    for space, left_out in zip((source, target), skip, strict=True):
        rows = known_rows(space, n_pairs, seed, skip=left_out)
        others = rng.permutation(np.setdiff1d(np.arange(len(space.train)), rows))[: max(pool - n_pairs, pool // 3)]
        known.append(rows)
        clouds.append(space.train[np.concatenate([rows, others])])
    labels = target.labels[known[1]]
    told = np.full(len(clouds[1]), labels[0])
    told[:n_pairs] = labels
    pairs = np.arange(n_pairs), np.arange(n_pairs)
    return Draw(clouds[0], clouds[1], pairs, told, (known[0], known[1]))


def make_method(name: str, seed: int, classifier: Any = None, labels: np.ndarray | None = None) -> AssemblyAligner:
    """Make the aligner of a method; the fused bridge is chosen by labels that a frozen head gives, or by retrieval."""
    if name not in FUSED:
        return make_aligner(name, seed)
    options: dict[str, Any] = {"criterion": FUSED[name]}
    if FUSED[name] == "labels":
        options |= {"classifier": classifier, "labels": labels}
    return make_aligner("fused", seed, **options)


def carried(aligner: AssemblyAligner, points: np.ndarray, *, back: bool = False) -> np.ndarray:
    """Return points carried over by a fitted aligner, or back."""
    with warnings.catch_warnings():
        # The head asks for the nearest class alone.
        warnings.simplefilter("ignore", OffSupportWarning)
        return np.asarray(aligner.inverse_transform(points) if back else aligner.transform(points))


def score_classes(moved: np.ndarray, truth: np.ndarray, target: Space, seed: int) -> dict[str, Any]:
    """Score points that were carried into a space.

    Returns
    -------
    dict
        ``accuracy`` of the frozen head of the target; ``hit``, the share whose nearest held-out point
        of the target by cosine shows their class; both with the 95 % quantile of permuted classes;
        ``ceiling``, the accuracy of the head on held-out points of its own space; ``n_test``.
    """
    predicted = target.head.predict(moved)
    directions = [side / (np.linalg.norm(side, axis=1, keepdims=True) + _TINY) for side in (moved, target.test)]
    nearest = target.test_labels[(directions[0] @ directions[1].T).argmax(axis=1)]
    return {
        **score_names(predicted, truth, seed),
        "hit": round(float((nearest == truth).mean()), 5),
        "hit_null_95": _null_95(nearest, truth, seed),
        "ceiling": round(target.ceiling, 5),
    }


def score_names(predicted: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the accuracy of predicted classes, with the 95 % quantile of permuted ones."""
    return {
        "accuracy": round(float((predicted == truth).mean()), 5),
        "null_95": _null_95(predicted, truth, seed),
        "n_test": len(truth),
    }


def _null_95(predicted: np.ndarray, truth: np.ndarray, seed: int) -> float:
    null = shuffled_accuracies(predicted, truth, np.random.default_rng([seed, 13]))
    return round(float(np.quantile(null, 0.95)), 5)
