"""Transport by a fitted flow: moving points, sampling their spread, retracing them, and flagging those off the support."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from neurobridge.flow.bases import VelocityField
from neurobridge.flow.ode import ODE, integrate
from neurobridge.points.arrays import as_points, pad_to, read_blocks, read_rows
from neurobridge.points.blocks import is_dask
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.options import is_choice
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import OffSupportWarning, Support

Direction = Literal["forward", "backward"]


class Spread(NamedTuple):
    """Mean and standard deviation over the samples of each point.

    Attributes
    ----------
    mean, std : arrays of shape (n_points, n_dims)
        In the units of the space the points were moved to.

    Examples
    --------
    >>> import numpy as np
    >>> Spread(np.zeros((5, 2)), np.ones((5, 2)))
    Spread(5 x 2, mean std=1)
    """

    mean: np.ndarray
    std: np.ndarray

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.mean.shape))
        return short_repr("Spread", shape, f"mean std={float(self.std.mean()):.4g}")

    def _repr_html_(self) -> str:
        n_points, n_dims = self.mean.shape
        return html_repr("Spread", {"points": n_points, "dims": n_dims, "mean std": float(self.std.mean())})


class FlowNotFittedError(NotFittedError, RuntimeError):
    """Error of a flow that was asked to move points before `fit`.

    Examples
    --------
    >>> from neurobridge.flow import ConditionalFlow
    >>> ConditionalFlow().transport([[0.0]])
    Traceback (most recent call last):
    neurobridge.flow.transport.FlowNotFittedError: found a flow that is not fitted; expected a trained one. ...
    """


class Transport:
    """Transport by the fitted attributes of `ConditionalFlow` and its settings of integration."""

    ode: ODE
    seed: int
    source_scale_: Standardiser
    target_scale_: Standardiser
    support_: dict[str, Support]
    forward_: VelocityField
    backward_: VelocityField | None
    n_evaluations_: int

    def transport(
        self,
        X: Any,
        direction: Direction = "forward",
        *,
        n_samples: int = 1,
        method: str | None = None,
        chunk_size: int | None = None,
    ) -> Any:
        """Move points from one space to the other (equation 1 of Lipman et al. 2023).

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
            Source points (forward) or target points (backward); a dask array is moved block by block when it is
            computed.
        direction : {"forward", "backward"}
        n_samples : int
            Images drawn for each point; more than one only for ``base="noise"``.
        method : {"euler", "midpoint", "rk4", "dopri5"}, optional
            Instead of ``ode.method``.
        chunk_size : int, optional
            Instead of ``ode.chunk_size``.

        Returns
        -------
        array of shape (n_points, n_dims_other) or, for several samples, (n_samples, n_points, n_dims_other)
            Of the kind of X: numpy (float64), torch or dask.

        Raises
        ------
        FlowNotFittedError
            The flow has not been fitted.
        ValueError
            Wrong number of dimensions, unknown direction or method, backward with a base of one map, several samples
            from a deterministic base or of a dask array.
        FloatingPointError
            Points left all bounds.

        Warns
        -----
        OffSupportWarning
            More points landed off the training cloud of the other space than chance allows, or any of them far off.
        """
        X = self._checked(X, direction)
        self._check_samples(n_samples)
        ode = self._ode(method=method, chunk_size=chunk_size)
        if is_dask(X):
            if n_samples != 1:
                raise ValueError(
                    f"found n_samples={n_samples} of a dask array; expected 1. Mend: call spread(X), or compute X first."
                )
            return self._lazily(X, direction, lambda block, row: self._move(block, direction, row, [0], ode)[0][0])
        moved, self.n_evaluations_ = self._move(X, direction, 0, range(n_samples), ode)
        return _like(moved[0] if n_samples == 1 else moved, X)

    def spread(
        self, X: Any, direction: Direction = "forward", *, n_samples: int = 32, method: str | None = None
    ) -> Spread:
        """Return mean and standard deviation of several samples of each point, holding one chunk of one sample at a time.

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
        direction : {"forward", "backward"}
        n_samples : int
            At least 2.
        method : str, optional
            Instead of ``ode.method``.

        Returns
        -------
        Spread
            ``mean`` and ``std`` (with Bessel's correction), each of shape (n_points, n_dims_other).

        Raises
        ------
        ValueError
            The base is not "noise", or fewer than two samples.
        """
        X = self._checked(X, direction)
        if n_samples < 2:
            raise ValueError(f"found n_samples={n_samples}; expected at least 2 for a spread. Mend: use 32.")
        self._check_samples(n_samples)
        shape = (len(X), len(self._scales(direction)[1].mean))
        mean, squares = np.zeros(shape), np.zeros(shape)
        for count in range(1, n_samples + 1):
            for rows, moved, _ in self._chunks(X, direction, 0, count - 1, self._ode(method=method)):
                # Welford 1962: no difference of large sums.
                delta = moved - mean[rows]
                mean[rows] += delta / count
                squares[rows] += delta * (moved - mean[rows])
        return Spread(mean, np.sqrt(squares / (n_samples - 1)))

    def start(self, X: Any, direction: Direction = "forward", *, sample: int = 0) -> np.ndarray:
        """Return the start of the path of each point.

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
        direction : {"forward", "backward"}
        sample : int
            Number of the sample, for ``base="noise"``.

        Returns
        -------
        array of shape (n_points, n_dims_other), or X itself for "pad"
            In the units of the other space: ``M x`` for "affine", noise, or the images of the base map.
        """
        X = self._checked(X, direction)
        start_scale, end_scale = self._scales(direction)
        field, _ = self._field(direction)
        if field.base == "pad":
            return read_rows(X, slice(None))
        starts = [
            field.start(start_scale.forward(block), row=rows.start, seed=self.seed, sample=sample)
            for rows, block in read_blocks(X, self.ode.chunk_size)
        ]
        return np.concatenate([end_scale.backward(part) for part in starts])

    def retrace(self, Z: Any, X: Any, direction: Direction = "forward", *, method: str = "dopri5") -> np.ndarray:
        """Undo `transport`: follow the paths of X from their ends Z to their starts.

        The field of ``direction``, at the same conditions, is integrated from t = 1 to t = 0. It returns ``start(X)`` up
        to the solver's error. With ``base="pad"`` that is X itself where padding loses nothing, which is where the other
        space has at least as many dimensions.

        Parameters
        ----------
        Z : array of shape (n_points, n_dims_other)
            Result of ``transport(X, direction)``.
        X : array of shape (n_points, n_dims)
        direction : {"forward", "backward"}
            Of the transport that is undone.
        method : {"euler", "midpoint", "rk4", "dopri5"}

        Returns
        -------
        array of the shape of ``start(X, direction)``

        Raises
        ------
        ValueError
            Z and X differ in length, or have the wrong number of dimensions.
        """
        X, Z = self._checked(X, direction), self._checked(Z, "backward" if direction == "forward" else "forward")
        if len(X) != len(Z):
            raise ValueError(
                f"found {len(Z)} ends and {len(X)} points; expected as many. Mend: pass the X of transport."
            )
        start_scale, end_scale = self._scales(direction)
        field, reverse = self._field(direction)
        scale = start_scale if field.base == "pad" else end_scale
        ode = self._ode(method=method)
        parts = []
        for rows, ends in read_blocks(Z, ode.chunk_size, "Z"):
            state = pad_to(end_scale.forward(ends), field.n_state)
            condition = start_scale.forward(read_rows(X, rows)) if field.n_condition else None
            moved, _ = _integrate(field, state, condition, not reverse, ode)
            parts.append(scale.backward(moved[:, : len(scale.mean)]))
        return np.concatenate(parts)

    def off_support(self, Z: Any, direction: Direction = "forward") -> Any:
        """Flag transported points that lie off the training cloud of the space they were moved to.

        A point is off if its nearest point of a seeded subsample of that cloud is further away, in standard deviations
        of the training points, than ``support_quantile`` of that cloud is from its own nearest neighbours.

        Parameters
        ----------
        Z : array of shape (n_points, n_dims_other)
            Result of ``transport(X, direction)``; a dask array is judged block by block when it is computed.
        direction : {"forward", "backward"}
            Of that transport.

        Returns
        -------
        bool array of shape (n_points,)
        """
        Z = self._checked(Z, "backward" if direction == "forward" else "forward")
        scale, support = self._scales(direction)[1], self.support_[direction]
        if is_dask(Z):
            Z = Z.rechunk({1: -1})
            return Z.map_blocks(
                lambda block: support.off(scale.forward(block)), dtype=bool, drop_axis=1, name=f"off-{uuid.uuid4().hex}"
            )
        return np.concatenate(
            [support.off(scale.forward(block)) for _, block in read_blocks(Z, self.ode.chunk_size, "Z")]
        )

    def _is_fitted(self) -> bool:
        return hasattr(self, "forward_")

    def _check_fitted(self) -> None:
        try:
            check_is_fitted(self, "forward_")
        except NotFittedError:
            raise FlowNotFittedError(
                "found a flow that is not fitted; expected a trained one. Mend: call fit(X, Y, coupling)."
            ) from None

    def _ode(self, **changes: Any) -> ODE:
        return self.ode.replace(**{name: value for name, value in changes.items() if value is not None})

    def _checked(self, X: Any, direction: Direction) -> Any:
        self._check_fitted()
        if not is_choice(direction, ("forward", "backward")):
            raise ValueError(f"found direction {direction!r}; expected 'forward' or 'backward'. Mend: choose one.")
        X, expected = as_points(X, "X"), len(self._scales(direction)[0].mean)
        if X.shape[1] != expected:
            raise ValueError(
                f"X: found {X.shape[1]} dimensions; expected {expected} for {direction} transport. "
                "Mend: pass the neuroids used in fitting."
            )
        return X

    def _check_samples(self, n_samples: int) -> None:
        if n_samples < 1 or (n_samples != 1 and self.forward_.base != "noise"):
            raise ValueError(
                f"found n_samples={n_samples} with base={self.forward_.base!r}; expected 1, as only base='noise' is random. "
                "Mend: n_samples=1, or ConditionalFlow(base='noise')."
            )

    def _scales(self, direction: Direction) -> tuple[Standardiser, Standardiser]:
        ends = self.source_scale_, self.target_scale_
        return ends if direction == "forward" else ends[::-1]

    def _field(self, direction: Direction) -> tuple[VelocityField, bool]:
        """Return the field of a direction, and True where it is run backward in time."""
        if direction == "forward":
            return self.forward_, False
        if self.backward_ is not None:
            return self.backward_, False
        if self.forward_.base != "pad":
            raise ValueError(
                "found a base of one map; expected two for backward transport. Mend: base=(forward map, backward map)."
            )
        return self.forward_, True

    def _move(self, X: Any, direction: Direction, row: int, samples: Sequence[int], ode: ODE) -> tuple[np.ndarray, int]:
        """Move every row of X, whose first is row ``row`` of the whole; warn once of points off the support."""
        moved = np.empty((len(samples), len(X), len(self._scales(direction)[1].mean)))
        scale, support = self._scales(direction)[1], self.support_[direction]
        n_off, furthest, most = 0, 0.0, 0
        for k, sample in enumerate(samples):
            for rows, values, evaluations in self._chunks(X, direction, row, sample, ode):
                moved[k, rows] = values
                most = max(most, evaluations)
                distance = support.distance(scale.forward(values))
                n_off += int((distance > support.radius).sum())
                furthest = max(furthest, float(distance.max()))
        n = moved.shape[0] * moved.shape[1]
        if n_off > support.expected(n) or furthest > support.extent:
            warnings.warn(
                f"found {n_off} of {n} transported points off the support of the training points (further from the nearest than "
                f"{support.quantile:g} of these are, {support.radius:.3g} standard deviations; the furthest {furthest:.3g}); "
                f"expected about {n * (1 - support.quantile):.3g}. Mend: off_support(Z) tells which; keep to points near those "
                "of fitting, train on more pairs or for more steps, or use base='affine'.",
                OffSupportWarning,
                stacklevel=3,
            )
        return moved, most

    def _chunks(
        self, X: Any, direction: Direction, row: int, sample: int, ode: ODE
    ) -> Iterator[tuple[slice, np.ndarray, int]]:
        """Move X a chunk at a time: rows, moved points in their own units, evaluations."""
        start_scale, end_scale = self._scales(direction)
        field, reverse = self._field(direction)
        for rows, block in read_blocks(X, ode.chunk_size):
            Z = start_scale.forward(block)
            # A padded flow run backward starts from the padded target, where its forward paths end.
            state = field.start(Z, row=row + rows.start, seed=self.seed, sample=sample)
            condition = Z if field.n_condition else None
            values, evaluations = _integrate(field, state, condition, reverse, ode)
            yield rows, end_scale.backward(values[:, : len(end_scale.mean)]), evaluations

    def _lazily(self, X: Any, direction: Direction, move: Callable[[np.ndarray, int], np.ndarray]) -> Any:
        X = X.rechunk({1: -1})

        def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
            return move(values, block_info[0]["array-location"][0][0])

        chunks = (X.chunks[0], (len(self._scales(direction)[1].mean),))
        return X.map_blocks(
            block, dtype=np.float64, chunks=chunks, meta=np.empty((0, 0)), name=f"transport-{uuid.uuid4().hex}"
        )


def _integrate(
    field: VelocityField, state: np.ndarray, condition: np.ndarray | None, reverse: bool, ode: ODE
) -> tuple[np.ndarray, int]:
    parameter = next(field.velocity.parameters())
    x = torch.as_tensor(state, dtype=parameter.dtype, device=parameter.device)
    fixed = None if condition is None else torch.as_tensor(condition, dtype=x.dtype, device=x.device)
    with torch.inference_mode():
        out = integrate(
            field.at(fixed), x, t_start=float(reverse), t_end=float(not reverse), method=ode.method,
            n_steps=ode.n_steps, rtol=ode.rtol, atol=ode.atol,
        )  # fmt: skip
    return out.x.double().cpu().numpy(), out.n_evaluations


def _like(values: np.ndarray, X: Any) -> Any:
    """Give values back in the kind of X."""
    if isinstance(X, torch.Tensor):
        return torch.as_tensor(values, dtype=X.dtype if X.is_floating_point() else torch.float32, device=X.device)
    return values
