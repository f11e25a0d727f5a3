"""Baselines by name: the aligners that any alignment must be compared with, on the same pairs."""

from __future__ import annotations

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.aligners.baselines.fugw import FUGW
from neurobridge.aligners.baselines.keypoints import KeypointAligner
from neurobridge.aligners.baselines.linear import ProcrustesAligner, RidgeAligner
from neurobridge.aligners.baselines.relative import RelativeAligner
from neurobridge.aligners.baselines.selftrained import SelfTrainedProcrustes
from neurobridge.aligners.baselines.spectral import SpectralRidge
from neurobridge.aligners.baselines.subspaces import CCAAligner, PLSAligner
from neurobridge.aligners.baselines.whitened import WhitenedProcrustes

#: Class of each baseline, by name.
BASELINES: dict[str, type[AssemblyAligner]] = {
    "ridge": RidgeAligner,
    "procrustes": ProcrustesAligner,
    "pls": PLSAligner,
    "cca": CCAAligner,
    "relative": RelativeAligner,
    "keypoints": KeypointAligner,
    "self-trained": SelfTrainedProcrustes,
    "whitened": WhitenedProcrustes,
    "spectral": SpectralRidge,
    "fugw": FUGW,
}
