"""Conditional flow matching: path and loss, velocity networks, ODE transport."""

from neurobridge.flow.model import BASES, ConditionalFlow, Standardiser
from neurobridge.flow.networks import VelocityMLP
from neurobridge.flow.ode import STEPS, integrate
from neurobridge.flow.path import PathSample, flow_matching_loss, sample_path

__all__ = [
    "BASES",
    "STEPS",
    "ConditionalFlow",
    "PathSample",
    "Standardiser",
    "VelocityMLP",
    "flow_matching_loss",
    "integrate",
    "sample_path",
]
