"""Costs, couplings and fused bridges on a GPU: the numbers of the CPU. Without a GPU, on a device that only refuses mixtures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neurobridge.bridge import Candidate, bridge_cost, couple, fuse

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

RNG = np.random.default_rng(0)
X, Y, NEW = RNG.normal(size=(60, 4)), RNG.normal(size=(50, 5)), RNG.normal(size=(9, 4))
PAIRS = np.arange(8), np.arange(8)
MANY = np.arange(8), np.arange(8) // 2
SEARCH = {
    "metric": "euclidean", "lams": (0.9, 0.5), "epsilons": (0.2,), "n_rounds": (1,), "kernel_rounds": (0, 1), "n_folds": 2,
    "maps": ("ridge", "whitened"),
}  # fmt: skip
GIVEN = {
    "metric": "euclidean",
    "candidate": Candidate(lam=0.9, epsilon=0.2, n_rounds=1, readout="mean", kernel_rounds=1),
}
#: All points at once after a search, and in minibatches with a given candidate: the search knows no minibatches.
FUSED = [{"minibatch_size": None, **SEARCH}, {"minibatch_size": 30, **GIVEN}]
# Warm enough that the solvers need few steps, each of which is slow on a device that only refuses mixtures.
EPSILON, TOL = 0.5, 1e-4


OPTIONS = [
    {}, {"metric": "geodesic"}, {"nearest": 3}, {"stream": True}, {"metric": "geodesic", "nearest": 3},
    {"confidence": np.linspace(0.2, 1, 8)},
]  # fmt: skip


def check_couplings(device, pairs, options):
    """Cost and factored coupling on a device, beside those of the CPU."""

    def answers(device):
        cost = bridge_cost(X, Y, pairs, device=device, **options)
        coupling = couple(cost, epsilon=EPSILON, tol=TOL)
        if device is not None:
            assert cost.source_factor.device.type == coupling.plan.log_v.device.type == device
        return [
            cost.at(EPSILON).dense(), *coupling.log_scalings, coupling.map(NEW, Y), coupling.barycentric(Y), coupling.row_mass,
            coupling.col_mass, coupling.conditional(3), coupling.transposed().barycentric(X),
            couple(cost, epsilon=EPSILON, unbalanced=1.0, tol=TOL).row_mass,
            couple(cost, epsilon=EPSILON / 2, tol=TOL, init=coupling).col_mass,
        ]  # fmt: skip

    for ours, theirs in zip(answers(device), answers(None), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    cost = bridge_cost(X, Y, pairs, device=device, **options)
    i, j = couple(cost, epsilon=EPSILON, tol=TOL).sample(20_000, np.random.default_rng(0))
    table = np.zeros((60, 50))
    np.add.at(table, (i, j), 1 / len(i))
    dense = couple(bridge_cost(X, Y, pairs, **options), epsilon=EPSILON, tol=TOL).dense()
    assert np.abs((table - dense).reshape(6, 10, 5, 10).sum((1, 3))).sum() < 0.05


def check_fused(device, options, tolerance):
    """Fused bridge on a device beside that of the CPU; tensors in, tensors out."""
    near, far = fuse(X, Y, PAIRS, **options), fuse(X, Y, PAIRS, device=device, **options)
    assert far._states[0].plan.log_v.device.type == device
    assert far.candidate == near.candidate
    answers = [
        [
            bridge.map(NEW), bridge.map_back(Y), bridge.coupling.barycentric(Y), bridge.coupling.row_mass,
            bridge._states[0].barycentric(NEW),
            bridge.coupling.expected_cost(),
        ]
        for bridge in (far, near)
    ]  # fmt: skip
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    i, j = far.sample(500, np.random.default_rng(0))
    assert near.coupling.dense()[i, j].min() > 0
    far_X, far_Y, far_new = (torch.as_tensor(side, device=device) for side in (X, Y, NEW))
    # On the device of its points, without being told.
    given = {**GIVEN, "minibatch_size": options["minibatch_size"]}
    mapped = fuse(far_X, far_Y, PAIRS, **given).map(far_new)
    assert mapped.device.type == device
    expected = fuse(X, Y, PAIRS, **given).map(NEW)
    np.testing.assert_allclose(mapped.cpu().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("pairs", [PAIRS, MANY], ids=["pairs", "many-to-one"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_couplings_on_a_gpu_are_those_of_the_cpu(pairs, options):
    check_couplings("cuda", pairs, options)


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("options", FUSED, ids=["all at once", "minibatches"])
def test_a_fused_bridge_on_a_gpu_is_that_of_the_cpu(options):
    # Fused costs are float32, whose sums round in another order on a GPU; over epsilon that is more than 1e-5.
    check_fused("cuda", options, 1e-3)


def test_no_tensor_meets_one_of_another_device():
    # In a process of its own: a device once made known stays known, to all that is run later.
    script = Path(__file__).with_name("far_device.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["refuses", "couplings", "fused"]
