"""The compared methods: one list for the demo, the experiments and the styles of their figures."""

from __future__ import annotations

from typing import Any

from neurobridge.aligners import BASELINES, AssemblyAligner, BridgeAligner

#: Name of a method of this package -> settings of its `BridgeAligner`.
BRIDGES: dict[str, dict[str, Any]] = {
    "fused": {"coupling": "fused", "map": "barycentric"},
    "fused-flow": {"coupling": "fused", "map": "flow"},
    "bridge": {"coupling": "factored", "map": "barycentric"},
    "bridge-flow": {"coupling": "factored", "map": "flow"},
    "unbalanced": {"coupling": "factored", "map": "barycentric", "unbalanced": 1.0},
    "pairs-flow": {"coupling": "pairs", "map": "flow"},
}
#: Methods that train a flow.
FLOWS: tuple[str, ...] = tuple(name for name, settings in BRIDGES.items() if settings["map"] == "flow")
#: Names of all compared methods: those of this package, then the baselines.
METHODS: tuple[str, ...] = (*BRIDGES, *BASELINES)


def make_aligner(name: str, seed: int = 0, **options: Any) -> AssemblyAligner:
    """Make the unfitted aligner of a compared method.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    seed : int
        Seed of the aligner.
    **options
        Further keyword arguments of the aligner; they replace the settings of the method.

    Returns
    -------
    AssemblyAligner

    Raises
    ------
    ValueError
        An unknown name.

    Examples
    --------
    >>> from neurobridge.study import make_aligner
    >>> make_aligner("fused", seed=3).get_params()["coupling"]
    'fused'
    """
    if name in BRIDGES:
        return BridgeAligner(**{**BRIDGES[name], "seed": seed, **options})
    if name in BASELINES:
        return BASELINES[name](**{"seed": seed, **options})
    raise ValueError(f"found method {name!r}; expected one of {list(METHODS)}. Mend: choose one of them.")
