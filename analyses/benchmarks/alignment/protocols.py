"""The protocols: for a set, a number of pairs and a seed, the pools, the pairs and the held-out points.

    draw = make_draw("flickr8k", 20, 100, mirror=Path("../shared/data"))
    draw.score_aligner(nb.aligners.ProcrustesAligner())    # {"R@10": ..., "R@10, CSLS": ...}

Reported numbers are of seeds 0 to 4. Settings are developed on seeds 100 to 104 alone; there the digits of MNIST are others and
their extractors are trained anew (spaces of seed 1), and the other sets are dealt anew: held out, paired and unpaired stimuli are
other ones of the same set. ``v4-contrastive`` is a further set, not
in the default table; ``clusters`` is simulated, for tests of the code.

In every set but two an unpaired stimulus is in one pool only, so that none can be matched with itself. Held-out stimuli are in no
pool. With one seed the held-out stimuli are the same for all numbers of pairs, and fewer pairs are among more pairs.
``NAME@60`` takes 60 stimuli of a set, pairs included, as all that are measured in either space; all others are held out.

``things-shared`` puts all training objects into both pools, in different orders, without saying which are the same.
``things-unpaired`` has no pair and no held-out object: all 1,854 are in both pools, and the partners are to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from analyses.benchmarks.alignment import views
from analyses.benchmarks.alignment.draws import (
    Criterion,
    Draw,
    correlation_scorer,
    readout_scorer,
    retrieval_scorer,
    varying,
)
from analyses.benchmarks.alignment.measures import Head
from analyses.benchmarks.alignment.views import CACHE, Views
from analyses.benchmarks.parts.mnist_spaces import Spaces, build, draw_pools
from neurobridge.assemblies import make_assembly
from neurobridge.evaluate.curves.folds import Unpaired, draw_curve_fold

REPORTED_SEEDS = tuple(range(5))
DEVELOPMENT_SEEDS = tuple(range(100, 105))
HELD_OUT = 0.2
BRAIN_PAIRS = (10, 20, 24, 50, 60, 100, 240)
SMALL_PAIRS = (10, 20, 40)
CORRELATION: Mapping[str, Criterion] = {"median r": "correlation"}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A set, its numbers of pairs, and what it is judged by.

    Attributes
    ----------
    title : str
        Names the data, and says "simulated" where they are.
    n_pairs : tuple of int
        Reported numbers of pairs; 0 for none.
    make : callable, optional
        ``make(mirror, cache, seed) -> Views``; None for MNIST.
    measures : mapping of str to str
        Measure -> criterion; the first is the score of the row.
    both_ways : bool
    at : tuple of int
        Ranks of a retrieval.
    unpaired : {"disjoint", "shared"}
    """

    title: str
    n_pairs: tuple[int, ...]
    measures: Mapping[str, Criterion]
    make: Callable[[Path | None, Path, int], Views] | None = None
    both_ways: bool = False
    at: tuple[int, ...] = ()
    unpaired: Unpaired = "disjoint"


