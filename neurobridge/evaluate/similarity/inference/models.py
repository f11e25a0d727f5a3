"""Models compared by their RDMs: with several subjects, against each other and against the noise ceiling."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.ids import find_rows, show_ids
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.evaluate.similarity.comparators import COMPARATORS
from neurobridge.evaluate.similarity.inference.bootstrap import FEWEST_STIMULI, Compared, draw_samples, dual_variance
from neurobridge.points.conversion import real_array
from neurobridge.points.options import is_choice, require_count
from neurobridge.points.progress import progress_bar

_LOG = logging.getLogger(__name__)

Bootstrap = Literal["both", "stimuli", "subjects"]
BOOTSTRAPS: tuple[Bootstrap, ...] = ("both", "stimuli", "subjects")
_LEVEL = 0.95
_ROUNDING = 1e-9


class _Squares(NamedTuple):
    names: list[str]
    values: np.ndarray
    stimuli: np.ndarray | None


def compare_rsa_models(
    models: Mapping[str, xr.DataArray | np.ndarray],
    rdms: Mapping[str, xr.DataArray | np.ndarray] | xr.DataArray | np.ndarray,
    *,
    comparator: str = "corr_cov",
    bootstrap: Bootstrap = "both",
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Compare the RDMs of several models with those of several subjects, and the models with each other.

    1. A model's value is the mean over subjects of the similarity of the two RDMs.
    2. The noise ceiling is that of `rdm_noise_ceiling` (Nili et al. 2014).
    3. Variances of the values, of their differences and of their differences from the lower ceiling come from a bootstrap: over
       "subjects" to speak of new subjects and these stimuli, over "stimuli" of these subjects and new stimuli, over "both" of new
       ones of both. Variances of one bootstrap are multiplied by n / (n - 1); those of "both" are corrected by
       `dual_variance`, since drawing both at once counts the noise of single measurements too often.
    4. t-tests on these variances, with n - 1 degrees of freedom, for "both" of the smaller n: of each value above zero, one-sided;
       of each against the lower ceiling and of every two models, two-sided. False discovery rates over each of these families
       are controlled by the rule of Benjamini & Hochberg 1995.

    Parameters
    ----------
    models : mapping of str to RDM
        Square RDMs (n_stimuli, n_stimuli) as `rdm` gives them. Labelled ones are put into the order of the subjects' stimuli.
    rdms : mapping of str to RDM, or array or xarray.DataArray of shape (n_subjects, n_stimuli, n_stimuli)
        One RDM a subject.
    comparator : str
        One of `COMPARATORS`: see `compare_rdms`. The default wants squared distances, cross-validated at best; "rho-a" is for
        others.
    bootstrap : {"both", "stimuli", "subjects"}
    n_bootstrap : int
        Draws.
    seed : int
        Of the draws.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``model``: ``raw``; ``ceiling``, the lower noise ceiling; ``p_value``, above zero. And ``sem``,
        ``raw_low`` and ``raw_high`` (the 95 % interval of t), ``ceiling_upper``, ``raw_by_subject`` (model, subject), ``p_ceiling``
        (model), ``difference``, ``p_difference`` (model, model_2; the first less the second), and ``p_value_fdr``,
        ``p_ceiling_fdr``, ``p_difference_fdr``, all three corrected. With one subject there is no lower ceiling.

    Raises
    ------
    AssemblyError
        RDMs that are not square, symmetric or finite, of other stimuli, no model, or too few subjects for the bootstrap.
    ValueError
        Unknown comparator or bootstrap, or fewer than 20 draws.

    Notes
    -----
    rsatoolbox's ``eval_dual_bootstrap`` (``k_pattern=k_rdm=1``), ``eval_bootstrap_pattern`` and ``eval_bootstrap_rdm`` have
    the same variances for the same draws. Its tests take the mean over the draws for a model's value, where this function
    takes the value on the data. Pairs of a stimulus with its own copy are left out of a draw in both.

    References
    ----------
    Nili, Wingfield, Walther, Su, Marslen-Wilson & Kriegeskorte 2014, PLoS Comput Biol 10:e1003553.
    Schutt, Kipnis, Diedrichsen & Kriegeskorte 2023, eLife 12:e82566.
    Benjamini & Hochberg 1995, J R Stat Soc B 57:289.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.spatial.distance import pdist, squareform
    >>> from neurobridge.evaluate.similarity import compare_rsa_models
    >>> rng = np.random.default_rng(0)  # simulated: eight subjects with one geometry, measured with noise
    >>> signal, other = rng.normal(size=(20, 5)), rng.normal(size=(20, 5))
    >>> subjects = np.stack([squareform(pdist(signal + 0.5 * rng.normal(size=(20, 5)), "sqeuclidean")) for _ in range(8)])
    >>> models = {name: squareform(pdist(X, "sqeuclidean")) for name, X in {"signal": signal, "other": other}.items()}
    >>> score = compare_rsa_models(models, subjects, n_bootstrap=200)
    >>> bool(score["p_difference_fdr"].sel(model="signal", model_2="other") < 0.01)
    True
    """
    if not is_choice(comparator, COMPARATORS):
        raise ValueError(
            f"found comparator {comparator!r}; expected one of {list(COMPARATORS)}. Mend: choose one of them."
        )
    if not is_choice(bootstrap, BOOTSTRAPS):
        raise ValueError(
            f"found bootstrap {bootstrap!r}; expected one of {list(BOOTSTRAPS)}. Mend: choose one of them."
        )
    n_bootstrap = require_count(n_bootstrap, name="n_bootstrap", at_least=20)
    of_subjects = _read_squares(rdms, "rdms", "subject")
    of_models = _read_squares(models, "models", "model", of_subjects)
    n_subjects, n = of_subjects.values.shape[:2]
    fewest = {"both": 2, "subjects": 2, "stimuli": 1}[bootstrap]
    if n_subjects < fewest or n < 4:
        raise AssemblyError(
            f"rdms: found {n_subjects} subject(s) and {n} stimuli; expected at least {fewest} and 4 for bootstrap={bootstrap!r}. "
            "Mend: bootstrap='stimuli' speaks of these subjects alone; or more of them."
        )
    whole = Compared(of_models.values, of_subjects.values, np.arange(n), comparator)
    observed = whole.evaluate(np.arange(n_subjects))
    started = time.perf_counter()
    variances = _variances(whole, of_models.values, of_subjects.values, bootstrap, n_bootstrap, seed, progress)
    _LOG.info(
        "compared the RDMs of %d models with those of %d subjects, %d stimuli, by %s; %d draws of %s, %.2f s",
        len(of_models.names), n_subjects, n, comparator, n_bootstrap, bootstrap, time.perf_counter() - started,
    )  # fmt: skip
    dof = {"both": min(n, n_subjects), "stimuli": n, "subjects": n_subjects}[bootstrap] - 1
    return _score(whole, observed, variances, dof, of_models, of_subjects, {
        "metric": f"rsa models, {comparator}", "splits": f"bootstrap over {bootstrap}", "n_stimuli": n, "n_subjects": n_subjects,
        "n_bootstrap": n_bootstrap, "dof": dof, "comparator": comparator, "bootstrap": bootstrap, "seed": seed,
    })  # fmt: skip


