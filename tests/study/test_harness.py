"""The harness of experiments: resumption, refusal to mix runs, errors that keep what is done, the command line."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from neurobridge.cli import run as cli_run
from neurobridge.cli.app import app
from neurobridge.study import harness as experiment
from neurobridge.study.harness import Experiment, ExperimentError, Run, run_experiment, write_json


def _cells(run: Run) -> list[dict]:
    return [{"seed": seed, "size": size} for seed in run.seeds for size in (1, 2)]


def _compute(run: Run, cell: dict) -> list[dict]:
    run.shared.setdefault("computed", []).append(cell)
    return [{**cell, "value": float(np.random.default_rng(cell["seed"]).normal())}]


def _finish(run: Run, records: list[dict]) -> dict:
    rows = [[record["seed"], record["value"]] for record in records]
    return {"note": "toy", "tables": [{"title": "t", "columns": ["seed", "value"], "rows": rows}], "digests": {}}


TOY = Experiment("toy", "Simulated toy", _cells, _compute, _finish, n_seeds=2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(quick=True, seed=3, n_seeds=2, out=tmp_path / "toy")


def test_a_run_computes_every_cell_once_and_writes_what_it_returns(run):
    results = run_experiment(TOY, run, progress=False)
    assert [(record["seed"], record["size"]) for record in results["records"]] == [(3, 1), (3, 2), (4, 1), (4, 2)]
    assert json.loads((run.out / "scores.json").read_text()) == results
    assert results["title"].startswith("Simulated toy (quick mode")
    assert results["run"]["seed"] == 3
    assert results["run"]["code"].startswith("sha256:")
    assert results["run"]["peak_rss_gb"] > 0
    assert results["claims"] == []


def test_the_same_seed_gives_the_same_numbers(run, tmp_path):
    first = run_experiment(TOY, run, progress=False)
    second = run_experiment(TOY, replace(run, out=tmp_path / "again"), progress=False)
    assert first["records"] == second["records"]


def test_an_unfinished_run_goes_on_where_it_stopped(run):
    assert run_experiment(TOY, run, progress=False, n_cells=3) is None
    assert not (run.out / "scores.json").exists()
    later = replace(run, shared={})
    results = run_experiment(TOY, later, progress=False)
    assert later.shared["computed"] == [{"seed": 4, "size": 2}]
    assert len(results["records"]) == 4
    again = replace(run, shared={})
    run_experiment(TOY, again, progress=False)
    assert again.shared == {}


def test_half_a_line_left_by_a_kill_is_computed_again(run):
    whole = run_experiment(TOY, run, progress=False)
    path = run.out / "records.jsonl"
    path.write_text(path.read_text()[:-20])
    later = replace(run, shared={})
    assert run_experiment(TOY, later, progress=False)["records"] == whole["records"]
    assert later.shared["computed"] == [{"seed": 4, "size": 2}]


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 9}, "seed"), ({"quick": False}, "quick"), ({"n_seeds": 1}, "n_seeds")]
)
def test_another_run_does_not_mix_with_the_records(run, change, named):
    run_experiment(TOY, run, progress=False)
    other = replace(run, shared={}, **change)
    with pytest.raises(ExperimentError, match=rf"found records of a run with another {named} in .*Mend: --fresh"):
        run_experiment(TOY, other, progress=False)
    results = run_experiment(TOY, other, progress=False, fresh=True)
    assert len(results["records"]) == 2 * other.n_seeds


def test_a_failing_cell_says_which_and_keeps_the_others(run):
    def fails(run: Run, cell: dict) -> list[dict]:
        if cell["seed"] == 4:
            raise ValueError("no such thing")
        return _compute(run, cell)

    with pytest.raises(
        ExperimentError, match=r"cell \{'seed': 4, 'size': 1\} failed: ValueError: no such thing \(2 of 4"
    ):
        run_experiment(replace(TOY, compute=fails), run, progress=False)
    assert len((run.out / "records.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("value", [float("nan"), np.int64(3)])
def test_a_record_that_is_not_plain_names_its_cell(run, value):
    strange = replace(TOY, compute=lambda run, cell: [{"value": value}])
    with pytest.raises(ExperimentError, match=r"cell \{'seed': 3, 'size': 1\} failed: (ValueError|TypeError)"):
        run_experiment(strange, run, progress=False)


def test_code_that_changed_does_not_mix_with_the_records(run, monkeypatch):
    run_experiment(TOY, run, progress=False)
    monkeypatch.setattr(experiment, "_code_digest", lambda script: "sha256:other")
    with pytest.raises(ExperimentError, match="found records of a run with another code"):
        run_experiment(TOY, run, progress=False)


def test_warnings_of_cells_are_counted(run):
    def warns(run: Run, cell: dict) -> list[dict]:
        import warnings

        warnings.warn(f"mind {cell['size']}", UserWarning, stacklevel=1)
        return [cell]

    results = run_experiment(
        replace(TOY, compute=warns, finish=lambda run, records: {"digests": {}}), run, progress=False
    )
    assert results["warnings"] == ["UserWarning: mind 1 (4 times)"]


def test_a_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(experiment.EXTRAS, "text", "no_such_module")
    with pytest.raises(ExperimentError, match=r"expected the extra 'text'. Mend: pip install 'neurobridge\[text\]'"):
        run_experiment(replace(TOY, extras=("text",)), run, progress=False)


def test_too_little_memory_or_disk_is_said_before_the_full_mode(run):
    full = replace(run, quick=False)
    with pytest.raises(ExperimentError, match=r"GB of free memory; expected 1e\+06 GB .*Mend: free some, or --quick"):
        run_experiment(replace(TOY, memory_gb=1e6), full, progress=False)
    with pytest.raises(ExperimentError, match=r"GB of free disk .*expected 1e\+06 GB .*Mend"):
        run_experiment(replace(TOY, memory_gb=0.0, disk_gb=1e6), full, progress=False)
    assert run_experiment(replace(TOY, memory_gb=1e6, disk_gb=1e6), run, progress=False) is not None


def test_shared_things_are_made_once(run):
    made = []
    for _ in range(3):
        assert run.once("key", lambda: made.append(1) or 7) == 7
    assert made == [1]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json({"a": 1}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, path)
    assert json.loads(path.read_text()) == {"a": 1}


SCRIPT = """
import time
from neurobridge.study.harness import Experiment, main

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
        raise DownloadError("found no copy")
    return [{"seed": cell["seed"], "value": cell["seed"] ** 2}]

