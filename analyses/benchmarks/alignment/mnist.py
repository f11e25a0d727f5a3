"""Quality of alignment on real MNIST digits, VAE latents to CNN features, by known pairs.

5,000 digits that neither extractor was trained on: 1,000 are held out, P are known in both spaces,
the rest is halved into a source pool and a target pool, so that no unpaired point has its partner
in the other pool. Each space is centred and divided by one number, from its own pool. Accuracy is
that of the target space's frozen head on the mapped held-out digits; R^2 is over all target
dimensions. Every method has one setting for all numbers of pairs; settings were developed on other
digits and other extractors (spaces of seed 1). Records are kept as they come, and a second run
goes on from them.

    python analyses/benchmarks/alignment/mnist.py --mirror DIR [--seeds 5] [--quick]
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import torch
import typer
from sklearn.linear_model import LogisticRegression

import neurobridge
from analyses.benchmarks.parts.mnist_spaces import Spaces, build, draw_pools, file_digests, mean_and_ci
from analyses.parts.scores import r2
from analyses.parts.script import run_script
from neurobridge import figures
from neurobridge.bridge import bridge_cost, couple, fuse, ridge_map
from neurobridge.maps.kernel import kernel_map

mpl.use("Agg")
from matplotlib import pyplot as plt

# The numbers that the prototype measured come first.
N_PAIRS = (20, 10, 100, 480, 5, 50, 200)
METHODS = {
    "ridge": "ridge on the pairs", "kernel_ridge": "kernel ridge on the pairs", "labels": "source + labels of the pairs",
    "bridge_euclidean": "bridge, euclidean", "bridge_geodesic": "bridge, geodesic", "fused": "fused bridge (default)",
    "fused_labels": "fused bridge (criterion labels)",
}  # fmt: skip
#: Method -> name in the palette of the package.
STYLE_OF = {
    "ridge": "ridge", "kernel_ridge": "kernel ridge", "labels": "logistic", "bridge_euclidean": "bridge, euclidean",
    "bridge_geodesic": "bridge", "fused": "fused", "fused_labels": "fused, labels",
}  # fmt: skip
# Accuracy and R^2 of the prototype; None where it had none.
PROTOTYPE: dict[int, dict[str, tuple[float, float | None]]] = {
    n_pairs: dict(zip(("ridge", "labels", "bridge_euclidean", "bridge_geodesic", "fused"), cells, strict=True))
    for n_pairs, cells in {
        10: ((0.367, 0.26), (0.281, None), (0.307, 0.22), (0.409, 0.28), (0.582, 0.52)),
        20: ((0.558, 0.51), (0.424, None), (0.483, 0.37), (0.647, 0.45), (0.784, 0.74)),
        100: ((0.795, 0.78), (0.738, None), (0.778, 0.65), (0.883, 0.65), (0.897, 0.87)),
        480: ((0.836, 0.84), (0.834, None), (0.889, 0.77), (0.911, 0.72), (0.921, 0.93)),
    }.items()
}
# Accuracy and R^2 that are required of the fused bridge beyond the table.
REQUIRED = {20: (0.82, 0.77), 100: (0.90, 0.87)}


def measure_draw(spaces: Spaces, n_pairs: int, seed: int) -> dict[str, Any]:
    """Score every method on one draw of held-out digits, pairs and pools."""
    test_rows, known_rows, source_rows, target_rows = draw_pools(len(spaces.source), n_pairs, seed)
    x_mean, x_unit = spaces.source[source_rows].mean(axis=0), spaces.source[source_rows].std(axis=0)
    y_mean, y_unit = spaces.target[target_rows].mean(axis=0), spaces.target[target_rows].std(axis=0)
    # One number a space: a dimension the extractor left unused must stay small.
    x_unit, y_unit = np.sqrt((x_unit**2).mean()), np.sqrt((y_unit**2).mean())
    X, Y = (spaces.source[source_rows] - x_mean) / x_unit, (spaces.target[target_rows] - y_mean) / y_unit
    test_points, truth = (spaces.source[test_rows] - x_mean) / x_unit, spaces.target[test_rows]
    pairs = np.arange(n_pairs), np.arange(n_pairs)

    def factored(metric: Any) -> np.ndarray:
        cost = bridge_cost(X, Y, pairs, metric=metric)
        return couple(cost, method="factored", epsilon=0.05).map(test_points, Y)

    maps: dict[str, Callable[[], np.ndarray]] = {
        "ridge": lambda: ridge_map(X[:n_pairs], Y[:n_pairs], penalty="shared")(test_points),
        "kernel_ridge": lambda: kernel_map(X[:n_pairs], Y[:n_pairs])(test_points),
        "bridge_euclidean": lambda: factored("euclidean"),
        "bridge_geodesic": lambda: factored("geodesic"),
    }
    record: dict[str, Any] = {
        "n_pairs": n_pairs,
        "seed": seed,
        "n_source": len(X),
        "n_target": len(Y),
        "n_test": len(test_rows),
    }
    rng = np.random.default_rng(seed)
    record["accuracy_true_features"] = spaces.accuracy(truth, test_rows)
    record["accuracy_chance"] = spaces.accuracy(truth[rng.permutation(len(test_rows))], test_rows)
    record["classes_among_pairs"] = len(np.unique(spaces.labels[known_rows]))

    def score(images: np.ndarray, seconds: float) -> dict[str, float]:
        images = images * y_unit + y_mean
        return {"accuracy": spaces.accuracy(images, test_rows), "r2": r2(images, truth), "seconds": seconds}

    for name, fit in maps.items():
        started = time.perf_counter()
        record[name] = score(fit(), time.perf_counter() - started)
    label_readout = LogisticRegression(max_iter=5000).fit(X[:n_pairs], spaces.labels[known_rows])
    record["labels"] = {"accuracy": float((label_readout.predict(test_points) == spaces.labels[test_rows]).mean())}
    settings: dict[str, dict[str, Any]] = {
        "fused": {},
        "fused_labels": {
            "criterion": "labels", "labels": spaces.labels[known_rows],
            "classifier": lambda images: spaces.named(images * y_unit + y_mean),
        },
    }  # fmt: skip
    for name, options in settings.items():
        started, cpu_started = time.perf_counter(), time.process_time()
        bridge = fuse(X, Y, pairs, seed=seed, **options)
        seconds = time.perf_counter() - started
        record[name] = {
            **score(bridge.map(test_points), seconds), "cpu_seconds": time.process_time() - cpu_started,
            "candidate": list(dataclasses.astuple(bridge.candidate)),
            "chosen_error": min(bridge.errors.values(), default=None),
        }  # fmt: skip
    return record


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over seeds and half widths of their 95 % intervals, by pairs and method."""
    out: dict[str, Any] = {}
    for n_pairs in sorted({record["n_pairs"] for record in records}):
        group = [record for record in records if record["n_pairs"] == n_pairs]
        out[str(n_pairs)] = {"n_seeds": len(group)}
        for name in METHODS:
            for metric in ("accuracy", "r2"):
                values = [record[name][metric] for record in group if metric in record[name]]
                if values:
                    out[str(n_pairs)].setdefault(name, {})[metric] = mean_and_ci(values)
    return out