def _contrasts(n_models: int) -> np.ndarray:
    """Return the rows that give values, differences from the lower ceiling, and differences of models, of (values, ceilings)."""
    eye = np.eye(n_models + 2)
    values = eye[:n_models]
    pairs = [values[i] - values[j] for i, j in combinations(range(n_models), 2)]
    return np.stack([*values, *(values - eye[n_models]), *pairs])


def _variances(
    whole: Compared,
    models: np.ndarray,
    subjects: np.ndarray,
    bootstrap: Bootstrap,
    n_bootstrap: int,
    seed: int,
    progress: bool,
) -> np.ndarray:
    """Return the variance of every contrast, shape (n_contrasts,)."""
    n_subjects, n = subjects.shape[:2]
    everyone = np.arange(n_subjects)
    values: dict[str, list[np.ndarray]] = {kind: [] for kind in BOOTSTRAPS}
    draws = draw_samples(n, n_subjects, n_bootstrap, seed)
    for draw in progress_bar(draws, desc="bootstrap", progress=progress):
        if len(np.unique(draw.stimuli)) < FEWEST_STIMULI:
            continue
        if bootstrap != "subjects":
            some = Compared(models, subjects, draw.stimuli, whole.comparator)
            values["stimuli"].append(some.evaluate(everyone))
        if bootstrap == "both":
            values["both"].append(some.evaluate(draw.subjects))
        if bootstrap != "stimuli":
            values["subjects"].append(whole.evaluate(draw.subjects))
    rows = {kind: np.array(drawn) for kind, drawn in values.items() if drawn}
    return contrast_variances(rows, n_subjects, n)


