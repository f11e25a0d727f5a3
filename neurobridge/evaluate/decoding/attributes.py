"""Decoding of continuous attributes of the stimuli: position, size, pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, require_unique_stimuli, validate
from neurobridge.evaluate.correlation import MIN_CORRELATED, pearson, unit_columns, warn_constant
from neurobridge.evaluate.decoding.trials import presentation_coordinate
from neurobridge.evaluate.folds import GivenSplits
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.score.permutation import fold_null
from neurobridge.evaluate.score.schema import SPLIT, make_score, score_attrs
from neurobridge.evaluate.splits import resolve_splits


def decode_attributes(
    assembly: xr.DataArray,
    attributes: Sequence[str] | Mapping[str, float | None],
    *,
    regression: str = "ridge",
    splits: GivenSplits = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Decode continuous attributes by regression, cross-validated over stimuli.

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
    splits : Splits, str or sequence of (train, test), optional
        Default: as `predictivity`.
    n_permutations : int
        Size of the null: held-out stimuli of the predictions are shuffled.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``attribute``: ``raw`` (attribute, split), 0 with a warning where the attribute or its
        prediction does not vary over the held-out stimuli. And, on the same dims, ``r2``, ``1 - sum of squares of the error / sum
        of squares about the held-out mean``, NaN for circular attributes and where the held-out values are equal; ``error``, the
        median absolute error in the attribute's units (of a circular attribute the shorter distance round the circle);
        ``error_of_mean``, that of always predicting the training mean.

    Raises
    ------
    AssemblyError
        A coordinate is missing, not numeric or constant; bad assembly, regression or splits; a period that is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import decode_attributes
    >>> rng = np.random.default_rng(0)
    >>> position, angle = rng.normal(size=100), rng.uniform(0, 360, size=100)
    >>> tuned = np.stack([position, np.cos(np.radians(angle)), np.sin(np.radians(angle))], axis=1)
    >>> recordings = make_assembly(
    ...     tuned + 0.1 * rng.normal(size=(100, 3)),  # simulated: one site codes position, two code the angle
    ...     presentation={"stimulus_id": range(100), "ty": position, "rxy": angle},
    ...     neuroid={"neuroid_id": range(3)},
    ... )
    >>> score = decode_attributes(recordings, {"ty": None, "rxy": 360}, n_permutations=99)
    >>> bool((score["raw"].mean("split") > 0.95).all()), score["p_value"].values.tolist()
    (True, [0.01, 0.01])
    """
    periods = dict(attributes) if isinstance(attributes, Mapping) else dict.fromkeys(attributes)
    validate(assembly, role="assembly")
    require_unique_stimuli(assembly, role="assembly")
    # Its prediction is the response of one site: neither an error nor an angle can be read from that.
    fits = {name: fit for name, fit in REGRESSIONS.items() if name != "neuron_to_neuron"}
    if regression not in fits:
        raise AssemblyError(
            f"found regression {regression!r}; expected one of {sorted(fits)}, which predict in the attribute's units. "
            "Mend: choose one of them."
        )
    truth = {name: _numbers(assembly, name, period) for name, period in periods.items()}
    if not truth:
        raise AssemblyError("attributes: found none; expected at least one. Mend: e.g. ['ty', 'tz'].")
    X, folds = as_matrix(assembly), resolve_splits(assembly, splits, min_held_out=MIN_CORRELATED)
    fit, shape = fits[regression], (len(truth), len(folds))
    raw, r2, error, baseline = (np.full(shape, np.nan) for _ in range(4))
    correlated: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in truth]
    n_constant = 0
    for k, (train, test) in enumerate(folds):
        for j, (name, values) in enumerate(truth.items()):
            period = periods[name]
            turn = None if period is None else 2 * np.pi / period
            targets = (
                values[:, None] if turn is None else np.stack([np.cos(turn * values), np.sin(turn * values)], axis=1)
            )
            predicted = np.asarray(fit(X[train], targets[train])(X[test])).reshape(len(test), -1)
            mean = targets[train].mean(axis=0, keepdims=True)
            if turn is None:
                predicted, constant = predicted[:, 0], mean[:, 0]
                spread = ((values[test] - values[test].mean()) ** 2).sum()
                varies = bool(unit_columns(values[test][:, None])[1][0])
                r2[j, k] = 1 - ((predicted - values[test]) ** 2).sum() / spread if varies else np.nan
            else:
                predicted, constant = (np.arctan2(v[:, 1], v[:, 0]) / turn for v in (predicted, mean))
            error[j, k] = np.median(_distance(predicted, values[test], period))
            baseline[j, k] = np.median(_distance(constant, values[test], period))
            units = (predicted, values[test]) if turn is None else _circular(turn * predicted, turn * values[test])
            raw[j, k], both_vary = _correlation(*units)
            n_constant += not both_vary
            correlated[j].append(units)
    warn_constant(n_constant, "attribute(s) or prediction(s) among the held-out stimuli of a fold", stacklevel=2)
    attrs = {"metric": f"attributes, {regression}", "splits": folds.description, "n_stimuli": len(X),
             "circular": [name for name, period in periods.items() if period is not None]}  # fmt: skip
    dims = ("attribute", SPLIT)
    return make_score(
        raw,
        dims,
        null=[_null(units, n_permutations, seed) for units in correlated],
        extra={"r2": (dims, r2), "error": (dims, error), "error_of_mean": (dims, baseline)},
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


def _distance(predicted: np.ndarray, truth: np.ndarray, period: float | None) -> np.ndarray:
    gap = np.abs(predicted - truth)
    return gap if period is None else np.minimum(gap % period, period - gap % period)


def _circular(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sines of the deviations of angles from their circular means."""
    return tuple(np.sin(x - np.angle(np.exp(1j * x).mean())) for x in (a, b))


def _correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, bool]:
    """Return the correlation, 0 where one does not vary, and whether both vary."""
    # The sines of deviations from a circular mean sum to zero, so Pearson's r of them is the circular correlation.
    r, varies = pearson(a[:, None], b[:, None])
    return float(r[0]), bool(varies[0])


def _null(folds: list[tuple[np.ndarray, np.ndarray]], n_permutations: int, seed: int) -> np.ndarray:
    def draw(k: int, rng: np.random.Generator, n: int) -> np.ndarray:
        predicted, truth = folds[k]
        return np.array([_correlation(predicted[rng.permutation(len(predicted))], truth)[0] for _ in range(n)])

    return fold_null(len(folds), n_permutations, seed, draw)
