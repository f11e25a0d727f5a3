"""A benchmark by its name, on our own loaders and metrics: no Brain-Score package is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, average_repetitions, drop_constant, require_unique_stimuli, validate
from neurobridge.assemblies.ids import find_rows
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, REPETITION, STIMULUS_ID
from neurobridge.brainscore.metrics import ALL_METRICS, SITE_METRICS
from neurobridge.datasets import has_loader, list_datasets, load
from neurobridge.evaluate import aggregate, internal_consistency
from neurobridge.evaluate.score.normalization import normalise
from neurobridge.points.options import is_choice

#: Of the halves of Brain-Score's ceilings.
_RANDOM_STATE = 1
#: Orders of the sites in a score.
SITE_ORDERS = ("recorded", "brainscore")


@dataclass(frozen=True)
class BenchmarkName:
    """``<dataset>.<region>-<metric>`` in its parts."""

    dataset: str
    region: str
    metric: str

    def __str__(self) -> str:
        """Write the parts as the name they came from."""
        return f"{self.dataset}.{self.region}-{self.metric}"


@dataclass(frozen=True, eq=False)
class BenchmarkScore:
    """The score of a model's activations on a benchmark, with its summary.

    Attributes
    ----------
    name : BenchmarkName
    score : xarray.Dataset
        ``raw``, ``ceiling``, ``normalized``, ``null``, ``p_value``.
    summary : dict
        `aggregate` of it, with ``benchmark``, ``kind`` ("recorded" or "simulated"), ``n_unused_activations`` and ``notes``.
        Its ``ceiling`` is Brain-Score's, the mean over halvings of the median over sites; that of ``aggregate(score)`` is the
        median over sites of the mean over halvings, and so their ``normalized`` differ a little.
    """

    name: BenchmarkName
    score: xr.Dataset
    summary: dict[str, Any]


def scorable_datasets() -> list[str]:
    """Names of the datasets with recordings and a loader."""
    return [m.name for m in list_datasets() if m.kind in ("recorded", "simulated") and has_loader(m.name)]


def parse_benchmark(name: str) -> BenchmarkName:
    """Take ``<dataset>.<region>-<metric>`` apart, e.g. "majajhong2015.public.IT-pls".

    Parameters
    ----------
    name : str
        Taken apart from the right: a dataset's name may have points and dashes.

    Returns
    -------
    BenchmarkName

    Raises
    ------
    ValueError
        Not of this form, or an unknown dataset or metric; says which there are.
    """
    head, dash, metric = name.rpartition("-")
    dataset, dot, region = head.rpartition(".")
    if not (dash and dot and dataset and region and metric):
        raise ValueError(
            f"benchmark: found {name!r}; expected <dataset>.<region>-<metric>. Mend: e.g. majajhong2015.public.IT-pls; datasets "
            f"{scorable_datasets()}, metrics {sorted(ALL_METRICS)}."
        )
    if not is_choice(metric, ALL_METRICS):
        raise ValueError(
            f"benchmark {name!r}: found metric {metric!r}; expected one of {sorted(ALL_METRICS)}. Mend: choose one of them."
        )
    if not has_loader(dataset):
        raise ValueError(
            f"benchmark {name!r}: found dataset {dataset!r}; expected one of {scorable_datasets()}. Mend: choose one of them."
        )
    return BenchmarkName(dataset, region, metric)


def score_benchmark(
    benchmark: str,
    activations: xr.DataArray,
    *,
    mirror: str | os.PathLike[str] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    halves: str = "repetition",
    sites: str = "recorded",
    quiet: bool = False,
    **options: Any,
) -> BenchmarkScore:
    """Score a model's activations on a dataset's recordings: averaged trials, ceiling, metric.

    Parameters
    ----------
    benchmark : str
        ``<dataset>.<region>-<metric>``; the metrics are the keys of `ALL_METRICS`.
    activations : xarray.DataArray
        Assembly ``(presentation, neuroid)`` with an activation of every stimulus of the dataset, each once, under the dataset's
        ``stimulus_id``.
    mirror : path, optional
        Folder with the dataset's files.
    n_permutations, seed
        Of the null, of the ceiling's halves by "stimulus" and, for "bridge", of the pairs.
    halves : {"repetition", "stimulus"}
        Of the ceiling, as in `internal_consistency`. "repetition" are the halves of Brain-Score, whose random state is 1; where a
        stimulus has no trial in one of them, "stimulus" takes their place and a note says so.
    sites : {"recorded", "brainscore"}
        Order of the sites in the score: that of the recordings, or that of the values by site in Brain-Score's scores, which are
        sorted by ``neuroid_id``.
    quiet : bool
        Do not print the dataset's citation.
    **options
        Of the metric.

    Returns
    -------
    BenchmarkScore

    Raises
    ------
    ValueError
        Unknown name, halves or order of sites, a dataset without recordings, or without this region.
    AssemblyError
        Stimuli without an activation, or activations that are no assembly.
    """
    name = parse_benchmark(benchmark)
    if not is_choice(sites, SITE_ORDERS):
        raise ValueError(f"found sites={sites!r}; expected one of {list(SITE_ORDERS)}. Mend: choose one of them.")
    validate(activations, role="activations")
    images = {"images": False} if name.dataset == "majajhong2015.public" else {}
    experiment = load(name.dataset, mirror=mirror, quiet=quiet, **images)
    if experiment.recordings is None:
        raise ValueError(
            f"benchmark {benchmark!r}: found no recordings in {name.dataset!r}; expected a dataset of responses. "
            f"Mend: one of {[other for other in scorable_datasets() if other != name.dataset]}."
        )
    trials = _of_region(experiment.recordings, name)
    if sites == "brainscore":
        trials = trials.isel({NEUROID: np.argsort(trials[NEUROID_ID].values.astype(str), kind="stable")})
    notes: list[str] = []
    averaged = average_repetitions(trials) if REPETITION in trials.coords else trials
    averaged = drop_constant(averaged)
    n_constant = int(averaged.attrs["dropped_constant_neuroids"])
    if n_constant:
        notes.append(f"{n_constant} site(s) with a constant response were left out")
    ceiling: dict[str, Any] = {}
    of_all_sites: float | None = None
    if name.metric in SITE_METRICS:
        reliability = _reliability(trials, averaged, notes, halves, seed)
        ceiling = {"ceiling": None if reliability is None else reliability["ceiling"]}
        of_all_sites = None if reliability is None else float(reliability["median"])
    else:
        notes.append(
            f"no ceiling: the reliability of single sites does not bound {name.metric!r}, so nothing is normalised"
        )
    n_unused = _require_stimuli(activations, averaged, name)
    if n_unused:
        notes.append(f"{n_unused} activation(s) of stimuli outside the dataset were not used")
    score = ALL_METRICS[name.metric](
        activations, averaged, n_permutations=n_permutations, seed=seed, **ceiling, **options
    ).assign_attrs(benchmark=str(name), kind=experiment.kind)
    summary = {
        "benchmark": str(name),
        "kind": experiment.kind,
        **_with_ceiling(aggregate(score), of_all_sites),
        "n_unused_activations": n_unused,
        "notes": notes,
    }
    return BenchmarkScore(name, score, summary)


def _of_region(recordings: xr.DataArray, name: BenchmarkName) -> xr.DataArray:
    regions = recordings["region"].values if "region" in recordings.coords else np.array([], dtype=str)
    rows = np.flatnonzero(regions == name.region)
    if not len(rows):
        raise ValueError(
            f"benchmark {str(name)!r}: found regions {np.unique(regions).tolist()} in {name.dataset!r}; expected {name.region!r} "
            "among them. Mend: name one that is there."
        )
    return recordings.isel({NEUROID: rows})


def _with_ceiling(summary: dict[str, Any], ceiling: float | None) -> dict[str, Any]:
    """Put Brain-Score's ceiling, the mean over halvings of the median over sites, for the median over sites of their means."""
    by_site = summary["ceiling"]
    if ceiling is None or by_site is None or not (ceiling > 0 and by_site > 0):
        return summary
    now, before = (float(normalise(np.ones(1), np.full(1, c), summary["normalization"])[0]) for c in (ceiling, by_site))
    scaled: dict[str, Any] = {
        key: summary[key] * now / before
        for key in ("normalized", "normalized_low", "normalized_high")
        if summary.get(key) is not None
    }
    return {**summary, **scaled, "ceiling": ceiling}


