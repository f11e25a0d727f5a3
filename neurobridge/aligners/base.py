"""What every aligner does around its array kernel: check, standardise, map, label, score, save."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from neurobridge.aligners.storage import (
    AlignerFileError,
    KeptAligner,
    read_aligner,
    same_value,
    snapshot,
    write_aligner,
)
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
from neurobridge.flow import OffSupportWarning, Standardiser, Support

OFF_SUPPORT = "off_support"

Self = TypeVar("Self", bound="AssemblyAligner")


class AlignerNotFittedError(NotFittedError, RuntimeError):
    """An aligner was asked to map before `fit`, or after parameters were set that its fit did not have."""


class AssemblyAligner(BaseEstimator):
    """What every aligner does around its array kernel: check, standardise, map, label.

    Subclasses fit and map standardised arrays in `_fit_arrays`, `_forward` and `_backward`. Standardisation is fitted
    on the assemblies given to `fit` and on nothing else.

    Attributes
    ----------
    pairs_ : Pairs
        The pairs used.
    source_scale_, target_scale_ : Standardiser
    support_ : dict of str to Support
        The target cloud ("forward") and the source cloud ("backward"), in standard deviations.
    """

    seed: int
    device: str | None = None
    # Baselines are flagged without a warning: where they fall short is what they are compared for.
    _warns = False
    #: A mapped presentation is off the support if it is further from its nearest training point of that space than this quantile of
    #: the same distance among the training points.
    support_quantile: float = 0.99

    def fit(
        self: Self,
        source: xr.DataArray,
        target: xr.DataArray,
        pairs: Pairs | pd.DataFrame | float | None = None,
    ) -> Self:
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
        if not 0 < self.support_quantile <= 1:
            raise ValueError(f"found support_quantile={self.support_quantile}; expected in (0, 1]. Mend: use 0.99.")
        # A fit that fails half-way leaves no aligner that maps with the old state under the new parameters.
        for name in [name for name in vars(self) if name not in self.get_params(deep=False)]:
            delattr(self, name)
        self.pairs_ = resolve_pairs(source, target, pairs, seed=self.seed)
        rows = self.pairs_.indices(source, target)
        X, Y = as_matrix(source, role="source"), as_matrix(target, role="target")
        self.source_scale_, self.target_scale_ = Standardiser.fit(X), Standardiser.fit(Y)
        self.source_neuroids_, self.target_neuroids_ = coords_of(source, NEUROID), coords_of(target, NEUROID)
        X, Y = self.source_scale_.forward(X), self.target_scale_.forward(Y)
        self.support_ = {
            "forward": Support.fit(Y, quantile=self.support_quantile, seed=self.seed),
            "backward": Support.fit(X, quantile=self.support_quantile, seed=self.seed),
        }
        self._fit_arrays(X, Y, rows)
        self._fitted_params = snapshot(self.get_params(deep=False))
        return self

    def transform(self, source: xr.DataArray) -> xr.DataArray:
        """Map an assembly into the target's space.

        Parameters
        ----------
        source : xarray.DataArray
            Assembly with the neuroids of the fitted source, in the same order; stimuli fitted or new. Dask-backed, it is read one
            chunk at a time.

        Returns
        -------
        xarray.DataArray
            The target's neuroid coordinates, the source's presentation coordinates, and ``off_support`` (presentation): whether the
            mapped presentation lies off the cloud of the target, so that nothing like it was there in fitting. ``attrs`` count them
            (``n_off_support``) and name the rule (``support_quantile``).

        Raises
        ------
        AssemblyError
            The neuroids are not those of fitting.
        AlignerNotFittedError
            The aligner has not been fitted, or not with the parameters it now has.

        Warns
        -----
        OffSupportWarning
            More presentations landed off the support than chance allows, or any of them far off; baselines are only flagged.
        """
        self._check_fitted()
        mapped = self._through(source, self.source_neuroids_, "source", self.source_scale_, self._forward)
        return self._labelled(mapped, source, "forward")

    def inverse_transform(self, target: xr.DataArray) -> xr.DataArray:
        """Map an assembly of the target's space into the source's space; the mirror image of `transform`."""
        self._check_fitted()
        mapped = self._through(target, self.target_neuroids_, "target", self.target_scale_, self._backward)
        return self._labelled(mapped, target, "backward")

    def score(
        self,
        source: xr.DataArray,
        target: xr.DataArray,
        pairs: Pairs | pd.DataFrame | None = None,
        *,
        fitted_pairs: Literal["refuse", "allow"] = "refuse",
    ) -> float:
        """R^2 of held-out stimuli: the share of the target's variance that the mapped source explains.

        ``1 - sum |mapped - target|^2 / sum |target - mean|^2`` over stimuli and neuroids, every neuroid in its standard deviations
        of fitting, the mean that of the scored stimuli. 1 is perfect, 0 as good as that mean, negative worse. It is one number, as
        scikit-learn's model selection wants it, and noise in the target lowers it. For a Score with ceiling, null and n use
        ``neurobridge.correlate(aligner.transform(source), target)``.

        Parameters
        ----------
        source, target : xarray.DataArray
            Assemblies with the neuroids of fitting.
        pairs : Pairs or table, optional
            Which stimuli show the same; default: those with the same ``stimulus_id``. Others are left out.
        fitted_pairs : {"refuse", "allow"}
            What to do where a source stimulus was in a pair of `fit`, whose target is then already known. Stimuli that were there
            without a partner may be scored.

        Raises
        ------
        AssemblyError
            A stimulus was in a pair of fitting, fewer than two stimuli, or targets that do not vary.
        """
        self._check_fitted()
        if fitted_pairs not in ("refuse", "allow"):
            raise ValueError(
                f"found fitted_pairs={fitted_pairs!r}; expected 'refuse' or 'allow'. Mend: choose one of them."
            )
        self._check_neuroids(target, self.target_neuroids_, "target")
        Y = self.target_scale_.forward(as_matrix(target, role="target"))
        scored = resolve_pairs(source, target, pairs, seed=self.seed)
        known = np.isin(scored.source_id, self.pairs_.source_id)
        if known.any() and fitted_pairs == "refuse":
            raise AssemblyError(
                f"found {int(known.sum())} of {len(scored)} stimuli that were pairs in fitting, e.g. "
                f"{str(scored.source_id[known][0])!r}; expected held-out ones. "
                "Mend: leave them out, or fitted_pairs='allow' for the fit's own error."
            )
        i, j = scored.indices(source, target)
        truth = Y[j]
        total = float(np.square(truth - truth.mean(axis=0)).sum())
        if (truth == truth[0]).all():
            raise AssemblyError(
                f"target: found {len(j)} stimuli with the same responses; expected targets that vary. Mend: score more stimuli."
            )
        moved = self.target_scale_.forward(self.transform(source.isel({PRESENTATION: i})).values)
        return 1 - float(np.square(moved - truth).sum()) / total

    def save(self, folder: str | Path) -> Path:
        """Write the fitted aligner into a folder: ``aligner.json`` and the safetensors file it names, replaced in one step.

        Kept are the parameters, the pairs, the labels of both spaces and all that `transform` and `inverse_transform` need, bit by
        bit. Nothing is pickled; code is not kept (see `load`), nor is ``device``.

        Parameters
        ----------
        folder : path
            Made if missing; may hold other files.

        Returns
        -------
        Path
            Of ``aligner.json``.

        Raises
        ------
        AlignerNotFittedError
            The aligner has not been fitted, or not with the parameters it now has.
        AlignerFileError
            The fitted state holds something that is not arrays, text and numbers.
        """
        self._check_fitted()
        params = {name: value for name, value in self.get_params(deep=False).items() if name != "device"}
        return write_aligner(Path(folder), KeptAligner(type(self).__name__, params, self._kept()))

    @classmethod
    def load(cls: type[Self], folder: str | Path, *, device: str | None = None, **params: Any) -> Self:
        """Read an aligner that was saved; ``AssemblyAligner.load`` reads any kind, a subclass its own.

        Parameters
        ----------
        folder : path
        device : str, optional
            Where to map.
        **params
            Parameters that are code, which is not kept on disk: a metric given as a function, ``flow_options`` with a network.

        Raises
        ------
        AlignerFileError
            Missing or damaged files, another format version or class, shapes that do not fit, or code that was not given.
        """
        known = {kind.__name__: kind for kind in _kinds(cls)}
        kept = read_aligner(Path(folder), known, params, device)
        kind = known[kept.kind]
        values = dict(kept.params)
        if "device" in kind._get_param_names():
            values["device"] = device
        if sorted(values) != sorted(kind._get_param_names()):
            raise AlignerFileError(
                f"{folder}: found parameters {sorted(values)}; expected {sorted(kind._get_param_names())} of {kind.__name__}. "
                "Mend: load it with the neurobridge that wrote it, or fit again."
            )
        aligner = kind(**values)
        for name, value in kept.state.items():
            setattr(aligner, name, value)
        aligner._fitted_params = snapshot(aligner.get_params(deep=False))
        return aligner

    def _kept(self) -> dict[str, Any]:
        """Fitted attributes that go to disk: all of them, unless a subclass needs fewer to map."""
        params = self.get_params(deep=False)
        return {name: value for name, value in vars(self).items() if name not in (*params, "_fitted_params")}

    @abstractmethod
    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        """Fit on standardised arrays (n, n_source_dims) and (m, n_target_dims), pairs given as rows."""

    @abstractmethod
    def _forward(self, X: np.ndarray) -> np.ndarray:
        """Map standardised source points."""

    @abstractmethod
    def _backward(self, Y: np.ndarray) -> np.ndarray:
        """Map standardised target points."""

    def _follows(self, name: str, fitted: Any, now: Any) -> bool:
        """Whether the fitted state serves a parameter that was set after fitting; none, unless a subclass says so."""
        return False

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted_params")

    def _check_fitted(self) -> None:
        if not hasattr(self, "_fitted_params"):
            raise AlignerNotFittedError(
                f"found a {type(self).__name__} that is not fitted; expected a fitted one. "
                "Mend: call fit(source, target, pairs) first."
            )
        for name, now in self.get_params(deep=False).items():
            fitted = self._fitted_params[name]
            if not same_value(fitted, now) and not self._follows(name, fitted, now):
                raise AlignerNotFittedError(
                    f"found {name}={now!r}, set after fitting with {fitted!r}; expected the parameters of the fit, which would "
                    "have come out differently. Mend: call fit again, or set it back."
                )

    def _one_by_one(self) -> bool:
        """Whether a presentation is mapped the same whatever others are mapped with it."""
        return True

    def _through(
        self,
        assembly: xr.DataArray,
        fitted: dict[str, tuple[str, np.ndarray]],
        role: str,
        scale: Standardiser,
        way: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Mapped presentations; a dask-backed assembly is read and mapped one chunk at a time."""
        self._check_neuroids(assembly, fitted, role)
        if assembly.chunks is None or not self._one_by_one():
            return way(scale.forward(as_matrix(assembly, role=role)))
        edges = np.cumsum([0, *assembly.chunks[0]])
        parts = [assembly.isel({PRESENTATION: slice(*ends)}) for ends in pairwise(edges.tolist())]
        return np.concatenate([way(scale.forward(as_matrix(part, role=role))) for part in parts])

    def _check_neuroids(self, assembly: xr.DataArray, fitted: dict[str, tuple[str, np.ndarray]], role: str) -> None:
        validate(assembly, role=role)
        ids, expected = assembly.coords[NEUROID_ID].values, fitted[NEUROID_ID][1]
        if not np.array_equal(ids, expected):
            raise AssemblyError(
                f"{role}: found {len(ids)} neuroids (first {str(ids[0])!r}); expected the {len(expected)} of fitting (first "
                f"{str(expected[0])!r}) in the same order. Mend: select and order them as in fitting."
            )

    def _labelled(
        self, mapped: np.ndarray, like: xr.DataArray, direction: Literal["forward", "backward"]
    ) -> xr.DataArray:
        """Label what `_forward` or `_backward` gave, and say which of it is off the support."""
        scale, neuroids, space = (
            (self.target_scale_, self.target_neuroids_, "target")
            if direction == "forward"
            else (self.source_scale_, self.source_neuroids_, "source")
        )
        if not np.isfinite(mapped).all():
            raise FloatingPointError(
                f"found {int((~np.isfinite(mapped)).sum())} mapped values of {mapped.size} that are NaN or infinite; expected "
                "finite ones. Mend: check that the presentations are on the scale of those in fitting."
            )
        support = self.support_[direction]
        distance = support.distance(mapped)
        off = distance > support.radius
        if self._warns and (off.sum() > support.expected(len(off)) or distance.max() > support.extent):
            warnings.warn(
                f"found {int(off.sum())} of {len(off)} mapped presentations off the support of the {space} (further from its "
                f"nearest training point than {support.quantile:g} of these are from theirs, {support.radius:.3g} standard "
                f"deviations; the furthest {distance.max():.3g}); expected about {len(off) * (1 - support.quantile):.3g}. Mend: "
                f"the coordinate {OFF_SUPPORT!r} tells which; leave them out, or fit on stimuli like them and on more pairs.",
                OffSupportWarning,
                stacklevel=3,
            )
        attrs = {
            **like.attrs,
            "aligner": type(self).__name__,
            "n_pairs": len(self.pairs_),
            "n_off_support": int(off.sum()),
            "support_quantile": support.quantile,
        }
        return xr.DataArray(
            scale.backward(mapped),
            dims=(PRESENTATION, NEUROID),
            coords={**coords_of(like, PRESENTATION), OFF_SUPPORT: (PRESENTATION, off), **neuroids},
            attrs=attrs,
            name="data",
        )


def _kinds(cls: type[AssemblyAligner]) -> list[type[AssemblyAligner]]:
    return [cls, *(kind for child in cls.__subclasses__() for kind in _kinds(child))]
