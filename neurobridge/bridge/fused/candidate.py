"""Candidates: the ways to align that cross-validation over the pairs chooses among."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from neurobridge.bridge.fused.deprecated import takes_positions, warn_deprecated
from neurobridge.points.display import html_repr
from neurobridge.store.kinds import register

Readout = Literal["barycentric", "linear", "kernel", "mean"]
MapFamily = Literal["ridge", "orthogonal", "whitened", "spectral", "relative", "average", "selftrained"]
#: Families of the maps of a candidate; those that can be refitted on the images of a plan come first.
MAP_FAMILIES: tuple[MapFamily, ...] = (
    "ridge", "orthogonal", "whitened", "spectral", "relative", "average", "selftrained",
)  # fmt: skip
_WITH_PLAN = MAP_FAMILIES[:3]
#: Families whose maps of the pairs are averaged.
AVERAGED: tuple[MapFamily, ...] = ("ridge", "whitened", "spectral", "relative")


@register("candidate")
@takes_positions("lam", "epsilon", "n_rounds", "readout", "kernel_rounds")
@dataclass(frozen=True, order=True, kw_only=True)
class Candidate:
    """One way to align two spaces: a setting of the fused bridge, or a map of the pairs alone.

    Candidates are compared, hashed and ordered by their fields, so that they serve as keys of `FusedBridge.errors`.

    Parameters
    ----------
    lam : float
        Weight of the two maps in the fused cost, in [0, 1]; 0 is the bridge cost alone.
    epsilon : float
        Entropic temperature of the plan, as a fraction of the mean fused cost.
    n_rounds : int
        Number of plans that are solved with linear maps, which are refitted on the images after each.
        0 is a map of the pairs alone, without any plan.
    readout : {"barycentric", "linear", "kernel", "mean"}
        Prediction for a point: "barycentric" is its mean partner under the last plan, "linear" and "kernel" are its
        value under the last map (linear without curved rounds, kernel ridge with them), "mean" is the average of both.
    kernel_rounds : int
        Number of rounds that follow with curved (kernel ridge) maps.
    map : {"ridge", "orthogonal", "whitened", "spectral", "relative", "average", "selftrained"}
        Family of the maps: ridge regression; a rotation and a scale (Procrustes); a rotation between coordinates that are
        whitened by the covariances of all points; or, without a plan only, ridge on the points and the leading eigenvectors of
        their neighbour graph, a decoder of the cosines to the pairs that learns from all points of the other space, the average
        of the ridge, whitened, spectral and relative maps, and a rotation that trains itself on provisional partners of the
        unpaired points.

    Examples
    --------
    >>> from neurobridge.bridge import Candidate
    >>> Candidate(lam=0.9, epsilon=0.02, n_rounds=5, readout="linear")
    Candidate(lam=0.9, epsilon=0.02, n_rounds=5, readout='linear', kernel_rounds=0, map='ridge')

    A variant of a candidate:

    >>> from dataclasses import replace
    >>> replace(Candidate(lam=0.9, epsilon=0.02, n_rounds=5, readout="linear"), readout="mean").readout
    'mean'
    """

    lam: float
    epsilon: float
    n_rounds: int
    readout: Readout
    kernel_rounds: int = 0
    map: MapFamily = "ridge"

    def __iter__(self) -> Iterator[Any]:
        """Give the fields in their order, as the tuple of version 0.1 did; deprecated."""
        warn_deprecated("a candidate read as a tuple", "its fields by name", stacklevel=2)
        return iter(astuple(self)[:5])

    def _repr_html_(self) -> str:
        return html_repr("Candidate", asdict(self))


#: Ridge regression on the pairs, without any plan.
RIDGE = Candidate(lam=1.0, epsilon=math.inf, n_rounds=0, readout="linear")
#: Kernel ridge regression on the pairs, without any plan.
KERNEL_RIDGE = replace(RIDGE, readout="kernel")
#: Procrustes on the pairs, between points centred by all of them.
ORTHOGONAL = replace(RIDGE, map="orthogonal")
#: Whitened map of the pairs: see `neurobridge.maps.whitened.whitened_map`.
WHITENED = replace(RIDGE, map="whitened")
#: Ridge on the pairs with spectral features: see `neurobridge.maps.spectral.spectral_map`.
SPECTRAL = replace(RIDGE, map="spectral")
#: Decoder of relative representations: see `neurobridge.maps.relative.relative_map`.
RELATIVE = replace(RIDGE, map="relative")
#: Average of the ridge, whitened, spectral and relative maps of the pairs: see `neurobridge.bridge.average.average_maps`.
AVERAGE = replace(RIDGE, map="average")
#: Self-trained rotation: see `neurobridge.bridge.self_train`.
SELF_TRAINED = replace(RIDGE, map="selftrained")


def describe_candidate(candidate: Candidate) -> str:
    """Describe a candidate by the fields that it reads, in as many characters as a fact has room for.

    Examples
    --------
    >>> describe_candidate(KERNEL_RIDGE)
    'map of the pairs alone: ridge, kernel'
    """
    if not candidate.n_rounds:
        return f"map of the pairs alone: {candidate.map}, {candidate.readout}"
    rounds = f"{candidate.n_rounds} + {candidate.kernel_rounds} rounds"
    settings = f"lam={candidate.lam:.3g}, epsilon={candidate.epsilon:.3g}"
    return f"{candidate.map}, {settings}, {rounds}, {candidate.readout}"


def readouts_of(kernel_rounds: int) -> tuple[Readout, ...]:
    """Return the readouts that exist after a number of curved rounds."""
    return "barycentric", "kernel" if kernel_rounds else "linear", "mean"


def check_candidate(candidate: Any) -> Candidate:
    """Return a candidate that can be solved.

    Parameters
    ----------
    candidate : Candidate
        A plain tuple of the fields is taken as well, with a `DeprecationWarning`.

    Raises
    ------
    ValueError
        Fields out of range, no rounds, or a readout that the rounds do not have.
    """
    if type(candidate) is tuple and len(candidate) in (4, 5):
        checked = Candidate(**dict(zip((field.name for field in fields(Candidate)), candidate, strict=False)))
    else:
        checked = candidate
    try:
        usable = (
            isinstance(checked, Candidate)
            and all(isinstance(count, (int, np.integer)) for count in (checked.n_rounds, checked.kernel_rounds))
            and checked.n_rounds >= 1
            and checked.kernel_rounds >= 0
            and 0 <= checked.lam <= 1
            and 0 < checked.epsilon < math.inf
            and checked.readout in readouts_of(checked.kernel_rounds)
            and checked.map in _WITH_PLAN
        )
    # An array in place of a number compares to an array, which has no truth.
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise ValueError(
            f"found candidate={candidate!r}; expected a Candidate with lam in [0, 1], epsilon above 0, n_rounds of at "
            "least 1, kernel_rounds of at least 0 and the readout 'barycentric' or 'mean', 'linear' without curved rounds "
            "or 'kernel' with them, and the map 'ridge', 'orthogonal' or 'whitened'. "
            "Mend: e.g. Candidate(lam=0.9, epsilon=0.02, n_rounds=5, readout='linear')."
        )
    if checked is not candidate:
        # The frames are this one, that of `fuse`, that of its decorator and the caller's.
        warn_deprecated(f"candidate={candidate!r}", f"candidate={checked!r}", stacklevel=4)
    return checked
