"""Criteria: what a candidate is chosen for, as a loss of every held-out pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from neurobridge.points.options import is_choice
from neurobridge.points.ranks import rank_of

#: What a candidate is chosen for.
Criterion = Literal["correlation", "error", "retrieval", "labels"]
#: What `fuse` can choose a candidate for.
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
# Predictions that spread by less than this part of their truths are constant, but for the rounding of float32.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Held:
    """What the predictions of held-out pairs are compared with, all in the coordinates of the cloud they belong to.

    Attributes
    ----------
    truth : array of shape (n_pairs, rank)
        The held-out points.
    others : array of shape (n_others, rank)
        Unpaired points of the same space, among which a partner has to be found.
    axes : array of shape (n_dims, rank)
        From coordinates to differences from the centre, in the units of the points.
    centre : array of shape (n_dims,)
        Of the cloud, in the same units.
    sought_in : callable, optional
        From points to the coordinates in which partners are sought by cosine; by default those of the points.
    classify : callable, optional
        From predicted points to labels of shape (n_pairs,).
    labels : array of shape (n_pairs,), optional
        True labels.
    """

    truth: np.ndarray
    others: np.ndarray
    axes: np.ndarray
    centre: np.ndarray
    sought_in: Callable[[np.ndarray], np.ndarray] | None = None
    classify: Callable[[np.ndarray], np.ndarray] | None = None
    labels: np.ndarray | None = None

    def points(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points of coordinates (n, rank), as partners are sought among them."""
        points = coordinates @ self.axes.T + self.centre
        return points if self.sought_in is None else np.asarray(self.sought_in(points))

    def spread(self, predicted: np.ndarray) -> float:
        """Return the factor by which predictions of shape (n_pairs, rank) spread as far from the centre as their truths."""
        known = np.isfinite(predicted).all(axis=1)
        return _spread(predicted[known], self.truth[known])


def losses(criterion: Criterion, predicted: np.ndarray, held: Held, origin: np.ndarray | None = None) -> np.ndarray:
    """Loss of every held-out pair, of which the mean is what a candidate is judged by.

    - "correlation": ``1 - mean_d r_d`` over dimensions d, with r_d Pearson's correlation of predictions, from their origin, and
      truths over pairs. A pair's loss is ``mean_d (p_d - t_d)^2 / 2`` with each dimension centred and divided by its standard
      deviation, whose mean over pairs is the same.
    - "error": squared error over the mean squared distance of the truths from their mean.
    - "retrieval": logarithm of the rank of the true partner by cosine, over that of the number of candidates: mean of both
      ways, prediction among points and point among predictions. Predictions are first spread as far as their truths.
    - "labels": mean of the loss of "correlation" and of 1 where the frozen classifier names the prediction wrongly: a handful of
      right and wrong answers alone says little.

    Parameters
    ----------
    criterion : {"correlation", "error", "retrieval", "labels"}
    predicted : array of shape (n_pairs, rank)
        NaN for pairs that were not held out.
    held : Held
    origin : array of shape (n_pairs, rank), optional
        What the same fits predict on average, by default the centre of the cloud. A fit without a pair has a mean that moves
        away from this pair, which makes the correlation of shrunk predictions negative where pairs are few.

    Returns
    -------
    array of shape (n_pairs,)
        NaN for pairs that were not held out.
    """
    known = np.isfinite(predicted).all(axis=1)
    loss = np.full(len(predicted), np.nan)
    origin = np.zeros_like(predicted) if origin is None else origin
    loss[known] = _LOSSES[criterion](predicted[known], held.truth[known], origin[known], known, held)
    return loss


def _correlation(
    predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray, known: np.ndarray, held: Held
) -> np.ndarray:
    if not len(truth):
        return np.ones(0)
    sides = [side @ held.axes.T for side in (predicted - origin, truth)]
    predicted, centred = (side - side.mean(axis=0) for side in sides)
    varies = _length(centred) > _ROUNDING * _length(sides[1])
    if not varies.any():
        return np.ones(len(truth))
    predicted, truth = predicted[:, varies], centred[:, varies]
    lengths = _length(predicted), _length(truth)
    # A constant prediction has no correlation: its dimensions count as r = 0.
    is_silent = lengths[0] <= _ROUNDING * lengths[1]
    standard = np.where(is_silent, 0.0, _divided(predicted, lengths[0])) - truth / lengths[1]
    return np.asarray(np.square(standard).mean(axis=1) / 2 + is_silent.mean() / 2)


