"""Metrics that predict every site: layer chosen and map fitted on training stimuli, correlation on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neurobridge.assemblies.missing import sites_by_missing
from neurobridge.evaluate.comparison.cells import Cell
from neurobridge.evaluate.correlation import pearson
from neurobridge.evaluate.layers import generalised_errors
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.splits import kfold_splits

_INNER_FOLDS = 3


class Regressed:
    """Median over sites of the r between predicted and observed held-out responses.

    Parameters
    ----------
    regression : str
        A key of `REGRESSIONS`.
    Y : array of shape (n_stimuli, n_sites)
        A missing value (NaN) leaves its stimulus out of that site alone.
    folds : sequence of (train, test)
    counts : array of shape (n_draws, n_stimuli)
        How often each stimulus stands in each draw.
    sites : int array of shape (n_draws, n_sites)
        The sites of each draw.
    """

    def __init__(
        self,
        regression: str,
        Y: np.ndarray,
        folds: Sequence[tuple[np.ndarray, np.ndarray]],
        counts: np.ndarray,
        sites: np.ndarray,
    ) -> None:
        self.regression, self.Y, self.folds, self.counts, self.sites = regression, Y, folds, counts, sites
        self._parts = list(sites_by_missing(np.isnan(Y)))

    def score(self, layers: Mapping[str, np.ndarray]) -> Cell:
        """Score the layers of one model, arrays of shape (n_stimuli, n_units) in the model's order."""
        names = list(layers)
        chosen = [names[0]] * len(self.folds) if len(names) == 1 else self._choose(layers)
        by_site = np.empty((len(self.folds), self.Y.shape[1]))
        draws = np.zeros((3, len(self.counts)))
        for fold, (train, test) in enumerate(self.folds):
            X = layers[chosen[fold]]
            predicted = self._predicted(X, train, test)
            by_site[fold] = pearson(predicted, self.Y[test])[0]
            r = drawn_correlations(predicted, self.Y[test], self.counts[:, test])
            draws[0] += np.median(np.take_along_axis(r, self.sites, axis=1), axis=1) / len(self.folds)
            draws[1] += np.median(r, axis=1) / len(self.folds)
            draws[2] += np.median(by_site[fold][self.sites], axis=1) / len(self.folds)
        return Cell(np.median(by_site, axis=1), by_site.mean(axis=0), draws, chosen)

    def _predicted(self, X: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Predict the test rows; sites that miss the same rows are fitted together, and what they miss is NaN."""
        fit = REGRESSIONS[self.regression]
        predicted = np.full((len(test), self.Y.shape[1]), np.nan)
        for sites, rows in self._parts:
            trained, known = np.intersect1d(train, rows), np.isin(test, rows)
            if len(rows) == len(X):
                trained = train
            predicted[np.ix_(known, sites)] = fit(X[trained], self.Y[np.ix_(trained, sites)])(X[test[known]])
        return predicted

    def _choose(self, layers: Mapping[str, np.ndarray]) -> list[str]:
        """Return the layer of each fold that predicts its training stimuli best; the earlier of equals."""
        scores = np.empty((len(layers), len(self.folds)))
        for row, X in enumerate(layers.values()):
            if self.regression == "ridge":
                scores[row] = -np.median(self._errors(X), axis=1)
            else:
                scores[row] = [self._cross_validated(X, train) for train, _ in self.folds]
        return [list(layers)[k] for k in scores.argmax(axis=0)]

    def _errors(self, X: np.ndarray) -> np.ndarray:
        """Return the generalised error of ridge of every fold and site, array of shape (n_folds, n_sites)."""
        errors = np.empty((len(self.folds), self.Y.shape[1]))
        for sites, rows in self._parts:
            place = np.full(len(X), -1)
            place[rows] = np.arange(len(rows))
            local = [(place[train][place[train] >= 0], place[test][place[test] >= 0]) for train, test in self.folds]
            errors[:, sites] = list(generalised_errors(X[rows], self.Y[np.ix_(rows, sites)], local))
        return errors

    def _cross_validated(self, X: np.ndarray, train: np.ndarray) -> float:
        inner = [(train[a], train[b]) for a, b in kfold_splits(len(train), n_splits=_INNER_FOLDS)]
        return float(np.mean([np.median(pearson(self._predicted(X, a, b), self.Y[b])[0]) for a, b in inner]))


def drawn_correlations(predicted: np.ndarray, observed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Correlate columns on stimuli drawn with replacement.

    Parameters
    ----------
    predicted, observed : arrays of shape (n_stimuli, n_columns)
        A stimulus that misses a value (NaN) of a column on either side is left out of that column.
    counts : array of shape (n_draws, n_stimuli)

    Returns
    -------
    array of shape (n_draws, n_columns)
        0 where a column does not vary in a draw.
    """
    absent = np.isnan(predicted) | np.isnan(observed)
    if absent.any():
        r = np.empty((len(counts), observed.shape[1]))
        for columns, rows in sites_by_missing(absent):
            known = np.ix_(rows, columns)
            r[:, columns] = drawn_correlations(predicted[known], observed[known], counts[:, rows])
        return r
    P, Q = predicted - predicted.mean(axis=0), observed - observed.mean(axis=0)
    # Draws that hold none of these stimuli correlate nothing.
    weights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    p_mean, q_mean = weights @ P, weights @ Q
    covariance = weights @ (P * Q) - p_mean * q_mean
    power = (weights @ np.square(P) - np.square(p_mean)) * (weights @ np.square(Q) - np.square(q_mean))
    floor = 1e-24 * np.square(P).mean(axis=0) * np.square(Q).mean(axis=0)
    return np.asarray(
        np.divide(covariance, np.sqrt(np.maximum(power, 0)), out=np.zeros_like(power), where=power > floor)
    )
