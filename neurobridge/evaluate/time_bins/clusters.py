"""Cluster-mass permutation test over bins of time, or of two times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from neurobridge.points.conversion import real_array


class Clusters(NamedTuple):
    r"""Clusters of bins above chance, as `cluster_test` finds them.

    Attributes
    ----------
    labels : array of int of shape (\*bins)
        Number of the cluster that each bin is in, from 1; 0 outside.
    masses : array of shape (n_clusters,)
        Sum over the cluster's bins of the value in standard deviations of the null.
    p_values : array of shape (n_clusters,)
    """

    labels: np.ndarray
    masses: np.ndarray
    p_values: np.ndarray


def cluster_test(observed: npt.ArrayLike, null: npt.ArrayLike, *, forming: float = 0.05) -> Clusters:
    r"""Find clusters of adjacent bins above chance, and how often chance alone makes one as massive.

    The cluster-mass test of Maris & Oostenveld (2007, J. Neurosci. Methods 164:177), one-sided:

    1. In every bin the observed value and its permutations are put in units of their common mean and standard deviation.
    2. Bins above the ``1 - forming`` quantile of these values are joined to clusters of adjacent bins; the mass of a cluster is
       the sum of its units.
    3. ``p = #{largest mass of a permutation, or of the observed values, >= mass} / (1 + n_permutations)``.

    The observed values are one of the permutations in all three steps, so the chance of any cluster with p <= alpha is at most
    alpha where permutations and observed values are exchangeable, whatever the dependence of the bins.

    Parameters
    ----------
    observed : array of shape (n_bins,) or (n_bins, n_bins)
        Large values speak for an effect.
    null : array of shape (n_permutations, n_bins[, n_bins])
        The same, of permuted data: a permutation is the same in all bins.
    forming : float
        Share of the values above which bins form clusters, in (0, 1). It chooses what the test is sensitive to, brief and strong
        (small) or weak and long (large); the test is valid for every choice that is made in advance.

    Returns
    -------
    Clusters

    Raises
    ------
    ValueError
        Shapes that do not match, no permutations, NaN, or a share outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate import cluster_test
    >>> rng = np.random.default_rng(0)
    >>> observed = rng.normal(size=20) + 5 * (np.arange(20) >= 12)  # simulated: an effect in the last eight bins
    >>> clusters = cluster_test(observed, rng.normal(size=(199, 20)))
    >>> np.flatnonzero(clusters.labels == clusters.labels[-1]).tolist(), float(clusters.p_values[-1])
    ([12, 13, 14, 15, 16, 17, 18, 19], 0.005)
    """
    value = real_array(observed, name="observed").astype(np.float64, copy=False)
    permuted = real_array(null, name="null").astype(np.float64, copy=False)
    if permuted.ndim != value.ndim + 1 or permuted.shape[1:] != value.shape or not len(permuted) or not value.size:
        raise ValueError(
            f"cluster_test: found observed values of shape {value.shape} and a null of shape {permuted.shape}; expected a null of "
            "(n_permutations, *bins), with one permutation or more. Mend: n_permutations=1000 of the score, and its null with "
            "permutations first."
        )
    if np.isnan(value).any() or np.isnan(permuted).any():
        n_value, n_null = int(np.isnan(value).sum()), int(np.isnan(permuted).sum())
        raise ValueError(
            f"cluster_test: found {n_value} NaN among the observed values and {n_null} in the null; expected numbers. "
            "Mend: leave out bins without a score, e.g. score.isel(time_bin=kept)."
        )
    if not 0 < forming < 1:
        raise ValueError(f"cluster_test: found forming={forming}; expected a share in (0, 1). Mend: e.g. 0.05.")
    pooled = np.concatenate([value[None], permuted])
    spread = pooled.std(axis=0)
    units = (pooled - pooled.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    above = pooled > np.quantile(pooled, 1 - forming, axis=0)
    labels, masses = _masses(above[0], units[0])
    largest = np.array([_masses(a, u)[1].max(initial=0) for a, u in zip(above, units, strict=True)])
    p_values = np.array([(largest >= mass * (1 - 1e-12)).mean() for mass in masses])
    return Clusters(labels, masses, p_values)


def _masses(above: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, n = ndimage.label(above)
    return labels, np.bincount(labels.ravel(), weights=units.ravel(), minlength=n + 1)[1:]