def _reliability(
    trials: xr.DataArray, averaged: xr.DataArray, notes: list[str], halves: str, seed: int
) -> xr.Dataset | None:
    if not is_choice(halves, ("repetition", "stimulus")):
        raise ValueError(f"found halves={halves!r}; expected 'repetition' or 'stimulus'. Mend: choose one of them.")
    _, counts = np.unique(trials[STIMULUS_ID].values, return_counts=True)
    if counts.min() < 2:
        notes.append("no ceiling: the dataset has no repeated trials of every stimulus, so nothing is normalised")
        return None
    kept = trials.isel({NEUROID: np.flatnonzero(np.isin(trials[NEUROID_ID].values, averaged[NEUROID_ID].values))})
    if halves == "repetition":
        try:
            return internal_consistency(kept, halves="repetition", seed=_RANDOM_STATE)
        except AssemblyError:
            notes.append(
                "ceiling from halves by stimulus: Brain-Score's, by repetition number, leave a stimulus without a trial in one half"
            )
    return internal_consistency(kept, seed=seed)


def _require_stimuli(activations: xr.DataArray, recordings: xr.DataArray, name: BenchmarkName) -> int:
    require_unique_stimuli(activations, role="activations")
    needed = recordings[STIMULUS_ID].values
    missing = needed[find_rows(needed, activations[STIMULUS_ID].values) < 0]
    if len(missing):
        raise AssemblyError(
            f"activations: found none for {len(missing)} of the {len(needed)} stimuli of {name.dataset!r}, e.g. "
            f"{str(min(missing.tolist()))!r} "
            f"(the file has {activations.sizes[PRESENTATION]}, e.g. {str(activations[STIMULUS_ID].values[0])!r}); expected "
            "all, under the dataset's stimulus_id. Mend: extract them from the dataset's images, e.g. neurobridge.extract."
        )
    return int(activations.sizes[PRESENTATION] - len(needed))
