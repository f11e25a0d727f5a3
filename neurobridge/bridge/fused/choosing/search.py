"""The candidates that cross-validation over the pairs compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurobridge.bridge.fused.candidate import AVERAGED, MAP_FAMILIES, Candidate, MapFamily
from neurobridge.bridge.fused.choosing.criteria import Criterion
from neurobridge.points.options import Kind, is_number, is_sequence_of, is_whole, require_options

#: A point of the grid: lam and epsilon.
GridPoint = tuple[float, float]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_NUMBER = Kind("number", "0.05", is_number)
_ROUNDS = Kind("whole number", "1", is_whole)
# What each list of the search holds.
_LISTS = {
    "lams": _NUMBER,
    "epsilons": _NUMBER,
    "n_rounds": _ROUNDS,
    "kernel_rounds": _ROUNDS,
}


@dataclass(frozen=True)
class Search:
    """The candidates that cross-validation compares, and how.

    Attributes
    ----------
    lams, epsilons : sequences of float
        The first of each is the one that others have to beat.
    n_rounds, kernel_rounds : sequences of int
        Numbers of linear rounds, and of curved rounds after the most linear ones.
    maps : sequence of str
        Families of maps.
    criterion : {"correlation", "error", "retrieval", "labels"}
    n_folds : int or None
        Folds over the pairs; None leaves it to the number of pairs.
    tol : float
        Marginal error of the plans.
    seed : int
        Seed of the folds, of the points they keep and of the centres of curved maps.
    in_batches : bool
        The plan will be solved in minibatches, which only ridge and kernel maps have.

    Raises
    ------
    ValueError
        An empty sequence, lam outside [0, 1], an epsilon that is not positive, rounds below their least number, or an unknown
        family.
    """

    lams: Sequence[float]
    epsilons: Sequence[float]
    n_rounds: Sequence[int]
    kernel_rounds: Sequence[int]
    maps: Sequence[MapFamily]
    criterion: Criterion
    n_folds: int | None
    tol: float
    seed: int
    in_batches: bool = False

    def __post_init__(self) -> None:
        require_options(n_folds=self.n_folds, tol=self.tol, seed=self.seed)
        for name, kind in _LISTS.items():
            if not is_sequence_of(kind.holds, getattr(self, name)):
                raise ValueError(
                    f"found {name}={getattr(self, name)!r:.60}; expected a sequence of at least one {kind.expected}. "
                    f"Mend: leave it out, or e.g. {name}=({kind.example},)."
                )
        if (
            not all(0 <= lam <= 1 for lam in self.lams)
            or min(self.epsilons) <= 0
            or min(self.n_rounds) < 1
            or min(self.kernel_rounds) < 0
        ):
            raise ValueError(
                f"found lams={tuple(self.lams)}, epsilons={tuple(self.epsilons)}, n_rounds={tuple(self.n_rounds)}, "
                f"kernel_rounds={tuple(self.kernel_rounds)}; expected lam in [0, 1], epsilon above 0, "
                "linear rounds of at least 1 and curved ones of at least 0. Mend: leave them out for the defaults."
            )
        if (
            not is_sequence_of(_is_text, self.maps)
            or "ridge" not in self.maps
            or not set(self.maps) <= set(MAP_FAMILIES)
        ):
            raise ValueError(
                f"found maps={self.maps!r:.80}; expected 'ridge', which the others have to beat, and any of {MAP_FAMILIES[1:]}. "
                "Mend: leave maps out for all of them."
            )
        missing = set(AVERAGED) - set(self.maps)
        if "average" in self.maps and missing:
            raise ValueError(
                f"found maps={self.maps!r:.80}; expected the families {AVERAGED} beside 'average', which is of them. "
                f"Mend: add {', '.join(map(repr, sorted(missing)))}, or leave maps out for all of them."
            )

    @property
    def turned(self) -> list[MapFamily]:
        """Families whose maps are rotations, with a plan of their own."""
        return [family for family in ("orthogonal", "whitened") if family in self.maps and not self.in_batches]

    @property
    def trains_rotations(self) -> bool:
        """True if rotations train themselves: they keep all distances, which finding partners asks for alone."""
        return "selftrained" in self.maps and self.criterion == "retrieval"

    @property
    def averages(self) -> bool:
        """True if maps of the pairs are averaged where there are few points; whether other criteria gain from it is not known."""
        return "average" in self.maps and self.criterion == "correlation"

    @property
    def first(self) -> GridPoint:
        """The lam and epsilon that others have to beat."""
        return self.lams[0], self.epsilons[0]

    @property
    def points(self) -> list[GridPoint]:
        """Each lam beside the first epsilon, and each epsilon beside the first lam."""
        lam, epsilon = self.first
        return list(dict.fromkeys([(each, epsilon) for each in self.lams] + [(lam, each) for each in self.epsilons]))

    def longest(self, point: GridPoint) -> Candidate:
        """Return the candidate that goes through all rounds at a lam and epsilon."""
        lam, epsilon = point
        return Candidate(
            lam=lam,
            epsilon=epsilon,
            n_rounds=max(self.n_rounds),
            readout="barycentric",
            kernel_rounds=max(self.kernel_rounds),
        )

    def holds(self, n_rounds: int, kernel_rounds: int) -> bool:
        """Return True if a number of linear and curved rounds is among the candidates."""
        if kernel_rounds:
            return kernel_rounds in self.kernel_rounds
        # The most linear rounds alone are a candidate only where no curved round is one.
        return n_rounds in self.n_rounds and (n_rounds < max(self.n_rounds) or 0 in self.kernel_rounds)
