"""Banded ridge: a penalty for each band of features, by himalaya's random search."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.labels import present_labels
from neurobridge.assemblies.schema import NEUROID
from neurobridge.maps.pls import Predict
from neurobridge.points.blocks import row_blocks
from neurobridge.points.options import require_count, require_seed
from neurobridge.points.scale import unit_of_cloud

#: Penalties that a band is given, over its weight, in units of the mean square of its centred features.
ALPHAS = np.logspace(-3, 6, 10)
#: Coordinate of the predictors that bands are read from where none is named.
BANDS = "layer"
# Numbers of the matrices that himalaya holds for the penalties of a batch.
_BATCH = 1 << 24


def fit_banded(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    bands: npt.ArrayLike,
    n_iter: int = 20,
    alphas: npt.ArrayLike | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> Predict:
    r"""Fit a ridge regression whose features are penalised band by band, with an unpenalised intercept.

    For every target, with the features of band i in units of their own spread,

        min ||Y - sum_i X_i B_i||^2 + alpha sum_i ||B_i||^2 / gamma_i

    The weights gamma, on the simplex, and alpha are those of least cross-validated squared error among ``n_iter`` weights drawn
    from Dirichlet distributions, the first of them equal, and all alphas: himalaya's ``GroupRidgeCV`` (Dupré la Tour et al. 2022,
    NeuroImage). A band that predicts nothing gets a weight near zero, so that its size and scale harm little.

    It runs on himalaya's current backend: ``himalaya.backend.set_backend("torch_cuda")`` moves it to a GPU.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)
    bands : array of shape (n_features,)
        Label of the band of each feature.
    n_iter : int
        Weights that are tried; himalaya's own default is 100. With one band there is nothing to try.
    alphas : array of shape (n_alphas,), optional
        Penalties to choose from, in units of the mean square of the centred features. Default: `ALPHAS`, 10 from 1e-3 to 1e6.
    n_folds : int
        Consecutive folds of the samples in which weights and penalties are chosen.
    seed : int
        Of the weights.

    Returns
    -------
    callable
        Maps (n, n_features) to (n, n_targets).

    Raises
    ------
    ModuleNotFoundError
        The extra ``himalaya`` is not installed.
    ValueError
        Not one band a feature, or fewer samples than folds.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.banded import fit_banded
    >>> rng = np.random.default_rng(0)  # simulated: 5 features that matter, 40 louder ones that do not
    >>> X = np.hstack([rng.normal(size=(90, 5)), 10 * rng.normal(size=(90, 40))])
    >>> Y = X[:, :5].sum(axis=1, keepdims=True) + rng.normal(size=(90, 1))
    >>> predict = fit_banded(X[:60], Y[:60], bands=["few"] * 5 + ["many"] * 40)
    >>> round(float(np.corrcoef(predict(X[60:]).ravel(), Y[60:].ravel())[0, 1]), 1)
    0.9
    """
    require_count(n_iter, name="n_iter")
    require_count(n_folds, name="n_folds", at_least=2)
    require_seed(seed)
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    labels = np.asarray(bands)
    if labels.shape != (X.shape[1],):
        raise ValueError(
            f"banded: found bands of shape {labels.shape} for {X.shape[1]} features; expected one label a feature. "
            "Mend: bands=source['layer'].values, or the name of a coordinate in predictivity(..., bands='layer')."
        )
    if len(X) < n_folds:
        raise ValueError(
            f"banded: found {len(X)} samples and n_folds={n_folds}; expected a sample a fold. Mend: n_folds={max(2, len(X))}."
        )
    ridge, backends = _himalaya("himalaya.ridge"), _himalaya("himalaya.backend")
    names, codes = np.unique(labels, return_inverse=True)
    columns = [np.flatnonzero(codes == code) for code in range(len(names))]
    x_mean = X.mean(axis=0)
    units = [unit_of_cloud(X[:, band]) for band in columns]
    parts = [(X[:, band] - x_mean[band]) / unit for band, unit in zip(columns, units, strict=True)]
    # himalaya compares squared errors with the rounding of 1: targets have unit spread.
    spread = np.array([unit_of_cloud(column[:, None]) for column in Y.T])
    # himalaya holds (penalties, features, samples) at a time.
    n_batch = row_blocks(len(ALPHAS), X.size, budget=_BATCH)[0].stop
    backend = backends.get_backend()
    grid = ALPHAS if alphas is None else np.asarray(alphas, dtype=np.float64)
    _, weights, _, intercept = ridge.solve_group_ridge_random_search(
        [backend.asarray(part) for part in parts],
        backend.asarray(Y / spread),
        n_iter=n_iter if len(names) > 1 else 1,
        alphas=backend.asarray(grid),
        fit_intercept=True,
        cv=n_folds,
        return_weights=True,
        random_state=seed,
        n_alphas_batch=n_batch,
        progress_bar=False,
        warn=False,
    )
    coef, scale = backend.to_numpy(weights), np.empty(X.shape[1])
    for band, unit in zip(columns, units, strict=True):
        scale[band] = unit
    order = np.concatenate(columns)
    by_feature = np.empty_like(coef)
    by_feature[order] = coef
    by_feature *= spread / scale[:, None]
    y_mean = backend.to_numpy(intercept) * spread
    return lambda new: np.asarray((np.asarray(new, dtype=np.float64) - x_mean) @ by_feature + y_mean)


def band_labels(source: xr.DataArray, bands: str = BANDS) -> np.ndarray:
    """Return the band of every neuroid of the predictors.

    Parameters
    ----------
    source : xarray.DataArray
    bands : str
        Coordinate on ``neuroid``.

    Returns
    -------
    array of shape (n_neuroids,)

    Raises
    ------
    AssemblyError
        There is no such coordinate, or a neuroid without a value.
    """
    of_neuroids = sorted(str(name) for name, coord in source.coords.items() if coord.dims == (NEUROID,))
    if not isinstance(bands, str) or bands not in of_neuroids:
        others = [name for name in of_neuroids if name != "neuroid_id"]
        mend = f"bands={others[0]!r}" if others else f"source = source.assign_coords({BANDS}=('neuroid', names))"
        raise AssemblyError(
            f"source: found coordinates {of_neuroids} on neuroid and bands={bands!r:.60}; expected one of them, with the band of "
            f"every neuroid. Mend: {mend}."
        )
    return present_labels(source[bands].values, name=bands, role="source")


def _himalaya(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "found no package himalaya; expected it for regression='banded' and partition_variance. "
            "Mend: pip install 'neurobridge[himalaya]', or regression='ridge'."
        ) from error
