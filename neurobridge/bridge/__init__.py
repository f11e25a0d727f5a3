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
from neurobridge.bridge.fused import Candidate, FusedBridge, fuse
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
    "Coupling",
    "Coverage",
    "Diagnostics",
    "DisconnectedGraphWarning",
    "FewAnchorsWarning",
    "FusedBridge",
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
    "ridge_map",
]
