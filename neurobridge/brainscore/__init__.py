"""Adapter to the Brain-Score packages; nothing else in the package knows their classes.

Importing it sets the environment variables of `prepare_environment`, where they are not set already. The packages themselves are
imported when they are needed.
"""

import lazy_loader

from neurobridge.brainscore.environment import prepare_environment

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

prepare_environment()
