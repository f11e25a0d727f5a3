"""Old name of `neurobridge.study`; it ends in version 0.3."""

from neurobridge.deprecations import forward

__getattr__ = forward(__name__)
