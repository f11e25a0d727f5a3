"""Trials of sites that were recorded at different times: dealt to training and test, and joined at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, validate
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, STIMULUS_ID
from neurobridge.evaluate.decoding.trials import presentation_coordinate
from neurobridge.points.options import require_share

#: Deals of trials to both sides that are tried where some site would be left without trials of a class.
N_TRIES = 20


class SessionTrials(NamedTuple):
    """Recorded trials of all sessions, a row each, and the units that are dealt to training or test as wholes.

    Attributes
    ----------
    values : array of shape (n_trials, n_sites)
        NaN where a site was not recorded.
    codes : array of int of shape (n_units,)
        Class of each unit, of ``classes``.
    cells : array of int of shape (n_trials,)
        Trials that may be joined are of one cell; all zero where trials of one class may.
    units : array of int of shape (n_trials,)
        Unit of each trial.
    pattern : array of int of shape (n_units,)
        Units recorded with the same sites have the same number.
    """

    values: np.ndarray
    classes: np.ndarray
    codes: np.ndarray
    cells: np.ndarray
    units: np.ndarray
    pattern: np.ndarray
    neuroid: dict[str, np.ndarray]
    n_stimuli: int
    n_incomplete: int


def gather(
    recordings: xr.DataArray | Sequence[xr.DataArray],
    label: str,
    group: str | None,
    within: str | None,
    held_out: float,
) -> SessionTrials:
    """Check sessions and put their trials under each other."""
    require_share(held_out, name="held_out", error=AssemblyError)
    single = isinstance(recordings, xr.DataArray) or not isinstance(recordings, Sequence)
    sessions: list[xr.DataArray] = [recordings] if single else list(recordings)  # type: ignore[list-item]
    if not sessions:
        raise AssemblyError("recordings: found no session; expected at least one. Mend: [session, ...].")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (label, STIMULUS_ID, group, within) if name}
    matrices = []
    for number, session in enumerate(sessions):
        role = "recordings" if single else f"recordings[{number}]"
        # Missing trials are what pseudo-populations are for.
        validate(session, role=role, allow_missing=True)
        for name, parts in columns.items():
            parts.append(presentation_coordinate(session, name, role=role))
        matrices.append(as_matrix(session, role=role, allow_missing=True))
    ids = np.concatenate([session[NEUROID_ID].values for session in sessions])
    repeated = len(ids) - len(np.unique(ids))
    if repeated:
        raise AssemblyError(
            f"recordings: found {repeated} neuroid_id in two sessions; expected each site in one. "
            "Mend: session.assign_coords(neuroid_id=('neuroid', new_ids))."
        )
    values = np.full((sum(map(len, matrices)), len(ids)), np.nan)
    row = column = 0
    for matrix in matrices:
        values[row : row + len(matrix), column : column + matrix.shape[1]] = matrix
        row, column = row + len(matrix), column + matrix.shape[1]
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    classes, codes = np.unique(whole[label], return_inverse=True)
    units = np.arange(len(values)) if group is None else np.unique(whole[group], return_inverse=True)[1].ravel()
    of_unit = codes[np.unique(units, return_index=True)[1]]
    if (of_unit[units] != codes).any():
        raise AssemblyError(
            f"{label}: found {int((of_unit[units] != codes).sum())} trials whose label is not that of their {group}; expected one "
            f"label a {group}. Mend: group=None, which deals single trials."
        )
    recorded = np.zeros((len(of_unit), len(ids)), dtype=bool)
    np.logical_or.at(recorded, units, ~np.isnan(values))
    pattern = np.unique(recorded, axis=0, return_inverse=True)[1].ravel()
    cells = np.zeros(len(values), dtype=np.intp) if within is None else np.unique(whole[within], return_inverse=True)[1]
    shared = set.intersection(*({str(n) for n in coords_of(session, NEUROID)} for session in sessions))
    neuroid = {name: np.concatenate([session[name].values for session in sessions]) for name in sorted(shared)}
    cells = cells.ravel()
    by_cell = np.zeros((cells.max() + 1, len(ids)), dtype=bool)
    np.logical_or.at(by_cell, cells, ~np.isnan(values))
    n_incomplete, n_stimuli = int((~by_cell.all(axis=1)).sum()), len(np.unique(whole[STIMULUS_ID]))
    return SessionTrials(values, classes, of_unit, cells, units, pattern, neuroid, n_stimuli, n_incomplete)


def draw_sides(
    trials: SessionTrials,
    codes: np.ndarray,
    held_out: float,
    counts: tuple[int | None, int | None],
    rng: np.random.Generator,
    label: str,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw pseudo-trials and their classes for training and test, arrays (n, n_sites) and (n,).

    ``codes`` are the classes of the units, true or shuffled.
    """
    for _ in range(N_TRIES):
        in_test = _deal(codes, trials.pattern, held_out, rng)[trials.units]
        joins = [_cells_of(trials, codes, side) for side in (~in_test, in_test)]
        if all(len({code for code, _, _ in cells}) == len(trials.classes) for cells in joins):
            return [_join(trials.values, cells, n, rng) for cells, n in zip(joins, counts, strict=True)]
    n_cells = int(trials.cells.max()) + 1
    if n_cells > 1 and trials.n_incomplete:
        raise AssemblyError(
            f"{label}: found {trials.n_incomplete} of {n_cells} values of within that some site has no trial of, and a class for "
            f"which too few are left with {held_out:.0%} held out; expected some of every class, for training and for test, that "
            "all sites have. Mend: within=None, which joins all trials of a class."
        )
    has = ~np.isnan(trials.values)
    numbers = np.stack([has[codes[trials.units] == k].sum(axis=0) for k in range(len(trials.classes))])
    code, site = np.unravel_index(numbers.argmin(), numbers.shape)
    raise AssemblyError(
        f"{label}: found {numbers.min()} trials of {str(trials.classes[code])!r} at site "
        f"{str(trials.neuroid[NEUROID_ID][site])!r}, too few for both sides with {held_out:.0%} held out; expected trials of every "
        f"class for training and for test, of each site. Mend: group=None, which deals single trials, held_out=0.5, a coarser "
        "label, or leave the site out."
    )


