"""Training and transport on a GPU: the same maps as on a CPU, in mixed precision as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

from neurobridge.bridge import ridge_map
from neurobridge.flow import BASES, ConditionalFlow, Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning"),
]


@pytest.mark.parametrize("precision", [False, None, "float16"])
@pytest.mark.parametrize("base", [*BASES, "maps"])
def test_a_gpu_learns_what_a_cpu_learns(base, precision, known):
    X, Y = known.spaces()
    base = (ridge_map(X, Y), ridge_map(Y, X)) if base == "maps" else base
    flow = ConditionalFlow(base, training=Training(n_steps=200))
    cpu = clone(flow).fit(X, Y, known.Matching(600))
    gpu = clone(flow).set_params(device="cuda", training__mixed_precision=precision).fit(X, Y, known.Matching(600))
    assert gpu.losses_[-50:].mean() == pytest.approx(cpu.losses_[-50:].mean(), rel=0.1)
    for direction, points in (("forward", X), ("backward", Y)):
        moved = gpu.transport(points, direction)
        assert moved.shape == cpu.transport(points, direction).shape
        assert np.isfinite(moved).all()


def test_a_run_on_a_gpu_is_resumed_where_it_stopped(known, tmp_path):
    X, Y = known.spaces(n=100)
    flow = ConditionalFlow(training=Training(n_steps=60, checkpoint=tmp_path), device="cuda")
    first, again = (clone(flow).fit(X, Y, known.Matching(100)) for _ in range(2))
    assert again.resumed_at_ == {"forward": 60, "backward": 60}
    np.testing.assert_array_equal(again.transport(X), first.transport(X))


def test_a_flow_trained_on_a_gpu_is_loaded_on_a_cpu(known, tmp_path):
    X, Y = known.spaces(n=100)
    flow = ConditionalFlow(training=Training(n_steps=60), device="cuda").fit(X, Y, known.Matching(100))
    flow.save(tmp_path)
    again = ConditionalFlow.load(tmp_path, device="cpu")
    np.testing.assert_allclose(again.transport(X), flow.transport(X), atol=1e-2 * Y.std())
