"""Whitened maps: turned by the pairs, in coordinates whitened by the covariances of all points of both spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from neurobridge.maps.linear import LinearMap, checked_samples
from neurobridge.maps.principal import checked_weights
from neurobridge.maps.whitening import WhitenedDesign, WhitenedSettings
from neurobridge.points.arrays import Array

#: Powers and exponents that `choose_whitened` compares.
POWERS: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
EXPONENTS: tuple[float, ...] = (0.0, 0.5, 1.0)
N_FOLDS = 10
# Ranks to compare, as shares of the number of pairs.
_RANKS = (0.5, 0.25, 1.0, 2.0)

#: Loss of each pair, shape (n_pairs,), of predictions and truths of shape (n_pairs, n_components).
Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


def whitened_map(
    X: Array,
    Y: Array,
    *,
    source_points: Array | None = None,
    target_points: Array | None = None,
    weights: Array | None = None,
    settings: WhitenedSettings | None = None,
    seed: int = 0,
) -> LinearMap:
    """Fit a linear map on pairs, in coordinates whitened by the covariances of all points of both spaces.

    Few pairs do not determine a covariance, but hundreds of unpaired points do: only the correspondence of the whitened
    axes is left to the pairs. See `WhitenedDesign` for the equations.

    Parameters
    ----------
    X : array of shape (n_pairs, n_source_dims)
    Y : array of shape (n_pairs, n_target_dims)
    source_points : array of shape (n_source, n_source_dims), optional
        All points of the source, paired or not; the pairs by default.
    target_points : array of shape (n_target, n_target_dims), optional
        Likewise.
    weights : array of shape (n_pairs,), optional
        Of the pairs; equal by default.
    settings : WhitenedSettings, optional
        Default: those that `choose_whitened` finds.
    seed : int
        Of the folds of that choice.

    Returns
    -------
    LinearMap

    Raises
    ------
    ValueError
        Lengths or dimensions differ, fewer than two pairs, values that are not finite, weights that are not positive, or
        settings out of range.

    Examples
    --------
    Ten pairs of 30 dimensions, most of whose variance lies in few of them:

    >>> from neurobridge.maps.linear import ridge_map
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 30)) / np.arange(1, 31)
    >>> Y = X @ np.linalg.qr(rng.normal(size=(30, 30)))[0]
    >>> few = whitened_map(X[:10], Y[:10], source_points=X, target_points=Y)
    >>> bool(((few(X) - Y) ** 2).sum() < ((ridge_map(X[:10], Y[:10], penalty="shared")(X) - Y) ** 2).sum())
    True
    """
    X, Y = checked_samples(X, Y)
    clouds = (X if source_points is None else source_points), (Y if target_points is None else target_points)
    design = WhitenedDesign(*clouds)
    if len(design.source.mean) != X.shape[1] or len(design.target.mean) != Y.shape[1]:
        raise ValueError(
            f"found pairs of {X.shape[1]} and {Y.shape[1]} dimensions in spaces of {len(design.source.mean)} and "
            f"{len(design.target.mean)}; expected the same. Mend: pass source_points and target_points with the columns of X and Y."
        )
    if settings is None:
        settings = choose_whitened(design, X, Y, weights=weights, seed=seed)
    return design.map(X, Y, settings, weights=weights)


def choose_whitened(
    design: WhitenedDesign,
    X: Array,
    Y: Array,
    *,
    weights: Array | None = None,
    settings: Iterable[WhitenedSettings] | None = None,
    loss: Loss | None = None,
    n_folds: int = N_FOLDS,
    seed: int = 0,
) -> WhitenedSettings:
    """Choose the settings of a whitened map by the pairs that are left out of it.

    1. Pairs are dealt into folds; each fold is predicted from the others with every candidate (`WhitenedDesign.left_out`).
    2. The candidates of `whitened_candidates` share the mean of all points; the best is compared with the mean of the pairs.
    3. In either step the first candidate is kept unless another has a smaller mean loss by more than one standard error of
       the paired differences: with ten pairs the best of 40 cross-validation scores is mostly chance.

    Parameters
    ----------
    design : WhitenedDesign
    X, Y : arrays of shape (n_pairs, n_source_dims) and (n_pairs, n_target_dims)
    weights : array of shape (n_pairs,), optional
        Of the pairs, in fitting and in the mean loss.
    settings : iterable of WhitenedSettings, optional
        Candidates, the one to prefer first. Default: `whitened_candidates`.
    loss : callable, optional
        From predictions and truths, both of shape (n_pairs, rank) in principal coordinates of the target, to the loss of
        each pair, shape (n_pairs,). Default: the squared distance.
    n_folds : int
        At most; every pair is left out once.
    seed : int
        Of the folds.

    Returns
    -------
    WhitenedSettings

    Raises
    ------
    ValueError
        As `WhitenedDesign.map`.

    Examples
    --------
    Exact rotations need neither whitening nor shrunk singular values:

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)) * [4, 3, 2, 1]
    >>> design = WhitenedDesign(X, X[:, ::-1])
    >>> choose_whitened(design, X[:30], X[:30, ::-1]).exponent
    0.0
    """
    X, Y = checked_samples(X, Y)
    share = checked_weights(weights, len(X), "weights")
    tried = list(whitened_candidates(len(X), design.rank) if settings is None else settings)
    order = np.random.default_rng(seed).permutation(len(X))
    folds = np.array_split(order, min(n_folds, len(X)))
    truth = design.target.of(Y)
    measure = _squared_distance if loss is None else loss

    def losses(candidates: list[WhitenedSettings]) -> dict[WhitenedSettings, np.ndarray]:
        predictions = design.left_out(X, Y, candidates, folds, weights=share)
        return {each: measure(predicted, truth) for each, predicted in predictions.items()}

    best = _convincing(losses(tried), share)
    if settings is None:
        # Unpaired points of another kind than the pairs have another mean.
        best = _convincing(losses([best, best._replace(centre="pairs")]), share)
    return best


def whitened_candidates(n_pairs: int, rank: int) -> list[WhitenedSettings]:
    """Return the settings that are compared for so many pairs, the one preferred first.

    Parameters
    ----------
    n_pairs : int
    rank : int
        Largest rank of the design.

    Returns
    -------
    list of WhitenedSettings
    """
    ranks = list(dict.fromkeys(min(rank, max(2, round(n_pairs * share))) or 1 for share in _RANKS))
    first = WhitenedSettings(rank=ranks[0])
    grid = [WhitenedSettings(power, r, exponent) for r in ranks for power in POWERS for exponent in EXPONENTS]
    # Regression with the covariance of all points instead of that of the pairs.
    regressions = [WhitenedSettings(1.0, None, 1.0, shrinkage=shrinkage) for shrinkage in (0.3, 1.0)]
    return [first, *(each for each in grid if each != first), *regressions]


def _squared_distance(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray(((predicted - truth) ** 2).sum(axis=1))


def _convincing(losses: dict[WhitenedSettings, np.ndarray], share: np.ndarray) -> WhitenedSettings:
    """Return the settings of least mean loss, or the first ones where their lead is within a standard error."""
    first = next(iter(losses))
    best = min(losses, key=lambda each: float(share @ losses[each]))
    lead = losses[first] - losses[best]
    mean = float(share @ lead)
    error = float(np.sqrt(share**2 @ (lead - mean) ** 2))
    return best if mean > error else first
