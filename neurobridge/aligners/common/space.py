"""The common space of several spaces: fit, maps from any to any, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr
from sklearn.utils.metadata_routing import UNUSED

from neurobridge.aligners.common.cycles import measure_contribution, measure_cycles
from neurobridge.aligners.common.routes import COMMON, fit_atlas, n_seen_in_both
from neurobridge.aligners.common.views import Edge, read_pairs, read_spaces, view_stimuli
from neurobridge.aligners.common.weights import check_parameters, complete_weights, weigh_routes
from neurobridge.aligners.estimator import AlignerEstimator
from neurobridge.aligners.spaces import Space, moved_points
from neurobridge.assemblies import AssemblyError, coords_of
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID
from neurobridge.flow import Standardiser, Support
from neurobridge.points.arrays import Array
from neurobridge.store.kinds import register

Method = Literal["bridge", "srm", "procrustes"]


@register("common-space")
class CommonSpace(AlignerEstimator):
    """Common space of several animals, sessions, models or modalities that share their stimuli only in part.

    Pairs are given for some of the spaces, two by two; a path of pairs has to lead from any space to any other. Rows that
    pairs join, over any number of spaces, are views of one stimulus. Each space is standardised.

    ``method="bridge"``:

    1. The common space is a shared response (Chen et al. 2015): ``x_s = W_s g + noise`` with orthonormal ``W_s``, fitted by
       expectation maximisation to the views that there are, on principal components that are whitened in part.
    2. Ridge regression, or an ``aligner`` of this package, maps directly between any two spaces that have seen the same
       stimuli, also where this follows from pairs with a third.
    3. From one space to another lead up to three routes: the direct map; the shortest paths of direct maps over third spaces,
       averaged; and the common space. Their predictions are added with non-negative weights, those of least squared error on
       held-out shared stimuli. Spaces that have seen none in common, as images and sounds that are aligned through captions,
       weigh the path against the common space as direct maps are weighed against it along the path; those that have seen one
       to nine give all routes equal weights.
    4. The dimension of the common space has the least error on held-out shared stimuli of all spaces.

    A stimulus is held out in all its spaces at once. ``"srm"``, the shared response without whitening, and ``"procrustes"``,
    generalised Procrustes analysis, are baselines: there every map leads through the common space.

    Parameters
    ----------
    n_dims : int, optional
        Dimensions of the common space. Default: chosen among powers of two, at most 64. "procrustes" has those of the largest
        space.
    method : {"bridge", "srm", "procrustes"}
    aligner : aligner, optional
        Unfitted, for the direct maps of "bridge", e.g. ``neurobridge.BridgeAligner()``; fitted for every two spaces in every
        fold and once more, which takes seconds to minutes a fit. Default: ridge regression with one penalty for all dimensions.
    n_folds : int
        Folds of shared stimuli.
    support_quantile : float
        As in `BridgeAligner`.
    seed : int
        Of the folds, and of pairs that are given as a number or a fraction.

    Attributes
    ----------
    pairs_ : dict of (str, str) to Pairs, or to two int arrays of shape (n_pairs,)
    scales_, supports_, neuroids_ : dict of str to Standardiser, Support, and coordinates (None for arrays)
    n_stimuli_ : int
        Stimuli seen in two spaces or more.
    n_seen_in_both_ : dict of (str, str) to int
        How many of them two spaces have both seen.
    n_dims_ : int
        Dimensions of the common space.
    weights_ : dict of (str, str) to dict of str to float
        Weights of "direct", "path" and "common" from the first space to the second.
    explained_ : dict of (str, str) to dict of str to float
        Share of the variance of held-out shared stimuli that each route explains alone, and all "together"; only for spaces
        that have seen at least ten in common.
    atlas_ : Atlas
        The maps of all routes.

    Notes
    -----
    Where two spaces have many pairs, their direct map is as good, and a common space adds nothing; see `contribution`.

    References
    ----------
    Chen, Chen, Yeshurun, Hasson, Haxby & Ramadge 2015, A reduced-dimension fMRI shared response model, NeurIPS 28.
    Gower 1975, Generalized Procrustes analysis, Psychometrika 40:33.

    Examples
    --------
    Three simulated views of the same latents; "a" and "c" have no pairs:

    >>> import numpy as np
    >>> from neurobridge.aligners import CommonSpace
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(120, 3))
    >>> A, B, C = (latents @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(120, d)) for d in (5, 6, 7))
    >>> first, second = np.arange(40), np.arange(40, 80)
    >>> pairs = {("a", "b"): (first, first), ("b", "c"): (second, second)}
    >>> space = CommonSpace(seed=0).fit({"a": A, "b": B, "c": C}, pairs)
    >>> predicted = space.transform(A[80:], source="a", target="c")
    >>> float(np.corrcoef(predicted.ravel(), C[80:].ravel())[0, 1]) > 0.9
    True
    >>> space.transform(A[80:], source="a").shape == (40, space.n_dims_)
    True
    """

    __metadata_request__fit: ClassVar[dict[str, str]] = {"spaces": UNUSED}

    def __init__(
        self,
        n_dims: int | None = None,
        *,
        method: Method = "bridge",
        aligner: Any = None,
        n_folds: int = 5,
        support_quantile: float = 0.99,
        seed: int = 0,
    ) -> None:
        self.n_dims = n_dims
        self.method = method
        self.aligner = aligner
        self.n_folds = n_folds
        self.support_quantile = support_quantile
        self.seed = seed

    def fit(
        self,
        spaces: Mapping[str, xr.DataArray | Array],
        pairs: Mapping[Edge, Any] | None = None,
        *,
        progress: bool = False,
    ) -> CommonSpace:
        """Fit the common space and the maps between any two spaces.

        Parameters
        ----------
        spaces : dict of str to xarray.DataArray, or to array of shape (n_points, n_dims)
            Assemblies with one presentation a stimulus, or arrays; all of one kind. Points without a partner are read for the
            scale and the principal components of their space.
        pairs : dict of (str, str) to Pairs, table, int, float, ids, tuple of two int arrays, bool array, or None
            Names of two spaces, and what `AssemblyAligner.fit` takes as their pairs: None for all the stimuli that they share.
            Two spaces without a key have no pairs. Default: every two assemblies that share at least two stimuli, or all rows
            of equally long arrays.
        progress : bool
            Show a progress bar.

        Raises
        ------
        AssemblyError
            Spaces that no path of pairs connects, fewer than four shared stimuli, unknown names, or a bad space or pairs.
        ValueError
            A parameter out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import CommonSpace
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> CommonSpace(2).fit({"a": X, "b": X[:, ::-1]}, {("a", "b"): None}).n_stimuli_
        40
        """
        check_parameters(self)
        points, labelled = read_spaces(spaces)
        self._forget_fit()
        self.pairs_, rows = read_pairs(spaces, pairs, labelled=labelled, seed=self.seed)
        self.neuroids_ = {name: coords_of(space, NEUROID) if labelled else None for name, space in spaces.items()}
        self.scales_ = {name: Standardiser.fit(values) for name, values in points.items()}
        standardised = {name: self.scales_[name].forward(values) for name, values in points.items()}
        self.supports_ = {
            name: Support.fit(values, quantile=self.support_quantile, seed=self.seed)
            for name, values in standardised.items()
        }
        self.training_ = standardised, rows
        views = view_stimuli(standardised, rows)
        if views.n_stimuli < 4:
            raise AssemblyError(
                f"pairs: found {views.n_stimuli} stimuli seen in two spaces or more; expected at least 4. Mend: pair more stimuli."
            )
        self.n_stimuli_, self.n_seen_in_both_ = views.n_stimuli, n_seen_in_both(views)
        n_dims, weights, self.explained_ = weigh_routes(views, self, progress)
        self.atlas_ = fit_atlas(views, n_dims, self.method, self.aligner)
        self.n_dims_ = next(iter(self.atlas_.ends.values())).encode.coef.shape[1]
        self.weights_ = complete_weights(weights, self.atlas_, self.n_seen_in_both_, self.method)
        self._mark_fitted()
        return self

    def fit_transform(  # type: ignore[override]
        self,
        spaces: Mapping[str, xr.DataArray | Array],
        pairs: Mapping[Edge, Any] | None = None,
        *,
        progress: bool = False,
    ) -> dict[str, xr.DataArray | Array]:
        """Fit, then give the common coordinates of every space.

        Parameters
        ----------
        spaces, pairs, progress
            As `fit` takes them.

        Returns
        -------
        dict of str to xarray.DataArray, or to array of shape (n_points, n_common_dims)

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import CommonSpace
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> {name: values.shape for name, values in CommonSpace(2).fit_transform({"a": X, "b": 2 * X}).items()}
        {'a': (40, 2), 'b': (40, 2)}
        """
        self.fit(spaces, pairs, progress=progress)
        return {name: self.transform(space, source=name) for name, space in spaces.items()}

    def transform(self, points: xr.DataArray | Array, source: str, target: str | None = None) -> xr.DataArray | Array:
        """Map points of one space into another, or into the common space.

        Parameters
        ----------
        points : xarray.DataArray, or array of shape (n_points, n_source_dims)
            With the neuroids of fitting, in the same order; stimuli fitted or new.
        source : str
            The space of the points.
        target : str, optional
            The space to map to; the source itself gives what of the points the common space holds. Default: common coordinates.

        Returns
        -------
        xarray.DataArray, or array of shape (n_points, n_target_dims)
            In the units of the target, with its neuroids, the presentations of the points and ``off_support`` as
            `AssemblyAligner.transform` gives them; common coordinates have neuroids "common 0", "common 1", ...

        Raises
        ------
        AssemblyError
            The neuroids are not those of fitting, or an array for an assembly or the reverse.
        ValueError
            No such space.
        AlignerNotFittedError
            The estimator has not been fitted, or not with the parameters it now has.
        FloatingPointError
            Mapped values are NaN or infinite.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import CommonSpace
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> space = CommonSpace().fit({"a": X, "b": 2 * X[:, ::-1]})
        >>> bool(np.allclose(space.transform(X, source="a", target="b"), 2 * X[:, ::-1], atol=0.05))
        True
        """
        self._check_fitted()
        entry = self._space(source)
        entry.check(points)
        if target is not None:
            self._space(target)
        arrival = self._common() if target is None else self._space(target)
        values, distances = moved_points(points, entry, arrival, lambda X: self._moved(X, source, target))
        # Flagged without a warning, as by the baselines: contribution and held-out shares say how far to trust it.
        off = arrival.flag_off_support(distances, warn=False, stacklevel=2)
        count = self.n_stimuli_ if target in (None, source) else self.n_seen_in_both_[source, target]
        attrs = {
            "aligner": type(self).__name__,
            "source_space": source,
            "target_space": target or COMMON,
            "n_pairs": count,
        }
        return arrival.handed_back(values, off, points, attrs)

    def cycle_error(self, spaces: Mapping[str, xr.DataArray | Array] | None = None) -> xr.Dataset:
        """Measure how far maps that should agree lie apart.

        Parameters
        ----------
        spaces : dict of str to xarray.DataArray or array, optional
            Points to start from, e.g. held-out ones, in the spaces to start from. Default: those of fitting, a subsample of
            2,000 at most.

        Returns
        -------
        xarray.Dataset
            ``round_trip`` (source, through): ``sum |x - T_ts(T_st(x))|^2 / sum |x - mean|^2``, the share of a space that is lost
            on the way to another and back; also what only one of them holds, so that noise raises it. ``detour`` (source,
            through, target): ``sum |T_ut(T_su(x)) - T_st(x)|^2 / sum |T_st(x) - mean|^2``, by how much the way over a third
            space differs from the direct one. In standard deviations; NaN where names repeat.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import CommonSpace
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> space = CommonSpace(3).fit({"a": X, "b": 2 * X[:, ::-1], "c": -X})
        >>> bool(space.cycle_error()["detour"].max() < 1e-3)
        True
        """
        self._check_fitted()
        clouds = {name: np.asarray(support.points, dtype=np.float64) for name, support in self.supports_.items()}
        if spaces is not None:
            clouds = {}
            for name, given in spaces.items():
                entry = self._space(name)
                entry.check(given)
                clouds[name] = entry.standardised(given)
        return measure_cycles(clouds, list(self.scales_), self._moved)

    def contribution(self, *, progress: bool = False) -> xr.Dataset:
        """Measure what each space adds to the maps between the others: all is weighed again without it.

        Parameters
        ----------
        progress : bool

        Returns
        -------
        xarray.Dataset
            ``explained`` (source, target): share of the variance of held-out shared stimuli that the weighed routes explain;
            ``explained_without`` (space, source, target): the same without a space; ``gain`` (space): the mean difference over
            the spaces that have seen ten stimuli in common with and without it; ``needed`` (space): no path of pairs connects
            the others without it. NaN where nothing can be held out.

        Raises
        ------
        AlignerNotFittedError
            The estimator has not been fitted, or was loaded: the points of fitting are not on disk.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import CommonSpace
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> space = CommonSpace(2).fit({"a": X, "b": 2 * X, "c": -X}, {("a", "b"): None, ("b", "c"): None})
        >>> space.contribution()["needed"].values.tolist()
        [False, True, False]
        """
        self._check_fitted()
        if getattr(self, "training_", None) is None:
            raise self._not_fitted("found a loaded estimator, without the points of fitting; expected one fitted here")

        def weigh(points: dict[str, np.ndarray], rows: dict[Edge, Any]) -> dict[Edge, dict[str, float]]:
            return weigh_routes(view_stimuli(points, rows), self, progress).explained

        return measure_contribution(*self.training_, self.explained_, weigh)

    def _moved(self, points: np.ndarray, source: str, target: str | None) -> np.ndarray:
        """Map standardised points."""
        if target is None or target == source:
            coordinates = self.atlas_.ends[source].encode(points)
            return coordinates if target is None else self.atlas_.ends[source].decode(coordinates)
        mapped = np.zeros((len(points), len(self.scales_[target].mean)))
        for route, weight in self.weights_[source, target].items():
            if weight:
                mapped += weight * self.atlas_.along(route, (source, target), points)
        return mapped

    def _space(self, name: str) -> Space:
        if name not in self.scales_:
            raise ValueError(
                f"found the space {name!r}; expected one of {list(self.scales_)}. Mend: choose one of them."
            )
        return Space(name, self.scales_[name], self.supports_[name], self.neuroids_[name])

    def _common(self) -> Space:
        labelled = next(iter(self.neuroids_.values())) is not None
        names = np.array([f"{COMMON} {k}" for k in range(self.n_dims_)])
        images = [
            self.atlas_.ends[name].encode(np.asarray(support.points, dtype=np.float64))
            for name, support in self.supports_.items()
        ]
        support = Support.fit(np.concatenate(images), quantile=self.support_quantile, seed=self.seed)
        scale = Standardiser(np.zeros(self.n_dims_), np.ones(self.n_dims_))
        return Space(COMMON, scale, support, {NEUROID_ID: (NEUROID, names)} if labelled else None)

    def _state_to_save(self) -> dict[str, Any]:
        return {name: value for name, value in super()._state_to_save().items() if name != "training_"}

    def _try_out(self) -> None:
        for source, support in self.supports_.items():
            with np.errstate(all="ignore"):
                start = self._space(source)
                points = start.scale.forward(start.scale.backward(np.asarray(support.points[:3], dtype=np.float64)))
                for target in self.scales_:
                    self._space(target).distance(self._moved(points, source, target))
        self._facts()

    def _facts(self) -> dict[str, Any]:
        facts = super()._facts()
        if facts["fitted"]:
            sizes = [f"{name} ({len(scale.mean)} dims)" for name, scale in self.scales_.items()]
            facts |= {"spaces": ", ".join(sizes), "shared stimuli": self.n_stimuli_, "common dims": self.n_dims_}
        return facts
