"""The method on plain arrays: distances, bridge cost, couplings."""

from typing import Any

import lazy_loader

from neurobridge.deprecations import warn_moved

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "CoreWarning":
        warn_moved("neurobridge.bridge.CoreWarning", "neurobridge.bridge.MinibatchWarning", stacklevel=2)
        name = "MinibatchWarning"
    return _load(name)
