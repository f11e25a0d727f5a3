"""The command line of a study's script, and `neurobridge run`, which starts it."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurobridge.cli import run as cli_run
from neurobridge.cli.app import app
from neurobridge.study import Study, main

SCRIPT = """
import multiprocessing
import time
from neurobridge.study import Study, main

def cells(run):
    return [{"seed": seed} for seed in range(run.seed, run.seed + 3)]

def compute(run, cell):
    if {slow}:
        (run.out / f"at{cell['seed']}").touch()
        time.sleep({slow} if cell["seed"] == 1 and not (run.out / "go").exists() else 0)
    if {broken}:
        raise ValueError("broken on purpose")
    if {lacking}:
        from neurobridge.datasets import DownloadError
        try:
            raise DownloadError("found no copy")
        except DownloadError as error:
            raise ValueError("found no copy") from error
    in_a_worker = multiprocessing.parent_process() is not None
    return [{"seed": cell["seed"], "value": cell["seed"] ** 2, "worker": in_a_worker}]

def finish(run, records):
    return {"tables": [{"title": "squares", "columns": ["seed", "value"], "rows": [[r["seed"], r["value"]] for r in records]}],
            "claims": [{"claim": "squares", "verdict": "holds", "evidence": "the table"}], "digests": {}}

if __name__ == "__main__":
    main(Study("%s", "Simulated squares", cells, compute, finish))
