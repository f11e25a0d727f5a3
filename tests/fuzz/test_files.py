"""Damaged files of every kind the package reads: refused by name, or read as what was written."""

from __future__ import annotations

import functools
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
from hypothesis import strategies as st
from PIL import Image

import neurobridge as nb
from neurobridge import aligners, bridge, features, flow
from neurobridge.assemblies import Pairs
from neurobridge.datasets import read_manifest
from neurobridge.datasets.files.archives import members_of
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.strategies import damage

#: Names of what is tried here, for the test of all entrances.
ENTRANCES = (
    "assemblies.open_assembly",
    "assemblies.Pairs",
    "datasets.read_manifest",
    "aligners.load",
    "flow.ConditionalFlow",
    "features.extract",
    "features.save_reference",
    "features.load_reference",
    "features.open_features",
    "features.weights_digest",
)
RNG = np.random.default_rng(0)
MANIFEST = Path(__file__).parents[2] / "data_manifests" / "kriegeskorte2008.toml"
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))


class Kind(NamedTuple):
    """A file or folder that the package writes or reads: ``read`` gives what is compared, ``sealed`` is under a digest."""

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    sealed: bool


def _assembly() -> xr.DataArray:
    ids = [f"s{k}" for k in range(12)]
    return nb.make_assembly(X, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["a", "b", "c"]})


def _write_pairs(folder: Path) -> Path:
    return Pairs.shared(_assembly(), _assembly()).save(folder / "pairs.csv")


def _write_manifest(folder: Path) -> Path:
    return Path(shutil.copy(MANIFEST, folder / MANIFEST.name))


def _write_zip(folder: Path) -> Path:
    path = folder / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(3):
            payload = io.BytesIO()
            Image.fromarray(np.full((4, 4), 40 * k, np.uint8)).save(payload, "PNG")
            archive.writestr(f"{k}.png", payload.getvalue())
    return path


def _write_aligner(folder: Path) -> Path:
    aligner = aligners.BridgeAligner(metric="euclidean", coupling="factored", map="barycentric", epsilon=0.1)
    return aligner.fit(X, Y, pairs=(np.arange(6), np.arange(6))).save(folder / "aligner")


def _write_flow(folder: Path) -> Path:
    coupling = bridge.Coupling.of_pairs((np.arange(12), np.arange(12)), (12, 12))
    training = flow.Training(n_steps=2, width=4, depth=1, validation=0.0)
    return flow.ConditionalFlow("affine", training=training).fit(X, Y, coupling).save(folder / "flow")


def _write_reference(folder: Path) -> Path:
    images = xr.DataArray(
        RNG.integers(0, 255, (4, 8, 8)).astype(np.uint8),
        dims=("presentation", "row", "column"),
        coords={"stimulus_id": ("presentation", list("abcd"))},
    )
    trained = features.train_reference("conv_vae", images, epochs=1, n_latents=2)
    return features.save_reference(trained, folder / "reference")


KINDS = [
    Kind(
        "netCDF",
        lambda f: nb.save_assembly(_assembly(), f / "a.nc"),
        lambda p: nb.open_assembly(p).load().values,
        False,
    ),
    Kind(
        "features",
        lambda f: nb.save_assembly(_assembly(), f / "a.nc"),
        lambda p: features.open_features(p).load().values,
        False,
    ),
    Kind("reference", _write_reference, lambda p: features.weights_digest(features.load_reference(p).model), False),
    Kind("pairs", _write_pairs, lambda p: len(Pairs.load(p)), False),
    Kind("manifest", _write_manifest, lambda p: read_manifest(p).name, False),
    Kind("zip of images", _write_zip, lambda p: len(members_of(p)), False),
    Kind("aligner", _write_aligner, lambda p: aligners.load(p).transform(X), True),
    Kind("flow", _write_flow, lambda p: flow.ConditionalFlow.load(p).transport(X), True),
]


@functools.cache
def _whole(kind: Kind) -> tuple[dict[str, bytes], str, Any]:
    """Contents of every file of a whole copy, the name below the folder that is read, and what reading gives."""
    with tempfile.TemporaryDirectory() as folder:
        path = kind.write(Path(folder))
        root = Path(folder)
        name = path.relative_to(root)
        if path.is_file() and len(name.parts) > 1:
            name = Path(name.parts[0])
        files = {
            str(p.relative_to(root)): p.read_bytes()
            for p in sorted(root.rglob("*"))
            if p.is_file() and not p.name.startswith(".")
        }
        return files, str(name), kind.read(root / name)


@st.composite
def damaged(draw: st.DrawFn, kind: Kind) -> dict[str, bytes]:
    files = dict(_whole(kind)[0])
    victim = draw(st.sampled_from(sorted(files)))
    if draw(st.integers(0, 9)) == 0:
        del files[victim]
    else:
        files[victim] = draw(damage(files[victim]))
    return files


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_files(campaign: Campaign, kind: Kind) -> None:
    whole, name, expected = _whole(kind)

    def check(files: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for relative, contents in files.items():
                path = Path(folder) / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(contents)
            with attempt():
                result = kind.read(Path(folder) / name)
        if kind.sealed or files == whole:
            np.testing.assert_array_equal(result, expected)

    campaign.run(f"damaged {kind.name}", damaged(kind), check)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "HSV", "LAB"]
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]


@st.composite
def images(draw: st.DrawFn) -> tuple[bytes, str]:
    """Encoded images of every mode and format, some damaged."""
    form = draw(st.sampled_from(FORMATS))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    payload = io.BytesIO()
    try:
        Image.new(draw(st.sampled_from(MODES)), size).save(payload, form)
    except (OSError, ValueError, KeyError):
        return draw(st.binary(max_size=32)), form
    whole = payload.getvalue()
    return (draw(damage(whole)) if draw(st.booleans()) else whole), form


def test_images(campaign: Campaign) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())

    def check(drawn: tuple[bytes, str]) -> None:
        import pandas as pd

        contents, form = drawn
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / f"a.{form.lower()}").write_bytes(contents)
            table = pd.DataFrame({"stimulus_id": ["a"], "file": [f"a.{form.lower()}"]})
            with attempt():
                features = nb.extract(model, table, "1", root=folder, preprocess=nb.features.Preprocess(size=4))
        assert np.isfinite(features.values).all()

    campaign.run("images", images(), check)
