"""Sentences on plans, aligners, flows, dissimilarities and images."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neurobridge.figures.dispatch import rdm_of
from neurobridge.figures.flows import image_spread
from neurobridge.figures.sentences import Words, percent


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
