"""Streaming to a file, a kill in the middle, and a cache that goes by content."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from neurobridge.assemblies import AssemblyError, open_assembly
from neurobridge.features import Preprocess, RandomProjection, extract, open_features, weights_digest
from neurobridge.features.models.frozen import attributes_digest


def make_images(n: int = 11, *, seed: int = 0, size: int = 12) -> xr.DataArray:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(n, size, size, 3), dtype=np.uint8)
    return xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={
            "stimulus_id": ("presentation", [f"im{k:03d}" for k in range(n)]),
            "object_name": ("presentation", [f"o{k % 3}" for k in range(n)]),
        },
        attrs={"citation": "somebody 1999", "digests": {"a": "b"}, "sizes": [1, 2]},
    )


class Counting(nn.Module):
    """A network that draws in evaluation mode, and counts its images."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 4, 3)
        self.noise = nn.Identity()
        # Held where the key does not look: a plain attribute is part of it.
        self.held = SimpleNamespace(shown=0, fail_at=None)

    @property
    def shown(self) -> int:
        return self.held.shown

    @shown.setter
    def shown(self, n: int) -> None:
        self.held.shown = n

    @property
    def fail_at(self) -> int | None:
        return self.held.fail_at

    @fail_at.setter
    def fail_at(self, n: int | None) -> None:
        self.held.fail_at = n

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shown += len(x)
        time.sleep(float(os.environ.get("SECONDS_A_BATCH", "0")))
        if self.fail_at is not None and self.shown > self.fail_at:
            raise KeyboardInterrupt
        return self.noise(self.conv(x).mean(dim=(2, 3)) + torch.randn(len(x), 1))


#: Images that are shown to learn the axes of a layer: two and three, and two of half the height and width for maps.
LEARNT = {"conv": 2 + 3 + 2 + 2, "noise": 2 + 3}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "partial" in path.name or "new" in path.name]


# ---- streamed


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_streamed_equals_in_memory(tmp_path, name) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr", minversion="3")
    images = make_images()
    arguments = {"batch_size": 3, "preprocess": Preprocess(visual_degrees=8)}
    expected = extract(Counting(), images, "*", **arguments)
    got = extract(Counting(), images, "*", out=tmp_path / "sub" / name, **arguments)
    assert got.chunks is not None
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.values, expected.values)
    for coord in expected.coords:
        np.testing.assert_array_equal(got.coords[coord].values, expected.coords[coord].values)
    assert {key: got.attrs[key] for key in expected.attrs} == expected.attrs
    assert got.attrs["visual_degrees"] == 8
    assert leftovers(tmp_path / "sub") == []
    if name.endswith("nc"):
        assert open_assembly(tmp_path / "sub" / name).equals(got.load())


def test_a_finished_file_is_opened_without_a_forward_pass(tmp_path) -> None:
    model, images = Counting(), make_images()
    first = extract(model, images, "conv", out=tmp_path / "a.nc")
    shown = model.shown
    again = extract(model, images, "conv", out=tmp_path / "a.nc", batch_size=2)
    assert model.shown == shown == 11 + LEARNT["conv"]
    assert again.identical(first)


def test_another_extraction_at_the_same_path_is_refused_unless_told(tmp_path) -> None:
    images, out = make_images(), tmp_path / "a.nc"
    extract(Counting(), images, "conv", out=out)
    with pytest.raises(AssemblyError, match=r"a\.nc.*sha256:.*sha256:.*overwrite=True"):
        extract(Counting(1), images, "conv", out=out)
    replaced = extract(Counting(1), images, "conv", out=out, overwrite=True)
    np.testing.assert_array_equal(replaced.values, extract(Counting(1), images, "conv").values)
    # Old xarray keeps the handle of a path as long as an array needs it.
    del replaced
    out.write_text("not netCDF")
    with pytest.raises(AssemblyError, match=r"a\.nc.*sha256:.*overwrite=True"):
        extract(Counting(1), images, "conv", out=out)