def _length(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(points).mean(axis=0)))


def _error(predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray, known: np.ndarray, held: Held) -> np.ndarray:
    variance = float(np.square(truth - truth.mean(axis=0)).sum(axis=1).mean()) if len(truth) else 1.0
    return np.asarray(np.square(predicted - truth).sum(axis=1) / (variance or 1.0))


def _retrieval(
    predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray, known: np.ndarray, held: Held
) -> np.ndarray:
    images, points, others = (
        _directions(held.points(side)) for side in (_spread(predicted, truth) * predicted, truth, held.others)
    )
    gallery = np.concatenate([points, others])
    similarity = images @ gallery.T
    own = similarity[np.arange(len(images)), np.arange(len(images))]
    # A constant prediction finds nothing: others that equal the right one count half.
    ranks, ranks_back = rank_of(similarity, own), rank_of(points @ images.T, own)
    of_points = np.log(ranks) / np.log(max(2, len(gallery)))
    return np.asarray((of_points + np.log(ranks_back) / np.log(max(2, len(images)))) / 2)


def _spread(predicted: np.ndarray, truth: np.ndarray) -> float:
    lengths = [float(np.sqrt(np.square(side).sum())) for side in (truth, predicted)]
    return lengths[0] / lengths[1] if min(lengths) > 0 else 1.0


def _labels(predicted: np.ndarray, truth: np.ndarray, origin: np.ndarray, known: np.ndarray, held: Held) -> np.ndarray:
    assert held.classify is not None
    assert held.labels is not None
    wrong = np.asarray(held.classify(held.points(predicted))) != held.labels[known]
    return np.asarray((wrong + _correlation(predicted, truth, origin, known, held)) / 2)


def _directions(points: np.ndarray) -> np.ndarray:
    return _divided(points, np.linalg.norm(points, axis=1, keepdims=True))


def _divided(points: np.ndarray, length: np.ndarray) -> np.ndarray:
    return np.divide(points, length, out=np.zeros_like(points), where=length > 0)


_LOSSES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Held], np.ndarray]] = {
    "correlation": _correlation,
    "error": _error,
    "retrieval": _retrieval,
    "labels": _labels,
}


def known_criterion(criterion: Any) -> Criterion:
    """Return a criterion that there is.

    Raises
    ------
    ValueError
        Another name.
    """
    if not is_choice(criterion, CRITERIA):
        shown = ", ".join(map(repr, CRITERIA))
        raise ValueError(f"found criterion={criterion!r}; expected one of {shown}. Mend: criterion='correlation'.")
    return criterion


def check_criterion(criterion: Any, classifier: Any, labels: Any, n_pairs: int) -> np.ndarray | None:
    """Check what a criterion needs; return the labels of the pairs, if any.

    Raises
    ------
    ValueError
        "labels" without a classifier or labels, labels without it, or not one label a pair.
    """
    if criterion != "labels":
        if classifier is not None or labels is not None:
            raise ValueError(
                f"found classifier or labels with criterion={criterion!r}; expected criterion='labels', which reads them. "
                "Mend: criterion='labels', or leave them out."
            )
        return None
    if labels is None or not (callable(classifier) or hasattr(classifier, "predict")):
        raise ValueError(
            f"found classifier={classifier!r} and labels={'None' if labels is None else 'given'} with criterion='labels'; "
            "expected a fitted classifier of target points (a function, or an object with predict) and the label of every pair. "
            "Mend: fuse(X, Y, pairs, criterion='labels', classifier=classifier, labels=labels)."
        )
    values = np.asarray(labels)
    if values.shape != (n_pairs,):
        raise ValueError(
            f"labels: found shape {values.shape}; expected ({n_pairs},), one a pair. Mend: pass labels in the order of the pairs."
        )
    return values


def classify_with(classifier: Any, points: np.ndarray) -> np.ndarray:
    """Return the labels a frozen classifier gives to points, (n_points,).

    Raises
    ------
    ValueError
        Not one label a point.
    """
    values = np.asarray(classifier.predict(points) if hasattr(classifier, "predict") else classifier(points))
    if values.shape != (len(points),):
        raise ValueError(
            f"classifier: found labels of shape {values.shape} for {len(points)} points; expected one a point. Mend: return class "
            "labels, e.g. scores.argmax(axis=1)."
        )
    return values