def verdict(table: dict[str, Any]) -> dict[str, Any]:
    """Compare ours with each cell of the prototype's table, and the fused bridge with ridge."""
    cells, against_best, required = [], [], []
    for n_pairs, row in PROTOTYPE.items():
        measured = table.get(str(n_pairs))
        if measured is None:
            continue
        for name, values in row.items():
            for metric, prototype_value in zip(("accuracy", "r2"), values, strict=True):
                if prototype_value is not None:
                    mean = measured[name][metric]["mean"]
                    cells.append(
                        {
                            "n_pairs": n_pairs,
                            "method": name,
                            "metric": metric,
                            "prototype": prototype_value,
                            "ours": mean,
                            "beaten": mean > prototype_value,
                        }
                    )
        for k, metric in enumerate(("accuracy", "r2")):
            best_of_prototype = max(value[k] for value in row.values() if value[k] is not None)  # type: ignore[type-var]
            mean, half = measured["fused"][metric]["mean"], measured["fused"][metric]["ci95"]
            against_best.append(
                {
                    "n_pairs": n_pairs, "metric": metric, "best_of_prototype": best_of_prototype, "fused": mean, "fused_ci95": half,
                    "beaten": mean > best_of_prototype, "beaten_beyond_ci": bool(mean - np.nan_to_num(half) > best_of_prototype),
                }
            )  # fmt: skip
            if n_pairs in REQUIRED:
                required_value = REQUIRED[n_pairs][k]
                required.append(
                    {
                        "n_pairs": n_pairs,
                        "metric": metric,
                        "required": required_value,
                        "fused": mean,
                        "met": mean >= required_value,
                    }
                )
    ridge = [
        {
            "n_pairs": int(n_pairs), "metric": metric, "ridge": row["ridge"][metric]["mean"],
            "ridge_ci95": row["ridge"][metric]["ci95"], "fused": row["fused"][metric]["mean"],
            "not_worse": row["fused"][metric]["mean"] >= row["ridge"][metric]["mean"] - np.nan_to_num(row["ridge"][metric]["ci95"]),
        }
        for n_pairs, row in table.items() for metric in ("accuracy", "r2")
    ]  # fmt: skip
    return {
        "fused_beats_every_cell_of_the_prototype": bool(against_best) and all(cell["beaten"] for cell in against_best),
        "fused_never_worse_than_ridge_beyond_its_ci": all(bool(cell["not_worse"]) for cell in ridge),
        "required_met": all(cell["met"] for cell in required),
        "fused_against_best_cell": against_best, "fused_against_ridge": [{**c, "not_worse": bool(c["not_worse"])} for c in ridge],
        "required": required, "cell_by_cell": cells,
    }  # fmt: skip