def _deal(codes: np.ndarray, pattern: np.ndarray, held_out: float, rng: np.random.Generator) -> np.ndarray:
    """Deal units to test, each class and pattern its share: bool array of shape (n_units,)."""
    order = np.lexsort((rng.random(len(codes)), pattern, codes))
    in_test = np.empty(len(codes), dtype=bool)
    for code in np.unique(codes):
        members = order[codes[order] == code]
        # Equal steps through units that are sorted by pattern, from a random start.
        steps = np.floor(held_out * np.arange(len(members) + 1) + rng.random())
        in_test[members] = np.diff(steps) > 0
    return in_test


def _cells_of(trials: SessionTrials, codes: np.ndarray, side: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return the class, the rows and the number of trials of each site, for every cell that all sites have trials of."""
    of_trial = codes[trials.units]
    keys = of_trial * (trials.cells.max() + 1) + trials.cells
    cells = []
    for key in np.unique(keys[side]):
        rows = np.flatnonzero(side & (keys == key))
        n_trials = (~np.isnan(trials.values[rows])).sum(axis=0)
        if n_trials.min() > 0:
            cells.append((int(of_trial[rows[0]]), rows, n_trials))
    return cells


def _join(
    values: np.ndarray, cells: list[tuple[int, np.ndarray, np.ndarray]], n: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    n_cells = np.bincount([code for code, _, _ in cells])
    if n is None:
        smallest = min(int(n_trials.min()) for _, _, n_trials in cells)
        n = smallest * int(n_cells.min())
    parts, classes = [], []
    filled = np.zeros(len(n_cells), dtype=np.intp)
    for code, rows, n_trials in cells:
        # The pseudo-trials of a class are dealt over its cells as evenly as can be.
        place = filled[code]
        share = n * (place + 1) // n_cells[code] - n * place // n_cells[code]
        filled[code] += 1
        keys = np.where(np.isnan(values[rows]), np.inf, rng.random((len(rows), values.shape[1])))
        order = np.argsort(keys, axis=0)
        chosen = np.take_along_axis(order, np.arange(share)[:, None] % n_trials, axis=0)
        parts.append(np.take_along_axis(values[rows], chosen, axis=0))
        classes.append(np.full(share, code))
    return np.concatenate(parts), np.concatenate(classes)
