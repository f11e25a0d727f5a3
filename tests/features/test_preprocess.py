"""Preprocessing: closed forms of each step, and its refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from neurobridge.assemblies import AssemblyError
from neurobridge.features import Preprocess


def pixels(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8))


def test_default_only_scales_and_moves_channels_first() -> None:
    stored = pixels((2, 4, 5, 3))
    got = Preprocess()(stored)
    assert got.shape == (2, 3, 4, 5)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), stored.numpy().transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    assert Preprocess()(pixels((2, 4, 5))).shape == (2, 1, 4, 5)
    assert Preprocess()(stored, dtype=torch.float64).dtype == torch.float64


def test_grayscale_weights_and_repeats() -> None:
    stored = pixels((2, 4, 5, 3))
    luma = Preprocess(grayscale=True)(stored)
    expected = (stored.numpy() @ np.array([0.299, 0.587, 0.114])) / 255
    np.testing.assert_allclose(luma[:, 0].numpy(), expected, rtol=1e-5)
    grey = pixels((2, 4, 5))
    three = Preprocess(grayscale=False)(grey)
    assert three.shape == (2, 3, 4, 5)
    assert torch.equal(three[:, 0], three[:, 2])
    assert torch.equal(Preprocess(grayscale=True)(grey), Preprocess()(grey))
    assert torch.equal(Preprocess(grayscale=False)(stored), Preprocess()(stored))


def test_normalisation_is_per_channel_after_scaling() -> None:
    stored = pixels((3, 6, 6, 3))
    got = Preprocess(mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 2.0])(stored)
    plain = Preprocess()(stored)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)]):
        np.testing.assert_allclose(got[:, channel].numpy(), (plain[:, channel].numpy() - mean) / std, atol=1e-6)
    np.testing.assert_allclose(Preprocess(mean=(0.5,))(stored).numpy(), plain.numpy() - 0.5, atol=1e-6)


def test_resize_keeps_constants_and_means_and_does_not_alias() -> None:
    constant = torch.full((1, 30, 30, 3), 100, dtype=torch.uint8)
    got = Preprocess(size=7)(constant)
    assert got.shape == (1, 3, 7, 7)
    np.testing.assert_allclose(got.numpy(), 100 / 255, rtol=1e-5)
    # One-pixel stripes average to grey; point sampling would keep black or white.
    stripes = torch.zeros((1, 64, 64), dtype=torch.uint8)
    stripes[:, :, ::2] = 254
    small = Preprocess(size=(8, 8))(stripes)
    np.testing.assert_allclose(small[..., 1:-1].numpy(), 127 / 255, atol=0.01)
    assert torch.equal(Preprocess(size=64)(stripes), Preprocess()(stripes))
    assert Preprocess(size=(10, 20))(stripes).shape == (1, 1, 10, 20)


def test_crop_keeps_the_central_square() -> None:
    stored = pixels((2, 10, 16, 3))
    whole = Preprocess()(stored)
    assert torch.equal(Preprocess(crop=0.6)(stored), whole[..., 2:8, 5:11])
    assert torch.equal(Preprocess(crop=1)(stored), whole[..., :, 3:13])
    assert Preprocess(crop=0.01)(stored).shape == (2, 3, 1, 1)
    resized = Preprocess(crop=0.6, size=3)(stored)
    assert torch.equal(resized, Preprocess(size=3)(stored[:, 2:8, 5:11]))


def test_crop_and_resize_are_what_models_are_tested_with() -> None:
    # Shorter side to 256, then the central 224, as torchvision does, on a smooth image.
    axis = torch.linspace(0, 1, 320)
    smooth = torch.sin(7 * axis[:, None]) * torch.cos(5 * axis[None, :])
    stored = ((smooth + 1) * 127).to(torch.uint8)[None]
    whole = torch.nn.functional.interpolate(stored[:, None] / 255, size=256, mode="bilinear", antialias=True)
    got = Preprocess(size=224, crop=224 / 256)(stored)
    np.testing.assert_allclose(got.numpy(), whole[..., 16:240, 16:240].numpy(), atol=0.01)


def test_bicubic_stays_in_range() -> None:
    edges = torch.zeros((1, 16, 16), dtype=torch.uint8)
    edges[:, :, 8:] = 255
    linear, cubic = (Preprocess(size=48, interpolation=how)(edges) for how in ("bilinear", "bicubic"))
    assert (linear - cubic).abs().max() > 0.01
    assert cubic.min() == 0
    assert cubic.max() == 1


def test_record_is_json_and_says_everything() -> None:
    given = Preprocess(size=224, mean=[0.1, 0.2, 0.3], std=[1, 1, 1], grayscale=False, visual_degrees=8)
    record = json.loads(json.dumps(given.record()))
    assert record["size"] == [224, 224]
    assert record["std"] == [1.0, 1.0, 1.0]
    assert record["grayscale"] is False
    assert record["visual_degrees"] == 8
    assert given == Preprocess(
        size=(224, 224), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), grayscale=False, visual_degrees=8
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size 0"),
        ({"size": (3, 4, 5)}, r"size \(3, 4, 5\)"),
        ({"size": (3, -4)}, r"size \(3, -4\)"),
        ({"mean": (0.1, 0.2)}, "2 values of mean"),
        ({"std": ()}, "0 values of std"),
        ({"std": (1.0, 0.0, 1.0)}, r"std \(1\.0, 0\.0, 1\.0\)"),
        ({"std": 1e-300}, r"1e-300.*float32"),
        ({"mean": 3.5e38}, r"3.5e\+38.*float32"),
        ({"mean": 1e10, "std": 1e-30}, r"1e\+40.*float32"),
        ({"interpolation": ["bilinear", "bicubic"]}, r"\['bilinear', 'bicubic'\]"),
        ({"visual_degrees": 0.0}, r"visual_degrees 0\.0"),
        ({"visual_degrees": float("nan")}, "visual_degrees nan"),
        ({"grayscale": float("nan")}, "grayscale=nan"),
        ({"crop": 0.0}, r"crop 0\.0"),
        ({"crop": 1.5}, r"crop 1\.5"),
        ({"interpolation": "nearest"}, "'nearest'.*'bilinear'.*'bicubic'"),
    ],
)
def test_bad_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Preprocess(**arguments)
    assert "Mend:" in str(caught.value)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_three_values_for_grey_images_are_refused(name: str) -> None:
    with pytest.raises(AssemblyError, match=f"3 values of {name}.* 1 channel.*grayscale=False"):
        Preprocess(**{name: (0.4, 0.5, 0.6)})(pixels((2, 4, 4)))
