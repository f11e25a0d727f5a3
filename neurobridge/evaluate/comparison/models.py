"""Comparison of models: the same folds and draws for all, paired differences, corrected p-values and ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, missing_values
from neurobridge.assemblies.schema import NEUROID, STIMULUS_ID, plain
from neurobridge.evaluate.comparison.cells import DRAW, Cell, digest_of, keep_cell, kept_cell, path_of
from neurobridge.evaluate.comparison.geometry import Geometry
from neurobridge.evaluate.comparison.regressed import Regressed
from neurobridge.evaluate.comparison.spaces import checked_names, drawn_counts, in_order_of, interval, shared_target
from neurobridge.evaluate.comparison.statistics import CORRECTIONS, corrected_draws, paired_differences, ranks
from neurobridge.evaluate.correlation import MIN_CORRELATED, refuse_too_few
from neurobridge.evaluate.folds import GivenSplits
from neurobridge.evaluate.layers import LAYER
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.score.normalization import normalise
from neurobridge.evaluate.score.schema import SPLIT, reliability_of, score_attrs, warn_low_ceilings
from neurobridge.evaluate.similarity.rdms import subjects_of
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.points.options import is_choice, require_options, require_share
from neurobridge.points.progress import progress_bar

METRIC, MODEL, OTHER = "metric", "model", "other"
#: Metrics that models can be compared by: those by site, and those of dissimilarities.
COMPARED = (*REGRESSIONS, "rdm", "rsa")
_SUBJECT = "animal"


class _Setting(NamedTuple):
    """What all cells of a comparison share."""

    target: xr.DataArray
    Y: np.ndarray
    folds: Sequence[tuple[np.ndarray, np.ndarray]]
    counts: np.ndarray
    sites: np.ndarray
    fingerprint: str


def compare_models(
    models: Mapping[str, xr.DataArray],
    recordings: xr.DataArray,
    metrics: Sequence[str] = ("ridge", "rsa"),
    *,
    splits: GivenSplits = None,
    ceiling: xr.DataArray | None = None,
    normalization: str = "explained_variance",
    correction: str = "holm",
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    keep: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare models on the same held-out stimuli: scores, paired differences, corrected p-values and ranks.

    1. The folds are drawn once, over the stimuli that the recordings and all models share.
    2. Of a model with several layers, each fold chooses one on its training stimuli alone: ridge by generalised cross-validation
       (`generalised_errors`), other regressions by threefold cross-validation, RDMs by their own score.
    3. Metrics by site ("ridge", "pls", "linear", "neuron_to_neuron") fit the map on the training stimuli; the score is the r with
       the held-out ones, median over sites, mean over folds. "rsa" compares RDMs of the held-out stimuli with those of each animal,
       "rdm" with that of all sites (correlation distance, Spearman), mean over folds.
    4. Stimuli, and sites, are drawn with replacement, the same ones for all models, and the draws are shrunk to the variance of two
       factors (`corrected_draws`). The fits are not repeated. ``p = 2 (1 + the rarer sign among n draws) / (1 + n)``.
    5. p-values are corrected for the number of pairs of models, within each metric.

    Parameters
    ----------
    models : mapping of str to xarray.DataArray
        Two or more assemblies of activations, one presentation a stimulus; a coordinate ``layer`` on ``neuroid`` parts the layers,
        in the model's order. Models are read one at a time.
    recordings : xarray.DataArray
        Averaged over repetitions. A missing value (NaN) leaves its stimulus out of that site alone; metrics of dissimilarities
        refuse it.
    metrics : sequence of str
        Of `COMPARED`: "pls", "ridge", "linear", "neuron_to_neuron", "rdm", "rsa".
    splits : Splits, str or sequence of (train, test), optional
        Rows of the shared stimuli in the order of the recordings. Default: "kfold,n_splits=5".
    ceiling : xarray.DataArray, optional
        Reliability of each site: ``internal_consistency(trials)["ceiling"]``. "rsa" has its own ceiling, the upper bound of the
        animals' agreement.
    normalization : str
        Of metrics by site, a key of `NORMALIZATIONS`; those of RDMs are divided by their ceiling.
    correction : {"holm", "fdr"}
        Holm's bounds the chance of any false alarm, Benjamini and Hochberg's the share of false ones among the alarms.
    n_bootstrap : int
        Draws; 0 for neither intervals nor p-values.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of the draws.
    keep : path, optional
        Folder in which the cells of models and metrics are kept, so that an interrupted comparison goes on; a cell is computed anew
        if its data or settings differ.
    progress : bool
        Show a progress bar over models and metrics.

    Returns
    -------
    xarray.Dataset
        On (metric, model): ``value``, ``value_low``, ``value_high``, the same of ``normalized`` (in units of ``ceiling`` (metric))
        and of ``rank`` (1 is best). On (metric, model, other): ``difference`` (model minus other), ``difference_low``,
        ``difference_high``, ``p_value``, ``p_corrected``, and ``share_of_sites`` on which the model is better. ``by_split`` and
        the chosen ``layer`` (metric, model, split); ``site_value`` (metric, model, neuroid), NaN for RDMs. Attributes as those of a
        Score, and ``kind`` = "comparison of models". `comparison_tables` gives its tables.

    Raises
    ------
    AssemblyError
        Bad assemblies or splits, fewer than two models, an unknown metric or correction, one animal with "rsa".

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> rng = np.random.default_rng(0)  # simulated: one model sees what drives the sites, the other half of it
    >>> latents, mixing = rng.normal(size=(150, 6)), rng.normal(size=(6, 10))
    >>> def labelled(values, **columns):
    ...     columns = {"neuroid_id": range(values.shape[1]), **columns}
    ...     return nb.make_assembly(values, presentation={"stimulus_id": range(150)}, neuroid=columns)
    >>> recordings = labelled(latents @ mixing + rng.normal(size=(150, 10)), animal=["a", "b"] * 5)
    >>> compared = nb.compare_models({"all": labelled(latents), "half": labelled(latents[:, :3])}, recordings)
    >>> compared["rank"].sel(metric="ridge").values.tolist()
    [1.0, 2.0]
    >>> bool(compared["p_corrected"].sel(metric="ridge", model="all", other="half") < 0.05)
    True
    """
    names = checked_names(models, at_least=2)
    chosen = _checked_options(metrics, correction, confidence, n_bootstrap, seed)
    target = shared_target(models, recordings, allow_missing=True)
    n_missing = _counted_missing(target, chosen)
    setting = _setting(target, splits, n_bootstrap, seed, confidence)
    folder = None if keep is None else Path(keep)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    scorers: dict[str, Regressed | Geometry] = {}
    cells: dict[tuple[str, str], Cell] = {}
    rsa_ceiling: dict[str, float] = {}
    with progress_bar(total=len(names) * len(chosen), desc="comparison", progress=progress, leave=False) as bar:
        for name in names:
            layers, fingerprint = _layers(models[name], target, name)
            for metric in chosen:
                path = None if folder is None else path_of(folder, metric, name)
                mark = digest_of(setting.fingerprint, metric, fingerprint)
                cell = None if path is None else kept_cell(path, mark)
                if cell is None:
                    if metric not in scorers:
                        scorers[metric] = _scorer(metric, setting)
                    cell = scorers[metric].score(layers)
                    if path is not None:
                        keep_cell(cell, path, mark)
                cells[metric, name] = cell
                bar.update()
    for metric in chosen:
        if metric == "rsa":
            scorer = scorers.get(metric) or _scorer(metric, setting)
            rsa_ceiling[metric] = scorer.ceiling if isinstance(scorer, Geometry) else np.nan
    reliability = reliability_of(ceiling, target)
    warn_low_ceilings(reliability, stacklevel=2)
    attrs = score_attrs(
        {
            "kind": "comparison of models",
            "metric": ", ".join(chosen),
            "splits": getattr(setting.folds, "description", "given"),
            "n_stimuli": len(setting.Y),
            "n_sites": setting.Y.shape[1],
            "normalization": normalization,
            "correction": correction,
            "n_bootstrap": n_bootstrap,
            "confidence": confidence,
            **({"n_missing_values": n_missing} if n_missing else {}),
        },
        len(setting.folds),
        0,
        seed,
        (recordings,),
    )
    blocks = [
        _block(
            [cells[metric, name] for name in names],
            ceiling=rsa_ceiling.get(metric, float(np.median(reliability)) if metric in REGRESSIONS else np.nan),
            rule=normalization if metric in REGRESSIONS else "ratio",
            correction=correction,
            confidence=confidence,
            n_sites=setting.Y.shape[1],
        )
        for metric in chosen
    ]
    coords = {**coords_of(target, NEUROID), METRIC: chosen, MODEL: names, OTHER: names}
    # A "layer" of the recordings (cortical depth) would clash with those of the models.
    coords.pop(LAYER, None)
    variables = {
        key: ((METRIC, *blocks[0][key][0]), np.stack([block[key][1] for block in blocks])) for key in blocks[0]
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def _checked_options(
    metrics: Sequence[str], correction: str, confidence: float, n_bootstrap: int, seed: int
) -> list[str]:
    chosen = [metrics] if isinstance(metrics, str) or not isinstance(metrics, Sequence) else list(metrics)
    unknown = [metric for metric in chosen if metric is None or not is_choice(metric, COMPARED)]
    if unknown or not chosen:
        shown = repr(unknown[0]) if unknown else "none"
        raise AssemblyError(
            f"compare_models: found metric {shown}; expected some of {list(COMPARED)}. Mend: metrics=('ridge', 'rsa')."
        )
    if correction is None or not is_choice(correction, CORRECTIONS):
        raise AssemblyError(
            f"compare_models: found correction={correction!r:.60}; expected one of {sorted(CORRECTIONS)}. Mend: correction='holm'."
        )
    require_share(confidence, name="confidence", error=AssemblyError)
    require_options(n_bootstrap=n_bootstrap, seed=seed, error=AssemblyError)
    return list(dict.fromkeys(chosen))


def _counted_missing(target: xr.DataArray, metrics: Sequence[str]) -> int:
    """Count the missing values, and refuse them where a metric needs all sites of a stimulus."""
    n_missing = int(missing_values(target).sum())
    whole = [metric for metric in metrics if metric not in REGRESSIONS]
    if n_missing and whole:
        raise AssemblyError(
            f"recordings: found {n_missing} missing values of {target.size} and the metric {whole[0]!r}, which compares all sites "
            "of a stimulus; expected a value of every site. Mend: neurobridge.assemblies.drop_incomplete(recordings), or "
            "metrics=('ridge',), which treats every site on its own stimuli."
        )
    return n_missing


def _setting(target: xr.DataArray, splits: GivenSplits, n_bootstrap: int, seed: int, confidence: float) -> _Setting:
    Y = as_matrix(target, role="recordings", allow_missing=True)
    folds = resolve_splits(target, "kfold,n_splits=5" if splits is None else splits, min_held_out=MIN_CORRELATED)
    for least, side, name in ((2, 0, "training"), (MIN_CORRELATED, 1, "held-out")):
        known = np.stack([(~np.isnan(Y[fold[side]])).sum(axis=0) for fold in folds]).min(axis=0)
        refuse_too_few(known, target, least, f"{name} stimuli of a split")
    counts = drawn_counts(len(Y), n_bootstrap, seed)
    sites = np.random.default_rng([seed, 1]).integers(0, Y.shape[1], (n_bootstrap, Y.shape[1]))
    rows = [side for fold in folds for side in fold]
    fingerprint = digest_of(
        Y, plain(target[STIMULUS_ID].values).astype(str), *rows, f"{n_bootstrap} {seed} {confidence}", __version__
    )
    return _Setting(target, Y, folds, counts, sites, fingerprint)


def _layers(model: xr.DataArray, target: xr.DataArray, name: str) -> tuple[dict[str, np.ndarray], str]:
    """Return the values of each layer in the order of the target's stimuli, and the digest of both."""
    ordered = in_order_of(model, target, name)
    X = as_matrix(ordered, role=name)
    if LAYER not in ordered.coords or ordered[LAYER].dims != (NEUROID,):
        return {"all": X}, digest_of(X)
    labels = plain(ordered[LAYER].values).astype(str)
    layers = {layer: X[:, labels == layer] for layer in dict.fromkeys(labels.tolist())}
    return layers, digest_of(X, labels)


def _scorer(metric: str, setting: _Setting) -> Regressed | Geometry:
    if metric in REGRESSIONS:
        return Regressed(metric, setting.Y, setting.folds, setting.counts, setting.sites)
    subjects = subjects_of(setting.target, _SUBJECT, "correlation") if metric == "rsa" else None
    return Geometry(setting.Y, setting.target[STIMULUS_ID].values, setting.folds, setting.counts, subjects)


def _block(
    cells: list[Cell], *, ceiling: float, rule: str, correction: str, confidence: float, n_sites: int
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return the variables of one metric: dims and values."""
    draws = np.stack([cell.draws for cell in cells])
    value = np.array([cell.by_split.mean() for cell in cells])
    of_models = corrected_draws(value, draws)
    low, high = interval(of_models, confidence, axis=1)
    rank = ranks(value, of_models, confidence)
    pairs = paired_differences(value, draws, correction, confidence)
    of_sites = [cell.site_value if len(cell.site_value) else np.full(n_sites, np.nan) for cell in cells]
    site_value = np.stack(of_sites)
    better = (site_value[:, None, :] > site_value[None, :, :]).mean(axis=2)
    known = np.isfinite(site_value).all(axis=1)
    share = np.where(known[:, None] & known[None, :] & ~np.eye(len(cells), dtype=bool), better, np.nan)
    units = np.full(len(cells), ceiling)
    by_model, by_pair = (MODEL,), (MODEL, OTHER)
    return {
        "value": (by_model, value),
        "value_low": (by_model, low),
        "value_high": (by_model, high),
        "ceiling": ((), ceiling),
        "normalized": (by_model, normalise(value, units, rule)),
        "normalized_low": (by_model, normalise(low, units, rule)),
        "normalized_high": (by_model, normalise(high, units, rule)),
        "rank": (by_model, rank[0]),
        "rank_low": (by_model, rank[1]),
        "rank_high": (by_model, rank[2]),
        "difference": (by_pair, pairs.difference),
        "difference_low": (by_pair, pairs.low),
        "difference_high": (by_pair, pairs.high),
        "p_value": (by_pair, pairs.p_value),
        "p_corrected": (by_pair, pairs.p_corrected),
        "share_of_sites": (by_pair, share),
        "by_split": ((MODEL, SPLIT), np.stack([cell.by_split for cell in cells])),
        "layer": ((MODEL, SPLIT), np.array([cell.layer for cell in cells])),
        "site_value": ((MODEL, NEUROID), site_value),
        "draws": ((MODEL, DRAW), of_models),
    }
