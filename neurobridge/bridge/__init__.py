"""The method on plain arrays: distances, bridge cost, couplings."""

from neurobridge.bridge.cost import BridgeCost, bridge_cost
from neurobridge.bridge.coupling import SOLVERS, ConvergenceWarning, Coupling, couple
from neurobridge.bridge.diagnostics import (
    BridgeWarning,
    CalibrationWarning,
    Coverage,
    Diagnostics,
    FewAnchorsWarning,
    LowOverlapWarning,
    NoisyAnchorsWarning,
    diagnose,
)
from neurobridge.bridge.distances import METRICS, AnchorDistances, DisconnectedGraphWarning, anchor_distances
from neurobridge.bridge.fused import Candidate, CoreWarning, FusedBridge, fuse
from neurobridge.bridge.kernel import KernelMap, kernel_map
from neurobridge.bridge.linear import LinearMap, ridge_map
from neurobridge.bridge.unpaired import Trust, UnpairedStart, UntrustedAlignmentWarning, align_unpaired

__all__ = [
    "METRICS",
    "SOLVERS",
    "AnchorDistances",
    "BridgeCost",
    "BridgeWarning",
    "CalibrationWarning",
    "Candidate",
    "ConvergenceWarning",
    "CoreWarning",
    "Coupling",
    "Coverage",
    "Diagnostics",
    "DisconnectedGraphWarning",
    "FewAnchorsWarning",
    "FusedBridge",
    "KernelMap",
    "LinearMap",
    "LowOverlapWarning",
    "NoisyAnchorsWarning",
    "Trust",
    "UnpairedStart",
    "UntrustedAlignmentWarning",
    "align_unpaired",
    "anchor_distances",
    "bridge_cost",
    "couple",
    "diagnose",
    "fuse",
    "kernel_map",
    "ridge_map",
]
