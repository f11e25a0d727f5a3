"""Align real MNIST digits (VAE latents to CNN features) without a single known pair.

The spaces are those of the quality protocol (`parts/mnist_spaces.py`). Source pool (2,000 digits),
target pool (2,000 others) and the test part (1,000) are disjoint, so that no point of one pool has
its partner in the other. Labels are used to score only.

    python analyses/benchmarks/no_anchor.py --mirror DIR [--out results/benchmarks/no_anchor.json] [--seeds 3]
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from analyses.benchmarks.parts.mnist_spaces import Spaces, build
from analyses.parts.scores import r2
from analyses.parts.script import run_script
from neurobridge.bridge.cost.graph import DisconnectedGraphWarning
from neurobridge.bridge.unpaired.align import UntrustedAlignmentWarning, align_unpaired
from neurobridge.store.atomic import write_json

METRICS = ("euclidean", "geodesic")


def scaled(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, and divide by one number: a dimension the encoder left unused must stay small."""
    mean, unit = X.mean(axis=0), float(X.std())
    return (X - mean) / unit, mean, unit


def align_draw(spaces: Spaces, metric: Any, n_points: int, seed: int) -> dict[str, Any]:
    """Align one draw of disjoint pools without a pair, and score it."""
    order = np.random.default_rng(seed).permutation(len(spaces.source))
    source_rows, target_rows, test_rows = order[:2000], order[2000:4000], order[4000:]
    X, x_mean, x_unit = scaled(spaces.source[source_rows])
    Y, y_mean, y_unit = scaled(spaces.target[target_rows])
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The verdict is in the table.
        warnings.simplefilter("ignore", UntrustedAlignmentWarning)
        warnings.simplefilter("ignore", DisconnectedGraphWarning)
        start = align_unpaired(X, Y, metric=metric, n_points=n_points, seed=seed)
    seconds = time.perf_counter() - started
    images = start.map((spaces.source[test_rows] - x_mean) / x_unit) * y_unit + y_mean
    truth = spaces.target[test_rows]
    i, j = start.anchors
    labels = spaces.labels

    def share(rows: np.ndarray) -> np.ndarray:
        return np.bincount(labels[rows], minlength=10) / len(rows)

    rng = np.random.default_rng(seed)
    return {
        "seed": seed, "metric": metric, "n_points": n_points, "seconds": seconds,
        "accuracy": spaces.accuracy(images, test_rows),
        "accuracy_chance": spaces.accuracy(images[rng.permutation(len(test_rows))], test_rows),
        "accuracy_majority": float(share(test_rows).max()),
        "accuracy_true_features": spaces.accuracy(truth, test_rows),
        "r2": r2(images, truth),
        "anchors": len(i),
        "anchors_same_digit": float((labels[source_rows][i] == labels[target_rows][j]).mean()),
        "anchors_same_digit_chance": float(share(source_rows) @ share(target_rows)),
        "trust": start.trust.to_dict(),
    }  # fmt: skip


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real MNIST files.")] = None,
    cache: Annotated[Path, typer.Option("--cache", help="Folder for the extracted features.")] = Path("results/cache"),
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/no_anchor.json"),
    n_seeds: Annotated[int, typer.Option("--seeds")] = 3,
    n_points: Annotated[int, typer.Option("--n-points")] = 300,
) -> None:
    spaces = build(mirror, cache)
    rows = []
    for metric in METRICS:
        for seed in range(n_seeds):
            row = align_draw(spaces, metric, n_points, seed)
            rows.append(row)
            trust = row["trust"]
            print(
                f"{metric:9s} seed {seed}: accuracy {row['accuracy']:.3f} (chance {row['accuracy_chance']:.3f}, majority "
                f"{row['accuracy_majority']:.3f}, true features {row['accuracy_true_features']:.3f}), R2 {row['r2']:.2f}, "
                f"{row['anchors']} anchors of the same digit {row['anchors_same_digit']:.2f} (chance "
                f"{row['anchors_same_digit_chance']:.2f}), trustworthy {trust['trustworthy']}: stability {trust['stability']:.2f} "
                f"({trust['stability_chance']:.2f}), cycle {trust['cycle']:.2f} ({trust['cycle_chance']:.2f}), distortion "
                f"{np.median(trust['distortions']):.2f} ({np.median(trust['null_distortions']):.2f}), {row['seconds']:.0f} s",
                flush=True,
            )
    write_json(rows, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
