"""The Score: one schema for everything that is scored, its constructor and its validator."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import AssemblyError, coords_of
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID
from neurobridge.evaluate.score.normalization import normalise
from neurobridge.evaluate.score.permutation import p_value
from neurobridge.points.conversion import real_array
from neurobridge.points.options import require_options

SPLIT, DRAW, PERMUTATION = "split", "draw", "permutation"
#: Dimensions over which the same quantity is measured again: folds of one data set, or independent draws from it.
REPEATS = (SPLIT, DRAW)
#: Variables that every Score has.
VARIABLES = ("raw", "ceiling", "normalized", "null", "p_value")
#: Attributes that every Score has.
ATTRIBUTES = ("metric", "splits", "n_stimuli", "n_splits", "n_permutations", "seed", "digests", "version")
SMALLER_IS_BETTER = "smaller_is_better"


def make_score(
    raw: npt.ArrayLike,
    dims: Sequence[str] = (),
    *,
    null: npt.ArrayLike | None = None,
    null_site_95: npt.ArrayLike | None = None,
    ceiling: npt.ArrayLike | None = None,
    normalized: npt.ArrayLike | None = None,
    p_values: npt.ArrayLike | None = None,
    normalization: str = "ratio",
    smaller_is_better: npt.ArrayLike = False,
    extra: Mapping[str, Any] | None = None,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    r"""Build a Score from raw values and their permutation null; whatever is not given is NaN.

    Parameters
    ----------
    raw : array of shape (\*leading[, n_repeats][, n_neuroids])
        The values of the metric, in the metric's units.
    dims : sequence of str
        Dimensions of ``raw``: any leading ones, then at most one of "split" and "draw" (the same quantity measured again),
        then at most "neuroid".
    null : array of shape (\*leading, n_permutations), optional
        The metric on permuted data: median over neuroids, one value a permutation. Rows with fewer permutations than others
        end in NaN.
    null_site_95 : array of shape (\*leading,), optional
        95 % quantile of the metric of single sites on permuted data.
    ceiling : array that broadcasts against (\*leading[, n_neuroids]), optional
        The largest value that is expected of a perfect model, in the units that ``normalization`` divides by.
    normalized : array of shape (\*leading[, n_neuroids]), optional
        Default: the mean of ``raw`` over its repeats, divided by the ceiling by the rule.
    p_values : array of shape (\*leading,), optional
        Default: one-sided permutation p-values, ``(1 + #{null >= value}) / (1 + n_permutations)``; NaN without a null. A score
        that is NaN has a NaN p, given or not.
    normalization : str
        A key of `NORMALIZATIONS`.
    smaller_is_better : bool, or array of bool on the leading dims
        Distances: small values, and permutations that are at most as large, speak for the model.
    extra : mapping of str to (dims, array) or number, optional
        Variables beside those of the schema.
    coords, attrs : mapping
        Of the Dataset; the attributes are those of `score_attrs`.

    Returns
    -------
    xarray.Dataset
        A Score, as `check_score` describes it.

    Raises
    ------
    ValueError
        The parts are not numbers, or do not make a Score.
    AssemblyError
        Unknown rule of normalization.

    Examples
    --------
    >>> from neurobridge.evaluate.score.schema import make_score, score_attrs
    >>> attrs = score_attrs({"metric": "accuracy", "splits": "given", "n_stimuli": 40}, n_splits=2, n_permutations=3, seed=0)
    >>> score = make_score([0.8, 0.9], ("split",), null=[0.4, 0.5, 0.6], attrs=attrs)
    >>> float(score["p_value"]), bool(score["ceiling"].isnull())
    (0.25, True)
    """
    if np.asarray(smaller_is_better).dtype != bool:
        require_options(smaller_is_better=smaller_is_better)
    values, dims = _numbers(raw, "raw"), tuple(dims)
    repeats = tuple(dim for dim in dims if dim in REPEATS)
    site = tuple(dim for dim in dims if dim == NEUROID)
    leading = tuple(dim for dim in dims if dim not in (*REPEATS, NEUROID))
    if dims != (*leading, *repeats[:1], *site) or values.ndim != len(dims):
        raise ValueError(
            f"score: found raw of shape {values.shape} with dims {dims}; expected any leading dims, then at most one of {REPEATS}, "
            f"then at most {NEUROID!r}. Mend: transpose the array."
        )
    if np.isinf(values).any():
        raise ValueError(
            f"score: found {int(np.isinf(values).sum())} infinite values of {values.size} in raw; expected finite ones. "
            "Mend: np.nan where the metric is not defined."
        )
    shape = values.shape[: len(leading)]
    if null is None:
        null = np.empty((*shape, 0))
    by_cell = _numbers(null, "null")
    reliability = _numbers(np.nan if ceiling is None else ceiling, "ceiling")
    unit_dims = (*leading, *site)
    if normalized is None:
        mean = values.mean(axis=len(leading)) if repeats else values
        normalized = normalise(mean, np.broadcast_to(reliability, mean.shape), normalization)
    smaller = np.asarray(smaller_is_better, dtype=bool)
    reduced = np.array([reduce_raw(values[cell], bool(site)) for cell in np.ndindex(shape)]).reshape(shape)
    if p_values is None:
        signs = np.broadcast_to(np.where(smaller, -1.0, 1.0), shape)
        p_values = np.empty(shape)
        for cell in np.ndindex(shape):
            p_values[cell] = p_value(float(signs[cell] * reduced[cell]), signs[cell] * by_cell[cell])
    p_values = np.where(np.isnan(reduced), np.nan, _numbers(p_values, "p_values"))
    data: dict[str, Any] = {
        "raw": (dims, values),
        "ceiling": (unit_dims[len(unit_dims) - reliability.ndim :], reliability),
        "normalized": (unit_dims, _numbers(normalized, "normalized")),
        "null": ((*leading, PERMUTATION), by_cell),
        "p_value": (leading, p_values),
    }
    if site:
        data["null_site_95"] = (leading, np.full(shape, np.nan) if null_site_95 is None else np.asarray(null_site_95))
    marks: dict[str, Any] = {SMALLER_IS_BETTER: (leading, smaller)} if smaller.ndim else {}
    score = xr.Dataset(
        {**data, **(extra or {})},
        coords={**(coords or {}), **marks},
        attrs={**attrs, "normalization": normalization} | ({} if smaller.ndim else {SMALLER_IS_BETTER: int(smaller)}),
    )
    return check_score(score)


def _numbers(values: npt.ArrayLike, name: str) -> np.ndarray:
    return real_array(values, name=name).astype(np.float64, copy=False)


def check_score(score: xr.Dataset) -> xr.Dataset:
    """Check a Dataset against the schema of a Score, and return it unchanged.

    A Score has the variables

    - ``raw``: any leading dims, then at most one of ``split`` and ``draw``, then at most ``neuroid``;
    - ``ceiling``: some of the leading dims and ``neuroid``;
    - ``normalized``: the leading dims and, where ``raw`` has it, ``neuroid``;
    - ``null``: the leading dims and ``permutation``;
    - ``p_value``: the leading dims;
    - ``null_site_95``, where ``raw`` has ``neuroid``: the leading dims;

    and the attributes ``metric``, ``splits``, ``n_stimuli``, ``n_splits``, ``n_permutations``, ``seed``, ``digests`` (JSON text)
    and ``version`` (of the package). Variables beside these are free. What was not computed is NaN.

    Parameters
    ----------
    score : xarray.Dataset

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ValueError
        Something is missing, or lies on other dims.

    Examples
    --------
    >>> import xarray as xr
    >>> from neurobridge.evaluate.score.schema import check_score
    >>> check_score(xr.Dataset({"raw": 0.5}))
    Traceback (most recent call last):
        ...
    ValueError: score: found variables ['raw']; ...
    """
    leading = leading_dims(score)
    site = (NEUROID,) if NEUROID in score["raw"].dims else ()
    expected = {
        "normalized": (*leading, *site),
        "null": (*leading, PERMUTATION),
        **({"null_site_95": leading} if site else {}),
    }
    for name, dims in expected.items():
        if name not in score or score[name].dims != dims:
            on = score[name].dims if name in score else None
            raise ValueError(
                f"score: found {name} on {on}, raw on {score['raw'].dims}; expected {name} on {dims}. "
                "Mend: build it with make_score."
            )
    stray = set(score["ceiling"].dims) - {*leading, *site}
    missing = [name for name in ATTRIBUTES if name not in score.attrs]
    if stray or missing:
        raise ValueError(
            f"score: found a ceiling on {score['ceiling'].dims} and no attributes {missing}; expected dims among "
            f"{(*leading, *site)} and {ATTRIBUTES}. Mend: build it with make_score and score_attrs."
        )
    return score


def is_score(thing: Any) -> bool:
    """Tell whether something is a Score: a Dataset with all variables of the schema."""
    return isinstance(thing, xr.Dataset) and all(name in thing for name in VARIABLES)


def leading_dims(score: xr.Dataset) -> tuple[str, ...]:
    """Return the dims of a Score on which whole scores stand side by side: those of ``p_value``.

    Raises
    ------
    ValueError
        Not a Dataset, a variable of the schema is missing, or ``raw`` is not on these dims, repeats and sites, in this order.
    """
    if not isinstance(score, xr.Dataset):
        raise ValueError(
            f"score: found {type(score).__module__}.{type(score).__name__}; expected a Score, an xarray.Dataset. Mend: pass what a "
            "metric of METRICS returned; of a BenchmarkScore its attribute .score."
        )
    missing = [name for name in VARIABLES if name not in score]
    if missing:
        raise ValueError(
            f"score: found variables {sorted(map(str, score.data_vars))}; expected a Score, with {', '.join(VARIABLES)}. "
            "Mend: pass what a metric of METRICS, decode, learning_curve or another scorer returned."
        )
    leading, dims = tuple(map(str, score["p_value"].dims)), tuple(map(str, score["raw"].dims))
    repeats, site = [d for d in dims if d in REPEATS], [d for d in dims if d == NEUROID]
    if dims != (*leading, *repeats[:1], *site) or (site and not repeats):
        raise ValueError(
            f"score: found raw with dims {dims} and p_value with dims {leading}; expected raw on the dims of p_value, then one of "
            f"{REPEATS}, then {NEUROID!r}, where these are. Mend: pass the Score as it was returned; aggregate averages it."
        )
    return leading


def score_attrs(
    attrs: Mapping[str, Any],
    n_splits: int,
    n_permutations: int,
    seed: int,
    sources: Sequence[xr.DataArray] = (),
) -> dict[str, Any]:
    """Complete the attributes of a Score, as plain values that can be written as netCDF.

    Parameters
    ----------
    attrs : mapping
        ``metric``, ``splits``, ``n_stimuli`` and any others.
    n_splits, n_permutations, seed : int
    sources : sequence of xarray.DataArray
        Assemblies that are scored: the digests of their files are joined.

    Returns
    -------
    dict
    """
    # Files of other programs may use the name for something else.
    known = [source.attrs["digests"] for source in sources if isinstance(source.attrs.get("digests"), Mapping)]
    digests = {str(key): str(value) for mapping in known for key, value in mapping.items()}
    return {
        **attrs,
        "n_splits": n_splits,
        "n_permutations": n_permutations,
        "seed": seed,
        "digests": json.dumps(digests, sort_keys=True),
        "version": __version__,
    }


def reduce_raw(raw: np.ndarray, by_site: bool) -> float:
    """Reduce one cell, array of shape ([n_repeats][, n_neuroids]), by Brain-Score's rule: median over sites, then mean."""
    return float(np.mean(np.median(raw, axis=-1) if by_site else raw))


def warn_low_ceilings(ceiling: np.ndarray, *, stacklevel: int) -> int:
    """Warn of ceilings that are not above zero, and return their number."""
    n_low = int((ceiling <= 0).sum())
    if n_low:
        warnings.warn(
            f"found {n_low} of {ceiling.size} ceiling(s) not above zero, the lowest {np.nanmin(ceiling):.3f}; nothing "
            "can be normalised by "
            "them: their normalized score is NaN. Leave out sites without a reliable response.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return n_low


def require_ceiling(ceiling: Any) -> None:
    """Refuse a ceiling that is no labelled array; None is a ceiling that is not known.

    Raises
    ------
    AssemblyError
        With what was found.
    """
    if not (ceiling is None or isinstance(ceiling, xr.DataArray)):
        raise AssemblyError(
            f"ceiling: found {type(ceiling).__name__} {ceiling!r:.40}; expected an xarray.DataArray over neuroids, or None. "
            "Mend: ceiling=internal_consistency(recordings)['ceiling']."
        )


def reliability_of(ceiling: xr.DataArray | None, like: xr.DataArray) -> np.ndarray:
    """Return the ceiling of each neuroid of ``like``, array of shape (n_neuroids,); NaN if there is none.

    Raises
    ------
    AssemblyError
        The ceiling is of other neuroids.
    """
    if ceiling is None:
        return np.full(like.sizes[NEUROID], np.nan)
    require_ceiling(ceiling)
    if ceiling.dims != (NEUROID,) or NEUROID_ID not in ceiling.coords:
        raise AssemblyError(
            f"ceiling: found dims {ceiling.dims} and coordinates {sorted(map(str, ceiling.coords))}; expected ('neuroid',) with "
            "neuroid_id. Mend: ceiling=internal_consistency(recordings)['ceiling']."
        )
    if not np.array_equal(ceiling[NEUROID_ID].values, like[NEUROID_ID].values):
        raise AssemblyError(
            f"ceiling: found {ceiling.sizes[NEUROID]} neuroids; expected the {like.sizes[NEUROID]} that are scored, in the same "
            "order. Mend: select the same neuroids in the ceiling."
        )
    return np.asarray(ceiling.values, dtype=np.float64)


def neuroid_score(
    raw: np.ndarray,
    null: np.ndarray,
    *,
    null_site_95: float,
    like: xr.DataArray,
    ceiling: xr.DataArray | None,
    normalization: str,
    attrs: dict[str, Any],
    stacklevel: int,
) -> xr.Dataset:
    """Make a Score from one value a split and neuroid, array (n_splits, n_neuroids), and warn of low ceilings."""
    reliability = reliability_of(ceiling, like)
    n_low = warn_low_ceilings(reliability, stacklevel=stacklevel + 1)
    return make_score(
        raw,
        (SPLIT, NEUROID),
        null=null,
        null_site_95=null_site_95,
        ceiling=reliability,
        normalization=normalization,
        coords=coords_of(like, NEUROID),
        attrs={**attrs, "n_ceilings_not_positive": n_low},
    )


def split_score(
    raw: np.ndarray,
    null: np.ndarray,
    *,
    ceiling: float | None,
    normalization: str,
    attrs: dict[str, Any],
    smaller_is_better: bool = False,
    extra: Mapping[str, Any] | None = None,
    coords: Mapping[str, Any] | None = None,
    stacklevel: int,
) -> xr.Dataset:
    """Make a Score from one value a split, array (n_splits,), and warn of a low ceiling."""
    reliability = np.asarray(np.nan if ceiling is None else float(ceiling))
    n_low = warn_low_ceilings(reliability, stacklevel=stacklevel + 1)
    return make_score(
        raw,
        (SPLIT,),
        null=null,
        ceiling=reliability,
        normalization=normalization,
        smaller_is_better=smaller_is_better,
        extra=extra,
        coords=coords,
        attrs={**attrs, "n_ceilings_not_positive": n_low},
    )
