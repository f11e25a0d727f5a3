"""Levels of beta and of rotation, data and methods of the disentanglement experiment."""

from __future__ import annotations

from collections.abc import Sequence

from neurobridge.study.harness import Run

BETAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
DATA = {"scenes": "scenes to tuned sites (simulated)", "digits": "MNIST (real) to classifier features"}
MAPS = ("fused", "ridge")
N_LATENTS, N_PAIRS = 10, (20, 100)
TURNS = (0.0, 0.06, 0.12, 1.0)


def betas(run: Run) -> Sequence[float]:
    """Return the levels of beta of a run."""
    return (0.25, 4.0) if run.quick else BETAS


def turns(run: Run) -> Sequence[float]:
    """Return the amounts of rotation of a run."""
    return TURNS[:: len(TURNS) - 1] if run.quick else TURNS
