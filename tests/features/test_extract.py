"""Extraction: true activations, a model that leaves as it came, and every way of refusing."""

from __future__ import annotations

import hashlib
import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neurobridge.assemblies import AssemblyError, open_assembly, save_assembly, validate
from neurobridge.features import GaborEnergy, Preprocess, extract, match_layers, weights_digest


def make_images(n: int = 7, size: int = 12, channels: int | None = 3, *, seed: int = 0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    shape = (n, size, size) if channels is None else (n, size, size, channels)
    dims = ("presentation", "row", "column", "channel")[: len(shape)]
    return xr.DataArray(
        rng.integers(0, 256, size=shape, dtype=np.uint8),
        dims=dims,
        coords={
            "stimulus_id": ("presentation", [f"im{i:03d}" for i in range(n)]),
            "category_name": ("presentation", [f"c{i % 2}" for i in range(n)]),
            "size_deg": ("presentation", np.linspace(1, 2, n)),
        },
        attrs={"citation": "somebody 1999"},
    )


class Net(nn.Module):
    """Small network with batch statistics, dropout and an in-place nonlinearity."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AvgPool2d(2))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 5 * 5, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.features(x).flatten(1)))


def make_net(seed: int = 0) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net()
        net.features[1].running_mean.normal_()
        net.features[1].running_var.uniform_(0.5, 2)
    return net


def as_input(images: xr.DataArray) -> torch.Tensor:
    return torch.from_numpy(images.values).permute(0, 3, 1, 2).float() / 255


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_untouched(model: nn.Module, before: dict[str, torch.Tensor], flags: dict[str, bool], rng: torch.Tensor):
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(not module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


# ---- true activations


def test_values_and_coords_are_those_of_a_hand_written_forward() -> None:
    net, images = make_net(), make_images()
    got = extract(net, images, ["features.0", "head"], batch_size=3)
    net.eval()
    with torch.no_grad():
        conv = net.features[0](as_input(images))
        head = net(as_input(images))
    validate(got)
    assert got.dims == ("presentation", "neuroid")
    assert got.dtype == np.float32
    at_conv, at_head = got.coords["layer"].values == "features.0", got.coords["layer"].values == "head"
    np.testing.assert_allclose(got.values[:, at_conv], conv.flatten(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(got.values[:, at_head], head.numpy(), atol=1e-6)

    unit = int(np.flatnonzero(got.coords["neuroid_id"].values == "features.0.2.7.9")[0])
    np.testing.assert_allclose(got.values[:, unit], conv[:, 2, 7, 9].numpy(), atol=1e-6)
    assert [int(got.coords[key].values[unit]) for key in ("channel", "row", "column")] == [2, 7, 9]
    np.testing.assert_array_equal(got.coords["channel"].values[at_head], np.arange(6))
    assert (got.coords["row"].values[at_head] == -1).all()
    assert (got.coords["column"].values[at_head] == -1).all()
    for name in ("stimulus_id", "category_name", "size_deg"):
        np.testing.assert_array_equal(got.coords[name].values, images.coords[name].values)
        assert got.coords[name].dims == ("presentation",)


def test_output_before_an_in_place_layer_is_copied_in_time() -> None:
    net, images = make_net(), make_images()
    got = extract(net, images, ["features.1", "features.2"])
    layer = got.coords["layer"].values
    before, after = got.values[:, layer == "features.1"], got.values[:, layer == "features.2"]
    assert (before < 0).any()
    np.testing.assert_array_equal(np.maximum(before, 0), after)


def test_several_layers_in_one_pass_equal_each_alone() -> None:
    net, images = make_net(), make_images()
    names = ["features.0", "features.3", "head"]
    together = extract(net, images, names)
    for name in names:
        alone = extract(net, images, name)
        np.testing.assert_array_equal(together.values[:, together.coords["layer"].values == name], alone.values)
    assert together.attrs["layers"] == names


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7, 64])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    net, images = make_net(), make_images()
    reference = extract(net, images, "*", batch_size=7)
    got = extract(net, images, "*", batch_size=batch_size)
    np.testing.assert_allclose(got.values, reference.values, rtol=1e-5, atol=1e-5)
    assert list(got.coords["stimulus_id"].values) == list(images.coords["stimulus_id"].values)


def test_two_runs_are_bit_identical() -> None:
    net, images = make_net(), make_images()
    np.testing.assert_array_equal(extract(net, images, "*").values, extract(net, images, "*").values)


def test_a_model_that_draws_in_eval_mode_follows_the_seed() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.randn(len(x), 3))

    images = make_images()
    first, again, other = (extract(Noisy(), images, "out", seed=seed).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("chunks", [(1,) * 7, (2, 2, 3), (7,), (1, 5, 1), (6, 1)])
def test_dask_images_are_read_chunk_by_chunk_each_once(chunks: tuple[int, ...]) -> None:
    dask_array = pytest.importorskip("dask.array")
    net, images = make_net(), make_images()
    reads: list[int] = []

    def read(block: np.ndarray) -> np.ndarray:
        reads.append(len(block))
        return block

    lazy = dask_array.from_array(images.values, chunks=(chunks, 12, 12, 3)).map_blocks(
        read, dtype=np.uint8, meta=np.empty((0, 0, 0, 0), dtype=np.uint8)
    )
    got = extract(net, images.copy(data=lazy), "head", batch_size=3)
    np.testing.assert_allclose(got.values, extract(net, images, "head").values, atol=1e-5)
    assert sorted(reads) == sorted(chunks)


def test_dask_images_are_never_held_as_a_whole() -> None:
    dask = pytest.importorskip("dask")
    dask_array = pytest.importorskip("dask.array")
    images = make_images(20, channels=None)
    live: list[int] = []
    lazy = dask_array.from_array(images.values, chunks=(2, 12, 12))

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Flatten()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            live.append(len(x))
            return self.out(x)

    with dask.config.set(scheduler="synchronous"):
        extract(Watch(), images.copy(data=lazy), "out", batch_size=5)
    # Two and three images to learn the axes with, then the stimuli.
    assert live == [2, 3, 4, 4, 4, 4, 4]


def test_tokens_and_grey_images() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.embed(x.flatten(1).reshape(len(x), 16, 9))

    images = make_images(channels=None)
    got = extract(Tokens(), images, "embed")
    expected = (images.values.reshape(7, 16, 9) / np.float32(255)).astype(np.float32)
    unit = int(np.flatnonzero(got.coords["neuroid_id"].values == "embed.5.11.-1")[0])
    np.testing.assert_allclose(got.values[:, unit], expected[:, 11, 5], rtol=1e-6)
    assert got.coords["column"].values.max() == -1
    pooled = extract(Tokens(), images, "embed", pooling="mean")
    np.testing.assert_allclose(pooled.values, expected.mean(1), rtol=1e-5)


@pytest.mark.parametrize("pooling", ["flatten", "mean"])
def test_poolings_agree_with_numpy(pooling: str) -> None:
    net, images = make_net(), make_images()
    flat = extract(net, images, "features.3").values.reshape(7, 4, 5, 5)
    got = extract(net, images, ["features.3", "head"], pooling=pooling)
    at = got.coords["layer"].values == "features.3"
    expected = {"flatten": flat.reshape(7, -1), "mean": flat.mean((2, 3))}[pooling]
    np.testing.assert_allclose(got.values[:, at], expected, atol=1e-6)
    assert (~at).sum() == 6
    assert got.attrs["pooling"] == pooling


def test_neuroid_ids_stay_unique_where_layer_names_could_collide() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Identity())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x)

    got = extract(Nested(), make_images(2, 3), "*")
    assert got.attrs["layers"] == ["a", "a.0"]
    assert len(set(got.coords["neuroid_id"].values.tolist())) == got.sizes["neuroid"] == 2 * 27


def test_a_tuple_of_one_tensor_is_that_tensor() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return x.flatten(1), None

    got = extract(nn.Sequential(Wrapped()), make_images(), "0")
    assert got.shape == (7, 432)


# ---- frozen


@pytest.mark.parametrize("fails", [False, True])
def test_model_and_random_state_are_untouched(fails: bool) -> None:
    net = make_net()
    net.train()
    net.features[1].eval()
    before, rng = snapshot(net), torch.get_rng_state()
    flags = {name: module.training for name, module in net.named_modules()}
    assert len(set(flags.values())) == 2
    if fails:
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            extract(net, make_images(size=16), ["features.0", "head"])
    else:
        got = extract(net, make_images(), ["features.0", "head"], batch_size=2)
        assert got.shape == (7, 4 * 10 * 10 + 6)
    assert_untouched(net, before, flags, rng)


def test_runs_in_eval_mode_without_gradients() -> None:
    seen: list[tuple[bool, bool]] = []

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((self.training, torch.is_grad_enabled()))
            return x.flatten(1)

    extract(nn.Sequential(Probe()).train(), make_images(), "0", batch_size=3)
    assert seen == [(False, False)] * (2 + 3)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("persistent", [True, False])
def test_a_model_that_writes_its_own_buffers_is_refused(persistent: bool) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()
            self.register_buffer("count", torch.zeros(()), persistent=persistent)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return self.out(x)

    with pytest.raises(RuntimeError, match="Mend"):
        extract(Counter(), make_images(), "out")


def test_float64_model_is_fed_float64_and_gives_float32() -> None:
    net, images = make_net(), make_images()
    single = extract(net, images, "head")
    double = extract(net.double(), images, "head", device="cpu")
    assert double.dtype == np.float32
    np.testing.assert_allclose(double.values, single.values, atol=1e-5)
    assert double.attrs["weights_digest"] != single.attrs["weights_digest"]


def test_a_model_on_two_devices_is_not_moved(monkeypatch) -> None:
    # As on a machine that has the device.
    monkeypatch.setattr("neurobridge.features.models.frozen.find_device", torch.device)
    net = make_net()
    net.register_buffer("scratch", torch.zeros(1, device="meta"), persistent=False)
    with pytest.raises(AssemblyError, match=r"\['cpu', 'meta'\].*device=None"):
        extract(net, make_images(), "head", device="meta")
    assert extract(net, make_images(), "head").shape == (7, 6)


# ---- attributes


def test_weights_digest_follows_its_definition_and_every_weight() -> None:
    net = make_net()
    sha = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        sha.update(f"{name}|{tuple(value.shape)}|{value.dtype}|".encode() + value.numpy().tobytes())
    assert weights_digest(net) == "sha256:" + sha.hexdigest() == weights_digest(make_net())
    with torch.no_grad():
        net.head.bias[3] += 1e-6
    assert weights_digest(net) != weights_digest(make_net())
    assert weights_digest(make_net(1)) != weights_digest(make_net(0))
    assert weights_digest(nn.Linear(2, 2).to(torch.bfloat16)).startswith("sha256:")


def test_weights_digest_refuses_state_without_bytes() -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

    with pytest.raises(AssemblyError, match=r"dict.*'_extra_state'"):
        weights_digest(Extra())


def test_attrs_survive_a_file(tmp_path) -> None:
    net, images = make_net(), make_images()
    preprocess = Preprocess(size=12, mean=(0.5, 0.4, 0.3), std=(0.2,), visual_degrees=8.0)
    got = extract(net, images, "feat*.0", preprocess=preprocess)
    attrs = got.attrs
    assert attrs["model"] == "Net"
    assert attrs["layers"] == ["features.0"]
    assert attrs["weights_digest"] == weights_digest(net)
    assert attrs["citation"] == "somebody 1999"
    record = json.loads(attrs["preprocessing"])
    assert record["size"] == [12, 12]
    assert record["mean"] == [0.5, 0.4, 0.3]
    assert record["visual_degrees"] == 8.0
    again = open_assembly(save_assembly(got, tmp_path / "a.nc"))
    assert again.identical(got)


def test_architecture_digest_sees_arguments_that_are_no_weights() -> None:
    images = make_images(2, 64)
    coarse, fine = (extract(GaborEnergy(grid=grid), images, "v2").attrs for grid in (3, 4))
    assert coarse["weights_digest"] == fine["weights_digest"]
    assert coarse["architecture_digest"] != fine["architecture_digest"]


# ---- layer names


def test_match_layers_globs_keep_the_models_order() -> None:
    net = make_net()
    assert match_layers(net, "features.?") == ["features.0", "features.1", "features.2", "features.3"]
    assert match_layers(net, ["head", "features.0", "feat*.0"]) == ["features.0", "head"]
    assert match_layers(net, "*")[0] == "features"


def test_unknown_layer_suggests_near_names_and_lists_the_tree() -> None:
    with pytest.raises(AssemblyError) as caught:
        extract(make_net(), make_images(), "featurs.0")
    message = str(caught.value)
    for fact in ("'featurs.0'", "Net", "Mend", "'features.0'", "  features.1 (BatchNorm2d)"):
        assert fact in message
    with pytest.raises(AssemblyError, match=r"(?s)'zzz\*'.*Mend.*  features.1 \(BatchNorm2d\)"):
        match_layers(make_net(), "zzz*")


def test_long_trees_are_cut_and_single_modules_explained() -> None:
    with pytest.raises(AssemblyError, match="40 more"):
        match_layers(nn.Sequential(*[nn.Identity() for _ in range(100)]), "x")
    with pytest.raises(AssemblyError, match=r"Linear.*torch\.nn\.Sequential"):
        match_layers(nn.Linear(2, 2), "weight")
    with pytest.raises(AssemblyError, match=r"layers.*Mend"):
        match_layers(make_net(), [])


# ---- refusals


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda im: im.values[0, 0], r"\(12, 3\)"),
        (lambda im: im.values[0, 0].tolist(), "list"),
        (lambda im: im.astype("float32"), "float32.*uint8"),
        (
            lambda im: im.transpose("row", "presentation", "column", "channel"),
            r"\('row', 'presentation', 'column', 'channel'\)",
        ),
        (lambda im: im.isel(row=0), r"\('presentation', 'column', 'channel'\)"),
        (lambda im: im.drop_vars("stimulus_id"), r"\['category_name', 'size_deg'\].*'stimulus_id'"),
        (lambda im: im.isel(presentation=[]), r"\(0, 12, 12, 3\)"),
        (lambda im: im.isel(channel=[0, 1]), "2 channels.* 1 .* 3"),
        (lambda im: im.set_index(presentation=["stimulus_id", "category_name"]), "MultiIndex.*reset_index"),
    ],
)
def test_what_is_not_images_is_refused(spoil, message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        extract(make_net(), spoil(make_images()), "head")
    assert "Mend:" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, r"'max'.*\['cls', 'flatten', 'mean'\]"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_bytes": 1000}, "7 images x 400 units.*pooling='mean'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(AssemblyError, match=message):
        extract(make_net(), make_images(), "features.0", **arguments)


def test_nan_activation_names_layer_and_stimulus_and_leaves_the_model_whole() -> None:
    class Log(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Identity()
            self.second = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x.flatten(1))
            return self.second(torch.where(x.mean(dim=1, keepdim=True) == 0, torch.nan, x))

    images = make_images()
    images.values[4] = 0
    model, rng = Log(), torch.get_rng_state()
    with pytest.raises(AssemblyError, match=r"'second'.* 1 of 2 .*'im004'"):
        extract(model, images, "*", batch_size=2)
    assert_untouched(model, {}, {"": True, "first": True, "second": True}, rng)


def test_finite_values_whose_sum_overflows_are_kept() -> None:
    model = Odd(lambda x: x.flatten(1) * 0 + 3e38)
    got = extract(model, make_images(), "inner")
    assert (got.values == np.float32(3e38)).all()


class Odd(nn.Module):
    """One layer, 'inner', whose output the test chooses."""

    def __init__(self, make) -> None:
        super().__init__()

        class Inner(nn.Module):
            def forward(self, x):
                return make(x)

        self.inner = Inner()
        self.unused = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x, x), r"tuple \(Tensor, Tensor\)"),
        (lambda x: {"a": x}, r"dict \(dict\)"),
        (lambda x: (x, (x, x)), r"tuple \(Tensor, tuple\)"),
        (lambda x: None, "NoneType"),
        (lambda x: x.sum(), r"shape \(\)"),
        (lambda x: x.flatten(), r"\(3024,\)"),
        (lambda x: x.mean(), r"shape \(\)"),
        (lambda x: x[:0].mean(), r"shape \(\)"),
        (lambda x: x[:, :0], r"\(7, 0, 12, 12\)"),
        (lambda x: x.flatten(1).to_sparse(), r"\(7, 432\).*sparse"),
        (lambda x: torch.nested.as_nested_tensor([image.flatten() for image in x]), "nested"),
        (lambda x: x[..., None], r"\(7, 3, 12, 12, 1\)"),
        (lambda x: torch.complex(x, x), "torch.complex64"),
    ],
)
def test_outputs_that_are_no_layer_of_units_are_refused(make, message: str) -> None:
    model = Odd(make)
    with pytest.raises(AssemblyError, match="'inner'.*" + message) as caught:
        extract(model, make_images(), "inner")
    assert "Mend:" in str(caught.value)
    assert not model.inner._forward_hooks


def test_layers_that_run_never_or_twice_are_refused() -> None:
    with pytest.raises(AssemblyError, match=r"\['unused'\]"):
        extract(Odd(lambda x: x), make_images(), ["inner", "unused"])

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.relu(x))

    with pytest.raises(AssemblyError, match=r"'relu'.*'relu@2'"):
        extract(Twice(), make_images(), "relu")


def test_one_of_several_calls_is_named_by_its_number() -> None:
    class Thrice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add = AddOne()
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.add(self.add(self.add(x.flatten(1)))))

    class AddOne(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    images = make_images()
    assert match_layers(Thrice(), ["out", "a*@3", "add@1"]) == ["add@1", "add@3", "out"]
    got = extract(Thrice(), images, ["add@1", "add@3"])
    layer = got.coords["layer"].values
    np.testing.assert_allclose(got.values[:, layer == "add@3"], got.values[:, layer == "add@1"] + 2, rtol=1e-6)
    with pytest.raises(AssemblyError, match=r"\['add@4'\]"):
        extract(Thrice(), images, "add@4")
    with pytest.raises(AssemblyError, match="'add@0'"):
        match_layers(Thrice(), "add@0")


def test_a_layer_whose_size_follows_the_batch_is_refused() -> None:
    model = Odd(lambda x: x.flatten(1)[:, : 10 * len(x)])
    with pytest.raises(AssemblyError, match=r"'inner'.*\(2, 20\) for 2 images, \(3, 30\) for 3"):
        extract(model, make_images(), "inner", batch_size=2)


def test_multiindex_images_may_be_reset_as_the_message_says() -> None:
    nested = make_images().set_index(presentation=["stimulus_id", "category_name"])
    assert isinstance(nested.indexes["presentation"], pd.MultiIndex)
    flat = nested.reset_index("presentation")
    if "stimulus_id" in flat.coords:
        assert extract(make_net(), flat, "head").shape == (7, 6)


# ---- memory that runs out


class Small(nn.Module):
    """Has memory for a stated number of images a batch."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.out = nn.Flatten()
        self.room, self.error = room, error
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self.out(x)


ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), ALLOCATOR])
def test_a_batch_that_memory_is_too_small_for_is_halved_and_it_is_said(error: Exception) -> None:
    model, images = Small(2, error), make_images(14)
    with pytest.warns(UserWarning, match=r"\d images on cpu.*\d") as warned:
        got = extract(model, images, "out", batch_size=8)
    assert [str(warning.message)[-2:] for warning in warned] == ["4.", "2."]
    # Two, three and one images to learn the axes with, then the stimuli.
    assert model.batches == [2, 3, 1, 8, 4, 2, 2, 2, 2, 2, 2, 2]
    np.testing.assert_array_equal(got.values, extract(Small(99, error), images, "out").values)


