"""Similarity of two spaces: RDMs, CKA, Procrustes distance, distributions: the namespace of `neurobridge.evaluate.similarity`."""

from neurobridge.evaluate.similarity import *  # noqa: F403
