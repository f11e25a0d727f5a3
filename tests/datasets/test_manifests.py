"""Manifests: complete, strict, and found wherever the package is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from neurobridge.datasets import (
    ManifestError,
    UnknownDatasetError,
    find_manifest,
    has_loader,
    list_datasets,
    load,
    read_manifest,
)
from neurobridge.datasets.catalogue import LOADERS
from tests.refusals import refused

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
is_not = ["a cake"]
post_processing = "none"
[[files]]
name = "a.npy"
url = "https://example.org/a.npy"
digests = ["md5:{digest}"]
""".replace("{digest}", "0" * 32)


def test_every_shipped_manifest_is_complete():
    manifests = {manifest.name: manifest for manifest in list_datasets()}
    assert set(LOADERS) < set(manifests)
    for manifest in manifests.values():
        assert manifest.statement.startswith(manifest.note)
        assert manifest.is_not, f"{manifest.name} does not say what it is not"
        assert all(statement.endswith(".") for statement in manifest.is_not)
        assert manifest.files or manifest.access in ("embedded", "user-supplied")
        for required, files in manifest.requires.items():
            assert {manifests[required].file(file).name for file in files} == set(files)
        # Only files that could not be read here, whose publisher gives sha1 or a git blob, are not pinned by sha256.
        weak = [entry.name for entry in manifest.files if not entry.digests[0].startswith("sha256:")]
        assert not weak or manifest.name in ("majajhong2015.public", "majajhong2015.temporal.public", "psych253")
    assert "simulated" in manifests["simulated-hvm"].kind
    assert "private split" in manifests["majajhong2015-it-v6"].statement


def test_a_good_manifest_is_read(tmp_path):
    (tmp_path / "made.toml").write_text(GOOD)
    manifest = read_manifest(tmp_path / "made.toml")
    assert manifest.file("a.npy").digests == ("md5:" + "0" * 32,)
    assert manifest.statement == "made a cake"


@pytest.mark.parametrize(
    ("change", "line", "facts"),
    [
        (("[[files]]", "[[files"), 12, []),
        (('kind = "recorded"', 'kind = "guessed"'), 5, ["kind", "'guessed'"]),
        (('access = "public"', 'access = "secret"'), 6, ["access", "'secret'"]),
        (('licence = "none stated"\n', ""), 1, ["licence"]),
        (('note = "made"', 'note = "made"\nmood = "good"'), 10, ["mood"]),
        (('note = "made"', 'note = ""'), 9, ["note", "''"]),
        (('"@misc{made}"', '"""\nMade et al.\n"""'), 8, ["citation"]),
        (('["a cake"]', '[\n  "a cake",\n  7,\n]'), 10, ["is_not.1", 7]),
        (("md5:0", "crc:0"), 15, ["files.0.digests.0", "sha256", "git-blob-sha1"]),
        (("md5:0", "md5:"), 15, ["files.0.digests.0", "sha256"]),
        (("md5:0", "git-blob-sha1:0"), 15, ["files.0.digests.0", "git-blob-sha1"]),
        (("digests = ", 'members = "gone.csv"\ndigests = '), 15, ["files.0.members", "gone.csv"]),
        (('name = "a.npy"', 'name = "../a.npy"'), 13, ["files.0.name", "'../a.npy'"]),
        (('name = "a.npy"', 'name = ".a.partial"'), 13, ["files.0.name", "'.a.partial'"]),
        (('name = "a.npy"\n', ""), 12, ["files.0.name"]),
        (
            (
                "[[files]]",
                '[[files]]\nname = "a.npy"\ndigests = ["md5:{0}"]\norigin = "x"\n[[files]]'.replace("{0}", "0" * 32),
            ),
            12,
            ["files", ["a.npy", "a.npy"]],
        ),
        (("[[files]]", "[requires]\nother = 3\n[[files]]"), 13, ["requires.other", 3]),
        (('url = "https://example.org/a.npy"', 'url = "ftp://x"'), 14, ["files.0.url", "'ftp://x'"]),
        (('url = "https://example.org/a.npy"\n', ""), 12, ["files", "'a.npy'", "url", "origin"]),
        (('name = "made"', 'name = "other"'), 2, ["'other'", "'made'"]),
    ],
)
def test_a_bad_manifest_names_the_file_the_line_and_the_field(tmp_path, change, line, facts):
    path = tmp_path / "made.toml"
    path.write_text(GOOD.replace(*change, 1))
    with refused(ManifestError, path, f"line {line}", *facts):
        read_manifest(path)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"", b"[[" * 5000, bytes(100)])
def test_what_is_no_text_is_refused_by_name(tmp_path, data):
    path = tmp_path / "made.toml"
    path.write_bytes(data)
    with refused(ManifestError, path):
        read_manifest(path)


def test_the_line_is_that_of_the_right_file_and_the_right_element(tmp_path):
    second = '[[files]]\nname = "b.npy"\norigin = "x"\ndigests = [\n  "md5:' + "1" * 32 + '",\n  "md4:0",\n]\n'
    (tmp_path / "made.toml").write_text(GOOD + second)
    with refused(ManifestError, "line 21", "files.1.digests.1", "'md4:0'"):
        read_manifest(tmp_path / "made.toml")


def test_public_data_has_files(tmp_path):
    (tmp_path / "made.toml").write_text(GOOD.partition("[[files]]")[0])
    with refused(ManifestError, "made.toml", "files", "public"):
        read_manifest(tmp_path / "made.toml")


def test_manifests_of_ones_own_are_found_and_shadow_nothing(tmp_path, monkeypatch):
    (tmp_path / "made.toml").write_text(GOOD)
    monkeypatch.setenv("NEUROBRIDGE_MANIFESTS", str(tmp_path))
    assert find_manifest("made").title == "made"
    assert "made" in [manifest.name for manifest in list_datasets()]
    (tmp_path / "mnist.toml").write_text(GOOD.replace('"made"', '"mnist"', 1))
    with refused(ManifestError, "'mnist'", tmp_path / "mnist.toml"):
        find_manifest("made")
    monkeypatch.setenv("NEUROBRIDGE_MANIFESTS", str(tmp_path / "nowhere"))
    with refused(ManifestError, "NEUROBRIDGE_MANIFESTS", tmp_path / "nowhere"):
        list_datasets()


@pytest.mark.parametrize("act", [find_manifest, load])
def test_an_unknown_name_suggests_the_nearest(act):
    with refused(UnknownDatasetError, "'majajhong2015-it'", "'majajhong2015-it-v6'"):
        act("majajhong2015-it")
    with refused(UnknownDatasetError, "'###'", "neurobridge data list"):
        act("###")


def test_a_dataset_without_a_loader_says_which_have_one(tmp_path, monkeypatch):
    (tmp_path / "made.toml").write_text(GOOD)
    monkeypatch.setenv("NEUROBRIDGE_MANIFESTS", str(tmp_path))
    assert not has_loader("made")
    assert has_loader("mnist")
    assert has_loader("simulated-hvm")
    with refused(UnknownDatasetError, "'made'", "['cifar10'"):
        load("made")


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
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "NEUROBRIDGE"))}
    code = "import neurobridge; print(neurobridge.__file__); print(*[m.name for m in neurobridge.list_datasets()])"
    run = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    where, names = run.stdout.strip().split("\n")
    assert Path(where).is_relative_to(folder)
    assert names.split() == [manifest.name for manifest in list_datasets()]


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"gone\.toml"):
        read_manifest(tmp_path / "gone.toml")