"""


def _write(folder: Path, name: str, **options) -> Path:
    text = textwrap.dedent(SCRIPT % name)
    for key in ("slow", "broken", "lacking"):
        text = text.replace("{" + key + "}", str(options.get(key, 0)))
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


@pytest.fixture
def scripts(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    monkeypatch.setattr(cli_run, "PLACES", (cli_run.Place(tmp_path, "scripts"),))
    return folder


def test_a_killed_run_goes_on(scripts, tmp_path, monkeypatch, capsys):
    script, out = _write(scripts, "squares", slow=30), tmp_path / "out"
    process = subprocess.Popen([sys.executable, str(script), "--out", str(out), "--json", "--quick"])
    for _ in range(600):
        if (out / "at1").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len((out / "records.jsonl").read_text().splitlines()) == 2
    (out / "go").touch()
    monkeypatch.setattr(sys, "argv", [str(script), "--out", str(out), "--quick"])
    (out / "at0").unlink()
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script), run_name="__main__")
    results = json.loads((out / "scores.json").read_text())
    assert [record["value"] for record in results["records"]] == [0, 1, 4]
    assert not (out / "at0").exists()


def test_the_command_runs_one_experiment_and_passes_its_exit_code_on(scripts, tmp_path, capfd):
    _write(scripts, "squares")
    _write(scripts, "sour", broken=1)
    command = ["run", "squares", "--quick", "--seed", "2", "--out", str(tmp_path / "r"), "--json"]
    assert CliRunner().invoke(app, command).exit_code == 0
    printed = json.loads(capfd.readouterr().out)
    assert [record["value"] for record in printed["records"]] == [4, 9, 16]
    assert json.loads((tmp_path / "r" / "squares" / "quick" / "scores.json").read_text()) == printed
    assert CliRunner().invoke(app, ["run", "sour", "--quick", "--out", str(tmp_path / "r")]).exit_code == 1
    message = capfd.readouterr().err
    assert "broken on purpose" in message
    assert "0 of 3 cells" in message
    assert "Traceback" not in message


def test_cells_run_in_several_processes(scripts, tmp_path, capfd):
    _write(scripts, "squares")
    _write(scripts, "dry", lacking=1)
    command = ["run", "squares", "--quick", "--jobs", "2", "--out", str(tmp_path / "r"), "--json"]
    assert CliRunner().invoke(app, command).exit_code == 0
    records = json.loads(capfd.readouterr().out)["records"]
    assert [record["value"] for record in records] == [0, 1, 4]
    assert all(record["worker"] for record in records)
    command = ["run", "dry", "--quick", "--jobs", "2", "--out", str(tmp_path / "r")]
    assert CliRunner().invoke(app, command).exit_code == 3
    assert "found no copy" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_cells_of_all_processes(scripts, tmp_path, number):
    script, out = _write(scripts, "squares", slow=60), tmp_path / "out"
    command = [sys.executable, str(script), "--out", str(out), "--quick", "--jobs", "2"]
    # A session of its own: the signal reaches the script alone.
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    try:
        for _ in range(1200):
            if (out / "at1").exists():
                break
            time.sleep(0.05)
        process.send_signal(number)
        _, message = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (130, 143)
    assert b"finished cells are kept" in message


def test_all_runs_the_others_when_one_fails(scripts, tmp_path):
    for name, broken in (("a_sour", 1), ("squares", 0)):
        _write(scripts, name, broken=broken)
    (scripts / "_shared.py").write_text("raise RuntimeError")
    result = CliRunner().invoke(app, ["run", "--all", "--quick", "--out", str(tmp_path / "r"), "--json"])
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [(row["name"], row["ended"]) for row in rows] == [("a_sour", "failed (1)"), ("squares", "done")]
    assert rows[1]["claims"] == [{"claim": "squares", "verdict": "holds", "evidence": "the table"}]
    assert "a_sour" in result.stderr


def test_all_skips_what_has_no_data_and_says_so(scripts, tmp_path):
    _write(scripts, "a_lacking", lacking=1)
    _write(scripts, "squares")
    result = CliRunner().invoke(app, ["run", "--all", "--quick", "--out", str(tmp_path / "r"), "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [(row["name"], row["ended"]) for row in rows] == [("a_lacking", "skipped: no data"), ("squares", "done")]
    assert rows[0]["claims"] == []
    assert CliRunner().invoke(app, ["run", "a_lacking", "--quick", "--out", str(tmp_path / "r")]).exit_code == 3


def test_names_are_listed_and_an_unknown_one_refused(scripts):
    _write(scripts, "squares")
    assert CliRunner().invoke(app, ["run"]).output.split() == ["squares"]
    assert json.loads(CliRunner().invoke(app, ["run", "--json"]).output) == ["squares"]
    error = CliRunner().invoke(app, ["run", "circles"]).exception
    assert isinstance(error, ValueError)
    assert "'circles'" in str(error)
    assert "['squares']" in str(error)


def test_siblings_of_a_script_are_imported_from_its_package(scripts, tmp_path):
    (scripts / "parts").mkdir()
    (scripts / "parts" / "numbers.py").write_text("VALUE = 7")
    path = _write(scripts, "squares")
    text = path.read_text().replace("import time\n", "import time\nfrom .parts.numbers import VALUE\n", 1)
    path.write_text(text.replace("** 2", "+ VALUE"))
    assert list(cli_run.list_scripts()) == ["squares"]
    result = CliRunner().invoke(app, ["run", "squares", "--quick", "--out", str(tmp_path / "r")])
    assert result.exit_code == 0
    scores = json.loads((tmp_path / "r" / "squares" / "quick" / "scores.json").read_text())
    assert [record["value"] for record in scores["records"]] == [7, 8, 9]


def test_the_experiments_of_the_checkout_are_listed():
    names = set(cli_run.list_scripts())
    assert {"image_text", "brain_model", "supervised", "modalities", "natural_images"} <= names
    assert not {"parts", "__init__", "mnist", "classes"} & names


TOY = Study(
    "toy",
    "Simulated toy",
    cells=lambda run: [{"seed": seed} for seed in run.seeds],
    compute=lambda run, cell: [{**cell, "mirror": str(run.mirror)}],
    finish=lambda run, records: {"tables": [{"title": "t", "columns": ["a", "b"], "rows": [["x", 1]]}]},
    n_seeds=3,
)


def call(*arguments):
    with pytest.raises(SystemExit) as end:
        main(TOY, [str(argument) for argument in arguments])
    return end.value.code


def test_options_reach_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", "elsewhere")
    assert call("--seed", 4, "--seeds", 2, "--out", tmp_path, "--quick", "--json", "--mirror", "data") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "scores.json").read_text())
    assert printed["records"] == [{"seed": seed, "mirror": "data"} for seed in (4, 5)]
    assert call("--seed", 4, "--seeds", 2, "--out", tmp_path, "--quick", "--json", "--fresh") == 0
    assert {record["mirror"] for record in json.loads(capsys.readouterr().out)["records"]} == {"elsewhere"}


def test_some_cells_now_and_the_rest_later(tmp_path, capsys):
    assert call("--out", tmp_path, "--quick", "--seeds", 2, "--cells", 1) == 0
    assert not (tmp_path / "scores.json").exists()
    assert call("--out", tmp_path, "--quick", "--seeds", 2) == 0
    assert "scores.json" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "scores.json").read_text())["records"]) == 2


@pytest.mark.parametrize("arguments", [("--seeds", "0"), ("--unknown",), ("--seed", "x")])
def test_wrong_options_end_with_2(arguments):
    assert call(*arguments) == 2


def test_help_names_the_options(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    for option in ("--quick", "--seed", "--seeds", "--out", "--mirror", "--fresh", "--cells", "--json"):
        assert option in text