def draw(table: dict[str, Any], records: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy and R^2 over the number of pairs, with chance and the head's own accuracy."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    n_pairs = [int(n) for n in table]
    looks = figures.styles_of(STYLE_OF.values())
    for name, label in METHODS.items():
        for ax, metric in zip(axes, ("accuracy", "r2"), strict=True):
            if metric not in table[str(n_pairs[0])][name]:
                continue
            cells = [table[str(n)][name][metric] for n in n_pairs]
            ax.errorbar(
                n_pairs, [c["mean"] for c in cells], [np.nan_to_num(c["ci95"]) for c in cells], label=label, markersize=5,
                capsize=2, linewidth=2.2 if name == "fused" else 1.2, **looks[STYLE_OF[name]],
            )  # fmt: skip
    ceiling, chance = (np.mean([r[k] for r in records]) for k in ("accuracy_true_features", "accuracy_chance"))
    axes[0].axhline(ceiling, label="head on the true features (ceiling)", **figures.CEILING)
    axes[0].axhline(chance, label="chance (features of another digit)", **figures.CHANCE)
    axes[1].axhline(1, **figures.CEILING)
    axes[1].axhline(0, **figures.CHANCE)
    axes[1].set_ylim(-0.25, 1.05)
    axes[0].set_ylabel("target head's accuracy (fraction of digits)")
    axes[1].set_ylabel("$R^2$ of target features (ceiling 1, mean 0)")
    for ax in axes:
        ax.set(xscale="log", xlabel="known pairs (number)")
        ax.set_xticks(n_pairs, [str(n) for n in n_pairs])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    seeds = sorted({r["seed"] for r in records})
    figure.suptitle(
        "Real MNIST digits, VAE latents to CNN features: a few known pairs and disjoint unpaired pools", fontsize=10
    )
    figure.supxlabel(
        f"n = {records[0]['n_test']} held-out digits a seed, about 2,000 points a side; mean and 95% CI over seeds "
        f"{seeds[0]}-{seeds[-1]}", fontsize=8,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real MNIST files.")] = None,
    cache: Annotated[Path, typer.Option("--cache", help="Folder for the extracted features.")] = Path("results/cache"),
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/mnist_quality.json"),
    figure_file: Annotated[Path, typer.Option("--figure")] = Path("docs/figures/mnist_quality.png"),
    n_seeds: Annotated[int, typer.Option("--seeds")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, 20 and 100 pairs.")] = False,
) -> None:
    spaces = build(mirror, cache, seed=0)
    header = {
        "data": {"mnist sha256": file_digests(mirror), "spaces_seed": 0, "source_dims": 32, "target_dims": 128},
        "neurobridge": neurobridge.__version__,
        "machine": {
            "processor": platform.machine(), "system": platform.system(), "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
        },
    }  # fmt: skip
    records: list[dict[str, Any]] = []
    if out_file.exists():
        records = json.loads(out_file.read_text())["records"]
    seeds, counts = (1, (20, 100)) if quick else (n_seeds, N_PAIRS)
    for n_pairs in counts:
        for seed in range(seeds):
            if not any(r["n_pairs"] == n_pairs and r["seed"] == seed for r in records):
                row = measure_draw(spaces, n_pairs, seed)
                records.append(row)
                write(out_file, header, records)
                print(
                    f"{n_pairs:3d} pairs, seed {seed}: "
                    + ", ".join(
                        f"{name} {row[name]['accuracy']:.3f}/{row[name].get('r2', np.nan):.2f}" for name in METHODS
                    )
                    + f"; {row['fused']['seconds']:.0f} s, {row['fused']['candidate']}",
                    flush=True,
                )
    result = write(out_file, header, records)
    draw(result["summary"], records, figure_file)
    for n_pairs, row in result["summary"].items():
        print(f"{n_pairs:>4s} pairs | " + " | ".join(
            f"{name} {row[name]['accuracy']['mean']:.3f}±{row[name]['accuracy']['ci95']:.3f}"
            + (f" / {row[name]['r2']['mean']:.2f}±{row[name]['r2']['ci95']:.2f}" if "r2" in row[name] else "")
            for name in METHODS
        ))  # fmt: skip
    print({key: value for key, value in result["verdict"].items() if isinstance(value, bool)})


def write(path: Path, header: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    records.sort(key=lambda r: (r["n_pairs"], r["seed"]))
    table = summary(records)
    chance = {k: float(np.mean([r[k] for r in records])) for k in ("accuracy_chance", "accuracy_true_features")}
    result = {**header, **chance, "verdict": verdict(table), "summary": table, "records": records}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    run_script(main, __doc__)
