"""The road of many points: its steps rest on their inputs alone, and a killed run goes on to what an undisturbed one gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from neurobridge.study import road as roads
from neurobridge.study.road import STEPS, Road, open_features, walk
from tests.refusals import refused

QUICK = {
    "lams": (0.9,), "epsilons": (0.05,), "n_rounds": (2,), "kernel_rounds": (0,), "maps": ("ridge",), "n_folds": 2,
    "minibatch_size": 120, "readout_centres": 40,
}  # fmt: skip
# Runs a road in a process that is killed once the named step has done its work, before this is noted down.
KILLED = """
import os, signal, sys
from pathlib import Path
from neurobridge.study import road as roads
from tests.study.test_road import QUICK
folder, out, last = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def killed(road, progress, step=roads.STEPS.get(last)):
    step(road, progress)
    os.kill(os.getpid(), signal.SIGKILL)
if last in roads.STEPS:
    roads.STEPS[last] = killed
roads.walk(roads.Road(folder / "x.npy", folder / "y.npy", out, n_pairs=30, n_queries=50, options=QUICK))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Simulated features of 400 stimuli in two spaces."""
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    latents = rng.normal(size=(400, 4))
    for name, dims in (("x", 6), ("y", 8)):
        values = np.tanh(latents @ rng.normal(size=(4, dims)) / 2) + 0.1 * rng.normal(size=(400, dims))
        np.save(folder / f"{name}.npy", values.astype("f"))
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """An undisturbed run."""
    road = Road(folder / "x.npy", folder / "y.npy", folder / "whole", n_pairs=30, n_queries=50, options=QUICK)
    return road, walk(road)


def test_held_out_partners_are_found_and_reported(whole):
    road, result = whole
    measures, rows = result["measures"], road.read_rows()
    assert measures["n_points"] == 400
    assert measures["r2"] > 0.5
    assert measures["retrieval"]["R@10"]["low"] > measures["retrieval"]["R@10"]["chance"]
    assert measures["retrieval"]["identification"]["dealt"] == pytest.approx(0.5, abs=0.15)
    assert (len(rows["pair"]), len(rows["query"])) == (30, 50)
    assert not set(rows["pair"].ravel()) & set(rows["query"].ravel())
    aligned, nearest = np.load(road.out / "aligned.npy"), np.load(road.out / "nearest.npy")
    assert (aligned.shape, aligned.dtype, nearest.shape) == ((400, 8), np.float32, (50, 10))
    assert "Retrieval of held-out partners" in (road.out / "report.html").read_text()


def test_steps_that_rest_on_the_same_are_skipped_and_others_are_not(whole, folder, monkeypatch):
    road, first = whole
    again = walk(road)
    assert all(step["skipped"] for step in again["steps"].values())
    assert again["measures"] == first["measures"]
    (road.out / "nearest.npy").unlink()
    assert [name for name, step in walk(road)["steps"].items() if not step["skipped"]] == ["retrieval"]
    monkeypatch.setitem(STEPS, "rows", lambda road, progress: ["rows.csv"])
    for name in ("align", "transform", "retrieval", "report"):
        monkeypatch.setitem(STEPS, name, lambda road, progress: [])
    other = walk(replace(road, seed=1))
    assert not any(step["skipped"] for step in other["steps"].values())
    values = np.load(folder / "y.npy")
    values[3, 2] += 1
    np.save(folder / "other.npy", values)
    assert not any(step["skipped"] for step in walk(replace(road, target=folder / "other.npy"))["steps"].values())


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_breaks_off_is_done_again(name, whole, folder, tmp_path, monkeypatch):
    road, result = replace(whole[0], out=tmp_path), whole[1]
    monkeypatch.setitem(STEPS, "align", lambda road, progress: copied(whole[0], road))
    step = STEPS[name]

    def broken(road, progress):
        step(road, progress)
        raise KeyboardInterrupt

    monkeypatch.setitem(STEPS, name, broken)
    with pytest.raises(KeyboardInterrupt):
        walk(road)
    monkeypatch.setitem(STEPS, name, step)
    gone_on = walk(road)
    before = list(STEPS)[: list(STEPS).index(name)]
    assert [each for each, record in gone_on["steps"].items() if record["skipped"]] == before
    assert gone_on["measures"] == result["measures"]


def copied(road, other):
    files = list((road.out / "aligner").iterdir())
    (other.out / "aligner").mkdir(exist_ok=True)
    for path in files:
        (other.out / "aligner" / path.name).write_bytes(path.read_bytes())
    return ["aligner"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_run_that_is_killed_at_every_step_ends_with_what_an_undisturbed_one_gives(whole, folder, tmp_path):
    for name in (*STEPS, "none"):
        command = [sys.executable, "-W", "ignore", "-c", KILLED, str(folder), str(tmp_path), name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == (0 if name == "none" else -9), done.stderr
    for file in ("rows.csv", "aligned.npy", "nearest.npy", "retrieval.json"):
        assert (tmp_path / file).read_bytes() == (whole[0].out / file).read_bytes()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_zarr_is_read_as_npy_is(folder, tmp_path):
    zarr = pytest.importorskip("zarr", reason="the extra `zarr` is not installed")
    values = np.load(folder / "x.npy")
    array = zarr.open(str(tmp_path / "x.zarr"), mode="w", shape=values.shape, chunks=(100, 6), dtype="f4")
    array[:] = values
    group = zarr.open_group(str(tmp_path / "group.zarr"), mode="w")
    group.create_array("data", shape=values.shape, chunks=(100, 6), dtype="f4")[:] = values
    for name in ("x.zarr", "group.zarr"):
        np.testing.assert_array_equal(open_features(tmp_path / name).compute(), values)
    group.create_array("more", shape=(3,), dtype="f4")
    del group["data"]
    with refused(ValueError, "group.zarr", "['more']"):
        open_features(tmp_path / "group.zarr")


def test_partners_of_a_table_are_drawn_from_and_others_are_refused(folder, tmp_path):
    table = tmp_path / "partners.csv"
    rows = np.stack([np.arange(100), np.arange(100)[::-1]], axis=1)
    np.savetxt(table, rows, fmt="%d", delimiter=",", header="source_row,target_row", comments="")
    road = Road(folder / "x.npy", folder / "y.npy", tmp_path, 30, 20, partners=table)
    roads.draw_rows(road, False)
    drawn = np.concatenate(list(road.read_rows().values()))
    assert len(drawn) == 50
    assert {tuple(row) for row in drawn.tolist()} <= {tuple(row) for row in rows.tolist()}
    with refused(ValueError, "100 partners", "120", "--queries"):
        roads.draw_rows(replace(road, n_queries=90), False)
    table.write_text("source_row,target_row\n1,2\n3,900\n")
    with refused(ValueError, "2 rows", "400", "partners.csv"):
        roads.draw_rows(road, False)
    np.save(tmp_path / "short.npy", np.zeros((50, 3), "f"))
    with refused(ValueError, "400 and 50 rows", "--partners"):
        roads.draw_rows(replace(road, partners=None, target=tmp_path / "short.npy"), False)


def test_a_road_that_does_not_fit_is_refused_before_anything_is_read(whole, monkeypatch, tmp_path):
    road = replace(whole[0], out=tmp_path)
    estimate, seconds = roads.expected_cost(road)
    monkeypatch.setattr(roads, "expected_cost", lambda road: (replace(estimate, n_bytes=1e15), seconds))
    with refused(MemoryError, "1000000.00 GB", "euclidean"):
        walk(road)
    assert json.loads(json.dumps(seconds)).keys() == STEPS.keys()
