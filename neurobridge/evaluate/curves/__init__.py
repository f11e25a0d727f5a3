"""Learning curves: how well aligned activations predict held-out responses, by number of pairs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
