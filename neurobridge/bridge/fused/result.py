"""The fitted fused bridge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobridge.bridge.fused.candidate import KERNEL_RIDGE, RIDGE, Candidate
from neurobridge.bridge.fused.cost import AnyMap
from neurobridge.bridge.fused.deprecated import warn_deprecated
from neurobridge.bridge.fused.rounds import State, predict
from neurobridge.bridge.transport.coupling import Coupling
from neurobridge.maps.linear import LinearMap
from neurobridge.points.arrays import Array, Rows, points, same_kind
from neurobridge.points.conversion import real_array
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import fields_of, register


def _state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Rename the size of the minibatches; the plan was never on disk."""
    names = {"core": "minibatch_size"}
    return {names.get(name, name): value for name, value in state.items() if name != "coupling"}


@register("fused-bridge", version=2, upgrades={1: _state_of_0_1})
@dataclass(frozen=True, eq=False, repr=False)
class FusedBridge:
    """A fitted fused bridge, made by `fuse`: a coupling, and a map for points that were not fitted.

    Attributes
    ----------
    candidate : Candidate
        The candidate that was chosen or given.
    errors : dict of Candidate to float
        Mean squared error of held-out pairs, in units of the target's variance over the pairs: of all rounds and readouts
        at the chosen lam and epsilon, of ridge and of kernel ridge. Empty if nothing was compared.
    screening : dict of (lam, epsilon) to float
        The same error for each lam and epsilon, on fewer points and in few rounds, by which they were chosen. Empty if
        there was only one of each.
    coupling : Coupling
        The last plan, shape (n, m), for flow matching; its ``cost`` is the `FusedCost` that was solved. A plan in
        minibatches is computed whenever it is asked for, and all its minibatches have that same cost.
    linear : LinearMap
        Linear map from source to target: of the pairs if ridge was chosen, otherwise refitted on the last images.
    forward : LinearMap or KernelMap
        Map that the readouts "linear", "kernel" and "mean" use.
    minibatch_size : int or None
        Most points a side of the minibatches the plan was solved in; None if all points were solved at once.

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
    errors: dict[Candidate, float]
    screening: dict[tuple[float, float], float]
    coupling: Coupling
    linear: LinearMap
    forward: AnyMap
    minibatch_size: int | None
    _states: list[State]

    def to_state(self) -> dict[str, Any]:
        """Return the state on disk: all that maps points, without the n x m plan."""
        return fields_of(self, without=("coupling",))

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
        new = points(real_array(X_new, name="X_new").astype(np.float64, copy=False), name="X_new").numpy()
        n_dims = self._states[0].problem.X.shape[1]
        if new.shape[1] != n_dims:
            raise ValueError(
                f"X_new: found {new.shape[1]} dimensions; expected {n_dims} as in fitting. Mend: pass the same dimensions, in "
                "the same order."
            )
        return same_kind(predict(self._states, self.forward, self.candidate.readout, new), X_new)

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
            facts["held-out error"] = self.errors[self.candidate]
            facts["error of ridge"] = self.errors[RIDGE]
            if KERNEL_RIDGE in self.errors:
                facts["error of kernel ridge"] = self.errors[KERNEL_RIDGE]
        if coupling is not None:
            facts["plan"] = f"{'converged' if coupling.converged else 'NOT converged'} in {coupling.n_iter} iterations"
        if self.minibatch_size is not None:
            facts["minibatches"] = f"at most {self.minibatch_size} points a side"
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
