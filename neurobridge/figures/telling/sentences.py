"""Sentences on results of every kind: the finding, the caption and the alternative text of their figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.evaluate import aggregate
from neurobridge.figures.curves import LEAST_FOR_INTERVAL, curve_lines
from neurobridge.figures.dispatch import rdm_of
from neurobridge.figures.flows import image_spread
from neurobridge.figures.layout import is_beyond
from neurobridge.figures.levels import cell_table
from neurobridge.figures.matrices import confusion_shares
from neurobridge.figures.sitewise import paired_values, scores_by_site


class Words(NamedTuple):
    """Text of a figure.

    Attributes
    ----------
    finding : str
        The result in a sentence or two, with its numbers.
    caption : str
        What is drawn, n, the seeds, and what bars and lines are.
    alt : str
        What is seen, for readers who do not see it.
    """

    finding: str
    caption: str
    alt: str


def percent(share: Any) -> str:
    """Write a share in percent."""
    return f"{100 * float(share):.0f} %"


def _p(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else (f", p {'< .001' if value < 0.0005 else f'= {value:.3f}'}")


def _range(low: Any, high: Any) -> str:
    return (
        ""
        if low is None or high is None or np.isnan([low, high]).any()
        else f" (95 % interval {low:.3f} to {high:.3f})"
    )


def count_of(n: Any) -> str:
    """Write a number, or the range of several."""
    counts = sorted({int(value) for value in np.ravel(n)})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _seeds(curve: xr.Dataset) -> str:
    seeds = [int(seed) for seed in curve["seed"].values]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean over seeds {seeds[0]} to {seeds[-1]}"


def write_learning_curve(thing: Any) -> Words:
    """Write the text of a learning curve."""
    lines = curve_lines(thing) if isinstance(thing, xr.Dataset) else {
        str(name): (np.asarray(counts, dtype=float), np.array([np.mean(v) for v in values]), None)
        for name, (counts, values) in thing.items()
    }  # fmt: skip
    seen = "; ".join(
        f"{name} from {mean[0]:.3f} at {counts[0]:.0f} to {mean[-1]:.3f} at {counts[-1]:.0f} pairs"
        for name, (counts, mean, _) in lines.items()
    )
    best: dict[float, tuple[float, str]] = {}
    for counts, mean, name in ((c, m, name) for name, (c, m, _) in lines.items()):
        for n, value in zip(counts, mean, strict=True):
            if n not in best or value > best[n][0]:
                best[n] = value, name
    first, last = min(best), max(best)
    finding = f"With {last:.0f} pairs {best[last][1]} is highest, {best[last][0]:.3f}"
    if first != last:
        finding += f"; with {first:.0f} pairs {best[first][1]}, {best[first][0]:.3f}"
    alt = f"Line chart of score against the number of pairs: {seen}."
    if not isinstance(thing, xr.Dataset):
        return Words(finding + ".", "Score by number of paired stimuli; the bar is the range over seeds.", alt)
    ceiling, table = float(thing["ceiling"]), aggregate(thing, n_bootstrap=0)
    chance = float(table["null_95"].max()) if thing["null"].size else float("nan")
    lines_text = "" if np.isnan(chance) else f" Dashed: chance, {chance:.3f}, the 95 % quantile of the permutations."
    # The bars are drawn with the lines and belong to the data that a ceiling would press together.
    top = max(float(np.max(mean + (0 if bars is None else bars[1]))) for _, mean, bars in lines.values())
    drawn = "Triangle at the upper edge" if is_beyond(ceiling, top) else "Dotted"
    lines_text += "" if np.isnan(ceiling) else f" {drawn}: ceiling, {ceiling:.2f}, the largest r in reach."
    finding += "" if np.isnan(ceiling) else f"; the ceiling on r is {ceiling:.2f}"
    finding += "" if np.isnan(chance) else f", chance {chance:.3f}"
    largest_p = float(thing["p_value"].max()) if bool(thing["p_value"].notnull().any()) else float("nan")
    finding += "." if np.isnan(largest_p) else f". The largest p of all cells is {largest_p:.3g}."
    bars = "95 % t interval" if thing.sizes["seed"] >= LEAST_FOR_INTERVAL else "range of the seeds"
    sites = f"{count_of(thing['n_neuroids'].values)} sites" if "n_neuroids" in thing else "sites"
    text = (
        f"Median Pearson r over {sites} on {count_of(thing.attrs['n_stimuli'])} held-out stimuli by number of paired stimuli; "
        f"{_seeds(thing)}, bars: {bars}.{lines_text}"
    )
    return Words(finding, text, alt)


def score_in_words(score: xr.Dataset) -> str:
    """Write a Score of one cell as a sentence: value, interval, p, chance, ceiling, n."""
    s = aggregate(score, n_bootstrap=200)
    sites = f"median over {s['n_neuroids']} sites, " if s["n_neuroids"] else ""
    text = f"{s['metric']}: {s['raw']:.3f}{_range(s['raw_low'], s['raw_high'])}{_p(s['p_value'])}; {sites}"
    text += f"{s['n_splits']} split(s), {count_of(s['n_stimuli'])} stimuli"
    if s["null_95"] is not None:
        text += f"; chance {s['null_95']:.3f} (95 % of the permutations)"
    if s["ceiling"] is not None:
        text += f"; ceiling {s['ceiling']:.3f}"
    if s["normalized"] is not None:
        text += f"; normalised {s['normalized']:.3f} ({s['normalization'].replace('_', ' ')})"
    return text + "."


def write_sites(thing: Any) -> Words:
    """Write the text of scores by site."""
    scores = scores_by_site(thing)
    parts, finding = [], []
    for name, score in scores.items():
        r = score["raw"].mean("split").values
        line = float(score["null_site_95"]) if "null_site_95" in score else float("nan")
        above = (
            "" if np.isnan(line) else f", {percent(np.mean(r > line))} of them above the chance of one site, {line:.2f}"
        )
        parts.append(
            f"{name}: {len(r)} sites from {np.nanmin(r):.2f} to {np.nanmax(r):.2f}, median {np.nanmedian(r):.2f}{above}"
        )
        finding.append(score_in_words(score) if "p_value" in score else parts[-1])
    ceilings = all(bool(np.isfinite(score["ceiling"].values).any()) for score in scores.values())
    against = "its reliability; the dotted curve is the ceiling on r" if ceilings else "its rank"
    a_score = next(iter(scores.values()))
    n = f" on {count_of(a_score.attrs['n_stimuli'])} stimuli" if "n_stimuli" in a_score.attrs else ""
    seed = f", seed {a_score.attrs['seed']}" if "seed" in a_score.attrs else ""
    text = f"Held-out Pearson r of every site{n} against {against}; mean over splits{seed}. Dashed: 95 % of the null of one site."
    return Words(" ".join(finding), text, f"Scatter plot of sites. {'; '.join(parts)}.")


def write_paired(thing: Any) -> Words:
    """Write the text of two methods by site."""
    (first, second), x, y = paired_values(thing)
    share = percent(np.mean(y > x))
    gap = float(np.median(y - x))
    seen = (
        f"{share} of {len(x)} sites lie above the identity line, where {second} is better; median difference {gap:+.3f}"
    )
    finding = f"{second} is above {first} at {share} of {len(x)} sites, median difference {gap:+.3f}."
    text = (
        f"Held-out Pearson r of every site under {first} and {second}; mean over splits, the line is equality; "
        f"n = {len(x)} sites."
    )
    return Words(finding, text, f"Scatter plot of {second} against {first}: {seen}.")


def write_one_cell(score: xr.Dataset) -> Words:
    """Write the text of a Score of one cell."""
    s = aggregate(score, n_bootstrap=200)
    n = int(np.isfinite(score["null"].values).sum())
    null = (
        f"a histogram of {n} permutations from {np.nanmin(score['null']):.3f} to {np.nanmax(score['null']):.3f}"
        if n
        else "no null"
    )
    text = (
        f"{s['metric']} (line) with its 95 % bootstrap interval (band) beside {n} permutations; "
        f"n = {count_of(s['n_stimuli'])} stimuli, {s['n_splits']} split(s), seed {s['seed']}."
    )
    return Words(score_in_words(score), text, f"Score {s['raw']:.3f} as a vertical line beside {null}.")


def write_cells(score: xr.Dataset) -> Words:
    """Write the text of a Score of many cells."""
    table = aggregate(score, n_bootstrap=200)
    names, values, _, null = cell_table(table)
    order = np.argsort(-values)[:6]
    seen = "; ".join(
        f"{names[k]} {values[k]:.3f}" + ("" if np.isnan(null[k]) else f" (chance {null[k]:.3f})") for k in order
    )
    rest = "" if len(names) <= 6 else f"; {len(names) - 6} more down to {np.nanmin(values):.3f}"
    text = (
        f"{table.attrs['metric']} of {len(names)} cells with 95 % bootstrap intervals where there are several values; dashed: the "
        f"level of 5 % of the permutations; n = {count_of(table.attrs['n_stimuli'])} stimuli, seed {table.attrs['seed']}."
    )
    return Words(f"{table.attrs['metric']}: {seen}{rest}.", text, f"Chart of {len(names)} scores: {seen}{rest}.")


def write_confusion(thing: Any) -> Words:
    """Write the text of confusions."""
    shares, classes = confusion_shares(thing)
    right = np.diag(shares)
    wrong = np.where(np.eye(len(classes), dtype=bool), -1.0, np.nan_to_num(shares, nan=-1.0))
    i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
    best, worst = int(np.nanargmax(right)), int(np.nanargmin(right))
    seen = (
        f"{classes[best]} is named best ({right[best]:.2f}), {classes[worst]} worst ({right[worst]:.2f}); the most frequent "
        f"mistake is {classes[j]} for {classes[i]} ({wrong[i, j]:.2f})"
    )
    mean = f"Mean over {len(classes)} classes {np.nanmean(right):.3f}, chance {1 / len(classes):.3f}"
    finding = score_in_words(thing) if isinstance(thing, xr.Dataset) else f"{mean}."
    n = f"; n = {count_of(thing.attrs['n_stimuli'])} stimuli" if "n_stimuli" in thing.attrs else ""
    text = f"Share of each choice (column) when each class was true (row); rows sum to 1{n}."
    return Words(finding, text, f"Confusion matrix. {mean}; {seen}.")


def write_decodings(thing: Mapping[str, xr.Dataset]) -> Words:
    """Write the text of decodings by method."""
    rows = [(str(name), float(score["raw"].mean()), float(score["null"].mean())) for name, score in thing.items()]
    seen = "; ".join(f"{name} {value:.3f} (chance {chance:.3f})" for name, value, chance in rows)
    return Words(
        " ".join(score_in_words(score) for score in thing.values()),
        "Fraction of right choices, mean over splits, bars: range; dashed: mean of the permutations.",
        f"Bar chart of accuracies: {seen}.",
    )


def write_layers(thing: Any) -> Words:
    """Write the text of a choice among layers."""
    scores = thing if isinstance(thing, xr.Dataset) else thing.scores
    by_layer = np.median(scores["raw"].values, axis=2).mean(axis=1)
    names = [str(name) for name in scores["layer"].values]
    seen = "; ".join(f"{name} {value:.3f}" for name, value in zip(names, by_layer, strict=True))
    chosen = str(scores.attrs.get("layer", names[int(by_layer.argmax())]))
    finding = (
        f"Layer {chosen} predicts {scores.attrs.get('region', 'the sites')} best of {len(names)}: {by_layer.max():.3f}."
    )
    if getattr(thing, "held_out", None) is not None:
        finding += f" On stimuli that had no part in the choice: {score_in_words(thing.held_out)}"
    text = (
        f"Median Pearson r over {scores.sizes['neuroid']} sites by layer, mean over {scores.sizes['split']} splits of the training "
        "stimuli; bars: standard deviation over splits; the ring is the chosen layer."
    )
    return Words(finding, text, f"Line chart over {len(names)} layers: {seen}; {chosen} is ringed.")


def write_ceiling(thing: xr.Dataset) -> Words:
    """Write the text of reliabilities."""
    values = thing["ceiling"].values
    low = int((values <= 0).sum())
    interval = _range(float(thing["median_low"]), float(thing["median_high"])) if "median_low" in thing else ""
    finding = (
        f"Median reliability {float(thing['median']):.3f}{interval} of {len(values)} sites: the largest r in reach is "
        f"{np.sqrt(max(float(thing['median']), 0)):.2f}. {low} site(s) have no reliable response."
    )
    text = (
        f"Split-half reliability of {len(values)} sites, Spearman-Brown corrected, the best first; bars: bootstrap over "
        f"{count_of(thing.attrs['n_stimuli'])} stimuli; {thing.attrs['n_splits']} halvings, seed {thing.attrs['seed']}."
    )
    seen = f"from {np.nanmax(values):.2f} down to {np.nanmin(values):.2f}, median {np.nanmedian(values):.2f}"
    return Words(finding, text, f"Ranked reliabilities of {len(values)} sites {seen}.")


def write_comparison(comparison: xr.Dataset) -> Words:
    """Write the text of a comparison of models."""
    findings, seen = [], []
    for metric in map(str, comparison["metric"].values):
        cell = comparison.sel(metric=metric)
        order = np.argsort(-cell["value"].values, kind="stable")
        names, values = cell["model"].values[order], cell["value"].values[order]
        best = f"under {metric} {names[0]} is highest, {values[0]:.3f}"
        if len(names) > 1:
            p = float(cell["p_corrected"].values[order[0], order[1]])
            best += f", before {names[1]}, {values[1]:.3f}" + ("" if np.isnan(p) else f" (corrected{_p(p)[1:]})")
        findings.append(best)
        seen.append(f"{metric}: " + ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True)))
    n = f"; n = {count_of(comparison.attrs['n_stimuli'])} stimuli" if "n_stimuli" in comparison.attrs else ""
    return Words(
        f"Of {comparison.sizes['model']} models {'; '.join(findings)}.",
        f"Score of every model with its interval, the best first{n}.",
        f"Chart of {comparison.sizes['model']} models. {'; '.join(seen)}.",
    )


def write_coupling(thing: Any) -> Words:
    """Write the text of a plan."""
    coupling = getattr(thing, "coupling", thing)
    n, m = coupling.shape
    rows = np.linspace(0, n - 1, min(n, 500)).astype(int)
    top = float(np.nanmean(np.nanmax(np.asarray(coupling.conditional(rows)), axis=1)))
    source, target = (np.asarray(side, dtype=int)[:500] for side in coupling.anchors)
    known = ""
    if len(source):
        on_pairs = float(np.nanmean(np.asarray(coupling.conditional(source))[np.arange(len(source)), target]))
        known = f" A known pair holds {percent(on_pairs)} of its source point's mass on average ({len(source)} pairs)."
    state = "The solver converged" if coupling.converged else "The solver did NOT converge"
    finding = (
        f"{n} source points are coupled with {m} target points by the method {coupling.method!r}"
        + (f" at epsilon {coupling.epsilon:g}" if coupling.epsilon else "")
        + f". {state} (marginal error {coupling.marginal_error:.1e}). The likeliest partner holds {top:.0%} of the mass".replace(
            "%", " %"
        )
        + f" of its row on average.{known}"
    )
    text = (
        f"Transport plan of {n} x {m} points, each row in shares of its mass (square-root scale); known pairs first, ringed; "
        "at most 400 rows and columns are drawn."
    )
    return Words(
        finding,
        text,
        f"Heat map of a transport plan of {n} by {m} points; the largest share of a row is {top:.2f} on average.",
    )


def write_aligner(aligner: Any) -> Words:
    """Write the text of an aligner."""
    spread = image_spread(aligner)
    shape = f"{len(aligner.source_scale_.mean)} source and {len(aligner.target_scale_.mean)} target dimensions"
    n_pairs = len(aligner.pairs_[0]) if isinstance(aligner.pairs_, tuple) else len(aligner.pairs_)
    finding = (
        f"{type(aligner).__name__}, fitted on {n_pairs} pairs, {shape}. Its images have {np.median(spread):.2f} of the target's "
        f"standard deviation in the median dimension ({spread.min():.2f} to {spread.max():.2f}); 1 would be as wide as the target."
    )
    coupling = getattr(aligner, "coupling_", None)
    if coupling is not None:
        plan_words = write_coupling(coupling)
        return Words(f"{finding} {plan_words.finding}", plan_words.caption, plan_words.alt)
    text = "Standard deviation of the mapped source points in each target dimension, in that of the target; black: as wide."
    seen = f"from {spread.max():.2f} down to {spread.min():.2f}, median {np.median(spread):.2f}"
    return Words(finding, text, f"Ranked spreads of the images in {len(spread)} target dimensions {seen}.")


def write_flow(flow: Any) -> Words:
    """Write the text of a flow."""
    n = len(flow.support_["backward"].points)
    finding = f"{flow!r}."
    text = f"Paths of at most 200 of {n} source points along the flow, in the plane in which the target varies most."
    return Words(
        finding,
        text,
        "Paths of points from their start (open) to their end (filled) over the grey cloud of the target.",
    )


def write_dissimilarities(thing: xr.DataArray) -> Words:
    """Write the text of a dissimilarity matrix."""
    values = np.asarray(thing.values, dtype=float)
    upper = values[np.triu_indices(len(values), k=1)]
    seen = f"from {upper.min():.3f} to {upper.max():.3f}, median {np.median(upper):.3f}"
    return Words(
        f"Dissimilarities of {len(values)} stimuli lie {seen}.",
        f"Dissimilarity of every pair of {len(values)} stimuli, as ranks from 0 (most alike) to 1.",
        f"Matrix of {len(values)} by {len(values)} dissimilarities {seen}.",
    )


def write_assembly(thing: xr.DataArray) -> Words:
    """Write the text of an assembly."""
    words = write_dissimilarities(rdm_of(thing))
    shape = " x ".join(map(str, thing.shape))
    return words._replace(finding=f"Assembly of {shape} ({', '.join(map(str, thing.dims))}). {words.finding}")


def write_images(thing: xr.DataArray) -> Words:
    """Write the text of images."""
    text = f"{thing.sizes['presentation']} images of {thing.sizes['row']} x {thing.sizes['column']} pixels."
    return Words(text, text, f"Contact sheet of {text}")
