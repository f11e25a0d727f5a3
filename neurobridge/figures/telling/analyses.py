"""Sentences on results of analyses: courses in time, numbers of sites, retrieval, parts of variance, RDMs, ceilings, spaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.aligners import CommonSpace
from neurobridge.evaluate.time_bins.courses import TESTED, TRAINED, bin_centres, find_clusters, time_course
from neurobridge.figures.analyses import SOUGHT, routes_of
from neurobridge.figures.telling.sentences import Words, count_of


def _n(score: xr.Dataset) -> str:
    return f"n = {count_of(score.attrs['n_stimuli'])} stimuli, seed {score.attrs['seed']}"


def write_course(score: xr.Dataset) -> Words:
    """Write the text of a score in time."""
    return write_courses({str(score.attrs["metric"]): score})


def write_courses(scores: Mapping[str, xr.Dataset]) -> Words:
    """Write the text of scores in time."""
    findings = []
    for name, score in scores.items():
        if score["null"].shape[-1]:
            course = time_course(score)
            time, peak, onset = float(course["peak"]), float(course["peak_value"]), float(course["onset"])
            text = f"{name} peaks at {time:g} with {peak:.3f}"
            text += (
                "; no cluster is significant"
                if np.isnan(onset)
                else f"; the first significant cluster begins at {onset:g}"
            )
        else:
            values = score["raw"].mean([dim for dim in score["raw"].dims if dim != "time_bin"]).values
            best = int(np.argmax(values))
            text = f"{name} is largest at {bin_centres(score)[best]:g} with {values[best]:.3f}, without permutations"
        findings.append(text)
    first = next(iter(scores.values()))
    caption = (
        f"Score in each of {first.sizes['time_bin']} time bins; bands: standard error over splits; bars: bins of significant "
        f"clusters (5 %, corrected over bins); {_n(first)}."
    )
    seen = "; ".join(findings)
    return Words(f"{seen[0].upper()}{seen[1:]}.", caption, f"Line chart against time: {seen}.")


def write_generalisation(score: xr.Dataset) -> Words:
    """Write the text of accuracies by time of training and of test."""
    values = score["raw"].mean("split").values
    diagonal, off = np.diag(values), values[~np.eye(len(values), dtype=bool)]
    share = float(find_clusters(score)["significant"].mean()) if score["null"].size else np.nan
    finding = f"Accuracy at the time of training is {diagonal.mean():.3f} on average, at other times {off.mean():.3f}"
    finding += "." if np.isnan(share) else f"; {100 * share:.0f} % of the pairs of times are in significant clusters."
    times = f"{score.sizes[TRAINED]} times, tested at {score.sizes[TESTED]}"
    caption = f"Accuracy of readouts of {times}; outlines: significant clusters; {_n(score)}."
    return Words(finding, caption, f"Matrix of accuracies from {values.min():.2f} to {values.max():.2f}. {finding}")


def write_sites(score: xr.Dataset) -> Words:
    """Write the text of accuracies by number of sites."""
    mean, sizes = score["raw"].mean("draw").values, score["n_sites"].values
    seen = ", ".join(f"{value:.3f} from {n}" for n, value in zip(sizes, mean, strict=True))
    chance = float(np.nanquantile(score["null"].values, 0.95)) if score["null"].size else np.nan
    finding = f"Accuracy {seen} sites" + (
        "." if np.isnan(chance) else f"; chance {chance:.3f} (95 % of the permutations)."
    )
    caption = f"Accuracy by number of sites, bars: 95 % of {score.sizes['draw']} draws; {_n(score)}."
    return Words(finding, caption, f"Line chart. {finding}")


def write_retrieval(score: xr.Dataset) -> Words:
    """Write the text of a search."""
    findings = []
    for direction in score["direction"].values.tolist():
        cell = score.sel(direction=direction)
        tops = [name for name in cell["measure"].values.tolist() if name.startswith("R@")]
        shown = [
            f"{top} {float(cell['raw'].sel(measure=top)):.3f} (chance {float(cell['chance'].sel(measure=top)):.3f})"
            for top in tops
        ]
        rank = float(cell["raw"].sel(measure="median_rank"))
        findings.append(f"{SOUGHT[direction]}: {', '.join(shown)}, median rank {rank:g}")
    seen = "; ".join(findings)
    caption = (
        f"Share of queries whose partner is among the k nearest, with 95 % intervals and chance (dotted); {_n(score)}."
    )
    return Words(f"{seen[0].upper()}{seen[1:]}.", caption, f"Bar chart. {seen}.")


def write_parts(score: xr.Dataset) -> Words:
    """Write the text of a partition of variance."""
    units = "normalized_median" if bool(score["normalized_median"].notnull().all()) else "median"
    seen = "; ".join(f"{part} {float(score[units].sel(part=part)):.3f}" for part in score["part"].values.tolist())
    of = "in units of the ceilings" if units == "normalized_median" else "R2"
    finding = f"Median part over {score.sizes['neuroid']} sites, {of}: {seen}."
    caption = f"Unique and shared parts of the variance that is predicted on held-out stimuli, {of}; {_n(score)}."
    return Words(finding, caption, f"Diagram of parts. {finding}")


def write_rsa(score: xr.Dataset) -> Words:
    """Write the text of models that are compared by their RDMs."""
    order = np.argsort(-score["raw"].values, kind="stable")
    names = score["model"].values[order].tolist()
    seen = ", ".join(f"{name} {float(score['raw'].sel(model=name)):.3f}" for name in names)
    lower, upper = float(score["ceiling"].max()), float(score["ceiling_upper"])
    finding = f"Similarity of RDMs ({score.attrs['comparator']}): {seen}"
    finding += f"; noise ceiling {lower:.3f} to {upper:.3f}." if np.isfinite(lower) else "."
    n_subjects = score.attrs["n_subjects"]
    subjects = "one subject" if n_subjects == 1 else f"{n_subjects} subjects"
    caption = (
        f"Similarity of each model with {subjects}, bars: standard error of "
        f"{score.attrs['n_bootstrap']} draws of {score.attrs['bootstrap']}; {_n(score)}."
    )
    return Words(finding, caption, f"Bar chart. {finding}")


def write_decoding_ceiling(score: xr.Dataset) -> Words:
    """Write the text of a ceiling of decoding."""
    counts, accuracy = score["n_averaged"].values, score["accuracy"].values
    low, high = float(score["ceiling_low"]), float(score["ceiling_high"])
    interval = "" if np.isnan(low) else f" (95 % interval {low:.3f} to {high:.3f})"
    finding = (
        f"Accuracy rises from {accuracy[0]:.3f} on averages of {counts[0]} to {accuracy[-1]:.3f} of {counts[-1]} trials; without "
        f"noise it would be {float(score['ceiling']):.3f}{interval}."
    )
    return Words(finding, f"Accuracy by number of averaged trials, and its extrapolation (band: interval); {_n(score)}.",
                 f"Line chart. {finding}")  # fmt: skip


def write_common_space(space: CommonSpace) -> Words:
    """Write the text of a common space."""
    known = routes_of(space).dropna(subset="explained").sort_values("explained", ascending=False)
    seen = ", ".join(f"{row.source} to {row.target} {row.explained:.2f}" for row in known.head(6).itertuples())
    finding = (
        f"{len(space.scales_)} spaces share {space.n_stimuli_} stimuli and {space.n_dims_} common dimensions; share of held-out "
        f"variance that is explained: {seen or 'not known'}."
    )
    caption = (
        "Share of the variance of held-out shared stimuli that the map from a space (row) to another (column) explains; "
        f"{space.n_stimuli_} stimuli, seed {space.seed}."
    )
    return Words(finding, caption, f"Matrix of {len(space.scales_)} spaces. {finding}")


#: Name of a kind of `neurobridge.figures.analyses.ANALYSES` -> its writer.
ANALYSIS_WRITERS: dict[str, Callable[[Any], Words]] = {
    "course in time": write_course,
    "courses in time": write_courses,
    "generalisation in time": write_generalisation,
    "number of sites": write_sites,
    "retrieval": write_retrieval,
    "parts of variance": write_parts,
    "models by their RDMs": write_rsa,
    "common space": write_common_space,
    "ceiling of decoding": write_decoding_ceiling,
}