def test_half_precision_in_memory_and_in_zarr(tmp_path) -> None:
    images = make_images()
    full = extract(Counting(), images, "conv", batch_size=3)
    half = extract(Counting(), images, "conv", batch_size=3, dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half.values, full.values.astype(np.float16))
    with pytest.raises(AssemblyError, match=r"float16.*\.zarr"):
        extract(Counting(), images, "conv", dtype="float16", out=tmp_path / "a.nc")
    pytest.importorskip("zarr", minversion="3")
    stored = extract(Counting(), images, "conv", batch_size=3, dtype="float16", cache=tmp_path)
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored.values, half.values)


@pytest.mark.parametrize("spoil", ["attribute", "name of the units", "repetition"])
def test_what_the_result_cannot_hold_is_refused_before_a_forward_pass(tmp_path, spoil) -> None:
    model, images = Counting(), make_images()
    images = {
        "attribute": lambda: images.assign_attrs(made_by=print),
        "name of the units": lambda: images.drop_vars("object_name").assign_coords(layer=("presentation", ["a"] * 11)),
        "repetition": lambda: images.assign_coords(
            stimulus_id=("presentation", ["a"] * 11), repetition=("presentation", [0] * 11)
        ),
    }[spoil]()
    message = {"attribute": "'made_by'", "name of the units": "'layer'", "repetition": "'a, 0'"}[spoil]
    with pytest.raises(AssemblyError, match=rf"found .*{message}.*Mend"):
        extract(model, images, "conv", out=tmp_path / "a.nc")
    assert model.shown == 0
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_half_precision_are_refused() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x.flatten(1) * 1e6)

    with pytest.raises(AssemblyError, match=r"'out'.*1e\+06.*65504"):
        extract(Large(), make_images(), "out", dtype="float16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float64"}, "dtype.*'float64'"),
        ({"workers": -1}, "workers=-1"),
        ({"out": "a.h5"}, r"a\.h5.*\.nc.*\.zarr"),
        ({"out": "a.nc", "cache": "b"}, "out.*cache"),
    ],
)
def test_bad_arguments_are_refused(arguments, message) -> None:
    with pytest.raises(AssemblyError, match=message):
        extract(Counting(), make_images(), "conv", **arguments)


def test_a_disk_that_is_too_small_is_refused_at_the_first_batch(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 100))
    model = Counting()
    with pytest.raises(AssemblyError, match=r"out.* 0\.0 GB.*11 stimuli"):
        extract(model, make_images(), "conv", out=tmp_path / "a.nc", batch_size=2)
    assert model.shown == 2 + LEARNT["conv"]


def test_zarr_without_the_package_names_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    for arguments in ({"out": tmp_path / "a.zarr"}, {"cache": tmp_path, "dtype": "float16"}):
        with pytest.raises(ImportError, match=r"pip install 'neurobridge\[zarr\]'"):
            extract(Counting(), make_images(), "conv", **arguments)


def test_open_features_refuses_what_is_not_there(tmp_path) -> None:
    for name in ("a.nc", "a.zarr"):
        with pytest.raises(FileNotFoundError, match=name):
            open_features(tmp_path / name)


# ---- resumed


@pytest.fixture
def commit_every_block(monkeypatch):
    monkeypatch.setattr("neurobridge.features.storage._COMMIT_BYTES", 1)


@pytest.mark.usefixtures("commit_every_block")
@pytest.mark.parametrize("next_batch_size", [3, 4])
def test_an_interrupted_extraction_goes_on_where_it_was(tmp_path, next_batch_size) -> None:
    images, out = make_images(), tmp_path / "a.nc"
    model = Counting()
    model.fail_at = 8 + LEARNT["conv"]
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, "conv", out=out, batch_size=3)
    assert not out.exists()
    assert json.loads((tmp_path / ".a.nc.partial" / "progress.json").read_text())["n_done"] == 6
    model.fail_at, model.shown = None, 0
    got = extract(model, images, "conv", out=out, batch_size=next_batch_size)
    # Blocks of four end at 4: rows 4 and 5 are done again.
    assert model.shown == {3: 5, 4: 7}[next_batch_size] + LEARNT["conv"]
    np.testing.assert_allclose(got.values, extract(Counting(), images, "conv").values, atol=1e-6)
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("commit_every_block")
def test_what_was_left_by_other_weights_is_deleted_and_said(tmp_path) -> None:
    images, out = make_images(), tmp_path / "a.nc"
    model = Counting()
    model.fail_at = 8 + LEARNT["conv"]
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, "conv", out=out, batch_size=3)
    with pytest.warns(UserWarning, match=r"\.a\.nc\.partial.* 6 rows"):
        got = extract(Counting(1), images, "conv", out=out, batch_size=3)
    np.testing.assert_array_equal(got.values, extract(Counting(1), images, "conv", batch_size=3).values)


