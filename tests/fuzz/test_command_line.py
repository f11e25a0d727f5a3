"""Words of every kind after every command: an exit code and one message, never a traceback."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import typer.main
from hypothesis import strategies as st
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.cli.app import app
from tests.fuzz.campaign import Campaign, Refused
from tests.fuzz.strategies import damage

#: Every command below but those left out; commands are no callables of the package.
ENTRANCES = ("cli",)
#: Long work, work on the installation, and the network.
LEFT_OUT = {("demo",), ("run",), ("brainscore", "link"), ("brainscore", "unlink"), ("features", "train")}


def _leaves(command: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    if not isinstance(command, click.Group):
        return {path: command}
    context = click.Context(command)
    leaves: dict[tuple[str, ...], click.Command] = {}
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        leaves |= _leaves(child, (*path, name))
    return leaves


COMMANDS = {path: command for path, command in _leaves(typer.main.get_command(app)).items() if path not in LEFT_OUT}
WORDS = st.one_of(
    st.sampled_from(
        [
            "a.nc",
            "b.nc",
            "bad.nc",
            "empty",
            "folder",
            "missing.nc",
            "table.csv",
            "pairs.csv",
            "stimuli.csv",
            "0",
            "-1",
            "3",
            "1e9",
            "nan",
            "",
            "ridge",
            "pls",
            "all",
            "é",
            "--",
            "-",
            "simulated-hvm",
            "python:torch.nn:Identity",
            "a" * 300,
            "\x00",
            "out.nc",
            "out.zarr",
        ]
    ),
    st.text(max_size=6),
)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """A command with arguments that are often right, and options that are often there."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    words = list(path)
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Argument):
            words += (
                draw(st.lists(st.sampled_from(["a.nc", "b.nc"]) | WORDS, min_size=1, max_size=1))
                if draw(st.integers(0, 9))
                else []
            )
        elif draw(st.integers(0, 3)) == 0 or parameter.required:
            words.append(parameter.opts[0])
            if not getattr(parameter, "is_flag", False):
                words.append(draw(WORDS))
    return [word for word in words if word != "--help"], draw(damage(b"stimulus_id,file\na,a.png\nb,b.png\n"))


def _fill(folder: Path, table: bytes) -> None:
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(12)]
    for name in ("a", "b"):
        assembly = nb.make_assembly(
            rng.normal(size=(12, 3)), presentation={"stimulus_id": ids}, neuroid={"neuroid_id": list("xyz")}
        )
        nb.save_assembly(assembly, folder / f"{name}.nc")
    (folder / "bad.nc").write_bytes((folder / "a.nc").read_bytes()[:-200])
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    for name in ("table.csv", "stimuli.csv"):
        (folder / name).write_bytes(table)
    (folder / "pairs.csv").write_text("source_id,target_id\ns0,s0\ns1,s1\ns2,s2\ns3,s3\n")


def test_command_line(campaign: Campaign, monkeypatch: Any) -> None:
    # No address answers: a download is refused at once.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)

    def check(drawn: tuple[list[str], bytes]) -> None:
        words, table = drawn
        before = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            monkeypatch.setenv("NEUROBRIDGE_HOME", str(Path(folder) / "home"))
            _fill(Path(folder), table)
            os.chdir(folder)
            try:
                result = CliRunner().invoke(app, words)
            finally:
                os.chdir(before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        if result.exit_code:
            raise Refused(result.output)

    campaign.run("command line", command_lines(), check, batch=20)
