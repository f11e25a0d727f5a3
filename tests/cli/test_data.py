"""`neurobridge data ...`: every command has help, tables and JSON, does its work, and fails with one message."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from neurobridge.cli.app import app, main
from neurobridge.datasets import list_datasets

COMMANDS = ["list", "show", "fetch", "verify", "path", "mirror"]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache and no mirror."""
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BRAINIO_HOME", str(tmp_path / "brainio"))
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command):
    text = run(command, "--help")
    assert "Usage" in text
    assert "--json" in text


def test_list():
    listed = {row["name"]: row for row in json.loads(run("list", "--json"))}
    assert {"majajhong2015-it-v6", "simulated-hvm", "imagenet"} <= set(listed)
    assert listed["mnist"]["files"] == 4
    assert listed["mnist"]["at hand"] == 0
    assert listed["mnist"]["loader"] is True
    assert listed["imagenet"]["access"] == "user-supplied"
    assert "simulated-hvm" in run("list")


def test_show():
    shown = json.loads(run("show", "mnist", "--json"))
    assert len(shown["files"]) == 4
    text = run("show", "majajhong2015-it-v6")
    for part in (
        "what it is not",
        "private split",
        "post-processing",
        "sha256:ae08ace1",
        "@article{majaj2015",
        "0.43 MB",
    ):
        assert part in text
    assert "not stated" in run("show", "majajhong2015.public")


def test_path(home):
    assert run("path", "mnist").strip() == str(home / "mnist")
    places = json.loads(run("path", "mnist", "--json"))
    assert places["folder"] == str(home / "mnist")
    assert set(places["files"].values()) == {None}


@pytest.mark.realdata
def test_fetch_without_names_brings_every_mirrored_set_and_verify_passes(mirror, home):
    described = {manifest.name for manifest in list_datasets()}
    sets = sorted(folder.name for folder in mirror.iterdir() if folder.name in described)
    assert sets
    fetched = json.loads(run("fetch", "--mirror", mirror, "--json"))
    assert sorted(fetched) == sets
    for name, files in fetched.items():
        for file, path in files.items():
            assert path == str(home / name / file)
            assert (home / name / file).stat().st_size == (mirror / name / file).stat().st_size
    # The mirror is not needed any more.
    status = json.loads(run("verify", "--json"))
    assert {name for name, files in status.items() if "ok" in files.values()} == set(sets)
    assert {state for files in status.values() for state in files.values()} == {"ok", "missing"}
    assert "0 wrong" in run("verify")
    for name in sets:
        # Of things-similarity, a mirror may hold some groups only.
        is_whole = set(status[name].values()) == {"ok"}
        run("verify", name, code=0 if is_whole else 1)
    listed = {row["name"]: row["at hand"] for row in json.loads(run("list", "--json"))}
    assert listed["mnist"] == 4


@pytest.mark.realdata
def test_fetch_in_place_leaves_files_in_the_mirror(mirror, home):
    fetched = json.loads(run("fetch", "majajhong2015-it-v6", "--mirror", mirror, "--in-place", "--json"))
    assert fetched["majajhong2015-it-v6"]["data_subset.npy"].startswith(str(mirror))
    assert not home.exists()
    assert "data_subset.npy" in run("fetch", "majajhong2015-it-v6", "--mirror", mirror)


@pytest.mark.realdata
def test_verify_says_what_is_wrong_and_exits_with_1(mirror, home):
    run("fetch", "mnist", "majajhong2015-it-v6", "--mirror", mirror, "--json")
    path = home / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "1 wrong" in run("verify", code=1)
    status = json.loads(run("verify", "mnist", "--json", code=1))["mnist"]
    assert status["t10k-labels-idx1-ubyte.gz"].startswith("sha256:")
    run("verify", "majajhong2015-it-v6")


@pytest.mark.realdata
def test_mirror_copies_verified_files_and_what_they_need(mirror, tmp_path):
    copied = json.loads(run("mirror", tmp_path / "m", "majajhong2015-it-v6", "--mirror", mirror, "--json"))
    assert len(copied) == 2
    assert "2 verified files" in run("mirror", tmp_path / "m", "majajhong2015-it-v6", "--mirror", mirror)
    status = json.loads(run("verify", "majajhong2015-it-v6", "--mirror", tmp_path / "m", "--json"))
    assert set(status["majajhong2015-it-v6"].values()) == {"ok"}
    shutil.rmtree(tmp_path / "m")


def test_verify_fails_for_a_named_dataset_that_is_missing_and_passes_without_a_name():
    assert set(json.loads(run("verify", "mnist", "--json", code=1))["mnist"].values()) == {"missing"}
    assert "0 ok" in run("verify")


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_what_has_no_files_is_said(command):
    for name, how in {"imagenet": "folder=...", "simulated-hvm": "made by neurobridge"}.items():
        result = CliRunner().invoke(app, ["data", command, name, "--json"])
        assert json.loads(result.stdout) == {name: {}}
        assert f"{name}: " in result.stderr
        assert how in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "majaj"], "Mend: did you mean 'majajhong2015"),
        (["path", "mnits"], "Mend: did you mean 'mnist'"),
        (["fetch"], "found no mirror; expected a folder laid out"),
        (["fetch", "mnist", "--mirror", "nowhere"], "found no folder at nowhere; expected a mirror"),
        (["mirror", "m", "mnits"], "Mend: did you mean 'mnist'"),
    ],
)
def test_expected_errors_are_one_message_and_no_traceback(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["neurobridge", "data", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith("neurobridge: ")
    assert message in shown
    assert "Traceback" not in shown
