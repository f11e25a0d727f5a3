"""Two clouds of the same things whose order is unknown, and two clouds that have nothing to do with each other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurobridge.assemblies import average_repetitions
from neurobridge.datasets import load
from neurobridge.features import embed_text
from neurobridge.store.npy import read_npy
from neurobridge.study.harness import Run

from ..speech import OFFICIAL, image_space, sound_space
from ..speech import digests as of_digits

THINGS, THINGS_ALL = "THINGS people, part of the objects", "THINGS people, all objects"
V4, IT = "V4, two halves of the sites", "IT, two halves of the sites"
FLICKR, DIGITS = "Flickr8k, captions and images", "digits, images and sounds"
#: Sets whose clouds show the same things. Partners of digits share their class and nothing else.
RELATED = (THINGS, V4, IT, FLICKR, DIGITS, THINGS_ALL)
V1_V1, V1_V4 = "mouse V1, other presentations (control)", "mouse V1 and macaque V4 (control)"
THINGS_FLICKR, V4_IT = "THINGS and Flickr8k images (control)", "V4 and IT, other images (control)"
#: Sets without a partner: no row of one cloud has to do with a row of the other.
CONTROLS = (V1_V1, V1_V4, THINGS_FLICKR, V4_IT)
#: Points of a cloud, but for the set of all objects.
N_POINTS, N_QUICK = 400, 80
# Of the Allen Brain Observatory excerpt; the project has no manifest of it.
_MOUSE = Path("allen-v1") / "Allen_test_output_big.npy"


class Task(NamedTuple):
    """Two clouds, and what the score alone reads.

    Attributes
    ----------
    X, Y : arrays of shape (n, n_source_dims) and (n, n_target_dims)
    partners : int array of shape (n, n_partners)
        Rows of Y that belong to each row of X; of several the best counts. Dealt at random for controls.
    pairs : int array of shape (n,)
        One partner of each row of X, no two rows the same: what a label of the row would tell.
    labels : array of shape (n,), or None
        Class of each row of Y, where partners share their class only.
    """

    X: np.ndarray
    Y: np.ndarray
    partners: np.ndarray
    pairs: np.ndarray
    labels: np.ndarray | None = None


def has_mouse(run: Run) -> bool:
    """Tell whether the recordings of mouse V1 are at hand."""
    return run.mirror is not None and (run.mirror / _MOUSE).exists()


def sets(run: Run) -> tuple[str, ...]:
    """Return the sets of a run."""
    names = (THINGS, V4, V4_IT) if run.quick else (*RELATED[:-1], *CONTROLS, RELATED[-1])
    return tuple(name for name in names if has_mouse(run) or not name.startswith("mouse"))


def draw_task(run: Run, name: str, seed: int) -> Task:
    """Draw the points of a set, and shuffle the target."""
    rng = np.random.default_rng([seed, [*RELATED, *CONTROLS].index(name), 17])
    n = N_QUICK if run.quick else N_POINTS
    if name == DIGITS:
        return _digits(run, n, rng)
    if name in CONTROLS:
        X, Y = (side[rng.permutation(len(side))[:n]] for side in _unrelated(run, name, rng))
    else:
        X, Y = _related(run, name, rng)
        rows = rng.permutation(len(X))[: len(X) if name == THINGS_ALL else n]
        X, Y = X[rows], Y[rows]
    order = rng.permutation(len(Y))
    partner = np.argsort(order)
    return Task(X, Y[order], partner[:, None], partner)


def _digits(run: Run, n: int, rng: np.random.Generator) -> Task:
    """Draw as many images and sounds of each digit; within a digit pairs are dealt at random."""
    spaces = image_space(run), sound_space(run, OFFICIAL)
    rows = [
        np.concatenate([
            rng.permutation(np.flatnonzero(space.labels == digit))[: n // 10] for digit in np.unique(space.labels)
        ])
        for space in spaces
    ]  # fmt: skip
    order = rng.permutation(len(rows[1]))
    source_labels, labels = spaces[0].labels[rows[0]], spaces[1].labels[rows[1]][order]
    partners = np.stack([np.flatnonzero(labels == digit) for digit in source_labels])
    return Task(spaces[0].train[rows[0]], spaces[1].train[rows[1]][order], partners, np.argsort(order), labels)


def _related(run: Run, name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if name in (THINGS, THINGS_ALL):
        return _things(run, "female"), _things(run, "male")
    if name == FLICKR:
        return _captions(run), _images(run)
    sites = _v4(run) if name == V4 else _it(run)
    columns = rng.permutation(sites.shape[1])
    return sites[:, columns[::2]], sites[:, columns[1::2]]


def _unrelated(run: Run, name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if name == V1_V1:
        # Cells recorded together share more than the stimulus, so that no presentation is in both clouds.
        cells = _v1(run)
        columns, half = rng.permutation(cells.shape[1]), len(cells) // 2
        return cells[:half, columns[::2]], cells[half:, columns[1::2]]
    if name == V1_V4:
        return _v1(run), _v4(run)
    return (_things(run, "female"), _images(run)) if name == THINGS_FLICKR else (_v4(run), _it(run))


def _once(run: Run, key: str, dataset: str, part: str, **options: Any) -> Any:
    """Load a part of a dataset once in a process, and keep the digests of its files."""

    def make() -> Any:
        data: Any = load(dataset, mirror=run.mirror, **options)
        run.shared.setdefault("digests of no_pair", {}).update(data.attrs["digests"])
        return data

    return getattr(run.once(key, make), part)


def _things(run: Run, group: str) -> np.ndarray:
    return np.asarray(_once(run, f"things {group}", "things-similarity", "activations", group=group).values, float)


def _v4(run: Run) -> np.ndarray:
    trials = _once(run, "v4 trials", "cowley2023-v4-210325", "recordings")
    return run.once("v4", lambda: standardised(average_repetitions(trials).squeeze().values))


def _it(run: Run) -> np.ndarray:
    return standardised(_once(run, "it", "majajhong2015-it-v6", "recordings").values)


def _images(run: Run) -> np.ndarray:
    return np.asarray(_once(run, "flickr", "clip-flickr8k", "activations").values, float)


def _captions(run: Run) -> np.ndarray:
    stimuli = _once(run, "flickr", "clip-flickr8k", "stimuli")
    return run.once("embedded captions", lambda: np.asarray(embed_text(stimuli["caption"].tolist()).values, float))


def _v1(run: Run) -> np.ndarray:
    def make() -> np.ndarray:
        path = Path(run.mirror or ".") / _MOUSE
        digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        run.shared.setdefault("digests of no_pair", {})[path.name] = digest
        return standardised(read_npy(path))

    return run.once("v1", make)


def standardised(X: np.ndarray) -> np.ndarray:
    """Standardise each dimension; those that are constant stay zero."""
    X = np.asarray(X, dtype=float)
    std = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(std > 0, std, 1)


def digests(run: Run) -> dict[str, str]:
    """Return the digests of the files of all sets."""
    for read in (_v4, _it) if run.quick else (_v4, _it, _images):
        read(run)
    for group in ("female", "male"):
        _things(run, group)
    if has_mouse(run) and not run.quick:
        _v1(run)
    return {**run.shared["digests of no_pair"], **({} if run.quick else of_digits(run))}
