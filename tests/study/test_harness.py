"""The harness of studies: resumption, refusal to mix runs, errors that keep finished cells."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurobridge.study import Run, Study, StudyError, harness, run_study, write_json
from tests.refusals import refused


def _cells(run: Run) -> list[dict]:
    return [{"seed": seed, "size": size} for seed in run.seeds for size in (1, 2)]


def _compute(run: Run, cell: dict) -> list[dict]:
    run.shared.setdefault("computed", []).append(cell)
    return [{**cell, "value": float(np.random.default_rng(cell["seed"]).normal())}]


def _finish(run: Run, records: list[dict]) -> dict:
    rows = [[record["seed"], record["value"]] for record in records]
    return {"note": "toy", "tables": [{"title": "t", "columns": ["seed", "value"], "rows": rows}], "digests": {}}


TOY = Study("toy", "Simulated toy", _cells, _compute, _finish, n_seeds=2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(quick=True, seed=3, n_seeds=2, out=tmp_path / "toy")


def test_a_run_computes_every_cell_once_and_writes_what_it_returns(run):
    results = run_study(TOY, run, progress=False)
    assert [(record["seed"], record["size"]) for record in results["records"]] == [(3, 1), (3, 2), (4, 1), (4, 2)]
    assert json.loads((run.out / "scores.json").read_text()) == results
    assert results["title"].startswith("Simulated toy (quick mode")
    assert results["run"]["seed"] == 3
    assert results["run"]["code"].startswith("sha256:")
    assert results["run"]["peak_rss_gb"] > 0
    assert results["claims"] == []


def test_the_same_seed_gives_the_same_numbers(run, tmp_path):
    first = run_study(TOY, run, progress=False)
    second = run_study(TOY, replace(run, out=tmp_path / "again"), progress=False)
    assert first["records"] == second["records"]


def test_an_unfinished_run_goes_on_where_it_stopped(run):
    assert run_study(TOY, run, progress=False, n_cells=3) is None
    assert not (run.out / "scores.json").exists()
    later = replace(run, shared={})
    results = run_study(TOY, later, progress=False)
    assert later.shared["computed"] == [{"seed": 4, "size": 2}]
    assert len(results["records"]) == 4
    again = replace(run, shared={})
    run_study(TOY, again, progress=False)
    assert again.shared == {}


def test_half_a_line_left_by_a_kill_is_computed_again(run):
    whole = run_study(TOY, run, progress=False)
    path = run.out / "records.jsonl"
    path.write_text(path.read_text()[:-20])
    later = replace(run, shared={})
    assert run_study(TOY, later, progress=False)["records"] == whole["records"]
    assert later.shared["computed"] == [{"seed": 4, "size": 2}]


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 9}, "seed"), ({"quick": False}, "quick"), ({"n_seeds": 1}, "n_seeds")]
)
def test_another_run_does_not_mix_with_the_records(run, change, named):
    run_study(TOY, run, progress=False)
    other = replace(run, shared={}, **change)
    with refused(StudyError, named, run.out, "--fresh"):
        run_study(TOY, other, progress=False)
    results = run_study(TOY, other, progress=False, fresh=True)
    assert len(results["records"]) == 2 * other.n_seeds


def test_a_failing_cell_says_which_and_keeps_the_others(run):
    def fails(run: Run, cell: dict) -> list[dict]:
        if cell["seed"] == 4:
            raise ValueError("no such thing")
        return _compute(run, cell)

    with refused(StudyError, {"seed": 4, "size": 1}, "ValueError: no such thing", "2 of 4"):
        run_study(replace(TOY, compute=fails), run, progress=False)
    assert len((run.out / "records.jsonl").read_text().splitlines()) == 3


def _counting(run: Run, cell: dict) -> list[dict]:
    return [{**_compute(run, cell)[0], "process": os.getpid(), "computed": len(run.shared["computed"])}]


def _sour(run: Run, cell: dict) -> list[dict]:
    if cell["seed"] == 4:
        raise DoesNotTravelError(lambda: "no such thing")
    return _compute(run, cell)


class DoesNotTravelError(Exception):
    pass


def test_several_processes_give_the_numbers_of_one_and_share_within_each(run, tmp_path):
    alone = run_study(TOY, run, progress=False)
    several = replace(run, out=tmp_path / "several", n_seeds=4, shared={})
    results = run_study(replace(TOY, compute=_counting), several, progress=False, n_processes=2)
    assert [record["value"] for record in results["records"]][:4] == [record["value"] for record in alone["records"]]
    assert several.shared == {}
    by_process = {}
    for record in results["records"]:
        by_process.setdefault(record["process"], []).append(record["computed"])
    assert os.getpid() not in by_process
    assert all(sorted(counts) == list(range(1, len(counts) + 1)) for counts in by_process.values())


def test_a_cell_that_fails_in_another_process_says_which(run):
    with refused(StudyError, "'seed': 4", "DoesNotTravelError", "of 4 cells"):
        run_study(replace(TOY, compute=_sour), run, progress=False, n_processes=2)


def _caused(run: Run, cell: dict) -> list[dict]:
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise ValueError("the error") from error


def test_an_error_of_another_process_keeps_its_causes_and_its_traceback(run):
    with pytest.raises(StudyError, match="the error") as caught:
        run_study(replace(TOY, compute=_caused), run, progress=False, n_processes=2)
    error = caught.value.__cause__
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, KeyError)
    assert "in _caused" in "".join(error.__notes__)


def _first_fails(run: Run, cell: dict) -> list[dict]:
    (run.out / f"{cell['seed']}-{cell['size']}").touch()
    if cell == {"seed": 3, "size": 1}:
        while not (run.out / "3-2").exists():
            time.sleep(0.05)
        raise ValueError("no such thing")
    # Ends after the cell that failed.
    time.sleep(2)
    return _compute(run, cell)


def test_after_a_cell_failed_those_that_run_are_kept_and_no_other_starts(run):
    several = replace(run, n_seeds=5)
    with refused(StudyError, {"seed": 3, "size": 1}, "of 10 cells"):
        run_study(replace(TOY, compute=_first_fails), several, progress=False, n_processes=2)
    started = {path.name for path in run.out.glob("*-*")}
    assert len(started) < 10
    kept = [json.loads(line)["cell"] for line in (run.out / "records.jsonl").read_text().splitlines()[1:]]
    assert {f"{cell['seed']}-{cell['size']}" for cell in kept} == started - {"3-1"}


def test_a_single_cell_is_computed_in_this_process(run):
    run_study(TOY, run, progress=False, n_cells=3)
    results = run_study(replace(TOY, compute=_compute), replace(run, shared={}), progress=False, n_processes=2)
    assert len(results["records"]) == 4
    assert results["run"]["processes"] == 2


def test_memory_is_that_of_all_processes(run):
    full = replace(run, quick=False)
    with refused(StudyError, "memory", "3e+06 GB", "--jobs"):
        run_study(replace(TOY, memory_gb=1e6), full, progress=False, n_processes=3)


@pytest.mark.parametrize("value", [float("nan"), np.int64(3)])
def test_a_record_that_is_not_plain_names_its_cell(run, value):
    strange = replace(TOY, compute=lambda run, cell: [{"value": value}])
    with refused(StudyError, {"seed": 3, "size": 1}):
        run_study(strange, run, progress=False)


def test_code_that_changed_does_not_mix_with_the_records(run, monkeypatch):
    run_study(TOY, run, progress=False)
    monkeypatch.setattr(harness, "_code_digest", lambda script: "sha256:other")
    with refused(StudyError, "code", "--fresh"):
        run_study(TOY, run, progress=False)


def test_warnings_of_cells_are_counted(run):
    def warns(run: Run, cell: dict) -> list[dict]:
        import warnings

        warnings.warn(f"mind {cell['size']}", UserWarning, stacklevel=1)
        return [cell]

    results = run_study(replace(TOY, compute=warns, finish=lambda run, records: {"digests": {}}), run, progress=False)
    assert results["warnings"] == ["UserWarning: mind 1 (4 times)"]


def test_a_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(harness.EXTRAS, "text", "no_such_module")
    with refused(StudyError, "no_such_module", "neurobridge[text]"):
        run_study(replace(TOY, extras=("text",)), run, progress=False)


def test_too_little_memory_or_disk_is_said_before_the_full_mode(run):
    full = replace(run, quick=False)
    with refused(StudyError, "memory", "1e+06 GB", "--quick"):
        run_study(replace(TOY, memory_gb=1e6), full, progress=False)
    with refused(StudyError, "disk", "1e+06 GB"):
        run_study(replace(TOY, memory_gb=0.0, disk_gb=1e6), full, progress=False)
    assert run_study(replace(TOY, memory_gb=1e6, disk_gb=1e6), run, progress=False) is not None


def test_shared_things_are_made_once(run):
    made = []
    for _ in range(3):
        assert run.once("key", lambda: made.append(1) or 7) == 7
    assert made == [1]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json({"a": 1}, path)
    with pytest.raises(ValueError, match="JSON"):
        write_json({"a": float("nan")}, path)
    assert json.loads(path.read_text()) == {"a": 1}


def test_parts_beside_the_script_and_nothing_else_beside_it_are_part_of_the_code(tmp_path):
    script, parts = tmp_path / "toy.py", tmp_path / "parts"
    parts.mkdir()
    script.write_text("a = 1")
    digests = [harness._code_digest(script)]
    (tmp_path / "other.py").write_text("b = 1")
    digests.append(harness._code_digest(script))
    (parts / "shared.py").write_text("c = 1")
    digests.append(harness._code_digest(script))
    script.write_text("a = 2")
    digests.append(harness._code_digest(script))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", ["data " * 200, "toy"])
def test_runs_and_studies_are_shown_in_short(run, name):
    run.shared["data"] = np.zeros(100_000)
    study = replace(TOY, title=name)
    for shown, facts in (
        (run, ("quick", "seeds 3 to 4")),
        (study, ("toy", "n_seeds=2"[: 0 if len(name) > 400 else None])),
    ):
        assert len(repr(shown)) <= 400
        assert all(fact in repr(shown) for fact in facts)
        assert shown._repr_html_().startswith("<table>")


def test_names_of_the_first_release_go_on_working(monkeypatch):
    # Importing warns once a process, and another test may have been first.
    monkeypatch.delitem(sys.modules, "neurobridge.experiment", raising=False)
    with pytest.warns(DeprecationWarning, match=r"neurobridge\.study"):
        import neurobridge.experiment as old
    assert (old.Experiment, old.ExperimentError, old.run_experiment) == (Study, StudyError, run_study)
    assert old.Run is Run
