"""Activations recorded on dask workers: those of one process, also when a worker dies."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.features import RandomProjection, extract, showing
from neurobridge.points.workers import shared_value
from tests.refusals import refused

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 12, 12)).astype(np.uint8)
IMAGES = xr.DataArray(
    PIXELS,
    dims=("presentation", "row", "column"),
    coords={"stimulus_id": ("presentation", [f"image{k:02d}" for k in range(len(PIXELS))])},
)


class Noisy(torch.nn.Module):
    """Noise in evaluation mode, too: what is drawn depends on the seed of the block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.top = torch.nn.Linear(4 * 10 * 10, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        return self.top((maps + 0.1 * torch.randn_like(maps)).flatten(1))


class Counting(torch.nn.Module):
    """A model that counts its batches in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.top = torch.nn.Linear(144, 2)
        self.register_buffer("n_batches", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            self.n_batches += 1
        return self.top(images.flatten(1))


def model() -> Noisy:
    torch.manual_seed(0)
    return Noisy().train()


def recorded(**options):
    return extract(model(), IMAGES, ["conv", "top"], batch_size=8, seed=3, **options)


@pytest.mark.parametrize("pooling", ["flatten", ("mean", RandomProjection(n_components=6))], ids=["one", "several"])
def test_equals_one_process(cluster, pooling):
    shown = model()
    ours = extract(shown, IMAGES, ["conv", "top"], batch_size=8, seed=3, pooling=pooling, distributed=True)
    xr.testing.assert_allclose(ours, recorded(pooling=pooling), rtol=1e-5, atol=1e-6)
    assert shown.training
    assert not shown.conv._forward_hooks


def test_a_killed_worker_does_not_lose_the_job(killed_worker, monkeypatch, tmp_path):
    seen = [0]

    def kill_once(seed, rows):
        seen[0] += 1
        if seen[0] == 3:
            killed_worker()
        return block_seed(seed, rows)

    block_seed = showing.block_seed
    monkeypatch.setattr(showing, "block_seed", kill_once)
    ours = recorded(distributed=True, out=tmp_path / "activations.nc")
    assert seen[0] == 5, "a job a block, however often it is run"
    monkeypatch.setattr(showing, "block_seed", block_seed)
    np.testing.assert_allclose(ours.values, recorded().values, rtol=1e-5, atol=1e-6)


def test_a_file_begun_here_is_finished_on_workers(cluster, tmp_path):
    class Breaking:
        """Pools as "flatten", until it is interrupted."""

        left = 3

        def __call__(self, layer, output):
            if output.shape[0] == 8:
                self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return output

        def record(self):
            return "flatten"

    with pytest.raises(KeyboardInterrupt):
        extract(model(), IMAGES, "top", batch_size=8, seed=3, out=tmp_path / "a.nc", pooling=Breaking())
    ours = extract(model(), IMAGES, "top", batch_size=8, seed=3, out=tmp_path / "a.nc", distributed=True)
    theirs = extract(model(), IMAGES, "top", batch_size=8, seed=3)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-5, atol=1e-6)


def test_errors_of_workers_are_those_of_one_process(cluster):
    bad = model()
    bad.top.register_forward_hook(lambda module, inputs, output: output * torch.inf)
    with refused(AssemblyError, "layer 'top'", "NaN or infinite", "image00"):
        extract(bad, IMAGES, "top", batch_size=8, distributed=True)
    with refused(RuntimeError, "other weights or buffers", "frozen model"):
        extract(Counting(), IMAGES, "top", batch_size=8, axes={"top": ("presentation", "channel")}, distributed=True)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"device": "cuda"}, ["device='cuda'", "device=None"]),
        ({}, ["distributed=True", "no client", "client = Client("]),
    ],
)
def test_refuses(options, facts):
    with refused(ValueError, *facts):
        recorded(distributed=True, **options)


def test_refuses_a_model_that_cannot_be_sent(cluster):
    locked = model()
    locked.lock = threading.Lock()
    with refused(ValueError, "model: found a Noisy that cannot be pickled", "distributed=False"):
        extract(locked, IMAGES, "top", distributed=True)


def test_axes_that_cannot_be_found_are_warned_of_once(cluster):
    class Eight(torch.nn.Module):
        """Takes eight images and no other number, and mixes all their parts."""

        def __init__(self) -> None:
            super().__init__()
            self.top = torch.nn.Linear(144, 6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) != 8:
                raise ValueError(len(images))
            return self.top(images.flatten(1)).reshape(8, 3, 2)

    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = torch.nn.Sequential(Eight())
        ours = extract(network, IMAGES, "0", batch_size=8, distributed=True)
    assert len([each for each in caught if "axes" in str(each.message)]) == 1
    with pytest.warns(UserWarning, match="axes"):
        theirs = extract(network, IMAGES, "0", batch_size=8)
    xr.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_refuses_a_model_that_is_not_on_the_cpu(cluster):
    with refused(ValueError, "model: found weights on meta", "model.cpu()"):
        extract(Noisy().to("meta"), IMAGES, "top", distributed=True)


def test_refuses_what_is_no_flag():
    with refused(AssemblyError, "distributed=2"):
        recorded(distributed=2)


def test_a_shared_value_without_a_client():
    assert shared_value("value", distributed=False) == "value"
    with refused(ValueError, "no client"):
        shared_value("value", distributed=True)
