"""Conditional flow matching: path and loss, velocity networks, training, ODE transport."""

from neurobridge.flow.bases import BASES, Base
from neurobridge.flow.model import ConditionalFlow, PairSampler
from neurobridge.flow.networks import VelocityMLP, default_size
from neurobridge.flow.ode import SOLVERS, STEPS, Integrated, integrate
from neurobridge.flow.path import PathSample, flow_matching_loss, recouple, sample_path, squared_distance
from neurobridge.flow.transport import Direction, Spread
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import OffSupportWarning, Support
from neurobridge.store.state import FlowFileError

__all__ = [
    "BASES",
    "SOLVERS",
    "STEPS",
    "Base",
    "ConditionalFlow",
    "Direction",
    "FlowFileError",
    "Integrated",
    "OffSupportWarning",
    "PairSampler",
    "PathSample",
    "Spread",
    "Standardiser",
    "Support",
    "VelocityMLP",
    "default_size",
    "flow_matching_loss",
    "integrate",
    "recouple",
    "sample_path",
    "squared_distance",
]
