"""The stimuli of the simulated HvM experiment: drawn at random, then rendered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from neurobridge.datasets.simulated.render import backgrounds, object_names, render, rotation, shapes
from neurobridge.points.progress import progress_bar

# Half-ranges of position (vertical, horizontal) and rotations (degrees), and the largest change of size, as in HvM.
RANGES: dict[int, dict[str, float]] = {
    0: {"ty": 0.0, "tz": 0.0, "s": 1.0, "rxy": 0.0, "rxz": 0.0, "ryz": 0.0},
    3: {"ty": 0.3, "tz": 0.6, "s": 1.3, "rxy": 45.0, "rxz": 45.0, "ryz": 90.0},
    6: {"ty": 0.6, "tz": 1.2, "s": 1.6, "rxy": 90.0, "rxz": 90.0, "ryz": 168.0},
}


def draw_stimuli(design: Mapping[int, int], rng: np.random.Generator) -> pd.DataFrame:
    """Draw the poses of a design: one row an image, sorted by variation, object and image.

    Positions and rotations are uniform within the ranges of their variation level, sizes are log-uniform.
    """
    names, categories = object_names()
    rows = []
    for variation, n_images in sorted(design.items()):
        n = len(names) * n_images
        span = RANGES[variation]
        uniform = {key: rng.uniform(-1, 1, size=n) for key in span}
        pose = {key: half * uniform[key] for key, half in span.items() if key != "s"}
        pose["s"] = span["s"] ** uniform["s"]
        semantic = {f"{key}_semantic": pose[key] for key in ("rxy", "rxz", "ryz")}
        who = {"object_name": np.repeat(names, n_images), "category_name": np.repeat(categories, n_images)}
        rows.append(pd.DataFrame({**who, "variation": variation, **pose, **semantic}))
    return pd.concat(rows, ignore_index=True)


def render_stimuli(stimuli: pd.DataFrame, size: int, rng: np.random.Generator, *, progress: bool = False) -> np.ndarray:
    """Render the images of a stimulus table, uint8 array of shape (n_images, size, size).

    Drawn at twice the resolution and averaged, so that edges are smooth.
    """
    models = dict(zip(object_names()[0], shapes(), strict=True))
    pixels = np.empty((len(stimuli), size, size), dtype=np.uint8)
    chunk = max(1, 2**21 // size**2)
    with progress_bar(total=len(stimuli), desc="render", progress=progress) as bar:
        for start in range(0, len(stimuli), chunk):
            rows = slice(start, min(start + chunk, len(stimuli)))
            part = stimuli.iloc[rows]
            canvas = backgrounds(len(part), size, rng).repeat(2, axis=1).repeat(2, axis=2)
            for name in part["object_name"].unique():
                here = np.flatnonzero(part["object_name"].to_numpy() == name)
                pose = {key: part[key].to_numpy()[here] for key in ("rxy", "rxz", "ryz", "ty", "tz", "s")}
                turns = rotation(pose["rxy"], pose["rxz"], pose["ryz"])
                light, covered = render(models[name], turns, pose["ty"], pose["tz"], pose["s"], 2 * size)
                canvas[here] = np.where(covered, light, canvas[here])
            smooth = canvas.reshape(len(part), size, 2, size, 2).mean(axis=(2, 4))
            pixels[rows] = np.rint(255 * smooth).astype(np.uint8)
            bar.update(len(part))
    return pixels
