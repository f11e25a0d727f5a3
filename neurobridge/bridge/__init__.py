"""The method on plain arrays: distances, bridge cost, couplings."""

from neurobridge.bridge.cost.bridge import BridgeCost, bridge_cost
from neurobridge.bridge.cost.dense import DenseCost
from neurobridge.bridge.cost.distances import AnchorDistances
from neurobridge.bridge.cost.geometry import Geometry
from neurobridge.bridge.cost.graph import DisconnectedGraphWarning
from neurobridge.bridge.cost.in_memory import anchor_distances
from neurobridge.bridge.cost.metrics import METRICS
from neurobridge.bridge.cost.protocol import Cost
from neurobridge.bridge.diagnosis.diagnose import (
    BridgeWarning,
    CalibrationWarning,
    Coverage,
    Diagnostics,
    FewAnchorsWarning,
    LowOverlapWarning,
    NoisyAnchorsWarning,
    diagnose,
)
from neurobridge.bridge.fused.fuse import Candidate, CoreWarning, FusedBridge, fuse
from neurobridge.bridge.transport.coupling import SOLVERS, ConvergenceWarning, Coupling, couple
from neurobridge.bridge.unpaired.align import Trust, UnpairedStart, UntrustedAlignmentWarning, align_unpaired
from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.maps.linear import LinearMap, ridge_map

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
    "Cost",
    "Coupling",
    "Coverage",
    "DenseCost",
    "Diagnostics",
    "DisconnectedGraphWarning",
    "FewAnchorsWarning",
    "FusedBridge",
    "Geometry",
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
