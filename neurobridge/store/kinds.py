"""Stable names on disk: every class that is kept in a file has a registered, versioned name, whatever its module is called.

A file names kinds, never modules or classes, so that code may move. What goes to disk is the state of an object:

- by default the fields of a dataclass or named tuple, and it is built again by its constructor;
- of a class with a method ``to_state()`` what that gives, which leaves out code and what is too large;
- of a class with a class method ``from_state(state, given)`` what that builds; ``given`` are the parameters that are code
  and were passed to ``load``.

A class that is renamed keeps its kind. A class whose state changes raises the version of its kind and registers a function
from the old state to the new one (``upgrades``), so that older files are still read.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from neurobridge.store.errors import StateFileError

State = dict[str, Any]
Upgrade = Callable[[State], State]
Class = TypeVar("Class", bound=type)

#: Module in which the class of each kind is registered, imported when a file names the kind.
HOMES: dict[str, str] = {
    "anchor-distances": "neurobridge.bridge.cost.distances",
    "average-map": "neurobridge.bridge.average",
    "batch-part": "neurobridge.bridge.fused.batches",
    "batch-plan": "neurobridge.bridge.fused.batches",
    "bridge-aligner": "neurobridge.aligners.bridge",
    "bridge-cost": "neurobridge.bridge.cost.bridge",
    "candidate": "neurobridge.bridge.fused.candidate",
    "cca-aligner": "neurobridge.aligners.baselines.subspaces",
    "common-atlas": "neurobridge.aligners.common.routes",
    "common-ends": "neurobridge.aligners.common.shared",
    "common-space": "neurobridge.aligners.common.space",
    "conditional-flow": "neurobridge.flow.model",
    "coupling": "neurobridge.bridge.transport.coupling",
    "dense-cost": "neurobridge.bridge.cost.dense",
    "dense-factor": "neurobridge.bridge.cost.in_memory",
    "dense-plan": "neurobridge.bridge.transport.plans",
    "distilled": "neurobridge.bridge.fused.readout",
    "factored-plan": "neurobridge.bridge.transport.plans",
    "flow-ode": "neurobridge.flow.ode",
    "flow-training": "neurobridge.flow.settings",
    "fugw": "neurobridge.aligners.baselines.fugw",
    "fused-blend": "neurobridge.bridge.fused.cost",
    "fused-bridge": "neurobridge.bridge.fused.result",
    "fused-cost": "neurobridge.bridge.fused.cost",
    "fused-map": "neurobridge.aligners.partners",
    "fused-potentials": "neurobridge.bridge.fused.solving.sinkhorn",
    "fused-problem": "neurobridge.bridge.fused.cost",
    "fused-round": "neurobridge.bridge.fused.states",
    "kernel-map": "neurobridge.maps.kernel",
    "keypoint-aligner": "neurobridge.aligners.baselines.keypoints",
    "linear-map": "neurobridge.maps.linear",
    "nearest-factor": "neurobridge.bridge.cost.in_memory",
    "pairs": "neurobridge.assemblies.pairs",
    "partner-map": "neurobridge.aligners.partners",
    "pinned-plan": "neurobridge.bridge.transport.plans",
    "pls-aligner": "neurobridge.aligners.baselines.subspaces",
    "point-source": "neurobridge.points.arrays",
    "procrustes-aligner": "neurobridge.aligners.baselines.linear",
    "relative-aligner": "neurobridge.aligners.baselines.relative",
    "relative-map": "neurobridge.maps.relative",
    "representation": "neurobridge.aligners.representations",
    "ridge-aligner": "neurobridge.aligners.baselines.linear",
    "self-trained-procrustes": "neurobridge.aligners.baselines.selftrained",
    "sparse-plan": "neurobridge.bridge.transport.plans",
    "spectral-features": "neurobridge.maps.spectral",
    "spectral-map": "neurobridge.maps.spectral",
    "spectral-ridge": "neurobridge.aligners.baselines.spectral",
    "standardiser": "neurobridge.points.scale",
    "streamed-factor": "neurobridge.bridge.cost.in_memory",
    "support": "neurobridge.points.support",
    "transposed-cost": "neurobridge.bridge.cost.protocol",
    "whitened-procrustes": "neurobridge.aligners.baselines.whitened",
}

#: What version 0.1 wrote instead of a kind: module and class, the class of an aligner, the class of a base map of a flow.
NAMES_0_1: dict[str, str] = {
    "neurobridge.aligner.bridge:FusedMap": "fused-map",
    "neurobridge.aligner.bridge:PartnerMap": "partner-map",
    "neurobridge.assemblies.pairs:Pairs": "pairs",
    "neurobridge.bridge._arrays:PointSource": "point-source",
    "neurobridge.bridge._batches:BatchPlan": "batch-plan",
    "neurobridge.bridge._batches:Part": "batch-part",
    "neurobridge.bridge._choice:Candidate": "candidate",
    "neurobridge.bridge._rounds:Blend": "fused-blend",
    "neurobridge.bridge._rounds:Potentials": "fused-potentials",
    "neurobridge.bridge._rounds:Problem": "fused-problem",
    "neurobridge.bridge._rounds:State": "fused-round",
    "neurobridge.bridge.cost:BridgeCost": "bridge-cost",
    "neurobridge.bridge.coupling:Coupling": "coupling",
    "neurobridge.bridge.distances:AnchorDistances": "anchor-distances",
    "neurobridge.bridge.factors:DenseFactor": "dense-factor",
    "neurobridge.bridge.factors:NearestFactor": "nearest-factor",
    "neurobridge.bridge.factors:StreamedFactor": "streamed-factor",
    "neurobridge.bridge.fused:FusedBridge": "fused-bridge",
    "neurobridge.bridge.kernel:KernelMap": "kernel-map",
    "neurobridge.bridge.linear:LinearMap": "linear-map",
    "neurobridge.bridge.plans:DensePlan": "dense-plan",
    "neurobridge.bridge.plans:FactoredPlan": "factored-plan",
    "neurobridge.bridge.plans:PinnedPlan": "pinned-plan",
    "neurobridge.bridge.plans:SparsePlan": "sparse-plan",
    "neurobridge.flow.scale:Standardiser": "standardiser",
    "neurobridge.flow.support:Support": "support",
    "BridgeAligner": "bridge-aligner",
    "CCAAligner": "cca-aligner",
    "KeypointAligner": "keypoint-aligner",
    "PLSAligner": "pls-aligner",
    "ProcrustesAligner": "procrustes-aligner",
    "RelativeAligner": "relative-aligner",
    "RidgeAligner": "ridge-aligner",
    "LinearMap": "linear-map",
    "KernelMap": "kernel-map",
}


class Kind(NamedTuple):
    """A registered kind: its name on disk, the version of its state, its class, and functions from older states.

    Attributes
    ----------
    name : str
    version : int
    cls : type
    upgrades : mapping of int to callable
        ``upgrades[k]`` makes the state of version k + 1 out of that of version k.
    """

    name: str
    version: int
    cls: type
    upgrades: Mapping[int, Upgrade]


_kinds: dict[str, Kind] = {}
_names: dict[type, str] = {}


def register(name: str, *, version: int = 1, upgrades: Mapping[int, Upgrade] | None = None) -> Callable[[Class], Class]:
    """Give a class its name on disk; a class decorator.

    Parameters
    ----------
    name : str
        In small letters, words joined by hyphens; kept for ever, also when the class is renamed.
    version : int
        Of the state, raised whenever a new state cannot be read as the old one was.
    upgrades : mapping of int to callable, optional
        For each older version a function that makes the next version's state of it.

    Raises
    ------
    ValueError
        Another class has the name, or an upgrade is missing.

    Examples
    --------
    >>> import dataclasses
    >>> @register("example-point", version=2, upgrades={1: lambda state: {"x": state["left"]}})
    ... @dataclasses.dataclass
    ... class Point:
    ...     x: float
    >>> name_of(Point), state_of(Point(3.0))
    ('example-point', {'x': 3.0})
    >>> build("example-point", 1, {"left": 3.0}, {})
    Point(x=3.0)
    """
    steps = dict(upgrades or {})
    if sorted(steps) != list(range(1, version)):
        raise ValueError(
            f"{name}: found upgrades from versions {sorted(steps)}; expected {list(range(1, version))}. Mend: one for each "
            "version before this one."
        )

    def registered(cls: Class) -> Class:
        known = _kinds.get(name)
        if known is not None and _place(known.cls) != _place(cls):
            raise ValueError(
                f"found the kind {name!r} for {_place(cls)}; expected it for {_place(known.cls)} alone, which has it. "
                "Mend: choose another name."
            )
        _kinds[name] = Kind(name, version, cls, steps)
        _names[cls] = name
        return cls

    return registered


def name_of(cls: type) -> str | None:
    """Return the kind of a class; None where it has none, as a subclass of a registered class.

    Examples
    --------
    >>> from neurobridge.maps.linear import LinearMap
    >>> name_of(LinearMap), name_of(dict)
    ('linear-map', None)
    """
    return _names.get(cls)


def kind_of(name: str) -> Kind:
    """Look a kind up by its name, or by what version 0.1 wrote for it; its module is imported if it was not yet.

    Raises
    ------
    StateFileError
        There is no such kind.
    """
    kind = NAMES_0_1.get(name, name) if isinstance(name, str) else ""
    if kind not in _kinds and kind in HOMES:
        importlib.import_module(HOMES[kind])
    if kind not in _kinds:
        raise StateFileError(
            f"found a {name!r}; expected one of the kinds {sorted({*_kinds, *HOMES})}. Mend: load it with the neurobridge "
            "that wrote it, or import the module that registers the kind."
        )
    return _kinds[kind]


def class_of(name: str) -> type:
    """Return the class of a kind.

    Raises
    ------
    StateFileError
        There is no such kind.

    Examples
    --------
    >>> class_of("linear-map").__name__, class_of("neurobridge.bridge.linear:LinearMap").__name__
    ('LinearMap', 'LinearMap')
    """
    return kind_of(name).cls


def state_of(value: Any) -> State:
    """Return what of an object goes to disk, by name.

    Raises
    ------
    StateFileError
        Its class has no kind.
    """
    cls = type(value)
    if cls not in _names:
        raise StateFileError(
            f"found a {cls.__module__}.{cls.__qualname__}; expected arrays, text, numbers and what has a kind of its own, as "
            "nothing is pickled. Mend: keep the state in arrays, or neurobridge.store.kinds.register the class."
        )
    return dict(value.to_state()) if hasattr(value, "to_state") else fields_of(value)


def fields_of(value: Any, *, without: Collection[str] = ()) -> State:
    """Return the fields of a dataclass or named tuple by name, without some of them.

    Examples
    --------
    >>> class Point(NamedTuple):
    ...     x: float
    ...     y: float
    >>> fields_of(Point(1.0, 2.0), without=("y",))
    {'x': 1.0}
    """
    return {name: getattr(value, name) for name in _fields(type(value)) if name not in without}


def build(name: str, version: int, state: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Build the object of a kind from its state.

    Parameters
    ----------
    name : str
        A kind, or what version 0.1 wrote for it.
    version : int
        Of the state.
    state : mapping of str to value
    given : mapping of str to value
        Parameters that are code and were passed to ``load``.

    Raises
    ------
    StateFileError
        An unknown kind, a version later than this one knows, or a state that is not of the kind.
    """
    kind = kind_of(name)
    values = upgraded(kind, version, state)
    if hasattr(kind.cls, "from_state"):
        return kind.cls.from_state(values, given)
    fields = _fields(kind.cls)
    needed = {field for field, optional in fields.items() if not optional}
    if not needed <= set(values) <= set(fields):
        raise StateFileError(
            f"found a {kind.name} of {sorted(values)}; expected {sorted(fields)}. Mend: load it with the neurobridge that "
            "wrote it, or fit again."
        )
    return kind.cls(**values)


def upgraded(kind: Kind, version: Any, state: Mapping[str, Any]) -> State:
    """Bring the state of an older version to the version of the kind.

    Raises
    ------
    StateFileError
        A version that is not known.
    """
    if not (type(version) is int and 1 <= version <= kind.version):
        raise StateFileError(
            f"found version {version!r} of {kind.name}; expected at most {kind.version}. Mend: load it with the neurobridge that "
            "wrote it, or a later one."
        )
    values = dict(state)
    for step in range(version, kind.version):
        values = kind.upgrades[step](values)
    return values


def _fields(cls: type) -> dict[str, bool]:
    """Names of the fields of a dataclass or named tuple, and which of them may be left out."""
    if dataclasses.is_dataclass(cls):
        return {
            field.name: field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            for field in dataclasses.fields(cls)
            if field.init
        }
    names: tuple[str, ...] = getattr(cls, "_fields", ())
    optional = getattr(cls, "_field_defaults", {})
    return {name: name in optional for name in names}


def _place(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
