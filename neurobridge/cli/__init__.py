"""Command line: `neurobridge ...`. Modules of commands import heavy rooms inside the command: help and completion stay light."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
