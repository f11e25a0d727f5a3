"""SIMULATED recordings in the layout of MajajHong2015.public, served to the real Brain-Score from a BRAINIO_HOME of their own."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurobridge.assemblies import make_assembly
from neurobridge.brainscore import to_brainscore
from neurobridge.datasets.files import manifests

ASSEMBLY, TABLE, IMAGES = "assy_dicarlo_MajajHong2015_public.nc", "stimulus_hvm-public.csv", "stimulus_hvm-public.zip"


class Served(NamedTuple):
    """What is served: the files, and a model's activations of the same stimuli."""

    files: Path
    home: Path
    activations: xr.DataArray


def _signal(n_stimuli: int) -> tuple[np.ndarray, np.ndarray]:
    """Responses of 256 sites to ten latent variables, of which a model of 40 units knows some and adds its own."""
    rng = np.random.default_rng(3)
    latents = rng.normal(size=(n_stimuli, 10))
    sites = 1.5 * latents @ rng.normal(size=(10, 256)) / np.sqrt(10)
    units = np.hstack([latents[:, :7], rng.normal(size=(n_stimuli, 5))]) @ rng.normal(size=(12, 40))
    # Of full rank: past the rank, the NIPALS of scikit-learn that Brain-Score runs divides by rounding errors.
    return sites, units + 0.5 * rng.normal(size=units.shape)


@pytest.fixture(scope="session")
def files(script, tmp_path_factory) -> tuple[Path, xr.DataArray]:
    """The three files of the public set, small, and activations of a model."""
    layout = script("benchmarks/majajhong_public")
    folder = layout.make(
        tmp_path_factory.mktemp("public") / "majajhong2015.public",
        images_per_object={0: 2, 3: 8},
        repetitions={0: 6, 3: 8},
        side=8,
        signal=lambda n: _signal(n)[0],
    )
    ids = pd.read_csv(folder / TABLE)["image_id"].to_numpy()
    units = _signal(len(ids))[1]
    neuroid = {"neuroid_id": [f"unit-{k:02d}" for k in range(units.shape[1])], "layer": ["last"] * units.shape[1]}
    # In another order than the recordings, as an extraction may leave them.
    order = np.random.default_rng(4).permutation(len(ids))
    layout.write_manifest(folder, folder.parent / "manifests", "http://127.0.0.1:9")
    return folder, make_assembly(units[order], presentation={"stimulus_id": ids[order]}, neuroid=neuroid)


@pytest.fixture
def public(files, monkeypatch) -> tuple[Path, xr.DataArray]:
    """A mirror with the simulated files, which stand in for the real ones here, and a model's activations."""
    folder, activations = files
    monkeypatch.setattr(manifests, "manifest_folders", lambda: [folder.parent / "manifests"])
    monkeypatch.setenv("NEUROBRIDGE_QUIET", "1")
    return folder.parent, activations


@pytest.fixture
def served(files, public, tmp_path, monkeypatch) -> Served:
    """Brain-Score's own loaders find the simulated files under their own digests; the registry says which."""
    pytest.importorskip("brainscore_vision", reason="needs the extra brainscore")
    import brainscore_vision
    import brainscore_vision.data.majajhong2015
    from brainscore_core.supported_data_standards.brainio import assemblies, fetch, s3

    folder, activations = files
    home = tmp_path / "brainio"
    digests = {}
    for name in (ASSEMBLY, TABLE, IMAGES):
        digests[name] = hashlib.sha1((folder / name).read_bytes()).hexdigest()
        (home / digests[name]).mkdir(parents=True)
        shutil.copy(folder / name, home / digests[name] / name)
    monkeypatch.setenv("BRAINIO_HOME", str(home))
    # Read once a process and kept: the first test would decide for the others.
    monkeypatch.setattr(fetch, "_local_data_path", None)
    bucket = {"bucket": "brainscore-storage/brainio-brainscore"}
    versions = {"csv_version_id": "null", "zip_version_id": "null"}
    monkeypatch.setitem(
        brainscore_vision.stimulus_set_registry,
        "hvm-public",
        lambda: s3.load_stimulus_set_from_s3(
            identifier="hvm-public", csv_sha1=digests[TABLE], zip_sha1=digests[IMAGES], **versions, **bucket
        ),
    )
    monkeypatch.setitem(
        brainscore_vision.data_registry,
        "MajajHong2015.public",
        lambda: s3.load_assembly_from_s3(
            identifier="dicarlo.MajajHong2015.public",
            version_id="null",
            sha1=digests[ASSEMBLY],
            cls=assemblies.NeuronRecordingAssembly,
            stimulus_set_loader=lambda: brainscore_vision.load_stimulus_set("hvm-public"),
            **bucket,
        ),
    )
    return Served(folder, home, activations)


@pytest.fixture
def real_pair() -> tuple[xr.DataArray, xr.DataArray]:
    """Two Brain-Score assemblies of 120 stimuli in different orders, the second predicted in part by the first."""
    pytest.importorskip("brainscore_vision", reason="needs the extra brainscore")
    rng = np.random.default_rng(8)
    X = rng.normal(size=(120, 30))
    Y = X[:, :6] @ rng.normal(size=(6, 7)) + rng.normal(size=(120, 7))
    ids = np.array([f"im{k:03d}" for k in rng.permutation(120)])
    labels = {"stimulus_id": ids, "object_name": [f"object {int(name[2:]) % 4}" for name in ids]}
    made = [
        make_assembly(
            values,
            presentation=labels,
            neuroid={"neuroid_id": [f"{kind}{k}" for k in range(values.shape[1])], "region": [kind] * values.shape[1]},
        )
        for kind, values in (("u", X), ("v", Y))
    ]
    return to_brainscore(made[0].isel(presentation=rng.permutation(120))), to_brainscore(made[1])
