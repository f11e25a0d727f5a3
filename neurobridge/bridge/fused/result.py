"""The fitted fused bridge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import starmap
from typing import Any

import numpy as np

from neurobridge.bridge.fused.candidate import RIDGE, Candidate
from neurobridge.bridge.fused.choosing.criteria import Criterion
from neurobridge.bridge.fused.cost import AnyMap
from neurobridge.bridge.fused.deprecated import warn_deprecated
from neurobridge.bridge.fused.readout import READ_BY_PLAN, BridgeReader, Distilled, distil, predict, read_some
from neurobridge.bridge.fused.states import State
from neurobridge.bridge.transport.coupling import Coupling
from neurobridge.maps.linear import LinearMap
from neurobridge.points.arrays import Array, Rows, points, same_kind
from neurobridge.points.conversion import real_array
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.workers import Runner
from neurobridge.store.kinds import fields_of, register


def _state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Rename the size of the minibatches; the plan was never on disk."""
    names = {"core": "minibatch_size"}
    return {names.get(name, name): value for name, value in state.items() if name != "coupling"}


def _state_of_one_direction(state: dict[str, Any]) -> dict[str, Any]:
    """Leave the way back out, which was a bridge of its own."""
    return {
        **state, "candidate_back": None, "errors_back": {}, "criterion": "error", "backward": None, "spreads": (1.0, 1.0),
        "_back_states": [],
    }  # fmt: skip


def _state_without_distilled(state: dict[str, Any]) -> dict[str, Any]:
    """Read new points by the plan itself."""
    return {**state, "distilled": (None, None)}


