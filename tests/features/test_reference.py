"""The energy model: quadrature, tuning, pooling, and what it predicts of real V4 sites."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import RidgeCV

from neurobridge.assemblies import AssemblyError
from neurobridge.features import GaborEnergy, Preprocess, extract
from neurobridge.features.references.gabor import gabor_bank

LAYERS = ("colour", "v1", "v2")


def grating(wavelength: float, angle: float, phase: float, size: int = 64, contrast: float = 0.5) -> torch.Tensor:
    y, x = np.mgrid[:size, :size]
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    return torch.from_numpy(0.5 + 0.5 * contrast * wave).float()[None, None]


def layer_outputs(model: GaborEnergy, images: torch.Tensor) -> dict[str, torch.Tensor]:
    outputs: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: outputs.__setitem__(name, o))
        for name in LAYERS
    ]
    with torch.no_grad():
        whole = model(images)
    for handle in handles:
        handle.remove()
    assert torch.equal(whole, torch.cat([outputs[name].flatten(1) for name in LAYERS], dim=1))
    return outputs


@pytest.mark.parametrize("n_orientations", [1, 4, 6])
def test_filters_have_zero_mean_and_unit_norm_and_are_in_quadrature(n_orientations: int) -> None:
    bank = gabor_bank(5.0, n_orientations).double()
    assert bank.shape[:2] == (2 * n_orientations, 1)
    np.testing.assert_allclose(bank.sum(dim=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose((bank**2).sum(dim=(1, 2, 3)), 1, atol=1e-6)
    np.testing.assert_allclose((bank[0::2] * bank[1::2]).sum(dim=(1, 2, 3)), 0, atol=1e-6)


def test_energy_does_not_depend_on_phase_but_on_orientation_and_scale() -> None:
    model = GaborEnergy(n_orientations=4, n_scales=3)
    responses = torch.stack(
        [
            layer_outputs(model, grating(4.0, np.pi / 4, phase))["v1"].mean(dim=(0, 2, 3))
            for phase in np.linspace(0, 2 * np.pi, 7)
        ]
    )
    spread = (responses.max(dim=0).values - responses.min(dim=0).values) / responses.max()
    assert spread.max() < 0.03
    assert int(responses.mean(dim=0).argmax()) == 1
    coarse = layer_outputs(model, grating(8.0, np.pi / 2, 0.3))["v1"].mean(dim=(0, 2, 3))
    assert int(coarse.argmax()) == 4 + 2


def test_a_quarter_turn_of_the_image_permutes_orientations_and_grid() -> None:
    model = GaborEnergy(n_orientations=4, n_scales=2, second_grid=4)
    image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    straight, turned = layer_outputs(model, image), layer_outputs(model, torch.rot90(image, 1, (2, 3)))
    expected = torch.rot90(straight["v1"], 1, (2, 3)).reshape(1, 2, 4, 4, 4).roll(2, dims=2)
    np.testing.assert_allclose(turned["v1"].reshape(1, 2, 4, 4, 4), expected, rtol=1e-3, atol=1e-4)
    second = torch.rot90(straight["v2"], 1, (2, 3)).reshape(1, 2, 4, 4, 4, 4).roll((2, 2), dims=(2, 3))
    np.testing.assert_allclose(turned["v2"].reshape(1, 2, 4, 4, 4, 4), second, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(turned["colour"], torch.rot90(straight["colour"], 1, (2, 3)), atol=1e-6)


def test_normalisation_saturates_with_contrast() -> None:
    model = GaborEnergy()
    low, middle, high = (
        float(layer_outputs(model, grating(4.0, 0.0, 0.0, contrast=c))["v1"].max()) for c in (0.05, 0.5, 1.0)
    )
    assert low < middle < high
    assert high / middle < 1.3
    blank = layer_outputs(model, torch.full((1, 1, 64, 64), 0.7))
    assert float(blank["v1"].max()) < 1e-4
    np.testing.assert_allclose(blank["colour"], 0.7, rtol=1e-5)


def test_colour_layer_is_pooled_luminance_and_opponency() -> None:
    image = torch.zeros((1, 3, 64, 64))
    image[:, 0, :32] = 0.9
    image[:, 2, 32:] = 0.6
    colour = layer_outputs(GaborEnergy(grid=2), image)["colour"]
    np.testing.assert_allclose(colour[0, :, 0, 0], [0.3, 0.9, -0.45], atol=2e-5)
    np.testing.assert_allclose(colour[0, :, 1, 1], [0.2, 0.0, 0.6], atol=2e-5)


def test_nothing_is_trained_and_the_arguments_decide_everything() -> None:
    first, second = GaborEnergy(n_scales=2), GaborEnergy(n_scales=2)
    assert list(first.parameters()) == []
    assert first.state_dict().keys() == {"first", "second", "binomial"}
    image = torch.rand((2, 3, 48, 60), generator=torch.Generator().manual_seed(1))
    assert torch.equal(first(image), second(image))
    assert "n_orientations=6" in repr(first)
    assert repr(first) != repr(GaborEnergy(n_scales=2, semisaturation=0.3))
    doubled = GaborEnergy(n_scales=2).double()(image.double())
    np.testing.assert_allclose(doubled, first(image), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("channels", "n_features"), [(1, 16 + 384 + 864), (3, 48 + 384 + 864)])
def test_default_size(channels: int, n_features: int) -> None:
    assert GaborEnergy()(torch.zeros((2, channels, 112, 112))).shape == (2, n_features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_scales": 0}, "n_scales=0"),
        ({"second_grid": -1}, "second_grid=-1"),
        ({"wavelength": 1.0}, r"wavelength=1\.0.* 2 pixels"),
        ({"wavelength": float("nan")}, "wavelength=nan"),
        ({"semisaturation": 0.0}, r"semisaturation=0\.0"),
        ({"neighbourhood": 4}, "neighbourhood=4"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        GaborEnergy(**arguments)
    assert "Mend:" in str(caught.value)


def test_bad_input_is_refused() -> None:
    with pytest.raises(AssemblyError, match=r"\(1, 2, 64, 64\)"):
        GaborEnergy()(torch.zeros((1, 2, 64, 64)))
    with pytest.raises(AssemblyError, match=r"28 x 28.* 48 .*size=48"):
        GaborEnergy()(torch.zeros((1, 1, 28, 28)))
    assert GaborEnergy()(torch.zeros((1, 1, 48, 48))).shape[0] == 1


def read_v4(mirror: Path, n: int) -> tuple[xr.DataArray, np.ndarray]:
    image_module = pytest.importorskip("PIL.Image")
    folder = mirror / "cowley2023-v4-210325"
    with zipfile.ZipFile(folder / "images_210325.zip") as archive:
        names = sorted(archive.namelist())[:n]
        pixels = np.stack([np.asarray(image_module.open(io.BytesIO(archive.read(name)))) for name in names])
    responses = np.nanmean(np.load(folder / "responses_210325.npy"), axis=2).T[:n]
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", names)},
    )
    return images, responses


@pytest.mark.realdata
def test_predicts_real_v4_sites_better_than_pixels(mirror: Path) -> None:
    # The arguments were chosen on images 1..512 alone; these are further split into fit and held-out images.
    images, responses = read_v4(mirror, 512)
    held_out = np.arange(512) % 5 == 0

    def median_r(features: np.ndarray) -> float:
        scaled = (features - features[~held_out].mean(0)) / (features[~held_out].std(0) + 1e-9)
        ridge = RidgeCV(alphas=np.logspace(2, 6, 9)).fit(scaled[~held_out], responses[~held_out])
        predicted = ridge.predict(scaled[held_out])
        return float(
            np.median([np.corrcoef(p, r)[0, 1] for p, r in zip(predicted.T, responses[held_out].T, strict=True)])
        )

    torch.set_num_threads(1)
    start = time.perf_counter()
    activations = extract(GaborEnergy(), images, LAYERS)
    seconds = time.perf_counter() - start
    small = Preprocess(size=8)(torch.from_numpy(images.values)).flatten(1).double().numpy()
    energy, pixels = median_r(activations.values.astype(float)), median_r(small)
    assert activations.shape == (512, 1296)
    assert energy > 0.42
    assert energy > pixels + 0.1
    assert seconds < 60
