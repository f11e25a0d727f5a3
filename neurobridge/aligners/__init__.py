"""Labelled in, labelled out: alignment of two assemblies through their pairs, and the baselines behind the same interface."""

from neurobridge.aligners.base import AlignerNotFittedError, AssemblyAligner
from neurobridge.aligners.bridge import COSTS, COUPLINGS, MAPS, BridgeAligner, Map
from neurobridge.aligners.keypoints import KeypointAligner
from neurobridge.aligners.linear import ProcrustesAligner, RidgeAligner
from neurobridge.aligners.relative import RelativeAligner
from neurobridge.aligners.storage import AlignerFileError
from neurobridge.aligners.subspaces import CCAAligner, PLSAligner

BASELINES: dict[str, type[AssemblyAligner]] = {
    "ridge": RidgeAligner,
    "procrustes": ProcrustesAligner,
    "pls": PLSAligner,
    "cca": CCAAligner,
    "relative": RelativeAligner,
    "keypoints": KeypointAligner,
}

__all__ = [
    "BASELINES",
    "COSTS",
    "COUPLINGS",
    "MAPS",
    "AlignerFileError",
    "AlignerNotFittedError",
    "AssemblyAligner",
    "BridgeAligner",
    "CCAAligner",
    "KeypointAligner",
    "Map",
    "PLSAligner",
    "ProcrustesAligner",
    "RelativeAligner",
    "RidgeAligner",
]
