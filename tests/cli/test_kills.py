"""Every long command is killed several times, run again, and ends with what an undisturbed run gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from neurobridge.assemblies import make_assembly, open_assembly, save_assembly
from neurobridge.datasets.files.fetch import verify

#: Values of a results file that differ from run to run.
PASSING = ("seconds", "peak_rss_gb", "date", "started", "machine", "wall_s")

#: A module of the user's own with a model.
MODEL = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
"""

COMMANDS: dict[str, list[str]] = {
    "demo": ["demo", "--dataset", "cowley2023-v4-210325", "--seeds", "1", "--mirror", "{mirror}", "--out", "{out}"],
    "run": ["run", "retrieval", "--quick", "--mirror", "{mirror}", "--out", "{out}"],
    "extract": [
        "features",
        "extract",
        "--model",
        "python:mine:build",
        "--stimuli",
        "{table}",
        "--layer",
        "0",
        "--out",
        "{out}/m.nc",
    ],
    "train": [
        "features",
        "train",
        "conv_net",
        "--images",
        "400",
        "--epochs",
        "2",
        "--mirror",
        "{mirror}",
        "--out",
        "{out}",
    ],
    "curve": [
        "curve",
        "{data}/model.nc",
        "{data}/avg.nc",
        "--pairs",
        "10,20",
        "--methods",
        "fused,ridge",
        "--seeds",
        "4",
        "--out",
        "{out}",
    ],
    "fetch": ["data", "fetch", "cowley2023-v4-210325", "--mirror", "{mirror}"],
}


def _lasting(value: Any) -> Any:
    """Drop what differs from run to run."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in PASSING and not k.endswith(("_s", "_gb"))}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _contents(folder: Path) -> dict[str, Any]:
    """Read the numbers of every file below a folder."""
    contents: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.suffix == ".lock" or ".locks" in path.parts:
            continue
        if path.suffix == ".json":
            contents[name] = _lasting(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            contents[name] = _lasting([json.loads(line) for line in path.read_text().splitlines()])
        elif path.suffix == ".nc" and "aligned" in path.name:
            contents[name] = open_assembly(path).load().values
        elif path.suffix == ".nc":
            with xr.open_dataset(path) as data:
                contents[name] = _lasting({key: np.asarray(value) for key, value in data.load().data_vars.items()})
        elif path.suffix in (".safetensors", ".csv"):
            contents[name] = path.read_bytes()
        else:
            contents[name] = "present"
    return contents


def _equal(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            _equal(first[key], second[key])
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_killed_command_is_run_again_and_nothing_is_lost(command: str, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    names = [f"{k}.png" for k in range(400)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / name)
    pd.DataFrame({"stimulus_id": names, "file": names}).to_csv(tmp_path / "stimuli.csv", index=False)
    names = [f"s{k}" for k in range(120)]
    latents = rng.normal(size=(120, 4))
    for name, n_neuroids in (("model", 30), ("avg", 8)):
        values = latents @ rng.normal(size=(4, n_neuroids)) + 0.3 * rng.normal(size=(120, n_neuroids))
        simulated = make_assembly(
            values,
            presentation={"stimulus_id": names},
            neuroid={"neuroid_id": [f"{name} {k}" for k in range(n_neuroids)]},
        )
        save_assembly(simulated, tmp_path / f"{name}.nc")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "NEUROBRIDGE_HOME": str(tmp_path / "home"),
    }

    def start(out: Path) -> subprocess.Popen[str]:
        words = [
            word.format(mirror=mirror, out=out, table=tmp_path / "stimuli.csv", data=tmp_path)
            for word in COMMANDS[command]
        ]
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", "from neurobridge.cli.app import main; main()", *words],
            env=environment | ({"NEUROBRIDGE_HOME": str(out)} if command == "fetch" else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(out: Path) -> None:
        process = start(out)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-2000:]

    started = time.monotonic()
    finish(tmp_path / "whole")
    seconds = time.monotonic() - started
    whole = _contents(tmp_path / "whole")
    assert whole
    n_killed = 0
    for share in (0.3, 0.5, 0.7, 0.85):
        process = start(tmp_path / "killed")
        try:
            process.communicate(timeout=share * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            n_killed += 1
    assert n_killed, "every run ended before it could be killed"
    finish(tmp_path / "killed")
    _equal(whole, _contents(tmp_path / "killed"))
    assert not [path for path in (tmp_path / "killed").rglob("*") if path.name.endswith(".partial")]
    if command == "fetch":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "killed"))
            assert set(verify("cowley2023-v4-210325").values()) == {"ok"}
