"""Reference models: they learn, from a seed, to the same weights; they are kept whole, frozen and refused when broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from neurobridge.datasets import load
from neurobridge.features import (
    REFERENCES,
    Preprocess,
    ReferenceFileError,
    extract,
    load_reference,
    save_reference,
    train_reference,
)
from neurobridge.features.references.conv import ConvContrastive, ConvVAE, random_views

TRAINED = ("conv_net", "conv_vae", "conv_contrastive")


def bars(n: int = 64, size: int = 16, channels: int | None = None, seed: int = 0) -> xr.DataArray:
    """Noisy images of a horizontal or a vertical bar: simulated, two classes."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (n, size, size, channels or 1))
    kinds = np.arange(n) % 2
    for k, kind in enumerate(kinds):
        place = slice(at := rng.integers(2, size - 5), at + 3)
        pixels[(k, place) if kind else (k, slice(None), place)] += 180
    dims = ("presentation", "row", "column", "channel")
    images = xr.DataArray(
        pixels.astype(np.uint8),
        dims=dims,
        coords={
            "stimulus_id": ("presentation", [f"bar-{k:03d}" for k in range(n)]),
            "category_name": ("presentation", np.array(["upright", "lying"])[kinds]),
        },
        attrs={"identifier": "simulated bars", "citation": "@misc{bars}"},
    )
    return images if channels else images.isel(channel=0)


def accuracy(reference: Any, images: xr.DataArray) -> float:
    scores = extract(reference.model, images, "head", preprocess=reference.preprocess).values
    found = np.array(reference.card["classes"])[scores.argmax(axis=1)]
    return float((found == images["category_name"].values).mean())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("channels", [None, 3])
def test_the_same_seed_gives_the_same_weights_and_another_gives_others(name: str, channels: int | None) -> None:
    images = bars(channels=channels)
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, again, other = (train_reference(name, images, seed=seed, epochs=2) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert first.card == again.card
    assert first.card["weights_digest"] != other.card["weights_digest"]
    assert first.card["training"]["losses"][-1] < first.card["training"]["losses"][0]
    assert first.card["input"] == [channels or 1, 16, 16]
    changed = images.copy(deep=True)
    changed.values[0, 0, 0] ^= 1
    assert train_reference(name, changed, seed=3, epochs=1).card["data"]["digest"] != first.card["data"]["digest"]


@pytest.mark.parametrize("name", list(REFERENCES))
def test_kept_and_read_back_it_is_frozen_and_gives_the_same_activations(name: str, tmp_path: Path) -> None:
    images = bars(n=8, size=32)
    arguments = {"n_scales": 2} if name == "gabor_energy" else {}
    made = train_reference(name, images, epochs=1, preprocess=Preprocess(size=28), **arguments)
    folder = save_reference(made, tmp_path / "kept" / name)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".card.lock",
        "README.md",
        "card.json",
        f"model-{made.card['weights_digest'][7:23]}.safetensors",
    ]
    read = load_reference(folder)
    assert read.card == made.card
    assert not read.model.training
    assert not any(parameter.requires_grad for parameter in read.model.parameters())
    assert read.preprocess == Preprocess(size=28)
    before, after = (extract(one.model, images, made.card["layers"], preprocess=one.preprocess) for one in (made, read))
    np.testing.assert_array_equal(before.values, after.values)
    assert list(dict.fromkeys(before["layer"].values.tolist())) == list(REFERENCES[name].layers)
    page = (folder / "README.md").read_text()
    assert made.card["weights_digest"] in page
    assert ("simulated bars: 8 images" in page) == (name in TRAINED)
    assert json.loads((folder / "card.json").read_text()) == made.card


def test_the_classifier_names_bars_it_never_saw() -> None:
    reference = train_reference("conv_net", bars(256), epochs=6, batch_size=32, n_features=16)
    assert reference.card["classes"] == ["lying", "upright"]
    assert accuracy(reference, bars(100, seed=1)) > 0.95


def test_latents_of_unlabelled_training_tell_the_classes_apart() -> None:
    train, test = bars(256), bars(100, seed=1)
    for name in ("conv_vae", "conv_contrastive"):
        reference = train_reference(name, train, epochs=8, batch_size=32, n_latents=8)
        a, b = (extract(reference.model, images, "encoder").values for images in (train, test))
        nearest = np.linalg.norm(b[:, None] - a[None], axis=2).argmin(axis=1)
        found = train["category_name"].values[nearest] == test["category_name"].values
        assert a.shape == (256, 8)
        assert found.mean() > 0.9, name


def test_vae_loss_is_its_equation_and_decoder_reconstructs() -> None:
    torch.manual_seed(0)
    model = ConvVAE(size=8, n_latents=3, beta=2.5)
    images = torch.rand(5, 1, 8, 8)
    noise = torch.randn(5, 3)
    mean, log_variance = model.encoder.moments(images)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    pixels = model.decoder(mean + noise * q.scale)
    error = F.binary_cross_entropy(pixels, images, reduction="none").flatten(1).sum(dim=1)
    torch.testing.assert_close(model.loss(images, noise), (error + 2.5 * divergence).mean())
    torch.testing.assert_close(model(images), model.decoder(model.encoder(images)))
    assert "beta=2.5" in repr(model)


