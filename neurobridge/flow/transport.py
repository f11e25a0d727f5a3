"""What a fitted flow does: move points, sample their spread, retrace them, and say when they land off the support."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from neurobridge.flow.bases import Base, PointMap, Way
from neurobridge.flow.ode import integrate
from neurobridge.points.arrays import as_points, is_dask, pad_to, read_blocks, read_rows
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import OffSupportWarning, Support

Direction = Literal["forward", "backward"]


class Spread(NamedTuple):
    """Mean and standard deviation over the samples of each point, arrays of shape (n_points, n_dims)."""

    mean: np.ndarray
    std: np.ndarray


class Transport:
    """The part of `ConditionalFlow` that needs its fitted attributes alone."""

    base: Base | PointMap | tuple[PointMap, PointMap]
    method: str
    ode_steps: int
    rtol: float
    atol: float
    chunk_size: int
    seed: int
    source_scale_: Standardiser
    target_scale_: Standardiser
    support_: dict[str, Support]
    forward_: Way
    backward_: Way | None
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
            Source points (forward) or target points (backward); a dask array is moved block by block when it is computed.
        direction : {"forward", "backward"}
        n_samples : int
            Samples a point is given; more than one only for ``base="noise"``.
        method : str, optional
            ODE solver, instead of the flow's own.
        chunk_size : int, optional
            Points moved at a time, instead of the flow's own.

        Returns
        -------
        array of shape (n_points, n_dims_other) or, for several samples, (n_samples, n_points, n_dims_other)
            Of the kind of X: numpy (float64), torch or dask.

        Raises
        ------
        RuntimeError
            The flow has not been fitted.
        ValueError
            Wrong number of dimensions, unknown direction, backward with a base of one map, several samples from a deterministic
            base or of a dask array.
        FloatingPointError
            Points left all bounds.

        Warns
        -----
        OffSupportWarning
            More points landed off the training cloud of the other space than chance allows, or any of them far off.
        """
        X = self._checked(X, direction)
        self._check_samples(n_samples)
        if is_dask(X):
            if n_samples != 1:
                raise ValueError(
                    f"found n_samples={n_samples} of a dask array; expected 1. Mend: call spread(X), or compute X first."
                )
            return self._lazily(
                X, direction, lambda block, row: self._move(block, direction, row, [0], method, chunk_size)[0][0]
            )
        moved, self.n_evaluations_ = self._move(X, direction, 0, range(n_samples), method, chunk_size)
        return _like(moved[0] if n_samples == 1 else moved, X)

    def spread(
        self, X: Any, direction: Direction = "forward", *, n_samples: int = 32, method: str | None = None
    ) -> Spread:
        """Mean and standard deviation of several samples a point, never holding more than a chunk of one sample.

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
        direction : {"forward", "backward"}
        n_samples : int
            At least 2.
        method : str, optional

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
            for rows, moved, _ in self._chunks(X, direction, 0, count - 1, method, None):
                # Welford 1962: no difference of large sums.
                delta = moved - mean[rows]
                mean[rows] += delta / count
                squares[rows] += delta * (moved - mean[rows])
        return Spread(mean, np.sqrt(squares / (n_samples - 1)))

    def start(self, X: Any, direction: Direction = "forward", *, sample: int = 0) -> np.ndarray:
        """Where the path of each point begins, before any transport.

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
        direction : {"forward", "backward"}
        sample : int
            Which sample, for ``base="noise"``.

        Returns
        -------
        array of shape (n_points, n_dims_other) for affine (``M x``), noise and maps, in the units of the other space;
        X itself for pad
        """
        X = self._checked(X, direction)
        begin, end = self._scales(direction)
        way, _ = self._way(direction)
        if way.base == "pad":
            return read_rows(X, slice(None))
        blocks = read_blocks(X, self.chunk_size)
        return np.concatenate(
            [
                end.backward(way.start(begin.forward(block), row=rows.start, seed=self.seed, sample=sample))
                for rows, block in blocks
            ]
        )

    def retrace(self, Z: Any, X: Any, direction: Direction = "forward", *, method: str = "dopri5") -> np.ndarray:
        """Undo `transport`: follow the paths of X that ended at Z back to where they began.

        The field of ``direction``, at the same conditions, is integrated from t = 1 to t = 0. It returns ``start(X)`` up to
        the solver's error. With ``base="pad"`` that is X itself, where padding loses nothing: where the space arrived in has
        at least as many dimensions as the one left.

        Parameters
        ----------
        Z : array of shape (n_points, n_dims_other)
            What ``transport(X, direction)`` gave.
        X : array of shape (n_points, n_dims)
        direction : {"forward", "backward"}
            Of the transport that is undone.
        method : str

        Returns
        -------
        array of the shape that `start` gives

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
        begin, end = self._scales(direction)
        way, reverse = self._way(direction)
        unit = begin if way.base == "pad" else end
        parts = []
        for rows, ends in read_blocks(Z, self.chunk_size, "Z"):
            state = pad_to(end.forward(ends), way.n_state)
            condition = begin.forward(read_rows(X, rows)) if way.n_condition else None
            moved, _ = self._integrate(way, state, condition, not reverse, method)
            parts.append(unit.backward(moved[:, : len(unit.mean)]))
        return np.concatenate(parts)

    def off_support(self, Z: Any, direction: Direction = "forward") -> Any:
        """Tell which transported points lie off the training cloud of the space they arrived in.

        A point is off if its nearest point of a seeded subsample of that cloud is further away, in standard deviations of
        the training points, than ``support_quantile`` of that cloud is from its own nearest neighbours.

        Parameters
        ----------
        Z : array of shape (n_points, n_dims_other)
            What ``transport(X, direction)`` gave; a dask array is judged block by block when it is computed.
        direction : {"forward", "backward"}

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
        return np.concatenate([support.off(scale.forward(block)) for _, block in read_blocks(Z, self.chunk_size, "Z")])

    def _check_fitted(self) -> None:
        if not hasattr(self, "forward_"):
            raise RuntimeError(
                "found a flow that is not fitted; expected a trained one. Mend: call fit(X, Y, coupling)."
            )

    def _checked(self, X: Any, direction: Direction) -> Any:
        self._check_fitted()
        if direction not in ("forward", "backward"):
            raise ValueError(f"found direction {direction!r}; expected 'forward' or 'backward'. Mend: choose one.")
        X, expected = as_points(X, "X"), len(self._scales(direction)[0].mean)
        if X.shape[1] != expected:
            raise ValueError(
                f"X: found {X.shape[1]} dimensions; expected {expected} for {direction} transport. "
                "Mend: pass the neuroids used in fitting."
            )
        return X

    def _check_samples(self, n_samples: int) -> None:
        if n_samples < 1 or (n_samples != 1 and self.base != "noise"):
            raise ValueError(
                f"found n_samples={n_samples} with base={self.forward_.base!r}; expected 1, as only base='noise' is random. "
                "Mend: n_samples=1, or ConditionalFlow(base='noise')."
            )

    def _scales(self, direction: Direction) -> tuple[Standardiser, Standardiser]:
        ends = self.source_scale_, self.target_scale_
        return ends if direction == "forward" else ends[::-1]

    def _way(self, direction: Direction) -> tuple[Way, bool]:
        """Return the field that goes in a direction, and whether it is run backward in time."""
        if direction == "forward":
            return self.forward_, False
        if self.backward_ is not None:
            return self.backward_, False
        if self.forward_.base != "pad":
            raise ValueError(
                "found a base of one map; expected two for backward transport. Mend: base=(forward map, backward map)."
            )
        return self.forward_, True

    def _move(
        self, X: Any, direction: Direction, row: int, samples: Sequence[int], method: str | None, chunk_size: int | None
    ) -> tuple[np.ndarray, int]:
        """Move every row of X, whose first is row ``row`` of the whole; warn once of what landed off the support."""
        moved = np.empty((len(samples), len(X), len(self._scales(direction)[1].mean)))
        scale, support = self._scales(direction)[1], self.support_[direction]
        n_off, furthest, most = 0, 0.0, 0
        for k, sample in enumerate(samples):
            for rows, values, evaluations in self._chunks(X, direction, row, sample, method, chunk_size):
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
        self, X: Any, direction: Direction, row: int, sample: int, method: str | None, chunk_size: int | None
    ) -> Iterator[tuple[slice, np.ndarray, int]]:
        """Move X a chunk at a time: rows, moved points in their own units, evaluations."""
        size = self.chunk_size if chunk_size is None else chunk_size
        if size < 1:
            raise ValueError(f"found chunk_size={size}; expected at least 1. Mend: use 16384.")
        begin, end = self._scales(direction)
        way, reverse = self._way(direction)
        for rows, block in read_blocks(X, size):
            Z = begin.forward(block)
            # A padded flow run backward starts from the padded target, which is where its forward paths end.
            state = way.start(Z, row=row + rows.start, seed=self.seed, sample=sample)
            condition = Z if way.n_condition else None
            values, evaluations = self._integrate(way, state, condition, reverse, method or self.method)
            yield rows, end.backward(values[:, : len(end.mean)]), evaluations

    def _integrate(
        self, way: Way, state: np.ndarray, condition: np.ndarray | None, reverse: bool, method: str
    ) -> tuple[np.ndarray, int]:
        parameter = next(way.velocity.parameters())
        x = torch.as_tensor(state, dtype=parameter.dtype, device=parameter.device)
        given = None if condition is None else torch.as_tensor(condition, dtype=x.dtype, device=x.device)
        with torch.inference_mode():
            out = integrate(
                way.field(given), x, t_start=float(reverse), t_end=float(not reverse), method=method,
                n_steps=self.ode_steps, rtol=self.rtol, atol=self.atol,
            )  # fmt: skip
        return out.x.double().cpu().numpy(), out.n_evaluations

    def _lazily(self, X: Any, direction: Direction, move: Callable[[np.ndarray, int], np.ndarray]) -> Any:
        X = X.rechunk({1: -1})

        def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
            return move(values, block_info[0]["array-location"][0][0])

        chunks = (X.chunks[0], (len(self._scales(direction)[1].mean),))
        return X.map_blocks(
            block, dtype=np.float64, chunks=chunks, meta=np.empty((0, 0)), name=f"transport-{uuid.uuid4().hex}"
        )


def _like(values: np.ndarray, X: Any) -> Any:
    """Give values back in the kind of X."""
    if isinstance(X, torch.Tensor):
        return torch.as_tensor(values, dtype=X.dtype if X.is_floating_point() else torch.float32, device=X.device)
    return values
