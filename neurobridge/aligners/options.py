"""Options of `BridgeAligner`: what each may be, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from neurobridge.aligners.representations import ALL, AUTO
from neurobridge.bridge import CRITERIA, SOLVERS
from neurobridge.points.options import is_choice

Map = Literal["flow", "barycentric", "linear"]
#: How a fitted `BridgeAligner` moves points.
MAPS: tuple[Map, ...] = ("barycentric", "flow", "linear")
#: How a `BridgeAligner` couples the two clouds.
COUPLINGS = ("fused", *SOLVERS)
#: What a `BridgeAligner` couples by.
COSTS = ("bridge", "linear")


def check_options(aligner: Any) -> None:
    """Refuse options that are unknown, or that the chosen parts do not take.

    Parameters
    ----------
    aligner : BridgeAligner
        Read by the names of its parameters.

    Raises
    ------
    ValueError
        Names the option, its value and the options that it does not go with.
    """
    for name, allowed in (("map", MAPS), ("coupling", COUPLINGS), ("cost", COSTS), ("criterion", CRITERIA)):
        if not is_choice(getattr(aligner, name), allowed):
            shown = ", ".join(map(repr, allowed))
            raise ValueError(
                f"found {name} {getattr(aligner, name)!r}; expected one of {shown}. Mend: choose one of them."
            )
    if not isinstance(aligner.fuse_options, Mapping | None):
        raise ValueError(
            f"found fuse_options={aligner.fuse_options!r:.60}; expected a dict of options of fuse, or None. "
            "Mend: e.g. fuse_options={'epsilons': (0.05,)}."
        )
    if not isinstance(aligner.representation, str):
        raise ValueError(
            f"found representation={aligner.representation!r:.60}; expected a text: 'auto', 'all' or a layer. "
            "Mend: leave it out."
        )
    metrics = aligner.metric if isinstance(aligner.metric, tuple) else (aligner.metric,)
    if any(isinstance(metric, str) and metric == "precomputed" for metric in metrics):
        raise ValueError(
            "found metric='precomputed'; expected a distance between the responses, which is what an assembly holds. "
            "Mend: metric='geodesic', or neurobridge.bridge.bridge_cost on arrays."
        )
    if aligner.cost == "linear" and aligner.map != "linear" and aligner.coupling in ("pairs", "factored"):
        why = "which asks no cost" if aligner.coupling == "pairs" else "whose kernel is that of a bridge"
        raise ValueError(
            f"found cost='linear' with coupling={aligner.coupling!r}, {why}; expected 'fused', 'sinkhorn' or 'exact'. "
            "Mend: choose one of them, or cost='bridge'."
        )
    if aligner.coupling == "pairs" and aligner.unbalanced is not None:
        raise ValueError(
            f"found unbalanced={aligner.unbalanced!r} with coupling='pairs'; expected None, since the pairs fix the plan. "
            "Mend: leave it out, or coupling='factored'."
        )
    if not is_choice(aligner.representation, (AUTO, ALL)) and (aligner.coupling != "fused" or aligner.map == "linear"):
        raise ValueError(
            f"found representation={aligner.representation!r} with coupling={aligner.coupling!r}, map={aligner.map!r}, which "
            "read all neuroids alike; expected coupling='fused' and another map. Mend: leave it out, or fit on "
            "neurobridge.assemblies.select(source, layer=...)."
        )
    refused = {"nearest": aligner.nearest is not None, "reduce": not is_choice(aligner.reduce, ("softmin",))}
    if aligner.fuse_options and aligner.coupling != "fused":
        raise ValueError(
            f"found fuse_options={aligner.fuse_options!r} with coupling={aligner.coupling!r}; expected coupling='fused', which "
            "takes them. Mend: leave them out."
        )
    if aligner.coupling == "fused":
        refused["unbalanced"] = aligner.unbalanced is not None
    elif aligner.criterion != "correlation":
        raise ValueError(
            f"found criterion={aligner.criterion!r} with coupling={aligner.coupling!r}, where nothing is chosen; expected "
            "coupling='fused'. Mend: leave criterion out, or coupling='fused'."
        )
    if any(refused.values()) and (aligner.coupling == "fused" or aligner.cost == "linear"):
        found = ", ".join(f"{name}={getattr(aligner, name)!r}" for name, given in refused.items() if given)
        raise ValueError(
            f"found {found} with coupling={aligner.coupling!r}, cost={aligner.cost!r}; expected the defaults, as nothing there "
            "takes them. Mend: leave them out, or coupling='factored' and cost='bridge'."
        )


def read_labels(labels: Any, target: Any) -> np.ndarray | None:
    """Return the label of every row of the target, shape (n_target,), or None without labels.

    Parameters
    ----------
    labels : str or array of shape (n_target,), optional
        A presentation coordinate of the target, or the labels themselves.
    target : xarray.DataArray, or array of shape (n_target, n_target_dims)

    Raises
    ------
    ValueError
        The target has no such coordinate, or the labels are not one a row.
    """
    if labels is None:
        return None
    if isinstance(labels, str):
        coords = getattr(target, "coords", {})
        if labels not in coords:
            raise ValueError(
                f"found labels={labels!r} and a target with the coordinates {sorted(map(str, coords))}; expected one of "
                "them. Mend: name a presentation coordinate of the target, or pass an array of one label a row."
            )
        labels = coords[labels].values
    values = np.asarray(labels)
    if values.shape != (len(target),):
        raise ValueError(
            f"labels: found shape {values.shape}; expected ({len(target)},), one a row of the target. Mend: name a "
            "presentation coordinate, or pass the label of every row."
        )
    return values
