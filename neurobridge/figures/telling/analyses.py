"""Sentences on results of single analyses: partitions of variance, pairs of times, and models compared by their RDMs."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurobridge.figures.telling.sentences import Words, count_of


def write_partition(score: xr.Dataset) -> Words:
    """Write the text of a partition of variance."""
    in_units = "normalized_median" in score and bool(np.isfinite(score["normalized_median"]).all())
    stem = "normalized_" if in_units else "median_"
    values = score[f"{stem}median" if in_units else "median"].values
    bounds = zip(score[f"{stem}low"].values, score[f"{stem}high"].values, strict=True)
    intervals = ["" if np.isnan([low, high]).any() else f" ({low:.3f} to {high:.3f})" for low, high in bounds]
    names = [str(part) for part in score["part"].values]
    seen = "; ".join(f"{name} {value:.3f}{text}" for name, value, text in zip(names, values, intervals, strict=True))
    unit = "of the explainable variance" if in_units else "of the variance"
    n = f"; n = {count_of(score.attrs['n_stimuli'])} stimuli" if "n_stimuli" in score.attrs else ""
    n_sites = f"{score.sizes['neuroid']} sites" if "neuroid" in score.dims else "sites"
    return Words(
        f"Held-out share {unit} that each part explains, median over {n_sites}: {seen}.",
        f"Unique parts (one name) and shared parts (names joined by +) {unit}, median over {n_sites}, with bootstrap intervals{n}.",
        f"Diagram of {len(names)} parts: {seen}.",
    )


def write_time_generalisation(score: xr.Dataset) -> Words:
    """Write the text of accuracies by time of training and of test."""
    value = score["raw"].mean([dim for dim in score["raw"].dims if dim not in ("trained", "tested")])
    value = value.transpose("trained", "tested")
    i, j = np.unravel_index(int(np.nanargmax(value.values)), value.shape)
    best = f"{value.values[i, j]:.3f}, trained at {score['trained'].values[i]:g} and tested at {score['tested'].values[j]:g}"
    diagonal = (
        f"mean {np.nanmean(np.diag(value.values)):.3f} at equal times, {np.nanmean(value.values):.3f} over all pairs"
    )
    chance = f" Chance {float(score['null'].mean()):.3f}." if score["null"].size else ""
    n = f" n = {count_of(score.attrs['n_stimuli'])} stimuli." if "n_stimuli" in score.attrs else ""
    return Words(
        f"{score.attrs.get('metric', 'Score')} is highest, {best}; {diagonal}.{chance}",
        "Score by time of training (rows) and of test (columns), about chance; the dotted line is equal times, outlines are "
        f"significant clusters.{n}",
        f"Heat map of {value.shape[0]} by {value.shape[1]} times, highest {best}; {diagonal}.",
    )


def write_rsa_models(score: xr.Dataset) -> Words:
    """Write the text of models that were compared by their RDMs."""
    raw = score["raw"].values
    names = [str(name) for name in score["model"].values]
    order = np.argsort(-raw, kind="stable")
    seen = "; ".join(f"{names[k]} {raw[k]:.3f} (standard error {float(score['sem'].values[k]):.3f})" for k in order)
    low, high = float(score["ceiling"].max()), float(score["ceiling_upper"])
    ceiling = "" if np.isnan([low, high]).any() else f" The noise ceiling is {low:.3f} to {high:.3f}."
    return Words(
        f"{names[order[0]]} is most similar to the RDMs of the subjects: {seen}.{ceiling}",
        f"Similarity of RDMs ({score.attrs['comparator']}), bars: standard errors, a dot a subject; band: noise ceiling; "
        f"n = {score.attrs['n_subjects']} subjects, {score.attrs['n_stimuli']} stimuli, seed {score.attrs['seed']}.",
        f"Bar chart of {len(names)} models: {seen}.{ceiling}",
    )
