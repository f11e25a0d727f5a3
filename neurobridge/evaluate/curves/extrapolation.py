"""Power laws of learning curves: fitted to the draws of a pilot, read beyond its numbers of pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Exponents that are tried: from a curve that hardly bends to one that is flat after its first points.
EXPONENTS = np.geomspace(0.1, 2.0, 40)
# A number of pairs counts at most so many times as much as the median one: few draws may agree by chance.
_MOST_WEIGHT = 20.0


class PowerLaws(NamedTuple):
    """Curves ``score(P) = plateau - loss (P / unit)^(-exponent)`` of P pairs.

    Attributes
    ----------
    plateau, loss, exponent : arrays of shape (n_curves,)
    unit : float
        Number of pairs at which a curve is ``loss`` below its plateau.
    """

    plateau: np.ndarray
    loss: np.ndarray
    exponent: np.ndarray
    unit: float

    def at(self, n_pairs: np.ndarray) -> np.ndarray:
        """Return the scores, array of shape (n_curves, n_counts)."""
        scaled = np.asarray(n_pairs, dtype=np.float64)[None] / self.unit
        return self.plateau[:, None] - self.loss[:, None] * scaled ** -self.exponent[:, None]

    def pairs_for(self, score: float | np.ndarray) -> np.ndarray:
        """Return the numbers of pairs with which the curves reach a score, infinite where it is not below the plateau.

        Parameters
        ----------
        score : float, or array of shape (n_curves,)

        Returns
        -------
        array of shape (n_curves,)
        """
        gap = self.plateau - score
        # A curve that is flat has reached its plateau with any number of pairs.
        share = np.divide(self.loss, gap, out=np.full_like(gap, np.inf), where=gap > 0)
        with np.errstate(over="ignore"):
            return np.asarray(self.unit * share ** (1 / self.exponent))


def fit_power_laws(n_pairs: np.ndarray, scores: np.ndarray, weights: np.ndarray, *, most: float = 1.0) -> PowerLaws:
    """Fit curves by weighted least squares, with a plateau of at most ``most`` and a loss of at least zero.

    For a given exponent the curve is linear in its plateau and its loss; the best of `EXPONENTS` is taken.

    Parameters
    ----------
    n_pairs : array of shape (n_counts,)
    scores : array of shape (n_curves, n_counts)
    weights : array of shape (n_counts,)
        In proportion to one over the variance of a score.
    most : float
        Largest score that is possible.

    Returns
    -------
    PowerLaws

    Examples
    --------
    >>> n = np.array([10, 20, 40, 80])
    >>> curve = 0.8 - 0.4 * (n / 28.3) ** -EXPONENTS[20]
    >>> laws = fit_power_laws(n, curve[None], np.ones(4))
    >>> laws.plateau.round(3), laws.pairs_for(0.7).round()
    (array([0.8]), array([559.]))
    """
    counts = np.asarray(n_pairs, dtype=np.float64)
    unit = float(np.exp(np.log(counts).mean()))
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    powers = (counts[None] / unit) ** -EXPONENTS[:, None]
    power_mean = powers @ shares
    score_mean = scores @ shares
    spread = np.square(powers - power_mean[:, None]) @ shares
    together = (scores * shares) @ powers.T - score_mean[:, None] * power_mean
    loss = np.maximum(-together / spread, 0.0)
    plateau = score_mean[:, None] + loss * power_mean
    # Above the largest score, the plateau is that score and the loss alone is fitted.
    bounded = np.maximum((most * power_mean - (scores * shares) @ powers.T) / (np.square(powers) @ shares), 0.0)
    over = plateau > most
    plateau, loss = np.where(over, most, plateau), np.where(over, bounded, loss)
    fitted = plateau[:, :, None] - loss[:, :, None] * powers[None]
    errors = np.square(fitted - scores[:, None]) @ shares
    best = errors.argmin(axis=1)
    curve = np.arange(len(scores))
    return PowerLaws(plateau[curve, best], loss[curve, best], EXPONENTS[best], unit)


def weights_of(draws: np.ndarray) -> np.ndarray:
    """Return one over the variance of the mean of every number of pairs, bounded so that no point stands alone.

    Parameters
    ----------
    draws : array of shape (n_draws, n_counts)

    Returns
    -------
    array of shape (n_counts,)
        In units of the median.
    """
    variance = draws.var(axis=0, ddof=1)
    typical = float(np.median(variance))
    if typical <= 0:
        return np.ones(draws.shape[1])
    return typical / np.maximum(variance, typical / _MOST_WEIGHT)


def resampled_means(draws: np.ndarray, *, n_bootstrap: int, overlap: float, seed: int) -> np.ndarray:
    """Return bootstrap means of whole curves, with deviations widened because the draws share their stimuli.

    The variance of a mean of J draws that each hold out n_test of the stimuli and train on n_train is not S^2 / J but about
    ``(1 / J + n_test / n_train) S^2`` (Nadeau & Bengio 2003, Machine Learning 52:239).

    Parameters
    ----------
    draws : array of shape (n_draws, n_counts)
    n_bootstrap : int
    overlap : float
        n_test / n_train.
    seed : int

    Returns
    -------
    array of shape (n_bootstrap, n_counts)
    """
    n_draws = len(draws)
    chosen = np.random.default_rng(seed).integers(n_draws, size=(n_bootstrap, n_draws))
    mean = draws.mean(axis=0)
    widen = np.sqrt(n_draws / (n_draws - 1) * (1 + n_draws * overlap))
    return np.asarray(mean + widen * (draws[chosen].mean(axis=1) - mean))
