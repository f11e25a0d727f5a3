"""Inner loops of neighbour lists and shortest paths: plain Python that numba compiles, a range of rows a call.

Each writes nothing but its own rows of its outputs, so that threads can share the arrays; the interpreter's lock is not held.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from neurobridge.points.blocks import row_blocks

_SLOTS = 2048


class SlowRouteWarning(UserWarning):
    """An optional package that computes the same much faster is missing."""


def has_numba() -> bool:
    """Tell whether the kernels can be compiled."""
    return importlib.util.find_spec("numba") is not None


def warn_slow(what: str) -> None:
    """Warn that numba is missing."""
    warnings.warn(
        f"found {what} and no package numba; expected it, since without it this takes several times as long. "
        "Mend: pip install 'neurobridge[ann]'.",
        SlowRouteWarning,
        stacklevel=4,
    )


@cache
def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel of this module; kept on disk between processes where numba finds a folder for it."""
    import numba

    try:
        return numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})(kernel)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(nogil=True, fastmath={"contract", "reassoc"})(kernel)


def over_rows(kernel: Callable[..., Any], n_rows: int, *arguments: Any) -> list[Any]:
    """Run a kernel on all rows, a range a task, on as many threads as torch uses; returns what each range gives."""
    run = compiled(kernel)
    n_threads = torch.get_num_threads()
    # Rows differ in what they cost: more ranges than threads, and none so long that an interrupt has to wait.
    blocks = row_blocks(n_rows, 1, budget=max(1, min(1 << 16, -(-n_rows // (4 * n_threads)))))
    if n_threads == 1 or len(blocks) == 1:
        return [run(*arguments, rows.start, rows.stop) for rows in blocks]
    first = [run(*arguments, blocks[0].start, blocks[0].stop)]
    with ThreadPoolExecutor(n_threads, thread_name_prefix="paths") as pool:
        return first + list(pool.map(lambda rows: run(*arguments, rows.start, rows.stop), blocks[1:]))


def reversed_links(index: np.ndarray, back: np.ndarray, count: np.ndarray, start: int, stop: int) -> None:
    """Write the points that have v in their lists, as many as there is room for, nearest places first; one call for all."""
    count[start:stop] = 0
    for t in range(index.shape[1]):
        for v in range(start, stop):
            u = index[v, t]
            if u >= 0 and count[u] < back.shape[1]:
                back[u, count[u]] = v
                count[u] += 1


def join(
    points: np.ndarray,
    index: np.ndarray,
    fresh: np.ndarray,
    back: np.ndarray,
    count: np.ndarray,
    new_index: np.ndarray,
    squares: np.ndarray,
    new_fresh: np.ndarray,
    start: int,
    stop: int,
) -> int:
    """Look through the lists of neighbours of neighbours, both ways, for nearer points; returns how many were added.

    A pair of links is tried only if one of them is fresh, that is, was not there in the round before.
    """
    k = index.shape[1]
    table = np.full(_SLOTS, -1, np.int32)
    used = np.empty(_SLOTS, np.int32)
    candidates = np.empty(_SLOTS, np.int32)
    n_added = 0
    for v in range(start, stop):
        n_used, n_candidates = 0, 0
        for s in range(-1, k + count[v]):
            # First the point itself and its list, which are no candidates, then what its links lead to.
            if s < 0:
                u, fresh_link = np.int32(v), False
            elif s < k:
                u, fresh_link = index[v, s], fresh[v, s] != 0
            else:
                u, fresh_link = back[v, s - k], False
                for t in range(k):
                    if index[u, t] == v:
                        fresh_link = fresh[u, t] != 0
            if u < 0:
                continue
            for t in range(-1, k):
                w = u if t < 0 else index[u, t]
                if w < 0 or (t >= 0 and s >= 0 and not fresh_link and fresh[u, t] == 0):
                    continue
                place = ((w * 40503) >> 4) & (_SLOTS - 1)
                while table[place] >= 0 and table[place] != w:
                    place = (place + 1) & (_SLOTS - 1)
                if table[place] < 0 and n_used < _SLOTS // 2:
                    table[place] = w
                    used[n_used] = place
                    n_used += 1
                    if s >= 0:
                        candidates[n_candidates] = w
                        n_candidates += 1
        for c in range(n_candidates):
            w = candidates[c]
            total = np.float32(0)
            for j in range(points.shape[1]):
                step = points[v, j] - points[w, j]
                total += step * step
            if total < squares[v, k - 1]:
                n_added += 1
                t = k - 1
                while t > 0 and squares[v, t - 1] > total:
                    squares[v, t] = squares[v, t - 1]
                    new_index[v, t] = new_index[v, t - 1]
                    new_fresh[v, t] = new_fresh[v, t - 1]
                    t -= 1
                squares[v, t] = total
                new_index[v, t] = w
                new_fresh[v, t] = 1
        for c in range(n_used):
            table[used[c]] = -1
    return n_added


def relax_all(
    pointers: np.ndarray,
    links: np.ndarray,
    lengths: np.ndarray,
    distance: np.ndarray,
    active: np.ndarray,
    next_active: np.ndarray,
    start: int,
    stop: int,
) -> int:
    """Shorten the paths of all columns over the links to active points; returns how many rows changed.

    Rows of other threads may change meanwhile: what is read is the length of some path at any time, and lengths only fall.
    """
    n_changed = 0
    for v in range(start, stop):
        changed = False
        for e in range(pointers[v], pointers[v + 1]):
            u = links[e]
            if active[u] == 0:
                continue
            length = lengths[e]
            for c in range(distance.shape[1]):
                over = distance[u, c] + length
                if over < distance[v, c]:
                    distance[v, c] = over
                    changed = True
        if changed:
            next_active[v] = 1
            n_changed += 1
    return n_changed


def relax_nearest(
    pointers: np.ndarray,
    links: np.ndarray,
    lengths: np.ndarray,
    distance: np.ndarray,
    column: np.ndarray,
    fresh: np.ndarray,
    active: np.ndarray,
    new_distance: np.ndarray,
    new_column: np.ndarray,
    new_fresh: np.ndarray,
    changed: np.ndarray,
    start: int,
    stop: int,
) -> int:
    """Merge the fresh entries of the lists of active neighbours into the list of each point; returns how many lists changed.

    A list holds the nearest anchors with the lengths of the shortest paths so far, rising. What does not enter the list of v
    cannot enter, over v, that of a point behind it, whose list is filled by the entries of v that are nearer.
    """
    k = distance.shape[1]
    n_changed = 0
    for v in range(start, stop):
        changed[v] = 0
        copied = False
        for e in range(pointers[v], pointers[v + 1]):
            u = links[e]
            if active[u] == 0:
                continue
            length = lengths[e]
            for t in range(k):
                # In the precision of the lists, so that two orders of the same sums agree to the last bit.
                over = np.float32(distance[u, t] + length)
                worst = new_distance[v, k - 1] if copied else distance[v, k - 1]
                if over >= worst:
                    break
                if fresh[u, t] == 0:
                    continue
                if not copied:
                    for s in range(k):
                        new_distance[v, s] = distance[v, s]
                        new_column[v, s] = column[v, s]
                        new_fresh[v, s] = 0
                    copied = True
                c = column[u, t]
                s = 0
                while new_distance[v, s] <= over and new_column[v, s] != c:
                    s += 1
                if new_distance[v, s] <= over:
                    continue
                r = s
                while r < k - 1 and new_column[v, r] != c and new_distance[v, r] < math.inf:
                    r += 1
                while r > s:
                    new_distance[v, r] = new_distance[v, r - 1]
                    new_column[v, r] = new_column[v, r - 1]
                    new_fresh[v, r] = new_fresh[v, r - 1]
                    r -= 1
                new_distance[v, s] = over
                new_column[v, s] = c
                new_fresh[v, s] = 1
                changed[v] = 1
        n_changed += changed[v]
    return n_changed


def take_changed(
    distance: np.ndarray,
    column: np.ndarray,
    fresh: np.ndarray,
    active: np.ndarray,
    new_distance: np.ndarray,
    new_column: np.ndarray,
    new_fresh: np.ndarray,
    changed: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Take the lists that changed as the present ones; their points are active in the next round."""
    for v in range(start, stop):
        active[v] = changed[v]
        if changed[v] != 0:
            for s in range(distance.shape[1]):
                distance[v, s] = new_distance[v, s]
                column[v, s] = new_column[v, s]
                fresh[v, s] = new_fresh[v, s]
