"""Base of every aligner, around its array kernel: check, standardise, map, label, score."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import xarray as xr
from sklearn.utils.metadata_routing import UNUSED

from neurobridge.aligners.estimator import AlignerEstimator
from neurobridge.aligners.inputs import (
    both_assemblies,
    is_large,
    open_points,
    read_points,
    require_fittable,
    require_varying_columns,
    resolve_rows,
)
from neurobridge.aligners.scoring import explained_share, refuse_constant, refuse_fitted
from neurobridge.aligners.spaces import Space, moved_points
from neurobridge.assemblies import Pairs, as_matrix, coords_of, resolve_pairs
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.flow import Direction, Standardiser, Support
from neurobridge.points.arrays import Array, Rows, host
from neurobridge.points.options import is_choice, require_options
from neurobridge.points.progress import showing
from neurobridge.points.scale import standardised

Self = TypeVar("Self", bound="AssemblyAligner")


class AssemblyAligner(AlignerEstimator):
    """Map between two spaces that is fitted on the stimuli known in both; base of every aligner.

    An aligner is a scikit-learn estimator and transformer. It takes two assemblies and gives assemblies, or two plain
    arrays (numpy or torch) and gives arrays of the same kind, so that it fits into `sklearn.pipeline.Pipeline` and
    `sklearn.model_selection.GridSearchCV`. Subclasses fit and map standardised arrays in ``_fit_arrays``, ``_forward``
    and ``_backward``, and keep what they fit in attributes whose names end with an underscore. Standardisation is fitted
    on the points given to `fit` and on nothing else.

    Attributes
    ----------
    pairs_ : Pairs, or tuple of two int arrays of shape (n_pairs,)
        The pairs used; of arrays their source rows and target rows.
    source_scale_, target_scale_ : Standardiser
        Mean and standard deviation of each dimension.
    source_neuroids_, target_neuroids_ : dict of str to (dim, values), or None
        Coordinates of the neuroids of both spaces; None where arrays were fitted.
    support_ : dict of str to Support
        The target cloud ("forward") and the source cloud ("backward"), in standard deviations.
    fitted_params_ : dict
        Parameters of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import AssemblyAligner
    >>> class MeanAligner(AssemblyAligner):
    ...     def _fit_arrays(self, X, Y, rows):
    ...         self.means_ = X[rows[0]].mean(axis=0), Y[rows[1]].mean(axis=0)
    ...
    ...     def _forward(self, X):
    ...         return np.tile(self.means_[1], (len(X), 1))
    ...
    ...     def _backward(self, Y):
    ...         return np.tile(self.means_[0], (len(Y), 1))
    >>> X, Y = np.arange(12.0).reshape(6, 2), np.arange(6.0)[:, None]
    >>> MeanAligner().fit(X, Y).transform(X[:2]).tolist()
    [[2.5], [2.5]]
    """

    # What is mapped is data and no metadata, whatever its name.
    __metadata_request__fit: ClassVar[dict[str, str]] = {"source": UNUSED, "target": UNUSED, "progress": UNUSED}
    __metadata_request__transform: ClassVar[dict[str, str]] = {"source": UNUSED}
    __metadata_request__inverse_transform: ClassVar[dict[str, str]] = {"target": UNUSED}
    __metadata_request__score: ClassVar[dict[str, str]] = {"source": UNUSED, "target": UNUSED}

    pairs_: Any
    seed: int = 0
    device: str | None = None
    # Baselines are flagged without a warning: where they fall short is what they are compared for.
    _warns = False
    #: A mapped presentation is off the support if it is further from its nearest training point of that space than this
    #: quantile of the same distance among the training points.
    support_quantile: float = 0.99

    def fit(
        self: Self,
        source: xr.DataArray | Array,
        target: xr.DataArray | Array,
        pairs: Any = None,
        *,
        progress: bool = False,
    ) -> Self:
        """Fit on two assemblies that share a few stimuli, or on two arrays that share a few rows.

        Parameters
        ----------
        source : xarray.DataArray, or array of shape (n_source, n_source_dims)
            Assembly with dims ``(presentation, neuroid)``, one presentation a stimulus, paired or not; or a numpy or
            torch array, a row a stimulus.
        target : xarray.DataArray, or array of shape (n_target, n_target_dims)
            Likewise, in the space to align to.
        pairs : Pairs, table, int, float, ids, tuple of two int arrays, bool array, or None
            Of assemblies: see `neurobridge.assemblies.resolve_pairs`. Of arrays: ``(source_rows, target_rows)``; or,
            with as many rows on both sides, a mask of shape (n,) of the rows i that are pairs (i, i), or None for all
            rows. A mask is split along with the rows by scikit-learn's model selection; index arrays are not.
        progress : bool
            Show progress bars of the steps of the fit, on a terminal.

        Returns
        -------
        AssemblyAligner
            Itself.

        Raises
        ------
        AssemblyError
            Bad input: an assembly with an array, a DataFrame, duplicate or unknown stimuli, NaN, constant neuroids,
            fewer than two pairs.
        ValueError
            A parameter out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import RidgeAligner
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> aligner = RidgeAligner().fit(X, X[:30] @ np.ones((3, 2)) + X[:30, :2], pairs=(np.arange(20), np.arange(20)))
        >>> aligner.transform(X).shape
        (40, 2)
        """
        self._check_options()
        require_options(progress=progress)
        labelled = both_assemblies(source, target)
        if labelled:
            require_fittable(source, "source")
            require_fittable(target, "target")
        self._forget_fit()
        self._before_fit(source, target)
        if labelled:
            self.pairs_ = resolve_pairs(source, target, pairs, seed=self.seed)
            rows = self.pairs_.indices(source, target)
            X, Y = as_matrix(source, role="source"), as_matrix(target, role="target")
        else:
            X, Y = open_points(source, "source"), open_points(target, "target")
            self.pairs_ = rows = resolve_rows(pairs, len(X), len(Y))
            require_varying_columns(X, "source")
            require_varying_columns(Y, "target")
        self.source_neuroids_ = coords_of(source, NEUROID) if labelled else None
        self.target_neuroids_ = coords_of(target, NEUROID) if labelled else None
        self.source_scale_, self.target_scale_ = Standardiser.fit(X), Standardiser.fit(Y)
        X, Y = (
            standardised(side, scale) if is_large(side) else scale.forward(side)
            for side, scale in ((X, self.source_scale_), (Y, self.target_scale_))
        )
        self.support_ = {
            "forward": Support.fit(Y, quantile=self.support_quantile, seed=self.seed),
            "backward": Support.fit(X, quantile=self.support_quantile, seed=self.seed),
        }
        with showing(progress):
            self._fit_arrays(X, Y, rows)
        self._mark_fitted()
        return self

    def transform(self, source: xr.DataArray | Array) -> xr.DataArray | Array:
        """Map points of the source into the target's space.

        Parameters
        ----------
        source : xarray.DataArray, or array of shape (n_points, n_source_dims)
            Assembly with the neuroids of the fitted source, in the same order; stimuli fitted or new. Dask-backed, it is
            read one chunk at a time. An array if arrays were fitted.

        Returns
        -------
        xarray.DataArray, or float64 array of shape (n_points, n_target_dims)
            In the units of the target. An assembly has the target's neuroid coordinates, the source's presentation
            coordinates, and ``off_support`` (presentation): True where the mapped presentation lies off the cloud of the
            target, so that nothing like it was there in fitting. ``attrs`` count them (``n_off_support``) and name the
            rule (``support_quantile``). An array is numpy for numpy and torch, on the same device, for torch.

        Raises
        ------
        AssemblyError
            The neuroids are not those of fitting, or an array was given to an aligner of assemblies or the reverse.
        AlignerNotFittedError
            The aligner has not been fitted, or not with the parameters it now has.
        FloatingPointError
            Mapped values are NaN or infinite.

        Warns
        -----
        OffSupportWarning
            More presentations landed off the support than chance allows, or any of them far off; baselines are only
            flagged.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge import make_assembly
        >>> from neurobridge.aligners import RidgeAligner
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> ids = {"stimulus_id": [f"image{k}" for k in range(40)]}
        >>> source = make_assembly(X, presentation=ids, neuroid={"neuroid_id": ["a", "b", "c"]})
        >>> target = make_assembly(X @ np.ones((3, 1)), presentation=ids, neuroid={"neuroid_id": ["site1"]})
        >>> aligned = RidgeAligner().fit(source, target, pairs=0.5).transform(source)
        >>> aligned.neuroid_id.values.tolist(), aligned.attrs["n_pairs"]
        (['site1'], 20)
        """
        self._check_fitted()
        return self._apply(source, "forward")

    def inverse_transform(self, target: xr.DataArray | Array) -> xr.DataArray | Array:
        """Map points of the target's space into the source's space; the mirror image of `transform`.

        Parameters
        ----------
        target : xarray.DataArray, or array of shape (n_points, n_target_dims)

        Returns
        -------
        xarray.DataArray, or float64 array of shape (n_points, n_source_dims)

        Raises
        ------
        AssemblyError, AlignerNotFittedError, FloatingPointError
            As in `transform`.

        Warns
        -----
        OffSupportWarning
            As in `transform`.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import RidgeAligner
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> aligner = RidgeAligner().fit(X, 5 * X[:, ::-1])
        >>> bool(np.allclose(aligner.inverse_transform(5 * X[:, ::-1]), X, atol=0.01))
        True
        """
        self._check_fitted()
        return self._apply(target, "backward")

    def score(
        self,
        source: xr.DataArray | Array,
        target: xr.DataArray | Array,
        pairs: Any = None,
        *,
        fitted_pairs: Literal["refuse", "allow"] = "refuse",
    ) -> float:
        """Compute R^2 of held-out stimuli: the share of the target's variance that the mapped source explains.

        ``1 - sum |mapped - target|^2 / sum |target - mean|^2`` over stimuli and neuroids, every neuroid in its standard
        deviations of fitting, the mean that of the scored stimuli. 1 is perfect, 0 as good as that mean, negative worse.
        It is one number, as scikit-learn's model selection wants it, and noise in the target lowers it. For a Score with
        ceiling, null and n use ``neurobridge.correlate(aligner.transform(source), target)``.

        Parameters
        ----------
        source, target : xarray.DataArray, or arrays
            With the neuroids (columns) of fitting.
        pairs : Pairs, table, tuple of two int arrays, or bool array, optional
            Which stimuli show the same. Default: those with the same ``stimulus_id``; of arrays, the same row. Others are
            left out.
        fitted_pairs : {"refuse", "allow"}
            What to do where a source stimulus was in a pair of `fit`, whose target is then already known. Stimuli that
            were there without a partner may be scored. Rows of arrays have no names, so none is recognised.

        Returns
        -------
        float

        Raises
        ------
        AssemblyError
            A stimulus was in a pair of fitting, fewer than two stimuli, or targets that do not vary.
        AlignerNotFittedError
            The aligner has not been fitted, or not with the parameters it now has.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import RidgeAligner
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(60, 3))
        >>> Y = X @ rng.normal(size=(3, 2))
        >>> RidgeAligner().fit(X[:40], Y[:40]).score(X[40:], Y[40:]) > 0.99
        True
        """
        self._check_fitted()
        if not is_choice(fitted_pairs, ("refuse", "allow")):
            raise ValueError(
                f"found fitted_pairs={fitted_pairs!r}; expected 'refuse' or 'allow'. Mend: choose one of them."
            )
        labelled = both_assemblies(source, target)
        self._space("target").check(target)
        if labelled:
            Y = as_matrix(target, role="target")
            scored = resolve_pairs(source, target, pairs, seed=self.seed)
            if fitted_pairs == "refuse":
                refuse_fitted(scored, self.pairs_)
            rows = scored.indices(source, target)
            chosen = source.isel({PRESENTATION: rows[0]})
        else:
            Y = read_points(target, "target")
            rows = resolve_rows(pairs, len(source), len(Y))
            chosen = read_points(source, "source")[rows[0]]
        truth = self.target_scale_.forward(Y)[rows[1]]
        refuse_constant(truth)
        return explained_share(self.target_scale_.forward(host(self.transform(chosen))), truth)

    @property
    def n_features_in_(self) -> int:
        """Dimensions of the source, under scikit-learn's name."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError("found no fit; expected n_features_in_ of a fitted aligner. Mend: call fit first.")
        return len(self.source_scale_.mean)

    def _before_fit(self, source: xr.DataArray | Array, target: xr.DataArray | Array) -> None:
        """Read what a subclass needs of the labels of both sides."""

    @abstractmethod
    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: Rows) -> None:
        """Fit on standardised arrays (n, n_source_dims) and (m, n_target_dims), pairs given as rows."""

    @abstractmethod
    def _forward(self, X: np.ndarray) -> np.ndarray:
        """Map standardised source points."""

    @abstractmethod
    def _backward(self, Y: np.ndarray) -> np.ndarray:
        """Map standardised target points."""

    def _maps_rows_alone(self) -> bool:
        """Tell if a presentation is mapped the same whatever others are mapped with it."""
        return True

    def _compares_directions_alone(self) -> bool:
        """Tell if the map was chosen by directions, so that the lengths of what it maps mean little."""
        return False

    def _try_out(self) -> None:
        source, target = self._space("source"), self._space("target")
        for entry, arrival, move in ((source, target, self._forward), (target, source, self._backward)):
            # Damaged numbers overflow and divide by zero; what comes of it is looked at.
            with np.errstate(all="ignore"):
                moved = move(entry.scale.forward(entry.scale.backward(entry.support.points[:3])))
                arrival.flag_off_support(arrival.distance(moved), warn=False, stacklevel=1)
                values = arrival.scale.backward(moved)
            if values.shape[1:] != arrival.support.points.shape[1:] or not np.isfinite(values).all():
                raise ValueError(f"a point of the {entry.role} is mapped to {values.tolist()!r:.80}")
        self._facts()

    def _facts(self) -> dict[str, Any]:
        facts = super()._facts()
        if facts["fitted"]:
            facts["pairs"] = self._n_pairs()
            facts["source dimensions"] = len(self.source_scale_.mean)
            facts["target dimensions"] = len(self.target_scale_.mean)
        return facts

    def _space(self, role: str) -> Space:
        direction = "forward" if role == "target" else "backward"
        return Space(
            role, getattr(self, f"{role}_scale_"), self.support_[direction], getattr(self, f"{role}_neuroids_")
        )

    def _apply(self, points: xr.DataArray | Array, direction: Direction) -> xr.DataArray | Array:
        """Map points and give them back as they came: labelled, or an array."""
        source, target = self._space("source"), self._space("target")
        entry, arrival = (source, target) if direction == "forward" else (target, source)
        mapping = self._forward if direction == "forward" else self._backward
        entry.check(points)
        values, distances = moved_points(points, entry, arrival, mapping, rows_alone=self._maps_rows_alone())
        off = arrival.flag_off_support(
            distances, warn=self._warns, stacklevel=3, directions_alone=self._compares_directions_alone()
        )
        attrs = {"aligner": type(self).__name__, "n_pairs": self._n_pairs()}
        return arrival.handed_back(values, off, points, attrs)

    def _n_pairs(self) -> int:
        return len(self.pairs_) if isinstance(self.pairs_, Pairs) else len(self.pairs_[0])
