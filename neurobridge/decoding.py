"""Decoding of labels and attributes, with chance levels: the namespace of `neurobridge.evaluate.decoding`."""

from neurobridge.evaluate.decoding import *  # noqa: F403
