"""Fetch and load a file of the layout of MajajHong2015.public: seconds and peak RSS.

    python analyses/benchmarks/majajhong_public.py [--out results/benchmarks/majajhong_public.json]

The values are SIMULATED noise (the real file is not redistributed); names, dims, coordinates and
sizes are those of the real file. It is written here, served on loopback with the stimulus table
and an archive of 3200 images, and fetched and loaded by processes of their own, so that each peak
is its own. The manifest is the shipped one with the addresses and digests of these files.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import re
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
import xarray as xr
from PIL import Image

from analyses.parts.processes import run_json
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "data_manifests" / "majajhong2015.public.toml"
NAMES = ("assy_dicarlo_MajajHong2015_public.nc", "stimulus_hvm-public.csv", "stimulus_hvm-public.zip")
# Of each image: 640 x 28 + 2560 x 51 = 148,480 trials.
REPETITIONS = {0: 28, 3: 51}
CATEGORIES = ("Animals", "Boats", "Cars", "Chairs", "Faces", "Fruits", "Planes", "Tables")
POSE = ("s", "ty", "tz", "rxy", "rxz", "ryz", "rxy_semantic", "rxz_semantic", "ryz_semantic")


def make_stimuli(rng: np.random.Generator, images_per_object: dict[int, int]) -> pd.DataFrame:
    """Make the stimulus table in the layout of the public set."""
    rows = []
    for variation, n_images in images_per_object.items():
        for category in CATEGORIES:
            for k in range(8):
                for image in range(n_images):
                    seed = f"{variation}/{category}/{k}/{image}".encode()
                    image_id = hashlib.sha1(seed).hexdigest()
                    pose = dict(zip(POSE, rng.normal(size=len(POSE)).tolist(), strict=True))
                    rows.append(
                        {
                            "image_id": image_id,
                            "object_name": f"{category.lower()}_{k}",
                            "category_name": category,
                            "variation": variation,
                            "size": 256,
                            "background_id": hashlib.sha1(b"bg" + seed).hexdigest(),
                            "filename": f"{image_id}.png",
                            **pose,
                        }
                    )
    return pd.DataFrame(rows)


def write_responses(
    path: Path,
    stimuli: pd.DataFrame,
    rng: np.random.Generator,
    repetitions: dict[int, int],
    signal: np.ndarray | None = None,
) -> None:
    """Write simulated responses in the layout of the public file."""
    trials = np.repeat(np.arange(len(stimuli)), stimuli["variation"].map(repetitions))
    repetition = np.concatenate([np.arange(repetitions[v]) for v in stimuli["variation"]])
    order = rng.permutation(len(trials))
    trials, repetition = trials[order], repetition[order]
    n_sites = 256
    # Text as netCDF strings of variable length, as xarray wrote it for Brain-Score.
    presentation = {
        str(name): (
            "presentation",
            stimuli[name].to_numpy(dtype=object if stimuli[name].dtype.kind not in "if" else None)[trials],
        )
        for name in stimuli
        if name != "filename"
    }
    presentation["stimulus_id"] = presentation["image_id"]
    presentation["repetition"] = ("presentation", repetition)
    number = np.arange(n_sites)
    region = np.where(number < 88, "V4", "IT").astype(object)
    animal = np.where(number % 2, "Chabo", "Tito").astype(object)
    neuroid = {
        "neuroid_id": np.array(
            [f"{a}_L_M_{k % 10}_{k // 10}" for a, k in zip(animal, number, strict=True)], dtype=object
        ),
        "arr": np.full(n_sites, "M", dtype=object),
        "col": number % 10,
        "row": number // 10,
        "hemisphere": np.full(n_sites, "L", dtype=object),
        "subregion": np.where(number < 88, "V4", "cIT").astype(object),
        "animal": animal,
        "x": 0.4 * (number % 10),
        "y": 0.4 * (number // 10),
        "region": region,
    }
    coords = {
        **presentation,
        **{name: ("neuroid", column) for name, column in neuroid.items()},
        "time_bin_start": ("time_bin", np.array([70])),
        "time_bin_end": ("time_bin", np.array([170])),
    }
    values = rng.standard_normal((len(trials), n_sites, 1), dtype=np.float32)
    if signal is not None:
        values += signal[trials, :, None].astype(np.float32)
    attrs = {"note": "SIMULATED values in the layout of MajajHong2015.public"}
    array = xr.DataArray(values, dims=("presentation", "neuroid", "time_bin"), coords=coords, attrs=attrs)
    array.rename("dicarlo.MajajHong2015.public").to_dataset().to_netcdf(
        path, encoding={"dicarlo.MajajHong2015.public": {"zlib": True, "complevel": 1}}
    )


def write_images(path: Path, stimuli: pd.DataFrame, side: int) -> None:
    """Write an archive of ramps, one image a stimulus."""
    ramp = np.add.outer(np.arange(side), np.arange(side))
    with zipfile.ZipFile(path, "w") as archive:
        for k, name in enumerate(stimuli["filename"]):
            stream = io.BytesIO()
            Image.fromarray(((ramp + k) % 256).astype(np.uint8)).convert("RGB").save(
                stream, format="PNG", compress_level=1
            )
            archive.writestr(name, stream.getvalue())


def make(
    folder: Path,
    *,
    images_per_object: dict[int, int] | None = None,
    repetitions: dict[int, int] | None = None,
    side: int = 256,
    seed: int = 0,
    signal: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """Write the three files of the public set, simulated, into ``folder``.

    They are smaller where counts are given. The responses are noise of unit variance, around
    ``signal(n_stimuli)``, an array (n_stimuli, 256), where one is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    stimuli = make_stimuli(rng, images_per_object or {0: 10, 3: 40})
    means = None if signal is None else signal(len(stimuli))
    write_responses(folder / NAMES[0], stimuli, rng, repetitions or REPETITIONS, means)
    stimuli.to_csv(folder / NAMES[1])
    write_images(folder / NAMES[2], stimuli, side)
    return folder


