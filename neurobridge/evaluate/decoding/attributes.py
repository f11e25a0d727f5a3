"""Reading continuous attributes of what was shown: position, size, pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, require_unique_stimuli, validate
from neurobridge.evaluate.correlation import pearson
from neurobridge.evaluate.decoding.readouts import presentation_coordinate
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.scores import PERMUTATION, SPLIT, fold_null, p_value, score_attrs
from neurobridge.evaluate.splits import Splits, resolve_splits


def decode_attributes(
    assembly: xr.DataArray,
    attributes: Sequence[str] | Mapping[str, float | None],
    *,
    regression: str = "ridge",
    splits: Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Read continuous attributes by regression, cross-validated over stimuli.

    Linear attributes are regressed as they are; their score is Pearson's r. Of an attribute with a period, cosine and sine are
    regressed, the angle is that of the two predictions, and the score is the circular correlation of Jammalamadaka & SenGupta
    (2001, equation 8.2.2), ``sum sin(a - mean a) sin(b - mean b) / sqrt(sum sin^2(a - mean a) sum sin^2(b - mean b))``, with
    circular means.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus.
    attributes : sequence of str, or mapping of str to period
        Coordinates on ``presentation``, e.g. ``["ty", "tz", "s"]`` or ``{"ty": None, "rxy_semantic": 360}``: a period in the
        attribute's own units makes it circular.
    regression : {"ridge", "pls", "linear"}
        A key of `REGRESSIONS`, except "neuron_to_neuron", whose predictions are in units of a response.
    splits : Splits or sequence of (train, test), optional
        Default: as `predictivity`.
    n_permutations : int
        Size of the null: held-out stimuli of the predictions are shuffled.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``raw`` (split, attribute); ``r2`` (split, attribute), ``1 - sum of squares of the error / sum of squares about the
        held-out mean``, NaN for circular attributes; ``error`` (split, attribute), the median absolute error in the attribute's
        units (of a circular attribute the shorter way round); ``error_of_mean``, that of always saying the training mean;
        ``null`` (permutation, attribute); ``p_value`` (attribute).

    Raises
    ------
    AssemblyError
        A coordinate is missing, not numeric or constant; bad assembly, regression or splits; a period that is not positive.
    """
    periods = dict(attributes) if isinstance(attributes, Mapping) else dict.fromkeys(attributes)
    validate(assembly, role="assembly")
    require_unique_stimuli(assembly, role="assembly")
    # It gives the chosen site's response itself: neither an error nor an angle can be read from that.
    fits = {name: fit for name, fit in REGRESSIONS.items() if name != "neuron_to_neuron"}
    if regression not in fits:
        raise AssemblyError(
            f"found regression {regression!r}; expected one of {sorted(fits)}, which predict in the attribute's units. "
            "Mend: choose one of them."
        )
    truth = {name: _numbers(assembly, name, period) for name, period in periods.items()}
    if not truth:
        raise AssemblyError("attributes: found none; expected at least one. Mend: e.g. ['ty', 'tz'].")
    X, folds = as_matrix(assembly), resolve_splits(assembly, splits)
    fit, shape = fits[regression], (len(folds), len(truth))
    raw, r2, error, baseline = (np.full(shape, np.nan) for _ in range(4))
    said: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for k, (train, test) in enumerate(folds):
        row = []
        for j, (name, values) in enumerate(truth.items()):
            period = periods[name]
            turn = None if period is None else 2 * np.pi / period
            targets = (
                values[:, None] if turn is None else np.stack([np.cos(turn * values), np.sin(turn * values)], axis=1)
            )
            told = np.asarray(fit(X[train], targets[train])(X[test])).reshape(len(test), -1)
            mean = targets[train].mean(axis=0, keepdims=True)
            if turn is None:
                told, constant = told[:, 0], mean[:, 0]
                spread = ((values[test] - values[test].mean()) ** 2).sum()
                r2[k, j] = 1 - ((told - values[test]) ** 2).sum() / spread if spread > 0 else np.nan
            else:
                told, constant = (np.arctan2(v[:, 1], v[:, 0]) / turn for v in (told, mean))
            error[k, j] = np.median(_apart(told, values[test], period))
            baseline[k, j] = np.median(_apart(constant, values[test], period))
            units = (told, values[test]) if turn is None else _circular(turn * told, turn * values[test])
            raw[k, j] = _correlation(*units)
            row.append(units)
        said.append(row)
    null = np.stack([_null([row[j] for row in said], n_permutations, seed) for j in range(shape[1])], axis=1)
    attrs = {"metric": f"attributes, {regression}", "splits": folds.description, "n_stimuli": len(X),
             "circular": [name for name, period in periods.items() if period is not None]}  # fmt: skip
    both = (SPLIT, "attribute")
    return xr.Dataset(
        {
            "raw": (both, raw),
            "r2": (both, r2),
            "error": (both, error),
            "error_of_mean": (both, baseline),
            "null": ((PERMUTATION, "attribute"), null),
            "p_value": ("attribute", np.array([p_value(raw[:, j].mean(), null[:, j]) for j in range(shape[1])])),
        },
        coords={"attribute": list(truth)},
        attrs=score_attrs(attrs, len(folds), n_permutations, seed, (assembly,)),
    )


def _numbers(assembly: xr.DataArray, name: str, period: float | None) -> np.ndarray:
    values = presentation_coordinate(assembly, name, role="assembly")
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise AssemblyError(
            f"{name}: found dtype {values.dtype}, first values {values[:3].tolist()}; expected finite numbers that vary. "
            "Mend: leave it out, or decode it as a label."
        )
    if period is not None and not period > 0:
        raise AssemblyError(
            f"{name}: found period {period}; expected a positive number. Mend: 360 for degrees, None if linear."
        )
    return values.astype(np.float64)


def _apart(said: np.ndarray, truth: np.ndarray, period: float | None) -> np.ndarray:
    gap = np.abs(said - truth)
    return gap if period is None else np.minimum(gap % period, period - gap % period)


def _circular(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sines of the deviations of angles from their circular means."""
    return tuple(np.sin(x - np.angle(np.exp(1j * x).mean())) for x in (a, b))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    # The sines of deviations from a circular mean sum to zero, so Pearson's r of them is the circular correlation.
    return float(pearson(a[:, None], b[:, None])[0][0])


def _null(folds: list[tuple[np.ndarray, np.ndarray]], n_permutations: int, seed: int) -> np.ndarray:
    def draw(k: int, rng: np.random.Generator, n: int) -> np.ndarray:
        said, truth = folds[k]
        return np.array([_correlation(said[rng.permutation(len(said))], truth) for _ in range(n)])

    return fold_null(len(folds), n_permutations, seed, draw)
