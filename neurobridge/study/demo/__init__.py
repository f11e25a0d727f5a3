"""The main job: one dataset through every room of the house."""

from neurobridge.study.demo.job import run_demo
from neurobridge.study.demo.task import DATASETS, SIMULATED, DemoConfig

__all__ = ["DATASETS", "SIMULATED", "DemoConfig", "run_demo"]
