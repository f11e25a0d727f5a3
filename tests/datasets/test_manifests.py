"""Manifests: complete, strict, and found wherever the package is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from neurobridge.datasets import ManifestError, UnknownDatasetError, find_manifest, list_datasets, load, read_manifest
from neurobridge.datasets.catalogue import LOADERS

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
name = "made"
version = "1"
title = "made"
kind = "recorded"
access = "public"
licence = "none stated"
citation = "@misc{made}"
note = "made"
[[files]]
name = "a.npy"
url = "https://example.org/a.npy"
digests = ["md5:{digest}"]
""".replace("{digest}", "0" * 32)


def test_every_shipped_manifest_is_complete():
    manifests = {manifest.name: manifest for manifest in list_datasets()}
    assert set(LOADERS) < set(manifests)
    for manifest in manifests.values():
        assert manifest.note
        assert manifest.citation.strip().startswith("@")
        assert manifest.files or manifest.access == "embedded"
        for required, files in manifest.requires.items():
            assert {manifests[required].file(file).name for file in files} == set(files)
        for entry in manifest.files:
            assert entry.url or entry.origin, f"{manifest.name}/{entry.name} comes from nowhere"


def test_a_good_manifest_is_read(tmp_path):
    (tmp_path / "made.toml").write_text(GOOD)
    assert read_manifest(tmp_path / "made.toml").file("a.npy").digests == ("md5:" + "0" * 32,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[[files]]", "[[files"), r"made.toml: found text that is not TOML \(.*line 10.*\); expected a manifest"),
        (('kind = "recorded"', 'kind = "guessed"'), r"made.toml: kind: .*found 'guessed'"),
        (('licence = "none stated"\n', ""), r"made.toml: licence: Field required"),
        (('note = "made"', 'note = "made"\nmood = "good"'), r"made.toml: mood: Extra inputs are not permitted"),
        (("md5:0", "crc:0"), r"files.0.digests: .*expected md5:, sha1: or sha256:"),
        (("md5:0", "md5:"), r"files.0.digests: .*expected md5:, sha1: or sha256:"),
        (('name = "a.npy"', 'name = "../a.npy"'), r"files.0.name: .*found '../a.npy'"),
        (('name = "made"', 'name = "other"'), r"found name 'other'; expected 'made'"),
    ],
)
def test_a_bad_manifest_names_the_file_and_the_field(tmp_path, change, message):
    path = tmp_path / "made.toml"
    path.write_text(GOOD.replace(*change, 1))
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert "Mend: " in str(caught.value)


@pytest.mark.parametrize("act", [find_manifest, load])
def test_an_unknown_name_suggests_the_nearest(act):
    with pytest.raises(
        UnknownDatasetError,
        match=r"found dataset 'majajhong2015-it'; expected one of .*Mend: did you mean 'majajhong2015-it-v6'",
    ):
        act("majajhong2015-it")
    with pytest.raises(UnknownDatasetError, match=r"found dataset '###'; .*Mend: neurobridge data list"):
        act("###")


def test_a_dataset_without_a_loader_says_which_have_one():
    with pytest.raises(UnknownDatasetError, match=r"found dataset 'kriegeskorte2008'; expected one of \['cowley"):
        load("kriegeskorte2008")


def test_an_installed_wheel_finds_its_manifests_from_another_folder(tmp_path):
    """Builds the wheel, unpacks it into a clean environment, and asks it for its datasets far from the source tree."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    # pip itself is taken from here: a clean environment, without the minutes of downloading every dependency again.
    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
    )
    folder = Path(site.stdout.strip())
    # Dependencies are looked up in this environment, after the clean one; its editable neurobridge must not be seen.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (folder / "dependencies.pth").write_text("\n".join(here) + "\n")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "NEUROBRIDGE_MIRROR")}
    code = "import neurobridge; print(neurobridge.__file__); print(*[m.name for m in neurobridge.list_datasets()])"
    run = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    where, names = run.stdout.strip().split("\n")
    assert Path(where).is_relative_to(folder)
    assert names.split() == [manifest.name for manifest in list_datasets()]
