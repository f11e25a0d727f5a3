"""Metrics of dissimilarities: layer chosen on training stimuli, RDMs compared over the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from neurobridge.evaluate.comparison.cells import Cell
from neurobridge.evaluate.similarity.comparators import PREPARE, upper_mask
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.evaluate.similarity.rdms import rdm_noise_ceiling, subject_rdms
from neurobridge.points.scale import within_range

DISTANCE, COMPARATOR = "correlation", "spearman"


class Geometry:
    """Mean over subjects of the rank correlation of dissimilarities, on the held-out stimuli of every fold.

    Parameters
    ----------
    Y : array of shape (n_stimuli, n_sites)
    stimuli : array of shape (n_stimuli,)
        Their ids, for messages.
    folds : sequence of (train, test)
    counts : array of shape (n_draws, n_stimuli)
        How often each stimulus stands in each draw.
    subjects : array of shape (n_sites,), optional
        Subject of each site; None for one RDM of all sites.
    """

    def __init__(
        self,
        Y: np.ndarray,
        stimuli: np.ndarray,
        folds: Sequence[tuple[np.ndarray, np.ndarray]],
        counts: np.ndarray,
        subjects: npt.ArrayLike | None = None,
    ) -> None:
        self.stimuli, self.folds, self.counts = stimuli, folds, counts
        labels = np.zeros(Y.shape[1], dtype=int) if subjects is None else np.asarray(subjects)
        Y = within_range(Y)
        held_out = [subject_rdms(Y[test], labels, DISTANCE, stimuli[test]) for _, test in folds]
        self._held_out = [[PREPARE[COMPARATOR](rdm) for rdm in rdms] for rdms in held_out]
        self._moments = [
            [_Moments(square(rdm, len(test)), counts[:, test]) for rdm in rdms]
            for (_, test), rdms in zip(folds, self._held_out, strict=True)
        ]
        # The mean of inner products is one inner product.
        self._training: list[np.ndarray] = []
        self._of_training = lambda: [
            np.mean(
                [PREPARE[COMPARATOR](rdm) for rdm in subject_rdms(Y[train], labels, DISTANCE, stimuli[train])], axis=0
            )
            for train, _ in folds
        ]
        self.ceiling = np.nan
        if subjects is not None:
            names = [str(name) for name in np.unique(labels)]
            bounds = [rdm_noise_ceiling(rdms, comparator=COMPARATOR, subjects=names) for rdms in held_out]
            self.ceiling = float(np.mean([upper for _, upper in bounds]))

    def score(self, layers: Mapping[str, np.ndarray]) -> Cell:
        """Score the layers of one model, arrays of shape (n_stimuli, n_units) in the model's order."""
        names = list(layers)
        chosen = [names[0]] * len(self.folds) if len(names) == 1 else self._choose(layers)
        by_split, draws = np.empty(len(self.folds)), np.zeros(len(self.counts))
        for fold, (_, test) in enumerate(self.folds):
            prepared = self._prepared(layers[chosen[fold]], test)
            by_split[fold] = np.mean([prepared @ rdm for rdm in self._held_out[fold]])
            model = _Moments(square(prepared, len(test)), self.counts[:, test])
            of_subjects = [model.correlation(subject) for subject in self._moments[fold]]
            draws += np.mean(of_subjects, axis=0) / len(self.folds)
        # Sites are not drawn.
        return Cell(by_split, np.empty(0), np.stack([draws, draws, np.full(len(draws), by_split.mean())]), chosen)

    def _prepared(self, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return PREPARE[COMPARATOR](DISTANCES[DISTANCE](within_range(X[rows]), self.stimuli[rows]))

    def _choose(self, layers: Mapping[str, np.ndarray]) -> list[str]:
        """Return the layer of each fold whose RDM of the training stimuli is most alike; the earlier of equals."""
        self._training = self._training or self._of_training()
        scores = [
            [self._prepared(X, train) @ rdm for (train, _), rdm in zip(self.folds, self._training, strict=True)]
            for X in layers.values()
        ]
        return [list(layers)[k] for k in np.argmax(scores, axis=0)]


def square(condensed: np.ndarray, n: int) -> np.ndarray:
    """Return the symmetric matrix (n, n) of the values of all pairs, with zeros on its diagonal."""
    full = np.zeros((n, n))
    full[upper_mask(n)] = condensed
    return full + full.T


class _Moments:
    """Sums over the pairs of different stimuli of every draw; a pair of one stimulus, drawn twice, has no dissimilarity.

    Parameters
    ----------
    values : array of shape (n, n)
        Symmetric, zeros on the diagonal.
    counts : array of shape (n_draws, n)
    """

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        self.values, self.counts = values, counts
        self.n_pairs = np.maximum(np.square(counts.sum(axis=1)) - np.square(counts).sum(axis=1), 1)
        self.mean = self._over_pairs(values)
        self.variance = self._over_pairs(np.square(values)) - np.square(self.mean)

    def _over_pairs(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("dn,dn->d", self.counts @ values, self.counts) / self.n_pairs)

    def correlation(self, other: _Moments) -> np.ndarray:
        """Correlate the values of the pairs of every draw, array of shape (n_draws,); 0 where they do not vary."""
        covariance = self._over_pairs(self.values * other.values) - self.mean * other.mean
        power = self.variance * other.variance
        return np.asarray(
            np.divide(covariance, np.sqrt(np.maximum(power, 0)), out=np.zeros_like(power), where=power > 0)
        )
