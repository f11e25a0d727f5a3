"""The method on plain arrays: distances, bridge cost, couplings."""

from neurobridge.bridge.cost import BridgeCost, bridge_cost
from neurobridge.bridge.coupling import SOLVERS, ConvergenceWarning, Coupling, couple
from neurobridge.bridge.distances import METRICS, AnchorDistances, DisconnectedGraphWarning, anchor_distances
from neurobridge.bridge.fused import Candidate, FusedBridge, fuse
from neurobridge.bridge.linear import LinearMap, ridge_map

__all__ = [
    "METRICS",
    "SOLVERS",
    "AnchorDistances",
    "BridgeCost",
    "Candidate",
    "ConvergenceWarning",
    "Coupling",
    "DisconnectedGraphWarning",
    "FusedBridge",
    "LinearMap",
    "anchor_distances",
    "bridge_cost",
    "couple",
    "fuse",
    "ridge_map",
]
