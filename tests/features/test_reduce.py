"""Pooling, random projection and components: closed forms, distances kept, and no fitting on what is evaluated."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.decomposition import PCA
from torch import nn

from neurobridge.assemblies import AssemblyError
from neurobridge.features import LayerPCA, Preprocess, RandomProjection, extract, fit_pca


def make_images(n: int, *, seed: int = 0, size: int = 12) -> xr.DataArray:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(n, size, size, 3), dtype=np.uint8)
    return xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", [f"im{k:03d}" for k in range(n)])},
    )


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()
        self.head = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x.flatten(1).reshape(len(x), 16, 27))[:, 0])


def test_class_token_is_the_first() -> None:
    images = make_images(5)
    got = extract(Tokens(), images, "*", pooling="cls")
    tokens = images.values.transpose(0, 3, 1, 2).reshape(5, 16, 27).astype(np.float32) / 255
    for layer in ("block", "head"):
        np.testing.assert_allclose(got.values[:, got.coords["layer"].values == layer], tokens[:, 0], rtol=1e-6)
    assert got.attrs["pooling"] == "cls"
    assert set(got.coords["row"].values) == {-1}


def test_class_token_of_maps_is_refused(model) -> None:
    with pytest.raises(AssemblyError, match=r"'0'.*\(2, .*pooling='mean'"):
        extract(model, make_images(2), "0", pooling="cls")


# ---- random projection


@pytest.mark.parametrize("kind", ["sparse", "gaussian"])
def test_projection_keeps_distances_and_follows_its_seed_alone(model, kind) -> None:
    images = make_images(12)
    full = extract(model, images, "1").values.astype(np.float64)
    got = extract(model, images, ["1", "3"], pooling=RandomProjection(200, kind=kind), batch_size=5)
    at = got.coords["layer"].values == "1"
    assert at.sum() == 200
    assert (~at).sum() == 4

    def distances(X):
        return np.linalg.norm(X[:, None] - X[None], axis=-1)[np.triu_indices(len(X), 1)]

    ratio = distances(got.values[:, at].astype(np.float64)) / distances(full)
    assert abs(ratio.mean() - 1) < 0.15
    assert ratio.std() < 0.15
    again = extract(model, images, "1", pooling=RandomProjection(200, kind=kind), batch_size=12)
    np.testing.assert_allclose(again.values, got.values[:, at], rtol=1e-4, atol=1e-5)
    other = extract(model, images, "1", pooling=RandomProjection(200, kind=kind, seed=1))
    assert np.abs(other.values - again.values).max() > 0.1
    assert json.loads(got.attrs["pooling"]) == {"random_projection": {"kind": kind, "n_components": 200, "seed": 0}}


def test_projection_is_linear_and_layers_have_directions_of_their_own() -> None:
    project = RandomProjection(20)
    x, y = (torch.from_numpy(np.random.default_rng(k).normal(size=(3, 500)).astype(np.float32)) for k in (0, 1))
    np.testing.assert_allclose(project("a", x) + 2 * project("a", y), project("a", x + 2 * y), atol=1e-4)
    assert (project("a", x) - project("b", x)).abs().max() > 0.1


@pytest.mark.parametrize("pooling", ["mean", RandomProjection(2), RandomProjection(2, kind="gaussian")])
def test_nan_is_not_lost_in_a_reduction(pooling) -> None:
    class Spoil(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(1)
            flat[2, 300] = torch.nan
            return self.out(flat)

    with pytest.raises(AssemblyError, match=r"'out'.* 1 of 4 .*'im002'"):
        extract(Spoil(), make_images(4), "out", pooling=pooling)


@pytest.mark.parametrize("arguments", [{"n_components": 0}, {"kind": "dense"}])
def test_bad_projections_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match=str(*arguments)):
        RandomProjection(**arguments)


# ---- principal components


def test_components_are_those_of_the_fitting_images(model) -> None:
    fitting, shown = make_images(40, seed=1), make_images(9)
    pca = fit_pca(model, fitting, ["1", "3"], n_components=6)
    assert pca.kept == ("3",)
    reference = PCA(6).fit(extract(model, fitting, "1").values)
    expected = reference.transform(extract(model, shown, "1").values)
    got = extract(model, shown, ["1", "3"], pooling=pca, batch_size=4)
    at = got.coords["layer"].values == "1"
    np.testing.assert_allclose(np.abs(got.values[:, at]), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(got.values[:, ~at], extract(model, shown, "3").values, atol=1e-6)
    np.testing.assert_array_equal(got.coords["channel"].values[at], np.arange(6))
    assert 0 < pca.explained["1"] < 1
    record = json.loads(got.attrs["pooling"])["pca"]
    assert record["n_components"] == 6
    assert record["n_fitted_on"] == 40


def test_components_survive_a_file(model, tmp_path) -> None:
    pca = fit_pca(model, make_images(20, seed=1), ["1", "3"], n_components=5)
    again = LayerPCA.load(pca.save(tmp_path / "sub" / "pca.safetensors"))
    assert again.record() == pca.record()
    assert (again.fitted_on, again.kept, dict(again.of_model)) == (pca.fitted_on, pca.kept, dict(pca.of_model))
    images = make_images(4)
    np.testing.assert_array_equal(
        extract(model, images, "1", pooling=again).values, extract(model, images, "1", pooling=pca).values
    )
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(AssemblyError, match=r"text\.safetensors.*LayerPCA\.save"):
        LayerPCA.load(tmp_path / "text.safetensors")


def test_an_evaluated_stimulus_among_the_fitting_images_is_refused_whatever_its_name(model) -> None:
    fitting, shown = make_images(20, seed=1), make_images(6)
    pca = fit_pca(model, fitting, "1", n_components=5)
    assert set(shown.coords["stimulus_id"].values) <= set(fitting.coords["stimulus_id"].values)
    assert extract(model, shown, "1", pooling=pca).shape == (6, 5)
    shown.values[4] = fitting.values[17]
    with pytest.raises(AssemblyError, match=r"'im004'.* 20 images"):
        extract(model, shown, "1", pooling=pca, batch_size=2)


def test_components_of_another_model_preprocessing_or_layer_are_refused(model) -> None:
    pca = fit_pca(model, make_images(20, seed=1), "1", n_components=5)
    shown = make_images(3)
    with pytest.raises(AssemblyError, match=r"\['1'\].*\['0'\]"):
        extract(model, shown, ["0", "1"], pooling=pca)
    with pytest.raises(AssemblyError, match=r"preprocessing.*Mend"):
        extract(model, shown, "1", pooling=pca, preprocess=Preprocess(mean=(0.5,)))
    with torch.no_grad():
        model[0].bias[0] += 1
    with pytest.raises(AssemblyError, match=r"weights_digest.*Mend"):
        extract(model, shown, "1", pooling=pca)


@pytest.mark.parametrize(
    ("n_components", "message"),
    [(0, "n_components.* 0"), (20, "20 .* 20 components .*'1'")],
)
def test_too_few_fitting_images_are_refused(model, n_components, message) -> None:
    with pytest.raises(AssemblyError, match=message):
        fit_pca(model, make_images(20), "1", n_components=n_components)


@pytest.mark.parametrize(
    "arguments",
    [{"pooling": "mean"}, {"dtype": "float16"}, {"out": "a.nc"}, {"cache": "a"}, {"overwrite": True}, {"sise": 3}],
)
def test_arguments_that_components_cannot_follow_are_refused(model, tmp_path, monkeypatch, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssemblyError, match=re.escape(str([*arguments]))):
        fit_pca(model, make_images(20), "1", n_components=5, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_the_pass_change_no_component(model) -> None:
    images = make_images(20, seed=1)
    arguments = {"batch_size": 3, "workers": 0, "device": "cpu", "max_bytes": 10**8, "progress": False}
    plain, other = fit_pca(model, images, "1", n_components=5), fit_pca(model, images, "1", n_components=5, **arguments)
    np.testing.assert_allclose(other.components["1"], plain.components["1"], atol=1e-4)


def test_a_reduction_of_ones_own_needs_a_call_and_a_record(model) -> None:
    class Maximum:
        def __call__(self, layer: str, output: torch.Tensor) -> torch.Tensor:
            return output.flatten(2).amax(dim=2) if output.ndim > 2 else output

        def record(self) -> str:
            return "maximum"

    images = make_images(3)
    got = extract(model, images, "1", pooling=Maximum())
    full = extract(model, images, "1").values.reshape(3, 4, -1)
    np.testing.assert_array_equal(got.values, full.max(2))
    assert got.attrs["pooling"] == "maximum"
    assert SimpleNamespace(**got.attrs).layers == ["1"]
