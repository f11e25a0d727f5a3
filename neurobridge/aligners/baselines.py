"""Baselines by name: the aligners that any alignment must be compared with, on the same pairs."""

from __future__ import annotations

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.aligners.keypoints import KeypointAligner
from neurobridge.aligners.linear import ProcrustesAligner, RidgeAligner
from neurobridge.aligners.relative import RelativeAligner
from neurobridge.aligners.subspaces import CCAAligner, PLSAligner

BASELINES: dict[str, type[AssemblyAligner]] = {
    "ridge": RidgeAligner,
    "procrustes": ProcrustesAligner,
    "pls": PLSAligner,
    "cca": CCAAligner,
    "relative": RelativeAligner,
    "keypoints": KeypointAligner,
}