TOPS: Mapping[str, Criterion] = {f"R@{k}{correction}": "retrieval" for correction in ("", ", CSLS") for k in (1, 5, 10)}
PROTOCOLS: dict[str, Protocol] = {
    "flickr8k": Protocol(
        title="Flickr8k: MiniLM captions and CLIP images, R@10 of 200, both directions",
        n_pairs=(20, 50, 100, 400), make=views.flickr8k, both_ways=True, at=(10,),
        measures={"R@10": "retrieval", "R@10, CSLS": "retrieval"},
    ),
    "v4-gabor": Protocol(
        title="V4 session 210325: Gabor energies to 50 sites", n_pairs=BRAIN_PAIRS, make=views.v4_gabor, measures=CORRELATION
    ),
    "v4-contrastive": Protocol(
        title="V4 session 210325: contrastive encoder to 50 sites", n_pairs=BRAIN_PAIRS, make=views.v4_contrastive,
        measures=CORRELATION,
    ),
    "v4-halves": Protocol(
        title="V4 session 210325: 25 sites to the other 25", n_pairs=BRAIN_PAIRS, make=views.v4_halves, measures=CORRELATION
    ),
    "it-halves": Protocol(
        title="IT (V6 images): 84 sites to the other 84", n_pairs=BRAIN_PAIRS, make=views.it_halves, measures=CORRELATION
    ),
    "it-latents": Protocol(
        title="IT (V6 images): generative latents to 168 sites", n_pairs=BRAIN_PAIRS, make=views.it_latents,
        measures=CORRELATION,
    ),
    "mnist": Protocol(
        title="MNIST: VAE latents to CNN features, frozen head on 1,000 digits", n_pairs=(10, 20, 100, 480),
        measures={"accuracy": "labels", "R^2": "error"},
    ),
    "things": Protocol(
        title="THINGS: women to men, 371 held-out objects, both directions", n_pairs=(5, 10, 20, 50), make=views.things,
        both_ways=True, at=(1, 5, 10), measures=TOPS,
    ),
    "things-shared": Protocol(
        title="THINGS: the same, every training object in both pools", n_pairs=(5, 10, 20, 50), make=views.things,
        both_ways=True, at=(1, 5, 10), measures=TOPS, unpaired="shared",
    ),
    "things-unpaired": Protocol(
        title="THINGS: women to men, no pair, all 1,854 objects", n_pairs=(0,), make=views.things, at=(1, 5, 10), measures=TOPS
    ),
    "clusters": Protocol(
        title="Turned clusters (simulated)", n_pairs=(10, 20), make=views.turned_clusters, measures=CORRELATION
    ),
}  # fmt: skip
#: Sets of the size of an fMRI experiment: all stimuli that are measured in either space, pairs included.
SMALL_SETS = ("v4-gabor@60", "v4-halves@60", "it-halves@60", "v4-gabor@81", "it-halves@81")
#: Sets of the reported table, in its order.
REPORTED_SETS = (
    "flickr8k", "v4-gabor", "v4-halves", "it-halves", "it-latents", "mnist", *SMALL_SETS, "things", "things-shared",
    "things-unpaired",
)  # fmt: skip


class Size(NamedTuple):
    """A set's name without its size, and the number of stimuli in all; None for all but a fifth."""

    name: str
    n_stimuli: int | None


def size_of(name: str) -> Size:
    """Read ``NAME`` or ``NAME@N``."""
    base, _, size = name.partition("@")
    if base not in PROTOCOLS or (size and not size.isdigit()) or (size and PROTOCOLS[base].make is None):
        raise ValueError(
            f"found set {name!r}; expected one of {list(PROTOCOLS)}, or one but mnist with @N, the number of stimuli in all. "
            "Mend: e.g. 'v4-gabor' or 'v4-gabor@60'."
        )
    return Size(base, int(size) if size else None)


def pair_counts(name: str) -> tuple[int, ...]:
    """Return the reported numbers of pairs of a set."""
    base, n_stimuli = size_of(name)
    return PROTOCOLS[base].n_pairs if n_stimuli is None else SMALL_PAIRS


def title_of(name: str) -> str:
    """Return the title of a set."""
    base, n_stimuli = size_of(name)
    return PROTOCOLS[base].title + ("" if n_stimuli is None else f", {n_stimuli} stimuli in all")


def make_draw(name: str, n_pairs: int, seed: int, *, mirror: Path | None = None, cache: Path = CACHE) -> Draw:
    """Draw pools, pairs and held-out points of a set.

    Parameters
    ----------
    name : str
        One of `PROTOCOLS`, or one with ``@N``.
    n_pairs, seed : int
    mirror : path, optional
        Folder with the real data files, ``<dataset>/<file>``.
    cache : path
        Folder for features that take long to make.

    Returns
    -------
    Draw
        It depends on the arguments alone.
    """
    base, n_stimuli = size_of(name)
    protocol = PROTOCOLS[base]
    if protocol.make is None:
        return _mnist_draw(name, n_pairs, seed, mirror, cache)
    data = _views(base, mirror, cache, seed if base == "v4-contrastive" else 0)
    if n_pairs == 0:
        return _unpaired_draw(name, protocol, data, seed)
    deal = _deal(data, n_pairs, seed, n_stimuli, protocol.unpaired)
    source, target = data.source[deal.source], data.target[deal.target]
    kept_source, kept_target = varying(source), varying(target)
    source_test, target_test = data.source[deal.test][:, kept_source], data.target[deal.test][:, kept_target]
    scorer = retrieval_scorer(source_test, target_test, protocol.at) if protocol.at else correlation_scorer(target_test)
    return Draw(
        set=name, n_pairs=n_pairs, seed=seed, source=source[:, kept_source], target=target[:, kept_target],
        pairs=deal.pairs, source_test=source_test, target_test=target_test, source_ids=deal.source, target_ids=deal.target,
        test_ids=deal.test, measures=protocol.measures, both_ways=protocol.both_ways, scorer=scorer,
    )  # fmt: skip