def test_memory_that_runs_out_is_seen_with_torch_before_2_5(monkeypatch) -> None:
    error = torch.cuda.OutOfMemoryError("CUDA out of memory.")
    monkeypatch.delattr(torch, "OutOfMemoryError", raising=False)
    model = Small(2, error)
    with pytest.warns(UserWarning, match="4 images.* 2"):
        extract(model, make_images(4), "out", batch_size=4)
    assert model.batches == [2, 3, 1, 4, 2, 2]


def test_no_memory_for_one_image_is_an_error_and_other_errors_pass() -> None:
    with (
        pytest.warns(UserWarning, match="2 images on cpu.* 1"),
        pytest.raises(MemoryError, match=r"one image.*Mend"),
    ):
        extract(Small(0, ALLOCATOR), make_images(), "out", batch_size=2)
    model = Small(0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        extract(model, make_images(), "out")
    assert model.batches[-1] == 7
    assert not model.out._forward_hooks


def test_the_real_cpu_allocator_is_recognised() -> None:
    class Greedy(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > self.room:
                torch.empty(2**62, dtype=torch.uint8)
            return super().forward(x)

    with pytest.warns(UserWarning, match="6 images.* 3"):
        got = extract(Greedy(3, ALLOCATOR), make_images(6), "out", batch_size=6)
    assert got.shape == (6, 432)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_reading_ahead_leaves_no_thread_behind(workers: int) -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="something else"):
        extract(Small(0, RuntimeError("something else")), make_images(9), "out", batch_size=2, workers=workers)
    extract(make_net(), make_images(9), "head", batch_size=2, workers=workers)
    assert threading.active_count() == before


@given(
    n=st.integers(1, 9),
    batch_size=st.integers(1, 10),
    workers=st.integers(0, 2),
    pooling=st.sampled_from(["flatten", "mean"]),
)
@settings(max_examples=15, deadline=None)
def test_neither_batches_nor_threads_change_the_numbers(n: int, batch_size: int, workers: int, pooling: str) -> None:
    net, images = make_net(), make_images(n)
    got = extract(net, images, "*", batch_size=batch_size, workers=workers, pooling=pooling)
    each_alone = extract(net, images, "*", batch_size=1, workers=0, pooling=pooling)
    np.testing.assert_allclose(got.values, each_alone.values, rtol=1e-5, atol=1e-5)
