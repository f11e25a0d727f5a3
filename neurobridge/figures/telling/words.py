"""Words beside figures: what was found, the caption, and the alternative text that says what is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurobridge.evaluate.decoding import confusion as mean_confusion
from neurobridge.figures.dispatch import kind_of
from neurobridge.figures.telling import sentences
from neurobridge.figures.telling.analyses import ANALYSIS_WRITERS
from neurobridge.figures.telling.sentences import Words


def words_of(thing: Any) -> Words:
    """Return the text of the figure that `plot` draws.

    Raises
    ------
    ValueError
        Nothing that has a figure.
    """
    name = kind_of(thing).name
    return WRITERS[name](thing)


def caption(thing: Any) -> str:
    """Write the caption of the figure that `plot` draws: what is drawn, n, the seeds, and what bars and lines are.

    Parameters
    ----------
    thing : object
        As `plot` takes it.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        Nothing that has a figure.

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge import figures
    >>> figures.caption(xr.DataArray([[0.0, 1.0], [1.0, 0.0]], dims=("presentation", "presentation_2")))
    'Dissimilarity of every pair of 2 stimuli, as ranks from 0 (most alike) to 1.'
    """
    return words_of(thing).caption


def alt_text(thing: Any) -> str:
    """Write the alternative text of the figure that `plot` draws: the kind of chart and the numbers that are seen in it.

    Parameters
    ----------
    thing : object
        As `plot` takes it.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        Nothing that has a figure.

    Examples
    --------
    >>> from neurobridge import figures
    >>> figures.alt_text({"ridge": ([5, 50], [[0.1], [0.3]])})
    'Line chart of score against the number of pairs: ridge from 0.100 at 5 to 0.300 at 50 pairs.'
    """
    return words_of(thing).alt


#: Name of a kind of `kind_of` -> its writer.
WRITERS: dict[str, Callable[[Any], Words]] = {
    **ANALYSIS_WRITERS,
    "learning curve": sentences.write_learning_curve,
    "ceiling": sentences.write_ceiling,
    "layers": sentences.write_layers,
    "decoding": sentences.write_confusion,
    "score by site": sentences.write_sites,
    "score": sentences.write_one_cell,
    "scores of cells": sentences.write_cells,
    "two methods": sentences.write_paired,
    "methods by site": sentences.write_sites,
    "decoding of methods": sentences.write_decodings,
    "comparison of models": sentences.write_comparison,
    "coupling": sentences.write_coupling,
    "aligner": sentences.write_aligner,
    "flow": sentences.write_flow,
    "dissimilarities": sentences.write_dissimilarities,
    "confusion": sentences.write_confusion,
    "choices": lambda thing: sentences.write_confusion(mean_confusion(thing)),
    "images": sentences.write_images,
    "assembly": sentences.write_assembly,
}