class Deal(NamedTuple):
    """Stimuli of both pools and held out, and the pairs as rows of the pools."""

    source: np.ndarray
    target: np.ndarray
    test: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]


def _deal(data: Views, n_pairs: int, seed: int, n_stimuli: int | None, unpaired: Unpaired) -> Deal:
    n = len(data.source)
    presentation = {"stimulus_id": np.arange(n)}
    if data.strata is not None:
        presentation["stratum"] = data.strata
    numbers = make_assembly(np.arange(n, dtype=float)[:, None], presentation=presentation, neuroid={"neuroid_id": [0]})
    # Sixty stimuli of sixteen objects cannot be drawn in proportion.
    stratify = "stratum" if data.strata is not None and n_stimuli is None else None
    held_out = HELD_OUT if n_stimuli is None else 1 - n_stimuli / n
    fold = draw_curve_fold(
        numbers, numbers, n_pairs, seed=seed, held_out=held_out, unpaired=unpaired, stratify=stratify
    )
    source, target, test = (_numbers(part) for part in (fold.source_train, fold.target_train, fold.source_test))
    # Equal orders would give partners away where both pools hold the same stimuli.
    target = np.random.default_rng([seed, n_pairs, 5]).permutation(target)
    known = np.asarray(fold.pairs.source_id).astype(int)
    rows = tuple(np.argsort(pool)[np.searchsorted(np.sort(pool), known)] for pool in (source, target))
    return Deal(source, target, test, (rows[0], rows[1]))


def _numbers(part: xr.DataArray) -> np.ndarray:
    return part.values[:, 0].astype(int)


def _unpaired_draw(name: str, protocol: Protocol, data: Views, seed: int) -> Draw:
    rng = np.random.default_rng([seed, 5])
    source_ids, target_ids = (rng.permutation(len(data.source)) for _ in range(2))
    none = np.empty(0, dtype=int)
    source, target = data.source[:, varying(data.source)], data.target[:, varying(data.target)]
    return Draw(
        set=name, n_pairs=0, seed=seed, source=source[source_ids], target=target[target_ids], pairs=(none, none),
        source_test=source, target_test=target, source_ids=source_ids, target_ids=target_ids,
        test_ids=np.arange(len(source)), measures=protocol.measures, scorer=retrieval_scorer(source, target, protocol.at),
    )  # fmt: skip


def _mnist_draw(name: str, n_pairs: int, seed: int, mirror: Path | None, cache: Path) -> Draw:
    spaces = _mnist_spaces(mirror, cache, 1 if seed in DEVELOPMENT_SEEDS else 0)
    pools = draw_pools(len(spaces.source), n_pairs, seed)
    source, source_test, _, _, _ = _isotropic(spaces.source, pools.source, pools.test)
    target, target_test, mean, unit, kept = _isotropic(spaces.target, pools.target, pools.test)
    head = Head(spaces.head_weight, spaces.head_bias, mean, unit, kept)
    rows = np.arange(n_pairs)
    return Draw(
        set=name, n_pairs=n_pairs, seed=seed, source=source, target=target, pairs=(rows, rows), source_test=source_test,
        target_test=target_test, source_ids=pools.source, target_ids=pools.target, test_ids=pools.test,
        measures=PROTOCOLS["mnist"].measures, scorer=readout_scorer(target_test, head, spaces.labels[pools.test]),
        labels=spaces.labels[pools.known], classifier=head,
    )  # fmt: skip


class Isotropic(NamedTuple):
    """A pool and held-out points, centred on the pool and divided by one number.

    A dimension that the extractor left unused stays small.
    """

    pool: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    unit: float
    kept: np.ndarray


def _isotropic(points: np.ndarray, pool_rows: np.ndarray, test_rows: np.ndarray) -> Isotropic:
    pool = points[pool_rows]
    mean, unit, kept = pool.mean(axis=0), float(np.sqrt((pool.std(axis=0) ** 2).mean())), varying(pool)
    scaled = [((points[rows] - mean) / unit)[:, kept] for rows in (pool_rows, test_rows)]
    return Isotropic(scaled[0], scaled[1], mean, unit, kept)


@lru_cache(maxsize=4)
def _views(base: str, mirror: Path | None, cache: Path, seed: int) -> Views:
    make = PROTOCOLS[base].make
    assert make is not None
    return make(mirror, cache, seed)


@lru_cache(maxsize=2)
def _mnist_spaces(mirror: Path | None, cache: Path, seed: int) -> Spaces:
    return build(mirror, cache, seed=seed)