@pytest.mark.usefixtures("commit_every_block")
def test_a_values_file_shorter_than_the_journal_says_is_believed(tmp_path) -> None:
    images, out = make_images(), tmp_path / "a.nc"
    model = Counting()
    model.fail_at = 8 + LEARNT["noise"]
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, "noise", out=out, batch_size=3)
    raw = tmp_path / ".a.nc.partial" / "values.raw"
    os.truncate(raw, raw.stat().st_size - 1)
    model.fail_at, model.shown = None, 0
    got = extract(model, images, "noise", out=out, batch_size=3)
    assert model.shown == 8 + LEARNT["noise"]
    np.testing.assert_array_equal(got.values, extract(Counting(), images, "noise", batch_size=3).values)


@pytest.mark.usefixtures("commit_every_block")
@pytest.mark.parametrize("spoil", ["no rows", "a journal cut off", "another journal"])
def test_leftovers_that_cannot_be_used_start_the_extraction_anew(tmp_path, spoil) -> None:
    images, out, model = make_images(), tmp_path / "a.nc", Counting()
    model.fail_at = 8 + LEARNT["conv"]
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, "conv", out=out, batch_size=3)
    folder = tmp_path / ".a.nc.partial"
    if spoil == "no rows":
        (folder / "values.raw").unlink()
    else:
        journal = (folder / "progress.json").read_text()
        (folder / "progress.json").write_text(journal[:20] if spoil == "a journal cut off" else "[]")
    with pytest.warns(UserWarning, match=r"\.a\.nc\.partial"):
        got = extract(Counting(), images, "conv", out=out, batch_size=3)
    np.testing.assert_array_equal(got.values, extract(Counting(), images, "conv", batch_size=3).values)
    assert leftovers(tmp_path) == []


def test_what_a_kill_after_the_last_step_left_is_removed(tmp_path) -> None:
    out = tmp_path / "a.nc"
    extract(Counting(), make_images(), "conv", out=out)
    (tmp_path / ".a.nc.partial").mkdir()
    (tmp_path / ".a.nc.partial" / "values.raw").write_bytes(b"rows")
    extract(Counting(), make_images(), "conv", out=out)
    assert leftovers(tmp_path) == []


