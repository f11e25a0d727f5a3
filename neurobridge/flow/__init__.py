"""Conditional flow matching: path and loss, velocity networks, training, ODE transport."""

from neurobridge.flow.bases import BASES, Base
from neurobridge.flow.fitting import PairSampler
from neurobridge.flow.model import ConditionalFlow
from neurobridge.flow.networks import VelocityMLP, default_size
from neurobridge.flow.ode import ODE, SOLVERS, STEPS, Integrated, integrate
from neurobridge.flow.path import PathSample, flow_matching_loss, recouple, sample_path, squared_distance
from neurobridge.flow.settings import Training
from neurobridge.flow.transport import Direction, FlowNotFittedError, Spread
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import OffSupportWarning, Support
from neurobridge.store.state import FlowFileError

__all__ = [
    "BASES",
    "ODE",
    "SOLVERS",
    "STEPS",
    "Base",
    "ConditionalFlow",
    "Direction",
    "FlowFileError",
    "FlowNotFittedError",
    "Integrated",
    "OffSupportWarning",
    "PairSampler",
    "PathSample",
    "Spread",
    "Standardiser",
    "Support",
    "Training",
    "VelocityMLP",
    "default_size",
    "flow_matching_loss",
    "integrate",
    "recouple",
    "sample_path",
    "squared_distance",
]
