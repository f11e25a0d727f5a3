"""Several poolings at once: each as if it had been asked for alone, from one forward pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from neurobridge.assemblies import AssemblyError, open_assembly
from neurobridge.features import RandomProjection, extract, fit_pca
from tests.refusals import refused

SEVERAL = ("mean", "flatten", RandomProjection(5))


def make_images(n: int, *, seed: int = 0, **more) -> xr.DataArray:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(n, 12, 12, 3), dtype=np.uint8)
    coords = {"stimulus_id": ("presentation", [f"im{k:03d}" for k in range(n)]), **more}
    return xr.DataArray(pixels, dims=("presentation", "row", "column", "channel"), coords=coords)


class Counting(nn.Sequential):
    """A small network that counts its forward passes."""

    n_passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.n_passes += 1
        return super().forward(x)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counting(
            nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6)
        )


def test_each_pooling_is_what_it_is_alone(model):
    images, layers = make_images(7), ["0", "1", "4"]
    several = extract(model, images, layers, pooling=SEVERAL, batch_size=3)
    assert list(dict.fromkeys(several["pooling"].values)) == ["mean", "flatten", "sparse:5"]
    assert len(set(several["neuroid_id"].values)) == several.sizes["neuroid"]
    for label, pooling in zip(("mean", "flatten", "sparse:5"), SEVERAL, strict=True):
        alone = extract(model, images, layers, pooling=pooling, batch_size=3)
        chosen = several[:, several["pooling"].values == label]
        np.testing.assert_array_equal(chosen.values, alone.values)
        for name in ("layer", "channel", "row", "column"):
            assert chosen[name].values.tolist() == alone[name].values.tolist()
    # Layer by layer, the poolings in the order given.
    assert several["layer"].values[[0, -1]].tolist() == ["0", "4"]
    assert several["neuroid_id"].values[0] == "0.mean.0.-1.-1"
    assert json.loads(several.attrs["pooling"][2])["random_projection"]["n_components"] == 5
    assert several.attrs["pooling"][:2] == ["mean", "flatten"]


def test_several_poolings_are_one_forward_pass(model):
    images, axes = make_images(6), {"0": "presentation,channel,row,column"}
    counts = []
    for pooling in ("mean", SEVERAL):
        Counting.n_passes = 0
        extract(model, images, "0", pooling=pooling, axes=axes, batch_size=2)
        counts.append(Counting.n_passes)
    assert counts == [3, 3]


def test_a_sequence_of_one_has_the_coordinate_too(model):
    got = extract(model, make_images(3), "0", pooling=["mean"])
    assert got["pooling"].values.tolist() == ["mean"] * 4
    assert "pooling" not in extract(model, make_images(3), "0", pooling="mean").coords


def test_components_beside_other_poolings(model):
    pca = fit_pca(model, make_images(20, seed=1), "0", n_components=3)
    images = make_images(4)
    got = extract(model, images, "0", pooling=(pca, "mean"))
    np.testing.assert_array_equal(
        got[:, got["pooling"] == "pca:3"].values, extract(model, images, "0", pooling=pca).values
    )
    with pytest.raises(AssemblyError, match="fitted on"):
        extract(model, make_images(20, seed=1), "0", pooling=(pca, "mean"))


def test_a_streamed_result_is_resumed_and_kept(model, tmp_path):
    images, out = make_images(9), tmp_path / "out.nc"
    memory = extract(model, images, ["0", "4"], pooling=SEVERAL, batch_size=2)

    def stop(module, inputs, output):
        Counting.n_passes += 1
        if Counting.n_passes > 3:
            raise KeyboardInterrupt

    Counting.n_passes = 0
    axes = {"0": "presentation,channel,row,column", "4": "presentation,channel"}
    handle = model[0].register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, ["0", "4"], pooling=SEVERAL, batch_size=2, out=out, axes=axes)
    handle.remove()
    kept = extract(model, images, ["0", "4"], pooling=SEVERAL, batch_size=2, out=out, axes=axes)
    np.testing.assert_array_equal(kept.values, memory.values)
    stored = open_assembly(out)
    assert stored["pooling"].values.tolist() == memory["pooling"].values.tolist()
    assert list(stored.attrs["pooling"]) == memory.attrs["pooling"]
    with refused(AssemblyError, out, "extraction key"):
        extract(model, images, ["0", "4"], pooling=("flatten", "mean"), batch_size=2, out=out, axes=axes)


@pytest.mark.parametrize(
    ("pooling", "facts"),
    [
        ((), ["[]"]),
        (("mean", "mean"), ["['mean', 'mean']"]),
        (("mean", "max"), ["'max'", "'flatten'"]),
        ((RandomProjection(3), RandomProjection(3, seed=1)), ["sparse:3"]),
    ],
)
def test_poolings_that_cannot_be_told_apart_are_refused(model, pooling, facts):
    with refused(AssemblyError, *facts):
        extract(model, make_images(2), "0", pooling=pooling)


def test_a_stimulus_column_of_that_name_is_in_the_way_of_several_alone(model):
    images = make_images(2, pooling=("presentation", ["a", "b"]))
    assert extract(model, images, "0", pooling="mean")["pooling"].dims == ("presentation",)
    with refused(AssemblyError, ["pooling"]):
        extract(model, images, "0", pooling=("mean", "flatten"))
