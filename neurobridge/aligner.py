"""Labelled in, labelled out: alignment of two assemblies through their pairs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator

from neurobridge.assemblies import (
    AssemblyError,
    Pairs,
    as_matrix,
    coords_of,
    require_unique_stimuli,
    require_varying_neuroids,
    resolve_pairs,
    validate,
)
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION
from neurobridge.bridge import FusedBridge, bridge_cost, couple, fuse, ridge_map
from neurobridge.bridge.distances import Metric
from neurobridge.flow import ConditionalFlow, Standardiser
from neurobridge.flow.model import Base

Map = Literal["flow", "barycentric", "linear"]


class AssemblyAligner(BaseEstimator):
    """What every aligner does around its array kernel: check, standardise, map, label.

    Subclasses fit and map standardised arrays in `_fit_arrays`, `_forward` and `_backward`. Standardisation is fitted
    on the assemblies given to `fit` and on nothing else.
    """

    seed: int

    def fit(
        self,
        source: xr.DataArray,
        target: xr.DataArray,
        pairs: Pairs | pd.DataFrame | float | None = None,
    ) -> AssemblyAligner:
        """Fit on two assemblies that share a few stimuli.

        Parameters
        ----------
        source : xarray.DataArray
            Assembly, dims ``(presentation, neuroid)``, one presentation a stimulus, paired or not.
        target : xarray.DataArray
            Likewise, in the space to align to.
        pairs : Pairs, table, float or None
            Which stimuli are known in both: see `neurobridge.assemblies.resolve_pairs`.

        Raises
        ------
        AssemblyError
            Bad input: duplicate or unknown stimuli, NaN, constant neuroids, fewer than two pairs.
        """
        for role, assembly in (("source", source), ("target", target)):
            validate(assembly, role=role)
            require_unique_stimuli(assembly, role=role)
            require_varying_neuroids(assembly, role=role)
        self.pairs_ = resolve_pairs(source, target, pairs, seed=self.seed)
        rows = self.pairs_.indices(source, target)
        X, Y = as_matrix(source, role="source"), as_matrix(target, role="target")
        self.source_scale_, self.target_scale_ = Standardiser.fit(X), Standardiser.fit(Y)
        self.source_neuroids_, self.target_neuroids_ = coords_of(source, NEUROID), coords_of(target, NEUROID)
        self._fit_arrays(self.source_scale_.forward(X), self.target_scale_.forward(Y), rows)
        return self

    def transform(self, source: xr.DataArray) -> xr.DataArray:
        """Map an assembly into the target's space.

        Parameters
        ----------
        source : xarray.DataArray
            Assembly with the neuroids of the fitted source, in the same order; stimuli fitted or new.

        Returns
        -------
        xarray.DataArray
            The target's neuroid coordinates, the source's presentation coordinates.

        Raises
        ------
        AssemblyError
            The neuroids are not those of fitting.
        RuntimeError
            The aligner has not been fitted.
        """
        self._check_fitted()
        X = self._checked(source, self.source_neuroids_, "source")
        mapped = self.target_scale_.backward(self._forward(self.source_scale_.forward(X)))
        return self._labelled(mapped, source, self.target_neuroids_)

    def inverse_transform(self, target: xr.DataArray) -> xr.DataArray:
        """Map an assembly of the target's space into the source's space; the mirror image of `transform`."""
        self._check_fitted()
        Y = self._checked(target, self.target_neuroids_, "target")
        mapped = self.source_scale_.backward(self._backward(self.target_scale_.forward(Y)))
        return self._labelled(mapped, target, self.source_neuroids_)

    @abstractmethod
    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        """Fit on standardised arrays (n, n_source_dims) and (m, n_target_dims), pairs given as rows."""

    @abstractmethod
    def _forward(self, X: np.ndarray) -> np.ndarray:
        """Map standardised source points."""

    @abstractmethod
    def _backward(self, Y: np.ndarray) -> np.ndarray:
        """Map standardised target points."""

    def _check_fitted(self) -> None:
        if not hasattr(self, "pairs_"):
            raise RuntimeError(
                f"found a {type(self).__name__} that is not fitted; expected a fitted one. "
                "Mend: call fit(source, target, pairs) first."
            )

    def _checked(self, assembly: xr.DataArray, fitted: dict[str, tuple[str, np.ndarray]], role: str) -> np.ndarray:
        validate(assembly, role=role)
        ids, expected = assembly.coords[NEUROID_ID].values, fitted[NEUROID_ID][1]
        if not np.array_equal(ids, expected):
            raise AssemblyError(
                f"{role}: found {len(ids)} neuroids (first {str(ids[0])!r}); expected the {len(expected)} of fitting (first "
                f"{str(expected[0])!r}) in the same order. Mend: select and order them as in fitting."
            )
        return as_matrix(assembly, role=role)

    def _labelled(
        self, values: np.ndarray, like: xr.DataArray, neuroids: dict[str, tuple[str, np.ndarray]]
    ) -> xr.DataArray:
        attrs = {**like.attrs, "aligner": type(self).__name__, "n_pairs": len(self.pairs_)}
        return xr.DataArray(
            values,
            dims=(PRESENTATION, NEUROID),
            coords={**coords_of(like, PRESENTATION), **neuroids},
            attrs=attrs,
            name="data",
        )


class BridgeAligner(AssemblyAligner):
    """Align two spaces over a few labelled pairs: bridge cost, coupling, map.

    Parameters
    ----------
    metric : str
        Distance inside each space; see `neurobridge.bridge_cost`.
    coupling : {"fused", "factored", "pairs", "sinkhorn", "exact"}
        "fused" joins the bridge cost with maps of the pairs, chosen by cross-validation over the pairs, one for each direction: see
        `neurobridge.bridge.fuse`. "pairs" is the paper's true alignment, the labelled pairs alone; the others are its global
        alignment, transport of all points under the bridge cost.
    map : {"flow", "barycentric", "linear"}
        How points are moved: a flow trained on the coupling; directly (the mean partner under a factored coupling, what
        cross-validation chose under a fused one); or the ridge map of the pairs, as an ablation. A fitted aligner may be
        switched from "flow" to "barycentric" by ``set_params``.
    epsilon : float, optional
        Temperature of the softmin and of the transport, in units of the mean anchor distance, .05 by default. Under "fused" that of
        the transport alone, in units of the mean fused cost, .02 by default.
    unbalanced : float, optional
        Weight rho of the KL penalty on the marginals; None for balanced transport.
    reduce, scale, nearest, n_neighbors : see `neurobridge.bridge_cost`.
    base : {"affine", "pad", "noise"}
        Base of the flow.
    flow_options : dict, optional
        Further arguments of `neurobridge.ConditionalFlow`. A fifth of the coupling decides when training stops
        (``validation=0.2``) unless they say otherwise.
    seed : int
    device : str, optional

    Attributes
    ----------
    coupling_ : Coupling
    fused_ : tuple of two FusedBridge
        With ``coupling="fused"`` only: forward and backward, each with the candidate that was chosen and the errors of all.
    flow_ : ConditionalFlow
        With ``map="flow"`` only.
    pairs_ : Pairs
        The pairs used.
    """

    def __init__(
        self,
        metric: Metric = "geodesic",
        coupling: str = "fused",
        map: Map = "flow",
        *,
        epsilon: float | None = None,
        unbalanced: float | None = None,
        reduce: Literal["softmin", "min"] = "softmin",
        scale: Literal["mean", "median", "none"] = "mean",
        nearest: int | None = None,
        n_neighbors: int = 10,
        base: Base = "affine",
        flow_options: dict[str, Any] | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.metric = metric
        self.coupling = coupling
        self.map = map
        self.epsilon = epsilon
        self.unbalanced = unbalanced
        self.reduce = reduce
        self.scale = scale
        self.nearest = nearest
        self.n_neighbors = n_neighbors
        self.base = base
        self.flow_options = flow_options
        self.seed = seed
        self.device = device

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        if self.map not in ("flow", "barycentric", "linear"):
            raise ValueError(
                f"found map {self.map!r}; expected 'flow', 'barycentric' or 'linear'. Mend: choose one of them."
            )
        if self.map == "barycentric" and self.coupling not in ("factored", "fused"):
            raise ValueError(
                f"found map='barycentric' with coupling={self.coupling!r}; expected 'factored' or 'fused', which alone map "
                "unseen points. Mend: coupling='factored', or map='flow'."
            )
        if self.map == "linear":
            self._linear = ridge_map(X[rows[0]], Y[rows[1]]), ridge_map(Y[rows[1]], X[rows[0]])
            return
        self._train = X, Y
        if self.coupling == "fused":
            self.fused_ = self._fuse(X, Y, rows), self._fuse(Y, X, rows[::-1])
            self.coupling_ = self.fused_[0].coupling
        else:
            cost = bridge_cost(
                X, Y, rows, metric=self.metric, scale=self.scale, reduce=self.reduce, nearest=self.nearest,
                n_neighbors=self.n_neighbors, device=self.device,
            )  # fmt: skip
            self.coupling_ = couple(
                cost, method=self.coupling, epsilon=self.epsilon or 0.05, unbalanced=self.unbalanced
            )
        if self.map == "flow":
            self.flow_ = ConditionalFlow(
                self.base, seed=self.seed, device=self.device, **{"validation": 0.2, **(self.flow_options or {})}
            ).fit(X, Y, self.coupling_)

    def _fuse(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> FusedBridge:
        if self.unbalanced is not None or self.nearest is not None or self.reduce != "softmin":
            raise ValueError(
                f"found unbalanced={self.unbalanced}, nearest={self.nearest}, reduce={self.reduce!r} with coupling='fused'; "
                "expected None, None and 'softmin'. Mend: leave them out, or coupling='factored'."
            )
        return fuse(
            X,
            Y,
            rows,
            metric=self.metric,
            scale=self.scale,
            n_neighbors=self.n_neighbors,
            seed=self.seed,
            device=self.device,
            **({} if self.epsilon is None else {"epsilons": (self.epsilon,)}),
        )

    def _forward(self, X: np.ndarray) -> np.ndarray:
        if self.map == "flow":
            return self.flow_.transport(X)
        if self.map == "linear":
            return self._linear[0](X)
        if self.coupling == "fused":
            return self.fused_[0].map(X)
        return self.coupling_.map(X, self._train[1])

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        if self.map == "flow":
            return self.flow_.transport(Y, "backward")
        if self.map == "linear":
            return self._linear[1](Y)
        if self.coupling == "fused":
            return self.fused_[1].map(Y)
        return self.coupling_.transposed().map(Y, self._train[0])