def contrast_variances(values: Mapping[str, np.ndarray], n_subjects: int, n_stimuli: int) -> np.ndarray:
    """Turn the values of bootstrap draws into the variances of all contrasts.

    Parameters
    ----------
    values : mapping of "both", "stimuli" or "subjects" to array of shape (n_draws, n_models + 2)
        Models, lower and upper ceiling of each draw; all three kinds, or one.
    n_subjects, n_stimuli : int

    Returns
    -------
    array of shape (n_contrasts,)
        Of the values, of their differences from the lower ceiling, and of the differences of every two models.
    """
    contrasts = _contrasts(next(iter(values.values())).shape[1] - 2)
    # NaN of an undefined ceiling stays with the contrasts that read it.
    read = [np.flatnonzero(row) for row in contrasts]
    # Draws of a single subject have no lower ceiling and are left out of what reads it.
    raw = {
        kind: np.array([np.nanvar(drawn[:, at] @ row[at], ddof=1) if _enough(drawn[:, at]) else np.nan
                        for at, row in zip(read, contrasts, strict=True)])
        for kind, drawn in values.items()
    }  # fmt: skip
    if len(raw) > 1:
        return dual_variance(raw["both"], raw["subjects"], raw["stimuli"], n_subjects, n_stimuli)
    ((kind, variance),) = raw.items()
    number = n_subjects if kind == "subjects" else n_stimuli
    return variance * number / (number - 1)


def _enough(drawn: np.ndarray) -> bool:
    return int(np.isfinite(drawn).all(axis=1).sum()) >= 2


def _score(
    whole: Compared,
    observed: np.ndarray,
    variances: np.ndarray,
    dof: int,
    models: _Squares,
    subjects: _Squares,
    attrs: dict[str, Any],
) -> xr.Dataset:
    n_models = len(models.names)
    contrasts = _contrasts(n_models)
    lower, upper = (float(value) for value in observed[n_models:])
    estimate = np.array([row[row != 0] @ observed[row != 0] for row in contrasts])
    sem = np.sqrt(variances)
    # Two models that are the same differ by rounding alone.
    t = estimate / np.maximum(sem, _ROUNDING)
    above = scipy.stats.t.sf(t[:n_models], dof)
    two_sided = 2 * scipy.stats.t.sf(np.abs(t[n_models:]), dof)
    of_ceiling, of_pairs = two_sided[:n_models], two_sided[n_models:]
    half = scipy.stats.t.ppf((1 + _LEVEL) / 2, dof) * sem[:n_models]
    raw, each, two = observed[:n_models], ("model",), ("model", "model_2")
    return make_score(
        raw,
        each,
        ceiling=lower,
        p_values=above,
        extra={
            "sem": (each, sem[:n_models]),
            "raw_low": (each, raw - half),
            "raw_high": (each, raw + half),
            "ceiling_upper": upper,
            "raw_by_subject": (("model", "subject"), whole.similarity),
            "p_ceiling": (each, of_ceiling),
            "difference": (two, raw[:, None] - raw[None, :]),
            "p_difference": (two, _square(of_pairs, n_models)),
            "p_value_fdr": (each, _false_discovery(above)),
            "p_ceiling_fdr": (each, _false_discovery(of_ceiling)),
            "p_difference_fdr": (two, _square(_false_discovery(of_pairs), n_models)),
        },
        coords={"model": models.names, "model_2": models.names, "subject": subjects.names},
        attrs=score_attrs(attrs, 1, 0, attrs["seed"]),
    )


def _square(pairs: np.ndarray, n: int) -> np.ndarray:
    square = np.full((n, n), np.nan)
    for (i, j), value in zip(combinations(range(n), 2), pairs, strict=True):
        square[i, j] = square[j, i] = value
    return square


