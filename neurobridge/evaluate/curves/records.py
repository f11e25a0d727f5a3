"""Records of a learning curve: one plain record a method, number of pairs and seed, computed cell by cell."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurobridge.assemblies import drop_constant, missing_values, require_varying_neuroids, validate
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID
from neurobridge.evaluate.correlation import MIN_CORRELATED, correlate
from neurobridge.evaluate.curves.folds import CurveFold, CurveSettings, draw_curve_fold
from neurobridge.evaluate.score.aggregation import aggregate
from neurobridge.evaluate.score.schema import require_ceiling
from neurobridge.points.options import require_options
from neurobridge.points.progress import progress_bar

_LOG = logging.getLogger(__name__)

# Not "method": a dimension of that name could not be selected by it.
METHOD, COUNT, SEED = "aligner", "n_pairs", "seed"
Record = dict[str, Any]


def require_records(known: Any) -> None:
    """Refuse what is no sequence of records.

    Raises
    ------
    ValueError
        With what was found.
    """
    if (
        not isinstance(known, Sequence)
        or isinstance(known, str)
        or not all(isinstance(each, Mapping) for each in known)
    ):
        raise ValueError(
            f"found known={known!r:.60}; expected a sequence of records, as curve_records gives them. Mend: leave it out."
        )


def curve_records(
    source: xr.DataArray,
    target: xr.DataArray,
    aligners: Mapping[str, Any],
    settings: CurveSettings | None = None,
    *,
    ceiling: xr.DataArray | None = None,
    known: Sequence[Record] = (),
    progress: bool = True,
    **flat: Any,
) -> Iterator[Record]:
    """Compute one plain record a method, number of pairs and seed, lazily, so that each can be kept before the next begins.

    Parameters
    ----------
    source, target, aligners, ceiling, known, progress
        As in `learning_curve`, which makes a Dataset of the records; cells with a record in ``known`` are passed over.
    settings : CurveSettings, optional
        Default: those of `learning_curve`.
    **flat
        Fields of the settings as keyword arguments, as version 0.1 took them: deprecated.

    Returns
    -------
    iterator of dict
        ``aligner``, ``n_pairs`` and ``seed``, which name the cell; ``raw``, ``normalized``, ``p_value`` and ``seconds`` as in
        `learning_curve`, None where undefined; ``null``, the list of permuted scores, its mean ``null_mean`` and 95 % quantile
        ``null_95``; ``n_stimuli`` held out; ``n_neuroids`` scored. Plain numbers: it can be written as JSON.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimuli, or more pairs than training stimuli.
    ValueError
        No aligner, or bad settings.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import RidgeAligner
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import CurveSettings, curve_records
    >>> values = np.random.default_rng(0).normal(size=(60, 4))  # simulated: both spaces are the same here
    >>> space = make_assembly(values, presentation={"stimulus_id": range(60)}, neuroid={"neuroid_id": range(4)})
    >>> settings = CurveSettings(n_pairs=(5, 20), n_seeds=1, n_permutations=10)
    >>> for record in curve_records(space, space, {"ridge": RidgeAligner()}, settings, progress=False):
    ...     print(record["aligner"], record["n_pairs"], record["seed"], record["n_stimuli"])
    ridge 5 0 12
    ridge 20 0 12
    """
    if flat:
        warnings.warn(
            f"curve_records: found the keyword arguments {sorted(flat)}; they are fields of CurveSettings now. "
            "Mend: curve_records(source, target, aligners, CurveSettings(...)).",
            DeprecationWarning,
            stacklevel=2,
        )
        settings = CurveSettings(**flat)
    return _records(source, target, aligners, settings or CurveSettings(), ceiling, known, progress)


def _records(
    source: xr.DataArray,
    target: xr.DataArray,
    aligners: Mapping[str, Any],
    settings: CurveSettings,
    ceiling: xr.DataArray | None,
    known: Sequence[Record],
    progress: bool,
) -> Iterator[Record]:
    for role, space in (("source", source), ("target", target)):
        validate(space, role=role, allow_missing=role == "target")
        require_varying_neuroids(space, role=role)
    require_ceiling(ceiling)
    require_options(progress=progress)
    require_records(known)
    if not aligners:
        raise ValueError(
            "learning curve: found no aligner; expected at least one. Mend: e.g. aligners={'ridge': RidgeAligner()}."
        )
    done = {(r[METHOD], r[COUNT], r[SEED]) for r in known}
    cells = [
        (method, count, seed)
        for seed in settings.seeds
        for count in settings.n_pairs
        for method in aligners
        if (method, count, seed) not in done
    ]
    fold, drawn = None, None
    for method, count, seed in progress_bar(cells, progress=progress, desc="learning curve"):
        if fold is None or drawn != (count, seed):
            drawn = count, seed
            fold = _varying(
                draw_curve_fold(
                    source,
                    target,
                    count,
                    seed=seed,
                    held_out=settings.held_out,
                    unpaired=settings.unpaired,
                    stratify=settings.stratify,
                )
            )
        aligner = clone(aligners[method])
        if "seed" in aligner.get_params():
            aligner.set_params(seed=seed)
        started = time.perf_counter()
        transported = aligner.fit(fold.source_train, fold.target_train, fold.pairs).transform(fold.source_test)
        seconds = time.perf_counter() - started
        row = _score(transported, fold, ceiling, settings.n_permutations, seed)
        _LOG.info("%s, %d pairs, seed %d: r %.3f after %.1f s", method, count, seed, row["raw"], seconds)
        yield {METHOD: method, COUNT: count, SEED: seed, "seconds": seconds, **row}


def _varying(fold: CurveFold) -> CurveFold:
    """Leave out neuroids that happen to be constant in a pool: no aligner can scale them."""
    pools = []
    for train, test in ((fold.source_train, fold.source_test), (fold.target_train, fold.target_test)):
        kept = drop_constant(train)
        pools.append((kept, test.isel({NEUROID: np.isin(test[NEUROID_ID].values, kept[NEUROID_ID].values)})))
    return CurveFold(pools[0][0], pools[1][0], pools[0][1], pools[1][1], fold.pairs)


def _score(
    transported: xr.DataArray, fold: CurveFold, ceiling: xr.DataArray | None, n_permutations: int, seed: int
) -> Record:
    truth = fold.target_test
    absent = missing_values(truth)
    if absent.any():
        truth = truth.isel({NEUROID: np.flatnonzero((~absent).sum(axis=0) >= MIN_CORRELATED)})
    truth = drop_constant(truth)
    ids = truth[NEUROID_ID].values
    score = correlate(
        transported.isel({NEUROID: np.isin(transported[NEUROID_ID].values, ids)}),
        truth,
        ceiling=None if ceiling is None else ceiling.isel({NEUROID: np.isin(ceiling[NEUROID_ID].values, ids)}),
        n_permutations=n_permutations,
        seed=seed,
    )
    summary = aggregate(score, n_bootstrap=0)
    return {
        "raw": summary["raw"],
        "normalized": summary["normalized_median"],
        "null_mean": summary["null_mean"],
        "null_95": summary["null_95"],
        "p_value": summary["p_value"],
        "n_stimuli": summary["n_stimuli"],
        "n_neuroids": len(ids),
        "null": score["null"].values.tolist(),
    }
