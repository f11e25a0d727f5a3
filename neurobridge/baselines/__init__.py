"""What any alignment must be compared with, on the same pairs and behind the same interface."""

from neurobridge.aligner import AssemblyAligner
from neurobridge.baselines.keypoints import KeypointAligner
from neurobridge.baselines.linear import ProcrustesAligner, RidgeAligner
from neurobridge.baselines.relative import RelativeAligner
from neurobridge.baselines.subspaces import CCAAligner, PLSAligner

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
    "CCAAligner",
    "KeypointAligner",
    "PLSAligner",
    "ProcrustesAligner",
    "RelativeAligner",
    "RidgeAligner",
]