def test_a_kill_while_the_file_is_finished_costs_no_forward_pass(tmp_path, monkeypatch) -> None:
    images, out, model = make_images(), tmp_path / "a.nc", Counting()

    def killed(assembly, path, **arguments):
        code = f"""
import os
import subprocess
import sys
from neurobridge.store.atomic import atomic_path
with atomic_path({str(path)!r}) as partial:
    partial.write_text("half")
    os._exit(0)
"""
        subprocess.run([sys.executable, "-c", code], check=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("neurobridge.features.storage.save_assembly", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(model, images, "*", out=out, batch_size=3)
    assert len(leftovers(tmp_path)) == 2
    model.shown = 0
    got = extract(model, images, "*", out=out, batch_size=3)
    assert model.shown == 0
    np.testing.assert_array_equal(got.values, extract(Counting(), images, "*", batch_size=3).values)
    assert leftovers(tmp_path) == []


def test_progress_counts_images_on_a_terminal(capsys, monkeypatch) -> None:
    extract(Counting(), make_images(), "conv", progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    extract(Counting(), make_images(), "conv", progress=True)
    assert "11/11" in capsys.readouterr().err
    extract(Counting(), make_images(), "conv")
    assert capsys.readouterr().err == ""


_SCRIPT = """
import sys
import neurobridge.features.storage as storage
storage._COMMIT_BYTES = 1
from test_storage import Counting, make_images
from neurobridge.features import extract
extract(Counting(), make_images(200), "*", out=sys.argv[1], batch_size=4)
"""


def test_killed_and_resumed_is_identical_to_uninterrupted(tmp_path) -> None:
    out, journal = tmp_path / "a.nc", tmp_path / ".a.nc.partial" / "progress.json"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "SECONDS_A_BATCH": "0.1"}
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", _SCRIPT, str(out)], env=environment)
    deadline = time.monotonic() + 120
    while not journal.exists() or json.loads(journal.read_text())["n_done"] < 12:
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    n_done = json.loads(journal.read_text())["n_done"]
    assert 12 <= n_done < 200
    assert not out.exists()

    model, images = Counting(), make_images(200)
    resumed = extract(model, images, "*", out=out, batch_size=4)
    assert model.shown == 200 - n_done + LEARNT["conv"]
    uninterrupted = extract(Counting(), images, "*", out=tmp_path / "b.nc", batch_size=4)
    assert resumed.identical(uninterrupted)
    assert leftovers(tmp_path) == []


# ---- cache


def count(model: Counting, images: xr.DataArray, cache: Path, **arguments) -> int:
    """Count the images shown to the model for the values of this call."""
    before = model.shown
    extract(model, images, arguments.pop("layers", "conv"), cache=cache, **arguments)
    n_shown = model.shown - before
    return n_shown - LEARNT["conv"] if n_shown else 0


def test_the_cache_hits_the_same_content_under_any_name(tmp_path) -> None:
    images = make_images()
    assert count(Counting(), images, tmp_path) == 11
    assert count(Counting(), images.copy(deep=True), tmp_path, batch_size=4, workers=0) == 0
    assert len(list(tmp_path.glob("*.nc"))) == 1


def test_the_cache_misses_a_changed_weight(tmp_path) -> None:
    images, model = make_images(), Counting()
    assert count(model, images, tmp_path) == 11
    before = weights_digest(model)
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] += 1e-6
    assert weights_digest(model) != before
    assert count(model, images, tmp_path) == 11
    assert len(list(tmp_path.glob("*.nc"))) == 2


def test_the_cache_misses_all_else_that_matters(tmp_path) -> None:
    pytest.importorskip("zarr", minversion="3")
    images = make_images()
    pixel = images.copy(deep=True)
    pixel.values[10, 11, 11, 2] ^= 1
    variants = [
        (images, {}),
        (pixel, {}),
        (images.assign_coords(object_name=("presentation", ["x"] * 11)), {}),
        (images, {"preprocess": Preprocess(size=10)}),
        (images, {"preprocess": Preprocess(visual_degrees=8)}),
        (images, {"layers": ["conv", "noise"]}),
        (images, {"pooling": "mean"}),
        (images, {"pooling": RandomProjection(5)}),
        (images, {"pooling": RandomProjection(5, seed=1)}),
        (images, {"dtype": "float16"}),
        (images, {"seed": 1}),
        (images, {"identifier": "another name"}),
    ]
    for stimuli, arguments in variants:
        assert count(Counting(), stimuli, tmp_path, **arguments) == 11, arguments
    assert len(list(tmp_path.glob("[!.]*.*"))) == len(variants)
    for stimuli, arguments in variants:
        assert count(Counting(), stimuli, tmp_path, **arguments) == 0, arguments


def test_the_cache_misses_other_code_with_the_same_weights(tmp_path) -> None:
    class Other(Counting):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(1 - x)

        def _get_name(self) -> str:
            return "Counting"

    images = make_images()
    assert weights_digest(Other()) == weights_digest(Counting())
    assert repr(Other()) == repr(Counting())
    assert count(Counting(), images, tmp_path) == 11
    assert count(Other(), images, tmp_path) == 11


class Gained(Counting):
    """Has what a state dict leaves out: a plain attribute in the root and in a submodule, a buffer that is not persistent."""

    def __init__(self, gain: Any = 5, inner: Any = 2.0, offset: float = 0.0) -> None:
        super().__init__()
        self.gain = gain
        self.noise.inner = inner
        self.register_buffer("offset", torch.tensor([offset]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * self.gain * self.noise.inner + self.offset)


def test_the_cache_misses_what_the_state_dict_leaves_out(tmp_path) -> None:
    images = make_images()
    variants = [{}, {"gain": 6}, {"gain": 5.0}, {"inner": 3.0}, {"offset": 1.0}, {"gain": torch.tensor(5.0)}]
    for arguments in variants:
        assert weights_digest(Gained(**arguments)) == weights_digest(Gained())
        assert count(Gained(**arguments), images, tmp_path) == 11, arguments
    for arguments in variants:
        assert count(Gained(**arguments), images, tmp_path) == 0, arguments
    model = Gained()
    first = extract(model, images, "conv", cache=tmp_path)
    model.gain = 7
    changed = extract(model, images, "conv", cache=tmp_path)
    np.testing.assert_array_equal(changed.values, extract(model, images, "conv").values)
    assert np.abs(changed.values - first.values).max() > 0.01


def test_the_cache_misses_parameters_that_a_state_dict_of_ones_own_hides(tmp_path) -> None:
    class Hiding(Counting):
        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "bias" not in name}

    images, model = make_images(), Hiding()
    assert count(model, images, tmp_path) == 11
    before = weights_digest(model)
    with torch.no_grad():
        model.conv.bias[0] += 1
    assert weights_digest(model) == before
    assert count(model, images, tmp_path) == 11


def test_the_cache_misses_files_of_another_format(tmp_path, monkeypatch) -> None:
    images = make_images()
    assert count(Counting(), images, tmp_path) == 11
    monkeypatch.setattr("neurobridge.features.storage.FORMAT", 10**6)
    assert count(Counting(), images, tmp_path) == 11
    assert count(Counting(), images, tmp_path) == 0


@dataclass
class Config:
    depth: int


def twice(x: float) -> float:
    return 2 * x


def thrice(x: float) -> float:
    return 3 * x


@pytest.mark.parametrize(
    "values",
    [
        lambda: [1, True, 1.0, "1", b"1", None, 1j, (1,), [1], {1}, {1: 1}],
        lambda: [(2, 3), (3, 2), ((2,), 3), {"a": 2}, {"b": 2}, {2, 3}],
        lambda: [torch.zeros(2), torch.zeros(3), torch.zeros(2, dtype=torch.float64), torch.ones(2), np.zeros(2)],
        lambda: [np.zeros(2), np.zeros(3), np.zeros(2, np.float32), np.ones(2), np.float64(0), torch.float32],
        lambda: [twice, thrice, partial(twice, 1), partial(twice, 2), torch.nn.functional.gelu, torch.tanh, int, float],
        lambda: [Config(1), Config(2), SimpleNamespace(), (1).__add__, [].append],
    ],
)
def test_attributes_that_differ_have_other_digests_and_the_same_have_one(values: Callable[[], list[Any]]) -> None:
    def digest(value: Any) -> str:
        model = nn.Sequential(nn.Identity())
        model[0].given = value
        return attributes_digest(model)

    digests = [digest(value) for value in values()]
    assert len(set(digests)) == len(digests)
    assert digests == [digest(value) for value in values()]


def test_attributes_digest_leaves_out_what_is_no_setting_and_ends_in_a_circle() -> None:
    model = Gained()
    before = attributes_digest(model)
    model.eval()
    model.conv.register_forward_hook(lambda *args: None)
    assert attributes_digest(model) == before
    model.circle = [1]
    model.circle.append(model.circle)
    assert attributes_digest(model) != before
    model.circle = torch.eye(2).to_sparse()
    with pytest.raises(AssemblyError, match=r"Tensor.*'Tensor'"):
        attributes_digest(model)
