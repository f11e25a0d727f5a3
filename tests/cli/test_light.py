"""Help and completion stay light: they import the module of the command that is asked for, and no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from neurobridge.aligners import BASELINES
from neurobridge.aligners.options import COUPLINGS, MAPS
from neurobridge.bridge import CRITERIA
from neurobridge.bridge.cost.metrics import METRICS
from neurobridge.cli import choices
from neurobridge.cli.app import COMMANDS, app
from neurobridge.evaluate import READOUTS, REGRESSIONS
from neurobridge.evaluate.comparison.models import COMPARED
from neurobridge.evaluate.retrieval import HUB_CORRECTIONS
from neurobridge.evaluate.similarity.comparators import COMPARATORS
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.evaluate.similarity.inference.models import BOOTSTRAPS
from neurobridge.evaluate.splits import KINDS
from neurobridge.features import REFERENCES
from neurobridge.points.ranks import SIMILARITIES
from neurobridge.study.demo import DATASETS as DEMO_DATASETS
from neurobridge.study.methods import METHODS

HEAVY = ("torch", "xarray", "pandas", "scipy", "sklearn", "matplotlib")
PROGRAM = """
import sys
sys.argv = ["neurobridge", *sys.argv[1:]]
from neurobridge.cli import main
try:
    main()
except SystemExit:
    pass
print("LOADED", *(name for name in %r if name in sys.modules), file=sys.stderr)
"""


def run(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % (HEAVY,), *arguments],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout, done.stderr.split("LOADED")[1].split()


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["features", "extract"], ["data", "list"]])
def test_help_imports_no_torch(command):
    shown, loaded = run(*command, "--help")
    assert "Usage" in shown
    assert "torch" not in loaded


@pytest.mark.parametrize(
    ("words", "expected"),
    [("neurobridge ", "demo"), ("neurobridge fea", "features"), ("neurobridge align --me", "--method")],
)
def test_completion_imports_no_torch(words, expected):
    count = words.count(" ")
    shown, loaded = run(_NEUROBRIDGE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
    assert expected in shown.split()
    assert "torch" not in loaded


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="completion of bash needs bash")
def test_an_installed_completion_completes_commands_and_options(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    commands = "neurobridge --install-completion\n. ~/.bashrc\n"
    for words in (("neurobridge", "fea"), ("neurobridge", "align", "--crit")):
        commands += (
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _neurobridge_completion neurobridge\n"
        )
        commands += "echo got ${COMPREPLY[@]}\n"
    done = subprocess.run(["bash"], input=commands, capture_output=True, text=True, check=True, env=environment)
    assert [line for line in done.stdout.splitlines() if line.startswith("got")] == ["got features", "got --criterion"]


def test_the_list_of_commands_imports_no_room():
    shown, loaded = run("--help")
    assert all(name in shown for name in COMMANDS)
    assert loaded == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_its_own(name):
    command = COMMANDS[name].load(name)
    assert command.name == name
    first = " ".join((command.help or "").split("\n\n")[0].replace("`", "").split())
    assert first == COMMANDS[name].help


def test_names_in_help_texts_are_those_of_the_rooms():
    assert tuple(BASELINES) == choices.BASELINES
    assert tuple(REGRESSIONS) == choices.REGRESSIONS
    assert choices.COMPARED == COMPARED
    assert tuple(READOUTS) == choices.READOUTS
    assert (choices.SIMILARITIES, choices.HUB_CORRECTIONS) == (SIMILARITIES, HUB_CORRECTIONS)
    assert {*choices.DISTANCES} == {*DISTANCES, "crossvalidated", "crossnobis"}
    assert (choices.COMPARATORS, choices.BOOTSTRAPS) == (COMPARATORS, BOOTSTRAPS)
    assert {*choices.CRITERIA, "labels"} == set(CRITERIA)
    assert set(KINDS) == set(choices.SPLITS)
    assert tuple(REFERENCES) == choices.REFERENCES
    assert choices.DEMO_DATASETS == DEMO_DATASETS
    assert (choices.MAPS, choices.COUPLINGS) == (MAPS, COUPLINGS)
    assert {*choices.METRICS} - {"geodesic"} == set(METRICS)
    assert choices.METHODS == METHODS


def test_an_unknown_command_is_refused_with_a_suggestion():
    result = CliRunner().invoke(app, ["algin"])
    assert result.exit_code == 2
    assert "align" in result.output
    assert isinstance(app, typer.Typer)
