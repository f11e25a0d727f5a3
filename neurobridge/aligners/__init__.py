"""Labelled in, labelled out: alignment of two assemblies through their pairs, and the baselines behind the same interface."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
