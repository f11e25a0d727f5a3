"""Pseudo-populations: sites recorded at different times, joined trial by trial at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.assemblies.schema import NEUROID, STIMULUS_ID
from neurobridge.evaluate.decoding.batches import read_draws
from neurobridge.evaluate.decoding.joining import draw_sides, gather
from neurobridge.evaluate.decoding.readouts import check_training
from neurobridge.evaluate.decoding.trials import block_shuffler
from neurobridge.evaluate.score.schema import DRAW, make_score, score_attrs
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.options import require_count, require_options, require_seed
from neurobridge.points.progress import progress_bar


class PseudoPopulation(NamedTuple):
    """Pseudo-trials of one draw, made by `pseudo_population`.

    Attributes
    ----------
    train, test : xarray.DataArray
        Assemblies of the same sites; no recorded trial is in both.

    Examples
    --------
    See `pseudo_population`.
    """

    train: xr.DataArray
    test: xr.DataArray

    def __repr__(self) -> str:
        return short_repr("PseudoPopulation", **self._facts())

    def _repr_html_(self) -> str:
        return html_repr("PseudoPopulation", self._facts())

    def _facts(self) -> dict[str, int]:
        return {"n_train": len(self.train), "n_test": len(self.test), "n_sites": self.train.sizes[NEUROID]}


def pseudo_population(
    recordings: xr.DataArray | Sequence[xr.DataArray],
    label: str,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    held_out: float = 0.25,
    group: str | None = STIMULUS_ID,
    within: str | None = STIMULUS_ID,
    seed: int = 0,
) -> PseudoPopulation:
    """Join trials of sites that were recorded at different times to pseudo-trials of one population.

    1. The trials are dealt to training and test, as wholes by ``group``, each class and each session its share.
    2. On each side, every pseudo-trial takes for each site a trial of its class (and of its value of ``within``) at random; a
       site's trials are all used before any is used again.

    Joining trials of different times removes the noise that simultaneous sites share, which may raise or lower accuracy
    (Averbeck, Latham & Pouget 2006, Nat. Rev. Neurosci. 7:358): accuracies are those of independent sites.

    Parameters
    ----------
    recordings : xarray.DataArray, or sequence of them
        Single trials, dims ``(presentation, neuroid)``; NaN where a site lacks a trial. A sequence holds the sessions, each with
        sites of its own.
    label : str
        Coordinate on ``presentation``.
    n_train, n_test : int, optional
        Pseudo-trials of each class. Default: the smallest number of trials that a site has of a class on that side, so that none
        is used twice.
    held_out : float
        Share of the trials that are dealt to test, in (0, 1).
    group : str, optional
        Coordinate on ``presentation`` whose equal values go to one side; None deals single trials.
    within : str, optional
        Coordinate on ``presentation``: only trials with the same value are joined, by default those of one stimulus. Values that
        some site lacks on a side are left out there. None joins all trials of a class, where sites did not see the same stimuli:
        what distinguishes stimuli of a class is then independent noise of each site, and accuracy is too high (see the page on
        decoding).
    seed : int

    Returns
    -------
    PseudoPopulation
        ``train`` and ``test``, assemblies with ``label``, a ``stimulus_id`` of their own for each pseudo-trial, and all sites.

    Raises
    ------
    AssemblyError
        A site with too few trials of a class, a label that varies within groups, sites that two sessions share, bad options.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.decoding import pseudo_population
    >>> def session(first_site, n_trials):  # simulated
    ...     labels = np.array(["car", "face"])[np.arange(n_trials) % 2]
    ...     values = np.random.default_rng(first_site).normal(size=(n_trials, 2)) + (labels == "car")[:, None]
    ...     return make_assembly(
    ...         values,
    ...         presentation={"stimulus_id": range(n_trials), "category_name": labels},
    ...         neuroid={"neuroid_id": [first_site, first_site + 1]},
    ...     )
    >>> pseudo_population([session(0, 40), session(2, 60)], "category_name")
    PseudoPopulation(n_train=30, n_test=10, n_sites=4)
    """
    for name, count in (("n_train", n_train), ("n_test", n_test)):
        require_count(1 if count is None else count, name=name, error=AssemblyError)
    trials = gather(recordings, label, group, within, held_out)
    rng = np.random.default_rng(require_seed(seed, error=AssemblyError))
    sides = draw_sides(trials, trials.codes, held_out, (n_train, n_test), rng, label)
    parts, start = [], 0
    for X, codes in sides:
        numbers = range(start, start + len(X))
        parts.append(
            make_assembly(
                X,
                presentation={STIMULUS_ID: [f"pseudo{k:06d}" for k in numbers], label: trials.classes[codes]},
                neuroid=trials.neuroid,
            )
        )
        start += len(X)
    return PseudoPopulation(*parts)


def decode_pseudo_population(
    recordings: xr.DataArray | Sequence[xr.DataArray],
    label: str,
    *,
    n_sites: Sequence[int] | None = None,
    n_draws: int = 20,
    readout: str = "logistic",
    n_train: int | None = None,
    n_test: int | None = None,
    held_out: float = 0.25,
    group: str | None = STIMULUS_ID,
    within: str | None = STIMULUS_ID,
    n_permutations: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Decode a label from pseudo-populations, by number of sites: the mean over many draws of trials and sites.

    Parameters
    ----------
    recordings, label, n_train, n_test, held_out, group, within
        As in `pseudo_population`; by default the numbers of pseudo-trials are those of the first draw.
    n_sites : sequence of int, optional
        Numbers of sites; in a draw the fewer are among the more. Default: all.
    n_draws : int
        Draws of sites, of training and test trials, and of pseudo-trials.
    readout : str
        A key of `READOUTS`.
    n_permutations : int
        Size of the null: labels are shuffled among the trials (or groups) that the same sites were recorded with, and all draws,
        joins and readouts are made anew: an exact permutation test.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``n_sites``: ``raw`` (n_sites, draw), the fraction correct; classes are equally frequent. Draws
        share trials and sites: their spread is not a standard error. The attribute ``n_incomplete`` counts values of ``within``
        (stimuli) that some site has no trial of.

    Raises
    ------
    AssemblyError
        More sites than there are, an unknown readout, or an error of `pseudo_population`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.decoding import decode_pseudo_population
    >>> labels = np.array(["car", "face"] * 30)
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(60, 16)) + 0.7 * (labels == "car")[:, None]  # simulated
    >>> values[rng.random(values.shape) < 0.2] = np.nan  # a fifth of the trials is missing, each site others
    >>> recordings = make_assembly(
    ...     np.zeros((60, 16)),
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(16)},
    ... ).copy(data=values)
    >>> score = decode_pseudo_population(
    ...     recordings, "category_name", n_sites=(1, 16), within=None, n_draws=10, n_permutations=19, progress=False
    ... )
    >>> dict(score["raw"].sizes), bool(np.diff(score["raw"].mean("draw"))[0] > 0.1)
    ({'n_sites': 2, 'draw': 10}, True)
    """
    require_options(n_permutations=n_permutations, seed=seed, progress=progress, error=AssemblyError)
    trials = gather(recordings, label, group, within, held_out)
    for name, count in (("n_train", n_train), ("n_test", n_test)):
        require_count(1 if count is None else count, name=name, error=AssemblyError)
    require_count(n_draws, name="n_draws", error=AssemblyError)
    total = trials.values.shape[1]
    sizes = [total] if n_sites is None else list(n_sites)
    for size in sizes:
        require_count(size, name="n_sites", error=AssemblyError)
    if not sizes or min(sizes) < 1 or max(sizes) > total:
        raise AssemblyError(f"found n_sites={sizes}; expected numbers from 1 to {total}. Mend: leave out those beyond.")
    check_training(trials.classes[trials.codes], label, readout)
    first = draw_sides(trials, trials.codes, held_out, (n_train, n_test), np.random.default_rng([seed, 0]), label)
    counts = (
        n_train or int(np.bincount(first[0][1]).min()),
        n_test or int(np.bincount(first[1][1]).min()),
    )

    def accuracies(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return fractions correct, array of shape (n_sizes, n_draws)."""
        draws = [draw_sides(trials, codes, held_out, counts, rng, label) for _ in range(n_draws)]
        order = [rng.permutation(total) for _ in range(n_draws)]
        return np.stack(
            [
                read_draws(
                    [tuple((X[:, sites[:k]], y) for X, y in sides) for sides, sites in zip(draws, order, strict=True)],
                    readout,
                    label,
                    seed,
                )
                for k in sizes
            ]
        )

    raw = accuracies(trials.codes, np.random.default_rng([seed, 0]))
    shuffle = block_shuffler(trials.codes, trials.pattern)
    null = np.empty((len(sizes), n_permutations))
    for k in progress_bar(range(n_permutations), desc="permutations", progress=progress):
        rng = np.random.default_rng([seed, k + 1])
        null[:, k] = accuracies(shuffle(rng), rng).mean(axis=1)
    attrs = {
        "metric": f"accuracy of {label}, {readout}, pseudo-population",
        "splits": f"{n_draws} draws, {held_out:.0%} of the {group or 'trial'}s held out",
        "n_stimuli": trials.n_stimuli,
        "n_trials": len(trials.values),
        "n_classes": len(trials.classes),
        "n_train": counts[0],
        "n_test": counts[1],
        "n_missing": int(np.isnan(trials.values).sum()),
        "group": group or "",
        "within": within or "",
        "n_incomplete": trials.n_incomplete,
        "null": "labels shuffled, all draws made anew",
    }
    sources = (recordings,) if isinstance(recordings, xr.DataArray) else tuple(recordings)
    return make_score(
        raw,
        ("n_sites", DRAW),
        null=null,
        coords={"n_sites": sizes, DRAW: np.arange(n_draws)},
        attrs=score_attrs(attrs, n_draws, n_permutations, seed, sources),
    )
