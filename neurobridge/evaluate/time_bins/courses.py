"""Courses of scores in time: clusters above chance, onset and peak."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID, TIME_BIN
from neurobridge.evaluate.score.schema import PERMUTATION, SMALLER_IS_BETTER, leading_dims, reduce_raw
from neurobridge.evaluate.time_bins.clusters import cluster_test

TRAINED, TESTED = "trained", "tested"
START, END = "time_bin_start", "time_bin_end"


def bin_centres(coords: xr.Dataset | xr.DataArray, start: str = START, end: str = END) -> np.ndarray:
    """Return the middles of time bins in the unit of their coordinates, or their numbers where these are missing."""
    if start in coords.coords and end in coords.coords:
        return (coords[start].values.astype(np.float64) + coords[end].values.astype(np.float64)) / 2
    return np.arange(coords.sizes[TIME_BIN], dtype=np.float64)


def find_clusters(score: xr.Dataset, *, forming: float = 0.05, alpha: float = 0.05) -> xr.Dataset:
    """Find the time bins in which a Score is above chance, corrected for their number by clusters.

    Parameters
    ----------
    score : xarray.Dataset
        With the leading dim ``time_bin``, or (trained, tested) of `generalise_time`, and a null: from `decode`, `predictivity`,
        `rsa` and others with ``by="time_bin"``, whose permutations are the same in every bin.
    forming : float
        As in `cluster_test`.
    alpha : float
        A cluster is significant where its p is at most this.

    Returns
    -------
    xarray.Dataset
        On the leading dims: ``value``, median over sites and mean over splits; ``chance``, the mean of the null, and ``null_95``,
        the value that 95 % of the permutations do not reach in this bin; ``cluster``, the number of the cluster, 0 outside;
        ``p_cluster``, NaN outside; ``significant``.

    Raises
    ------
    ValueError
        Not such a Score, no permutations, or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate import find_clusters
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> attrs = score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 40}, n_splits=1, n_permutations=99, seed=0)
    >>> null = np.random.default_rng(0).normal(0.5, 0.1, size=(4, 99))
    >>> score = make_score([0.5, 0.5, 1.0, 1.0], ("time_bin",), null=null, attrs=attrs)  # simulated
    >>> find_clusters(score)["significant"].values.tolist()
    [False, False, True, True]
    """
    leading = leading_dims(score)
    if leading not in ((TIME_BIN,), (TRAINED, TESTED)):
        raise ValueError(
            f"find_clusters: found a Score with the leading dims {leading}; expected ('time_bin',) or ('trained', 'tested'). "
            "Mend: score with by='time_bin', or select one entry of the other dims."
        )
    raw = score["raw"].values
    shape = score["p_value"].shape
    by_site = NEUROID in score["raw"].dims
    value = np.array([reduce_raw(raw[cell], by_site) for cell in np.ndindex(shape)]).reshape(shape)
    null = score["null"].transpose(PERMUTATION, *leading).values
    null = null[~np.isnan(null).reshape(len(null), -1).all(axis=1)]
    sign = -1.0 if int(score.attrs.get(SMALLER_IS_BETTER, 0)) else 1.0
    clusters = cluster_test(sign * value, sign * null, forming=forming)
    p_of = np.concatenate([[np.nan], clusters.p_values])[clusters.labels]
    data = {
        "value": value,
        "chance": null.mean(axis=0),
        "null_95": np.quantile(null, 0.05 if sign < 0 else 0.95, axis=0),
        "cluster": clusters.labels,
        "p_cluster": p_of,
        "significant": p_of <= alpha,
    }
    coords = {name: coord for name, coord in score.coords.items() if set(coord.dims) <= set(leading) and coord.dims}
    attrs = {name: score.attrs[name] for name in ("metric", "n_stimuli", "n_splits", "n_permutations", "seed")}
    return xr.Dataset(
        {name: (leading, array) for name, array in data.items()},
        coords=coords,
        attrs={**attrs, "forming": forming, "alpha": alpha},
    )


def time_course(score: xr.Dataset, *, forming: float = 0.05, alpha: float = 0.05) -> xr.Dataset:
    """Reduce a Score of time bins to its course: value and chance level, significant clusters, onset and peak.

    Parameters
    ----------
    score : xarray.Dataset
        With the leading dim ``time_bin``, as in `find_clusters`.
    forming, alpha : float
        As in `find_clusters`.

    Returns
    -------
    xarray.Dataset
        As `find_clusters` gives it, with the coordinate ``time``, the middle of each bin (its number where there are no
        ``time_bin_start`` and ``time_bin_end``). And numbers in that unit: ``onset``, the first bin of the first significant
        cluster, and ``offset``, the last bin of the last one, NaN where none is; ``peak``, the bin of the largest value (the
        smallest where that is better), and ``peak_value``.

        The test says that there is an effect somewhere in a cluster. It does not test its borders (Sassenhagen & Draschkow 2019,
        Psychophysiology 56:e13335): read onsets as descriptions.

    Raises
    ------
    ValueError
        Not a Score with the leading dim ``time_bin``, no permutations, or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import decode, time_course
    >>> rng = np.random.default_rng(0)
    >>> stimulus, start = np.tile(np.arange(40), 3), np.arange(0, 200, 20)
    >>> values = rng.normal(size=(120, 5, 10))  # simulated: categories differ from 100 ms on
    >>> values += 2 * (stimulus % 2)[:, None, None] * (start >= 100)
    >>> trials = make_assembly(
    ...     values,
    ...     presentation={"stimulus_id": stimulus, "category_name": np.array(["car", "face"])[stimulus % 2]},
    ...     neuroid={"neuroid_id": range(5)},
    ...     time_bin={"time_bin_start": start, "time_bin_end": start + 20},
    ... )
    >>> course = time_course(decode(trials, "category_name", by="time_bin", n_permutations=199, progress=False))
    >>> float(course["onset"]), course["significant"].values.astype(int).tolist()
    (110.0, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """
    if leading_dims(score) != (TIME_BIN,):
        raise ValueError(
            f"time_course: found a Score with the leading dims {leading_dims(score)}; expected ('time_bin',). "
            "Mend: score with by='time_bin'; find_clusters(score) for (trained, tested)."
        )
    course = find_clusters(score, forming=forming, alpha=alpha)
    time = bin_centres(course)
    kept = np.flatnonzero(course["significant"].values)
    values = course["value"].values
    best = int(values.argmin() if int(score.attrs.get(SMALLER_IS_BETTER, 0)) else values.argmax())
    return course.assign(
        onset=float(time[kept[0]]) if len(kept) else np.nan,
        offset=float(time[kept[-1]]) if len(kept) else np.nan,
        peak=float(time[best]),
        peak_value=float(values[best]),
    ).assign_coords(time=(TIME_BIN, time))