def _false_discovery(p: np.ndarray) -> np.ndarray:
    corrected = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        corrected[known] = scipy.stats.false_discovery_control(p[known])
    return corrected


def _read_squares(given: Any, role: str, dim: str, like: _Squares | None = None) -> _Squares:
    """Read square RDMs with their names; in the order of the stimuli of others where both are labelled."""
    if isinstance(given, Mapping):
        parts = {str(name): value for name, value in given.items()}
    elif isinstance(given, xr.DataArray) and given.ndim == 3:
        labels = given.coords[given.dims[0]].values if given.dims[0] in given.coords else range(len(given))
        parts = {str(name): part for name, part in zip(labels, given, strict=True)}
    else:
        array = real_array(given, name=role, error=AssemblyError)
        if array.ndim != 3:
            raise AssemblyError(
                f"{role}: found shape {array.shape}; expected (n_{dim}s, n_stimuli, n_stimuli), or a dict of names to square RDMs. "
                f"Mend: {{'first': neurobridge.similarity.rdm(assembly)}}."
            )
        parts = {str(k): part for k, part in enumerate(array)}
    if not parts:
        raise AssemblyError(
            f"{role}: found none; expected at least one RDM. Mend: {{name: neurobridge.similarity.rdm(model)}}."
        )
    squares: list[np.ndarray] = []
    stimuli = None if like is None else like.stimuli
    n = None if like is None else like.values.shape[1]
    for name, part in parts.items():
        where = f"{role}, {name!r}"
        square = _read_square(part, where)
        ids = _stimuli_of(part, where)
        if stimuli is not None and ids is not None:
            rows = find_rows(stimuli, ids)
            if (rows < 0).any() or len(ids) != len(stimuli):
                absent = stimuli[rows < 0] if (rows < 0).any() else ids
                raise AssemblyError(
                    f"{where}: found {len(ids)} stimuli, and {int((rows < 0).sum())} of the {len(stimuli)} of the others not "
                    f"among them, e.g. {show_ids(absent)}; expected the same. Mend: select the shared stimuli first."
                )
            square = square[np.ix_(rows, rows)]
        stimuli = ids if stimuli is None else stimuli
        n = len(square) if n is None else n
        if len(square) != n:
            raise AssemblyError(
                f"{where}: found {len(square)} stimuli; expected {n} as of the others. Mend: take the same stimuli for all."
            )
        squares.append(square)
    return _Squares(list(parts), np.stack(squares), stimuli)


def _stimuli_of(part: Any, where: str) -> np.ndarray | None:
    if not isinstance(part, xr.DataArray) or STIMULUS_ID not in part.coords or part[STIMULUS_ID].ndim != 1:
        return None
    ids = id_texts(part[STIMULUS_ID].values)
    repeated = pd.Index(ids).duplicated()
    if repeated.any():
        raise AssemblyError(
            f"{where}: found {int(repeated.sum())} repeated stimuli, e.g. {show_ids(ids[repeated])}; expected each once. Mend: "
            "neurobridge.similarity.rdm(neurobridge.average_repetitions(assembly))."
        )
    return ids


def _read_square(part: Any, where: str) -> np.ndarray:
    values = part.values if isinstance(part, xr.DataArray) else part
    square = real_array(values, name=where, error=AssemblyError).astype(np.float64)
    if square.ndim != 2 or square.shape[0] != square.shape[1] or not square.size:
        raise AssemblyError(
            f"{where}: found shape {square.shape}; expected a square RDM, (n_stimuli, n_stimuli). "
            "Mend: neurobridge.similarity.rdm(assembly), or scipy.spatial.distance.squareform(condensed)."
        )
    np.fill_diagonal(square, 0)
    if not np.isfinite(square).all() or not np.allclose(
        square, square.T, rtol=1e-6, atol=1e-9 * float(np.abs(square).max())
    ):
        raise AssemblyError(
            f"{where}: found {int((~np.isfinite(square)).sum())} dissimilarities that are NaN or infinite, or an RDM that is not "
            "symmetric; expected finite and symmetric ones. Mend: leave out the stimuli without a distance, from all RDMs."
        )
    return (square + square.T) / 2