def finish(run, records):
    return {"tables": [{"title": "squares", "columns": ["seed", "value"], "rows": [list(r.values()) for r in records]}],
            "claims": [{"claim": "squares", "verdict": "holds", "evidence": "the table"}], "digests": {}}

if __name__ == "__main__":
    main(Experiment("%s", "Simulated squares", cells, compute, finish))
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
    found = tmp_path / "scripts"
    found.mkdir()
    monkeypatch.setattr(cli_run, "FOLDERS", (found,))
    return found


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
    assert "broken on purpose (0 of 3 cells are kept" in capfd.readouterr().err


def test_all_runs_the_others_when_one_fails(scripts, tmp_path):
    for name, broken in (("a_sour", 1), ("squares", 0)):
        _write(scripts, name, broken=broken)
    (scripts / "_shared.py").write_text("raise RuntimeError")
    result = CliRunner().invoke(app, ["run", "--all", "--quick", "--out", str(tmp_path / "r"), "--json"])
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [(row["name"], row["ended"]) for row in rows] == [("a_sour", "failed (1)"), ("squares", "done")]
    assert rows[1]["claims"] == [{"claim": "squares", "verdict": "holds", "evidence": "the table"}]
    assert "failed: a_sour; finished cells are kept" in result.stderr


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
    assert "found experiment 'circles'; expected one of ['squares']" in str(error)
