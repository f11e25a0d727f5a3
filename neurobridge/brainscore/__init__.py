"""Adapter to the Brain-Score packages; nothing else in the package knows their classes.

Importing it sets the environment variables of `prepare_environment`, where they are not set already. The packages themselves are
imported when they are needed.
"""

from neurobridge.brainscore.aligned import aligned_predictivity
from neurobridge.brainscore.benchmarks import majajhong2015_public
from neurobridge.brainscore.convert import from_brainscore, to_brainscore
from neurobridge.brainscore.environment import SAFE_ENVIRONMENT, prepare_environment
from neurobridge.brainscore.links import link, status, unlink
from neurobridge.brainscore.metrics import BrainScoreMetric, to_score
from neurobridge.brainscore.model import AlignedBrainModel
from neurobridge.brainscore.registry import register

__all__ = [
    "SAFE_ENVIRONMENT",
    "AlignedBrainModel",
    "BrainScoreMetric",
    "aligned_predictivity",
    "from_brainscore",
    "link",
    "majajhong2015_public",
    "prepare_environment",
    "register",
    "status",
    "to_brainscore",
    "to_score",
    "unlink",
]

prepare_environment()