@register(
    "fused-bridge",
    version=4,
    upgrades={1: _state_of_0_1, 2: _state_of_one_direction, 3: _state_without_distilled},
)
@dataclass(frozen=True, eq=False, repr=False)
class FusedBridge:
    """A fitted fused bridge, made by `fuse`: a coupling, and maps in both directions for points that were not fitted.

    Attributes
    ----------
    candidate, candidate_back : Candidate
        The candidates that were chosen, or the one that was given, for the maps forward and backward.
    errors, errors_back : dict of Candidate to float
        Mean loss of held-out pairs under the criterion, see `fuse`: of all rounds and readouts at the chosen lam and epsilon,
        and of the other families of maps. Empty if nothing was compared.
    criterion : {"correlation", "error", "retrieval", "labels"}
        What the candidates were chosen for.
    screening : dict of (lam, epsilon) to float
        The same loss, mean of both directions, for each lam and epsilon, on fewer points and in few rounds, by which they were
        chosen. Empty if there was only one of each.
    coupling : Coupling
        The last plan of the forward candidate, shape (n, m), for flow matching; its ``cost`` is the `FusedCost` that was
        solved. A plan in minibatches is computed whenever it is asked for, and all its minibatches have that same cost.
    linear : LinearMap
        Linear map from source to target: of the pairs if such a map was chosen, otherwise refitted on the last images.
    forward, backward : LinearMap, KernelMap, SpectralMap, RelativeMap or AverageMap
        Maps that the readouts "linear", "kernel" and "mean" use.
    spreads : tuple of two float
        Factors of the distances of mapped points from the centre of their space, forward and backward: with
        ``criterion="retrieval"`` images spread as far as the points of their space do, otherwise 1.
    minibatch_size : int or None
        Most points a side of the minibatches the plan was solved in; None if all points were solved at once.
    distilled : tuple of two Distilled or None
        Forward and backward, the kernel map that stands for the plan where new points are read, and the share of the plan's own
        readout that it explains; None where they are read by the plan.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import Candidate, fuse
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=2, readout="linear")
    >>> fused = fuse(X, X @ np.ones((3, 2)), (np.arange(8), np.arange(8)), candidate=candidate)
    >>> fused.map(X[:4]).shape
    (4, 2)
    >>> i, j = fused.sample(100, np.random.default_rng(0))
    >>> bool(fused.coupling.expected_cost() < 0.5)
    True
    """

    candidate: Candidate
    candidate_back: Candidate | None
    errors: dict[Candidate, float]
    errors_back: dict[Candidate, float]
    criterion: Criterion
    screening: dict[tuple[float, float], float]
    coupling: Coupling
    linear: LinearMap
    forward: AnyMap
    backward: AnyMap | None
    spreads: tuple[float, float]
    minibatch_size: int | None
    _states: list[State]
    _back_states: list[State]
    distilled: tuple[Distilled | None, Distilled | None] = (None, None)

    def to_state(self) -> dict[str, Any]:
        """Return the state on disk: all that maps points, without the n x m plan."""
        state = fields_of(self, without=("coupling",))
        if any(self.distilled):
            # What reads new points by the plan, a neighbour graph of all points perhaps, is read no more.
            for name, candidate, stands in zip(
                ("_states", "_back_states"), (self.candidate, self.candidate_back), self.distilled, strict=True
            ):
                if stands is not None or (candidate is not None and candidate.readout not in READ_BY_PLAN):
                    state[name] = [each.without_distances() for each in state[name][:1]]
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any], given: Mapping[str, Any]) -> FusedBridge:
        """Build from the state on disk; the coupling is None."""
        return cls(**{**state, "coupling": None})

    @property
    def anchors(self) -> Rows:
        """Source rows and target rows of the pairs, two int arrays of shape (n_pairs,)."""
        return self.coupling.anchors

    @property
    def core(self) -> int | None:
        """Deprecated name of `minibatch_size`."""
        warn_deprecated("FusedBridge.core", "FusedBridge.minibatch_size", stacklevel=2)
        return self.minibatch_size

    @cached_property
    def _forward_reader(self) -> BridgeReader:
        """Mean partners of source points: prepared by the first that ask, kept for the others."""
        return BridgeReader(self._states, backward=False)

    @cached_property
    def _backward_reader(self) -> BridgeReader:
        return BridgeReader(self._back_states, backward=True)

    def with_distilled(
        self, n_centres: int, clouds: Rows, seed: int, *, least: float = 0.0, run: Runner = starmap
    ) -> FusedBridge:
        """Return the same bridge, whose new points are read by kernel maps in place of the plan: see `fuse`.

        Parameters
        ----------
        n_centres : int
            Of each kernel map.
        clouds : tuple of two arrays of shape (n, n_source_dims) and (m, n_target_dims)
            The points of fitting.
        seed : int
        least : float
            Smallest share of the plan's readout that a map has to explain to be taken.
        run : Runner
            Where the maps are fitted: see `job_runner`.
        """
        assert self.candidate_back is not None
        candidates = self.candidate, self.candidate_back
        read = [side for side, each in enumerate(candidates) if each.readout in READ_BY_PLAN]
        readers = {0: lambda: self._forward_reader, 1: lambda: self._backward_reader}
        jobs = ((*read_some(readers[side](), clouds[side], n_centres, seed), n_centres, seed) for side in read)
        fitted = dict(zip(read, run(distil, jobs), strict=True))
        taken = [fitted.get(side) for side in range(2)]
        taken = [stands if stands is not None and stands.agreement >= least else None for stands in taken]
        return replace(self, distilled=(taken[0], taken[1]))

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw pairs of rows with probability proportional to the plan.

        Parameters
        ----------
        n : int
            Number of draws.
        rng : numpy.random.Generator

        Returns
        -------
        i, j : int arrays of shape (n,)
            Source rows and target rows.
        """
        return self.coupling.sample(n, rng)

    def map(self, X_new: Array) -> Array:
        """Map points, fitted or new, into the target space.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)
            Numpy or torch, on any device.

        Returns
        -------
        array of shape (n_new, n_target_dims)
            Float64, of the kind and on the device of ``X_new``.

        Raises
        ------
        ValueError
            Another number of dimensions than in fitting, or values that are not finite.
        """
        return self._mapped(X_new, "X_new", backward=False)

    def map_back(self, Y_new: Array) -> Array:
        """Map points of the target space, fitted or new, into the source space.

        Parameters
        ----------
        Y_new : array of shape (n_new, n_target_dims)
            Numpy or torch, on any device.

        Returns
        -------
        array of shape (n_new, n_source_dims)
            Float64, of the kind and on the device of ``Y_new``.

        Raises
        ------
        ValueError
            Another number of dimensions than in fitting, values that are not finite, or a bridge from a file of an earlier
            version, which has no way back.
        """
        if self.candidate_back is None:
            raise ValueError(
                "found a bridge that was saved without its way back; expected one fitted by this version. Mend: fuse(X, Y, pairs)."
            )
        return self._mapped(Y_new, "Y_new", backward=True)

    def _mapped(self, given: Array, name: str, *, backward: bool) -> Array:
        new = points(real_array(given, name=name).astype(np.float64, copy=False), name=name).numpy()
        problem = self._states[0].problem
        sides = (problem.Y, problem.X) if backward else (problem.X, problem.Y)
        n_dims = sides[0].shape[1]
        if new.shape[1] != n_dims:
            raise ValueError(
                f"{name}: found {new.shape[1]} dimensions; expected {n_dims} as in fitting. Mend: pass the same dimensions, in "
                "the same order."
            )
        candidate, mapping = (self.candidate_back, self.backward) if backward else (self.candidate, self.forward)
        assert candidate is not None
        assert mapping is not None
        reader: Callable[[np.ndarray], np.ndarray] | None = None
        stands = self.distilled[backward]
        if stands is not None:
            reader = stands.map
        elif candidate.readout in READ_BY_PLAN:
            reader = self._backward_reader if backward else self._forward_reader
        images = predict(reader, mapping, candidate.readout, new)
        spread = self.spreads[backward]
        if spread != 1:
            centre = sides[1].mean(axis=0)
            images = centre + spread * (images - centre)
        return same_kind(images, given)

    def _facts(self) -> dict[str, Any]:
        problem, coupling = self._states[0].problem, self.coupling
        facts: dict[str, Any] = {}
        # An aligner read from disk holds the map without the plan.
        if coupling is not None:
            facts["points"] = "{} x {}".format(*coupling.shape)
        facts["dimensions"] = f"{problem.X.shape[1]} -> {problem.Y.shape[1]}"
        facts["pairs"] = len(problem.rows[0])
        facts["candidate"] = self.candidate
        if self.errors:
            facts[f"held-out loss ({self.criterion})"] = self.errors[self.candidate]
            facts["loss of ridge"] = self.errors[RIDGE]
        if coupling is not None:
            facts["plan"] = f"{'converged' if coupling.converged else 'NOT converged'} in {coupling.n_iter} iterations"
        if self.minibatch_size is not None:
            facts["minibatches"] = f"at most {self.minibatch_size} points a side"
        for direction, stands in zip(("new points", "points back"), self.distilled, strict=True):
            if stands is not None:
                facts[direction] = f"by a kernel map that explains {stands.agreement:.3f} of the plan's readout"
        return facts

    def __repr__(self) -> str:
        facts = self._facts()
        candidate = repr(facts.pop("candidate"))
        return short_repr("FusedBridge", candidate, *(_phrase(name, value) for name, value in facts.items()))

    def _repr_html_(self) -> str:
        facts = self._facts()
        candidate = facts.pop("candidate")
        return html_repr("FusedBridge", {**facts, **vars(candidate)})


def _phrase(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{name} {value:.3g}"
    return f"{value} {name}" if name in ("points", "dimensions", "pairs") else f"{name} {value}"
