"""Choice of a model layer for a region: by cross-validation on training stimuli alone, then scored on the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError, coords_of, match_stimuli, select
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID, plain
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.predict import predictivity
from neurobridge.evaluate.regression import ALPHAS
from neurobridge.evaluate.score.aggregation import aggregate
from neurobridge.evaluate.score.schema import SPLIT, make_score, reduce_raw
from neurobridge.evaluate.splits import shuffle_splits, stratified_splits
from neurobridge.maps.pls import centred
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.options import require_options
from neurobridge.points.scale import unit_of_cloud

LAYER = "layer"


@dataclass(frozen=True, eq=False)
class LayerChoice:
    """Layer that a region is committed to, and the evidence for it.

    Attributes
    ----------
    layer : str
        Of the highest median predictivity on the training stimuli, the earlier of equals.
    scores : xarray.Dataset
        Score of all layers, in the model's order, on the training stimuli, with the leading dim ``layer``; and ``n_units``
        (layer).
    held_out : xarray.Dataset or None
        Score of the chosen layer alone, fitted on all training stimuli, on the stimuli that had no part in the choice.

    Examples
    --------
    See `select_layer`.
    """

    layer: str
    scores: xr.Dataset
    held_out: xr.Dataset | None

    def __repr__(self) -> str:
        return short_repr("LayerChoice", repr(self.layer), **self._facts())

    def _repr_html_(self) -> str:
        return html_repr("LayerChoice", {"layer": self.layer, **self._facts()})

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "region": self.scores.attrs["region"],
            "n_layers": self.scores.sizes[LAYER],
            "r": float(aggregate(self.scores, n_bootstrap=0)["raw"].sel({LAYER: self.layer})),
        }
        return (
            facts if self.held_out is None else {**facts, "held_out_r": aggregate(self.held_out, n_bootstrap=0)["raw"]}
        )


def select_layer(
    activations: xr.DataArray,
    recordings: xr.DataArray,
    *,
    region: str | None = None,
    train: float | Sequence[str] | npt.NDArray[np.str_] = 0.8,
    regression: str = "pls",
    splits: GivenSplits = None,
    ceiling: xr.DataArray | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> LayerChoice:
    """Choose the layer that predicts a region best, without looking at the stimuli that will score it.

    Brain-Score's commitment of a model's layers to regions (Schrimpf et al. 2018). The best of many layers is a maximum over noise:
    its cross-validated score is too high, ``held_out`` is not.

    Parameters
    ----------
    activations : xarray.DataArray
        Assembly with a ``layer`` coordinate on ``neuroid``, one presentation a stimulus, layers in the model's order.
    recordings : xarray.DataArray
        Assembly of responses averaged over repetitions, joined on ``stimulus_id``.
    region : str, optional
        Keep the neuroids with this ``region``; default: all of them.
    train : float or sequence of str
        Share of the shared stimuli to choose on (drawn with `seed`, stratified on ``object_name`` where it is there), or their
        ids.
    regression : str
        A key of `REGRESSIONS`.
    splits : Splits, str or sequence of (train, test), optional
        Rows of the training stimuli in the activations' order. Default: as in `predictivity`.
    ceiling : xarray.DataArray, optional
        Reliability of each neuroid of `recordings`.
    n_permutations, seed : int
        As in `predictivity`; `seed` also draws the training stimuli.

    Returns
    -------
    LayerChoice

    Raises
    ------
    AssemblyError
        No ``layer`` coordinate, no such region, ids in `train` that are not shared, a share outside (0, 1), or an error of
        `predictivity`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import select_layer
    >>> rng = np.random.default_rng(0)  # simulated: the sites are linear in the units of the second layer
    >>> first, second = rng.normal(size=(100, 4)), rng.normal(size=(100, 4))
    >>> stimuli = {"stimulus_id": range(100)}
    >>> layers = {"neuroid_id": range(8), "layer": ["first"] * 4 + ["second"] * 4}
    >>> activations = make_assembly(np.hstack([first, second]), presentation=stimuli, neuroid=layers)
    >>> responses = second @ rng.normal(size=(4, 6)) + rng.normal(size=(100, 6))
    >>> recordings = make_assembly(responses, presentation=stimuli, neuroid={"neuroid_id": range(6)})
    >>> choice = select_layer(activations, recordings, regression="ridge", n_permutations=0)
    >>> choice.layer, choice.scores["raw"].dims
    ('second', ('layer', 'split', 'neuroid'))
    """
    if LAYER not in activations.coords or activations.coords[LAYER].dims != (NEUROID,):
        raise AssemblyError(
            f"activations: found coordinates {sorted(map(str, activations.coords))}; expected 'layer' on 'neuroid'. "
            "Mend: extract(model, images, layers), or assembly.assign_coords(layer=('neuroid', names))."
        )
    require_options(n_permutations=n_permutations, seed=seed, error=AssemblyError)
    if region is not None:
        recordings = select(recordings, region=region)
    if ceiling is not None and region is not None:
        ceiling = ceiling.isel({NEUROID: np.isin(ceiling["neuroid_id"].values, recordings["neuroid_id"].values)})
    source, target = match_stimuli(activations, recordings)[:2]
    chosen_on, kept_back = _divide(target, train, seed)
    names = list(dict.fromkeys(source[LAYER].values.tolist()))
    if not names:
        raise AssemblyError(
            "activations: found no neuroids; expected those of a layer or more. Mend: extract(model, images, layers)."
        )
    of_layer = {name: source.isel({NEUROID: np.flatnonzero(source[LAYER].values == name)}) for name in names}
    inner = target.isel({PRESENTATION: chosen_on})
    scores = [
        predictivity(
            assembly.isel({PRESENTATION: chosen_on}),
            inner,
            regression,
            splits=splits,
            ceiling=ceiling,
            n_permutations=n_permutations,
            seed=seed,
        )
        for assembly in of_layer.values()
    ]
    medians = [reduce_raw(score["raw"].values, by_site=True) for score in scores]
    if np.isnan(medians).all():
        raise AssemblyError(
            f"activations: found no layer of {len(names)} with a defined score; expected one or more. "
            "Mend: drop_constant(recordings), and more stimuli a fold."
        )
    layer = names[int(np.nanargmax(medians))]
    held_out = None
    if len(kept_back):
        held_out = predictivity(
            of_layer[layer],
            target,
            regression,
            splits=Splits([(chosen_on, kept_back)], "one: training stimuli, the others"),
            ceiling=ceiling,
            n_permutations=n_permutations,
            seed=seed,
        )
        held_out.attrs.update(layer=layer, region=region or "all")
    # A "layer" of the recordings (cortical depth) would clash with that of the model.
    site_coords = {name: coord for name, coord in coords_of(inner, NEUROID).items() if name != LAYER}
    table = make_score(
        np.stack([score["raw"].values for score in scores]),
        (LAYER, SPLIT, NEUROID),
        null=np.stack([score["null"].values for score in scores]),
        null_site_95=[score["null_site_95"].item() for score in scores],
        ceiling=scores[0]["ceiling"].values,
        normalization=scores[0].attrs["normalization"],
        extra={"n_units": (LAYER, [assembly.sizes[NEUROID] for assembly in of_layer.values()])},
        coords={**site_coords, LAYER: np.array(names)},
        attrs={**scores[0].attrs, "layer": layer, "region": region or "all", "n_held_out": len(kept_back)},
    )
    return LayerChoice(layer, table, held_out)


def _divide(
    target: xr.DataArray, train: float | Sequence[str] | np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to choose on and the rows kept back."""
    ids = target[STIMULUS_ID].values
    if isinstance(train, (int, float)):
        if not 0 < train < 1:
            raise AssemblyError(
                f"train: found {train}; expected a share between 0 and 1. Mend: train=0.8, or the training stimulus ids."
            )
        if "object_name" in target.coords:
            drawn = stratified_splits(target["object_name"].values, n_splits=1, train_size=train, seed=seed)
        else:
            drawn = shuffle_splits(len(ids), n_splits=1, train_size=train, seed=seed)
        return np.sort(drawn[0][0]), np.sort(drawn[0][1])
    if isinstance(train, (str, bytes)) or not isinstance(train, (Sequence, np.ndarray)):
        raise AssemblyError(
            f"train: found {train!r:.60}; expected a share between 0 and 1, or stimulus ids. Mend: train=0.8."
        )
    wanted = plain(np.asarray(train))
    unknown = wanted[~np.isin(wanted, ids)]
    if len(wanted) == 0 or len(unknown):
        shown = f"{len(unknown)} id(s) that are not shared, e.g. {str(unknown[0])!r}" if len(unknown) else "no ids"
        raise AssemblyError(
            f"train: found {shown}; expected ids of the {len(ids)} stimuli that both assemblies have. Mend: check the ids."
        )
    mask = np.isin(ids, wanted)
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def generalised_errors(
    X: np.ndarray, Y: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Iterator[np.ndarray]:
    r"""Estimate the error of ridge on new stimuli from the training rows of every fold: a cheap score of a layer.

    Generalised cross-validation (Golub, Heath & Wahba 1979), the smallest over the penalties that `fit_ridge` chooses from,

        GCV(alpha) = (||Y - H Y||^2 / n) / (1 - tr(H) / n)^2,    H the hat matrix with the intercept,

    over the same for no features. One eigendecomposition a fold serves all sites and penalties; the moments of a fold are those of
    all rows less those held out.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)
    folds : sequence of (train, test)
        Integer rows; only those trained on are read.

    Yields
    ------
    array of shape (n_targets,)
        Share of the variance that is not predicted; about 1 for useless features.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.layers import generalised_errors
    >>> rng = np.random.default_rng(0)  # simulated: the sites are linear in five features, with as much noise
    >>> X, rows = rng.normal(size=(200, 5)), np.arange(200)
    >>> Y = X @ rng.normal(size=(5, 3)) / np.sqrt(5) + rng.normal(size=(200, 3))
    >>> (error,) = generalised_errors(X, Y, [(rows[:150], rows[150:])])
    >>> bool((error < 0.8).all())
    True
    """
    # Neither penalised nor predicted values see a shift; about the mean of all rows, the subtracted moments are small.
    X, Y, *_ = centred(X, Y)
    wide = X.shape[1] > len(X)
    gram = X @ X.T if wide else X.T @ X
    grid = ALPHAS * (unit_of_cloud(X) ** 2 or 1.0)
    for train, _ in folds:
        rest = np.setdiff1d(np.arange(len(X)), train)
        n, targets = len(train), Y[train] - Y[train].mean(axis=0)
        if wide:
            kernel = gram[np.ix_(train, train)]
            kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
            values, vectors = np.linalg.eigh(kernel)
            projected = vectors.T @ targets
        else:
            mean = X[train].mean(axis=0)
            scatter = gram - X[rest].T @ X[rest] - n * np.outer(mean, mean)
            values, vectors = np.linalg.eigh(scatter)
            projected = vectors.T @ ((X[train] - mean).T @ targets)
        kept = values > values.max(initial=0.0) * max(X.shape) * np.finfo(float).eps
        values = values[kept]
        power = np.square(projected[kept]) if wide else np.square(projected[kept]) / values[:, None]
        total = np.square(targets).sum(axis=0)
        errors = []
        for alpha in grid:
            shrunk = alpha / (values + alpha)
            missed = total - (1 - np.square(shrunk)) @ power
            freedom = 1 - (1 + (1 - shrunk).sum()) / n
            errors.append(missed / n / max(freedom, 1e-9) ** 2)
        nothing = total / n / (1 - 1 / n) ** 2
        yield np.divide(np.min(errors, axis=0), nothing, out=np.ones_like(nothing), where=nothing > 0)
