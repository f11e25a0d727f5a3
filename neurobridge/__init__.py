"""Align brain recordings and model activations through a few shared stimuli.

The names used most stand here; the others are in namespaces by task. `assemblies`, `datasets`, `features`, `aligners`,
`evaluate`, `splits`, `decoding`, `similarity`, `figures`, `brainscore` and `study` take labelled assemblies, `bridge` and
`flow` plain arrays. Everything is loaded when it is first used.
"""

from typing import Any

import lazy_loader

from neurobridge import deprecations
from neurobridge._version import __version__ as __version__

NAMESPACES = (
    "aligners",
    "assemblies",
    "brainscore",
    "bridge",
    "datasets",
    "decoding",
    "evaluate",
    "features",
    "figures",
    "flow",
    "similarity",
    "splits",
    "study",
)

_load, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
# Without the namespaces: a star import loads no room that is not asked for.
__all__ = ["__version__", *(name for name in _names if name not in NAMESPACES)]


def __getattr__(name: str) -> Any:
    if name in deprecations.NAMES or name in deprecations.MODULES:
        return deprecations.resolve(name)
    return _load(name)
