"""Labelled in, labelled out: alignment of two assemblies through their pairs."""

from neurobridge.aligner.base import AlignerNotFittedError, AssemblyAligner
from neurobridge.aligner.bridge import COSTS, COUPLINGS, MAPS, BridgeAligner, Map
from neurobridge.aligner.storage import AlignerFileError

__all__ = [
    "COSTS",
    "COUPLINGS",
    "MAPS",
    "AlignerFileError",
    "AlignerNotFittedError",
    "AssemblyAligner",
    "BridgeAligner",
    "Map",
]
