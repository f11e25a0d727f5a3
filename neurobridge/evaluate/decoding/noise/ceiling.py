"""Ceiling of decoding: the accuracy on responses without noise, from averages of more and more trials."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, average_repetitions, coords_of, validate
from neurobridge.assemblies.schema import STIMULUS_ID, TIME_BIN
from neurobridge.evaluate.decoding.batches import bin_arrays, read_folds
from neurobridge.evaluate.decoding.noise.extrapolation import extrapolate_accuracy
from neurobridge.evaluate.decoding.trials import presentation_coordinate
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.score.schema import SPLIT, make_score, score_attrs
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.evaluate.time_bins.stacking import require_bins, require_by
from neurobridge.points.options import require_count, require_options, require_share
from neurobridge.points.progress import progress_bar

N_AVERAGED = "n_averaged"


class _Stimuli(NamedTuple):
    """Trials by their stimuli.

    Attributes
    ----------
    averages : array of shape (n_bins, n_stimuli, n_sites)
    trials : array of shape (n_bins, n_trials, n_sites)
    codes : int array of shape (n_trials,)
        Number of each trial's stimulus.
    labels : array of shape (n_stimuli,)
    """

    averages: np.ndarray
    trials: np.ndarray
    codes: np.ndarray
    labels: np.ndarray


def decoding_ceiling(
    recordings: xr.DataArray,
    label: str,
    *,
    readout: str = "logistic",
    splits: GivenSplits = None,
    by: str | None = None,
    n_draws: int = 10,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    r"""Estimate the accuracy of a readout on responses without noise: what a perfect model of the sites would reach.

    1. A readout is trained on the averages over all trials of the training stimuli, as `decode` trains on averaged recordings.
    2. It reads averages of k trials of the held-out stimuli, for k = 1, 2, 4, ... up to the fewest trials of a stimulus.
    3. The accuracies are extrapolated to endlessly many trials by a model of choices with Gaussian evidence
       (`extrapolate_accuracy`).

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial, dims ``(presentation, neuroid)``, or with ``time_bin``; every stimulus at least twice, not
        necessarily equally often.
    label : str
        Coordinate on ``presentation``, the same for all trials of a stimulus.
    readout : str
        As in `decode`.
    splits : Splits, str or sequence of (train, test), optional
        Rows of ``average_repetitions(recordings)``. Default: stratified parts, each held out once, as many as the rarest class has
        stimuli, at most ten.
    by : {"time_bin"}, optional
        A ceiling for every time bin.
    n_draws : int
        Random choices of the k trials of every stimulus, whose accuracies are averaged.
    n_bootstrap : int
        Draws of the held-out stimuli, with replacement, for the interval; 0 for none. The readouts are kept.
    confidence : float
        Of the interval, in (0, 1).
    seed : int
    progress : bool
        Show a progress bar of time bins.

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split), the accuracy on averages over all trials; ``ceiling``, the extrapolated accuracy, with
        ``ceiling_low`` and ``ceiling_high``; ``accuracy`` (n_averaged), that on averages of k trials; no null, and nothing
        normalised. With ``by="time_bin"`` all has the leading dim ``time_bin``.

    Raises
    ------
    AssemblyError
        Bad recordings or splits, a stimulus with one trial or with several labels, or an unknown readout.

    Notes
    -----
    The readout is that of the recordings, with the noise that its training averages have; one that is trained on a model's own
    responses may do better. Where evidence is far from Gaussian, as with few stimuli a class, the extrapolation is too high or too
    low; where accuracies of few trials are near chance the interval is wide, and says so.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.decoding import decoding_ceiling
    >>> rng = np.random.default_rng(0)  # simulated: 60 stimuli of two categories, 6 trials with much noise
    >>> stimulus = np.tile(np.arange(60), 6)
    >>> means = rng.normal(size=(60, 5)) + 1.5 * (np.arange(60) % 2)[:, None]
    >>> trials = make_assembly(
    ...     means[stimulus] + 3 * rng.normal(size=(360, 5)),
    ...     presentation={"stimulus_id": stimulus, "category_name": np.array(["car", "face"])[stimulus % 2]},
    ...     neuroid={"neuroid_id": range(5)},
    ... )
    >>> score = decoding_ceiling(trials, "category_name")
    >>> bool(score["accuracy"][0] < score["raw"].mean() < score["ceiling"] <= 1)
    True
    """
    require_options(n_bootstrap=n_bootstrap, seed=seed, progress=progress, error=AssemblyError)
    require_count(n_draws, name="n_draws", error=AssemblyError)
    require_share(confidence, name="confidence", error=AssemblyError)
    require_by(by)
    validate(recordings, role="recordings")
    if by is not None:
        require_bins(recordings, role="recordings")
    elif recordings.ndim == 3 and recordings.sizes[TIME_BIN] != 1:
        raise AssemblyError(
            f"recordings: found {recordings.sizes[TIME_BIN]} time bins; expected one. Mend: by='time_bin', or "
            "recordings.isel(time_bin=0)."
        )
    averaged, stimuli = _by_stimulus(recordings, label)
    folds = _folds(averaged, label, stimuli.labels, splits)
    classes = np.unique(stimuli.labels)
    counts = np.bincount(stimuli.codes)
    n_averaged = np.unique([*(2 ** np.arange(int(np.log2(counts.min())) + 1)), counts.min()])
    ranks = _ranks(stimuli.codes, counts, n_draws, seed)
    correct = [
        _read(
            stimuli._replace(averages=average[None], trials=trials[None]),
            folds,
            n_averaged,
            ranks,
            label,
            readout,
            seed,
        )
        for average, trials in progress_bar(
            zip(stimuli.averages, stimuli.trials, strict=True),
            total=len(stimuli.trials),
            desc="time bins",
            progress=progress and by is not None,
        )
    ]
    whole = np.stack([by_fold for by_fold, _ in correct])
    few = np.stack([of_stimuli for _, of_stimuli in correct])
    accuracy = few.mean(axis=2)
    ceiling = extrapolate_accuracy(accuracy, n_averaged, len(classes))
    rng = np.random.default_rng([seed, 1])
    drawn = rng.integers(0, few.shape[2], (n_bootstrap, few.shape[2]))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = np.full((2, len(few)), np.nan)
    for k, of_bin in enumerate(few if n_bootstrap else ()):
        samples = of_bin[:, drawn].mean(axis=2).T
        bounds[:, k] = np.quantile(extrapolate_accuracy(samples, n_averaged, len(classes)), tails)
    leading = (TIME_BIN,) if by else ()
    values: dict[str, Any] = {
        "raw": whole,
        "ceiling": ceiling,
        "low": bounds[0],
        "high": bounds[1],
        "accuracy": accuracy,
    }
    values = values if by else {name: value[0] for name, value in values.items()}
    attrs = {
        "metric": f"accuracy of {label} without noise, {readout}",
        "splits": folds.description,
        "n_stimuli": len(stimuli.labels),
        "n_trials": len(stimuli.codes),
        "n_classes": len(classes),
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
    }
    return make_score(
        values["raw"],
        (*leading, SPLIT),
        ceiling=values["ceiling"],
        # The ceiling is that of other scores, not of the accuracy of the recordings.
        normalized=np.full(np.shape(values["ceiling"]), np.nan),
        extra={
            "ceiling_low": (leading, values["low"]),
            "ceiling_high": (leading, values["high"]),
            "accuracy": ((*leading, N_AVERAGED), values["accuracy"]),
        },
        coords={N_AVERAGED: n_averaged, **(coords_of(recordings, TIME_BIN) if by else {})},
        attrs=score_attrs(attrs, len(folds), 0, seed, (recordings,)),
    )


def _by_stimulus(recordings: xr.DataArray, label: str) -> tuple[xr.DataArray, _Stimuli]:
    """Return the averages over repetitions, and the trials by their stimuli in the order of the averages."""
    of_trials = presentation_coordinate(recordings, label, role="recordings")
    ids, codes, counts = np.unique(recordings[STIMULUS_ID].values, return_inverse=True, return_counts=True)
    codes = codes.ravel()
    if counts.min() < 2:
        raise AssemblyError(
            f"recordings: found {int((counts < 2).sum())} of {len(ids)} stimuli with one trial, e.g. "
            f"{str(ids[counts.argmin()])!r}; expected two or more of each, since averages of more and more trials are "
            "compared. Mend: select the repeated stimuli."
        )
    first = np.unique(codes, return_index=True)[1]
    several = of_trials != of_trials[first][codes]
    if several.any():
        raise AssemblyError(
            f"{label}: found several values for {len(np.unique(codes[several]))} stimuli, e.g. "
            f"{str(ids[codes[several][0]])!r}; expected one value for all trials of a stimulus. Mend: name a label of stimuli."
        )
    averaged = average_repetitions(recordings).sortby(STIMULUS_ID)
    averaged = averaged.assign_coords({label: (averaged.dims[0], of_trials[first])})
    return averaged, _Stimuli(bin_arrays(averaged), bin_arrays(recordings), codes, of_trials[first])


def _folds(averaged: xr.DataArray, label: str, labels: np.ndarray, splits: GivenSplits) -> Splits:
    rarest = int(np.unique(labels, return_counts=True)[1].min())
    if splits is None:
        if rarest < 2:
            raise AssemblyError(
                f"{label}: found a class with one stimulus; expected at least two of each. Mend: a coarser label."
            )
        splits = f"kfold,label={label},n_splits={min(10, rarest)}"
    return resolve_splits(averaged, splits, stratify=label)


def _ranks(codes: np.ndarray, counts: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
    """Number the trials of every stimulus in random order, int array of shape (n_draws, n_trials)."""
    rng, starts = np.random.default_rng(seed), np.concatenate([[0], np.cumsum(counts)[:-1]])
    ranks = np.empty((n_draws, len(codes)), dtype=np.intp)
    for row in ranks:
        order = np.lexsort((rng.random(len(codes)), codes))
        row[order] = np.arange(len(codes)) - np.repeat(starts, counts)
    return ranks


def _read(
    stimuli: _Stimuli,
    folds: Splits,
    n_averaged: np.ndarray,
    ranks: np.ndarray,
    label: str,
    readout: str,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Read averages of one time bin.

    Returns
    -------
    whole : array of shape (n_folds,)
        Accuracy on averages over all trials.
    few : array of shape (n_counts, n_held_out)
        Share of the draws in which each held-out stimulus is read rightly.
    """
    n, trials = len(stimuli.labels), stimuli.trials[0]
    parts = [stimuli.averages[0]]
    for k in n_averaged:
        for rank in ranks:
            sums = np.zeros((n, trials.shape[1]))
            np.add.at(sums, stimuli.codes[rank < k], trials[rank < k])
            parts.append(sums / k)
    # All averages of a stimulus stand below each other, and are held out together.
    X = np.concatenate(parts)[None]
    labels = np.tile(stimuli.labels, len(parts))
    below = n * np.arange(len(parts))[:, None]
    held_out = [(train, (below + test).ravel()) for train, test in folds]
    predicted = read_folds(X, labels, held_out, label, readout, seed)
    truth = np.unique(stimuli.labels, return_inverse=True)[1].ravel()
    whole, few = [], []
    for read, (_, test) in zip(predicted, folds, strict=True):
        correct = read[0].reshape(len(parts), len(test)) == truth[test]
        whole.append(correct[0].mean())
        few.append(correct[1:].reshape(len(n_averaged), len(ranks), len(test)).mean(axis=1))
    return np.array(whole), np.concatenate(few, axis=1)