def write_manifest(files: Path, folder: Path, address: str) -> Path:
    """Write the shipped manifest with address and digests of the simulated files."""
    text = MANIFEST.read_text(encoding="utf-8")
    for name in NAMES:
        digest = hashlib.sha1((files / name).read_bytes()).hexdigest()
        text = re.sub(
            rf'url = "[^"]*{re.escape(name)}"\ndigests = \["sha1:\w+"\]',
            f'url = "{address}/{name}"\ndigests = ["sha1:{digest}"]',
            text,
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST.name).write_text(text, encoding="utf-8")
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Handler that serves files without a line for each request."""

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


CHILD = """
import json, sys, time
from pathlib import Path
import neurobridge
from neurobridge.datasets import fetch, load
from neurobridge.datasets.files import manifests
# Only here: the simulated files stand in for the real ones, whose digests they cannot have.
manifests.manifest_folders = lambda: [Path(sys.argv[2])]
# Not ru_maxrss, which starts at the peak of the process that started this one.
status = Path("/proc/self/status")
peak = lambda: next(int(l.split()[1]) * 1024 / 1e9 for l in status.read_text().splitlines() if l.startswith("VmHWM"))
row = {"imported_rss_gb": peak()}
started = time.perf_counter()
if sys.argv[1] == "fetch":
    fetch("majajhong2015.public", progress=False)
else:
    options = {"chunks": {"presentation": 3200}} if sys.argv[1] == "lazy" else {}
    experiment = load("majajhong2015.public", quiet=True, **options)
    row["shape"] = list(experiment.recordings.shape)
    row["images"] = list(experiment.images.shape)
row["seconds"] = time.perf_counter() - started
row["peak_rss_gb"] = peak()
if sys.argv[1] == "load":
    started = time.perf_counter()
    experiment.images[:64].values
    row["seconds_for_64_images"] = time.perf_counter() - started
print(json.dumps(row))
"""


def measure(step: str, manifests: Path, home: Path) -> dict[str, object]:
    """Run one step, "fetch", "load" or "lazy", in a process of its own."""
    environment = {**os.environ, "NEUROBRIDGE_HOME": str(home), "BRAINIO_HOME": str(home / "none")}
    environment.pop("NEUROBRIDGE_MIRROR", None)
    return run_json([sys.executable, "-c", CHILD, step, str(manifests)], environment)


def run(folder: Path, **sizes: Any) -> dict[str, Any]:
    """Write, serve, fetch and load the files; return what each step took."""
    files = make(folder / "files", **sizes)
    handler = functools.partial(Quiet, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        manifests = write_manifest(files, folder / "manifests", f"http://127.0.0.1:{server.server_port}")
        rows: dict[str, Any] = {step: measure(step, manifests, folder / "home") for step in ("fetch", "load", "lazy")}
        server.shutdown()
    rows["files_mb"] = {name: (files / name).stat().st_size / 1e6 for name in NAMES}
    rows["values"] = "simulated noise in the layout of MajajHong2015.public"
    return rows


def main(
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/majajhong_public.json"),
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder))
    write_json(rows, out_file)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run_script(main, __doc__)