def test_beta_buys_a_smaller_divergence() -> None:
    images = bars(128)
    batch = Preprocess()(torch.from_numpy(images.values))
    divergences = []
    for beta in (0.1, 10.0):
        model = train_reference("conv_vae", images, epochs=6, batch_size=16, n_latents=4, beta=beta).model
        mean, log_variance = model.encoder.moments(batch)
        divergences.append(float((mean**2 + log_variance.exp() - 1 - log_variance).sum() / 2))
    assert divergences[1] < 0.5 * divergences[0]


def test_contrastive_loss_is_its_equation_and_least_for_equal_views() -> None:
    torch.manual_seed(0)
    model = ConvContrastive(n_latents=4, width=2).eval()
    first, second = torch.rand(2, 6, 1, 16, 16)
    z = F.normalize(model.projection(model.encoder(torch.cat([first, second]))), dim=1).detach()
    total = 0.0
    for i in range(12):
        others = [torch.exp(z[i] @ z[k] / 0.2) for k in range(12) if k != i]
        total -= torch.log(torch.exp(z[i] @ z[(i + 6) % 12] / 0.2) / sum(others)).item()
    assert model.loss(first, second).item() == pytest.approx(total / 12, rel=1e-4)
    assert model.loss(first, first).item() < model.loss(first, second).item()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), channels=st.sampled_from([1, 3]), size=st.integers(8, 30))
def test_views_stay_pixels_and_differ_from_each_other(seed: int, channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((3, channels, size, size + 2), generator=generator)
    view, other = random_views(images, generator), random_views(images, generator)
    assert view.shape == images.shape
    assert 0 <= float(view.min()) <= float(view.max()) <= 1
    assert not torch.equal(view, other)
    again = random_views(images, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(random_views(images, torch.Generator().manual_seed(seed)), again, rtol=0, atol=0)


def test_without_distortion_a_view_is_the_image() -> None:
    images = torch.rand((4, 3, 20, 20), generator=torch.Generator().manual_seed(0))
    still = dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic", "contrast"), 0.0)
    torch.testing.assert_close(random_views(images, torch.Generator(), **still), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("resnet", {}, "'resnet'.*conv_net"),
        ("conv_net", {"labels": "object_name"}, "'object_name'.*presentation"),
        ("conv_vae", {"n_layers": 3}, "conv_vae.*n_layers"),
        ("conv_vae", {"images": bars(4, size=18)}, "size=18.* 4"),
        ("conv_vae", {"images": bars(4, size=16).isel(row=slice(12))}, "12 x 16"),
        ("conv_vae", {"beta": -1.0}, r"beta=-1\.0"),
        ("conv_contrastive", {"temperature": 0.0}, r"temperature=0\.0"),
        ("conv_net", {"images": bars(4).isel(presentation=[0, 2])}, "'upright'"),
        ("conv_vae", {"images": bars(4).isel(presentation=[0])}, r"\(1, 16, 16\)"),
        ("conv_net", {"images": bars(4).isel(row=slice(3))}, "3 x 16.*4 x 4.*size=32"),
        ("conv_vae", {"images": bars(4).isel(row=[])}, r"\(4, 0, 16\)"),
        ("conv_vae", {"images": bars(4).astype(float)}, "uint8"),
    ],
)
def test_bad_requests_are_refused(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        train_reference(name, **{"images": bars(4), "epochs": 1, **change})
    assert "Mend:" in str(caught.value)


def test_a_loss_that_is_not_finite_stops_training() -> None:
    with pytest.raises(FloatingPointError, match="inf in epoch 1"):
        train_reference("conv_vae", bars(4), epochs=1, beta=float("inf"))


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError, match=r"FileNotFoundError.*card\.json.*Mend"):
        load_reference(tmp_path)
    folder = save_reference(train_reference("conv_vae", bars(4), epochs=1, n_latents=2), tmp_path / "a")
    other = save_reference(train_reference("conv_vae", bars(4), epochs=1, n_latents=2, seed=1), tmp_path / "b")
    (file,), (others,) = folder.glob("model-*.safetensors"), other.glob("model-*.safetensors")
    weights = file.read_bytes()
    file.write_bytes(others.read_bytes())
    with pytest.raises(ReferenceFileError, match=r"sha256:.*sha256:"):
        load_reference(folder)
    file.write_bytes(weights[:-8])
    with pytest.raises(ReferenceFileError, match=r"ModelError.*Mend"):
        load_reference(folder)
    file.write_bytes(weights)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"name": "unknown"}))
    with pytest.raises(ReferenceFileError, match="KeyError: 'unknown'"):
        load_reference(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(ReferenceFileError, match="JSONDecodeError"):
        load_reference(folder)


@pytest.mark.realdata
def test_few_real_digits_teach_each_reference_something(mirror: Path) -> None:
    digits = load("mnist", mirror=mirror).images
    train, test = digits.isel(presentation=slice(800)), digits.isel(presentation=slice(800, 1200))
    net = train_reference("conv_net", train, epochs=3, batch_size=32)
    assert accuracy(net, test) > 0.8
    # Chance is 0.1; the recipes train forty times as long.
    for name, least in (("conv_vae", 0.4), ("conv_contrastive", 0.7)):
        reference = train_reference(name, train, epochs=2, batch_size=64)
        a, b = (extract(reference.model, part, "encoder").values.astype(float) for part in (train, test))
        distance = (a**2).sum(1)[None] - 2 * b @ a.T
        found = train["category_name"].values[distance.argmin(axis=1)]
        assert (found == test["category_name"].values).mean() > least, name
