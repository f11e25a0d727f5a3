"""Does higher overlap of two spaces go with better alignment, as Gholamzadeh & Sajid 2025 say?

Every model side (layers of the frozen Gabor network, generative latents), as it is, with noise added, and with its stimuli
shuffled, beside the recordings of each dataset: overlap on all shared stimuli, and the held-out r that a bridge and ridge reach
with 50 pairs. Then the rank correlation of the two over model sides. Added noise lowers both whatever the claim; the model
sides as they are (a handful) are therefore reported by themselves as well.

    python analyses/overlap.py --mirror DIR [--seeds 3] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from bridge_predictivity import rounded, save
from scipy.stats import spearmanr
from tqdm.auto import tqdm

import neurobridge
from neurobridge.aligner import BridgeAligner
from neurobridge.assemblies import drop_constant
from neurobridge.baselines import KeypointAligner, RidgeAligner
from neurobridge.demo.task import DATASETS, Task, prepare
from neurobridge.evaluate.curves import learning_curve
from neurobridge.evaluate.overlap import MEASURES, overlap
from neurobridge.features import GaborEnergy, extract

mpl.use("Agg")
from matplotlib import pyplot as plt

N_PAIRS, NOISE, LEAST = 50, (0.0, 1.0, 3.0), 5
ALIGNERS = {
    "bridge": BridgeAligner(coupling="factored", map="barycentric"),
    "keypoints": KeypointAligner(),
    "ridge": RidgeAligner(),
}


def model_sides(task: Task) -> dict[str, xr.DataArray]:
    """Several representations of the same stimuli."""
    sides = {}
    if task.experiment.images is not None:
        for layer in ("colour", "v1", "v2"):
            sides[layer] = drop_constant(extract(GaborEnergy(), task.experiment.images, layer))
    if task.experiment.latents is not None:
        latents = drop_constant(task.experiment.latents)
        names = latents["neuroid_id"].values.astype(str)
        who = np.char.startswith(names, "object=")
        sides |= {
            "latents": latents,
            "latents: object": latents.isel(neuroid=np.flatnonzero(who)),
            "latents: pose": latents.isel(neuroid=np.flatnonzero(~who)),
        }
    return sides


def degraded(side: xr.DataArray, noise: float, rng: np.random.Generator) -> xr.DataArray:
    """Gaussian noise added to every neuroid, in units of its standard deviation."""
    return side.copy(data=side.values + noise * side.values.std(axis=0) * rng.normal(size=side.shape))


def one(side: xr.DataArray, task: Task, seeds: int, seed: int) -> dict[str, Any]:
    score = overlap(side, task.brain, n_permutations=100, n_alignments=10, seed=seed)
    curve = learning_curve(
        side, task.brain, ALIGNERS, n_pairs=(N_PAIRS,), n_seeds=seeds, n_permutations=0, seed=seed, progress=False
    )
    return {
        "overlap": dict(zip(MEASURES, score["raw"].values.tolist(), strict=True)),
        "effect": dict(zip(MEASURES, score["effect"].values.tolist(), strict=True)),
        "p_value": dict(zip(MEASURES, score["p_value"].values.tolist(), strict=True)),
        "alignment": dict(zip(ALIGNERS, curve["mean"].values[:, 0].tolist(), strict=True)),
    }


def agreement(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Spearman correlation of each measure (signed so that more overlap is larger) with each aligner's r, over model sides."""
    groups = {"all": records, "as they are": [r for r in records if r["noise"] == 0 and not r["shuffled"]]}
    out: dict[str, Any] = {}
    for group, members in groups.items():
        out[group] = {"n_model_sides": len(members)}
        if len(members) < LEAST:
            # Of three or four, ranks agree by chance too often to say anything.
            continue
        for measure in MEASURES:
            sign = -1 if measure == "sliced_wasserstein" else 1
            x = [sign * r["overlap"][measure] for r in members]
            for aligner in ALIGNERS:
                result = spearmanr(x, [r["alignment"][aligner] for r in members])
                out[group].setdefault(measure, {})[aligner] = {
                    "rho": rounded(result.statistic), "p_value": float(result.pvalue)
                }  # fmt: skip
    return out


def draw(records: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(4 * len(MEASURES), 3.8), sharey=True, layout="constrained")
    colours = dict(zip(DATASETS, ("#0072B2", "#D55E00", "#009E73"), strict=True))
    for ax, measure in zip(axes, MEASURES, strict=True):
        for r in records:
            marker = "x" if r["shuffled"] else "o" if r["noise"] == 0 else "."
            ax.plot(r["overlap"][measure], r["alignment"]["bridge"], marker, color=colours[r["dataset"]])
        ax.axhline(0, color="0.6", linestyle=":", linewidth=1)
        ax.set_xlabel(
            measure.replace("_", " ") + (" (less is more overlap)" if measure == "sliced_wasserstein" else "")
        )
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"median r over sites, bridge\nwith {N_PAIRS} pairs, held-out stimuli")
    names = [name + (" (SIMULATED)" if name.startswith("simulated") else " (real)") for name in colours]
    handles = [
        plt.Line2D([], [], color=c, marker="o", linestyle="none", label=n)
        for n, c in zip(names, colours.values(), strict=True)
    ]
    axes[0].legend(handles=handles, fontsize=7, frameon=False)
    figure.supxlabel(
        f"n = {len(records)} model sides. Circles: as they are; dots: noise added; crosses: stimuli shuffled; dotted line: chance. "
        "Overlap of all shared stimuli; r is the mean of the draws",
        fontsize=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=None, help="folder with the real data files")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="one draw, no added noise, into results/ unless told otherwise"
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--figure", type=Path, default=None)
    parser.add_argument("--json", action="store_true", help="print the agreement as JSON")
    arguments = parser.parse_args()
    quick = arguments.quick
    out = arguments.out or Path("results" if quick else "docs/results") / "overlap.json"
    picture = arguments.figure or Path("results" if quick else "docs/figures") / "overlap.png"
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"records": []}
    result |= {"neurobridge": neurobridge.__version__, "n_pairs": N_PAIRS, "n_seeds": 1 if quick else arguments.seeds}
    records = result["records"]
    done = {(r["dataset"], r["side"], r["noise"], r["shuffled"]) for r in records}
    for name in arguments.datasets:
        task = prepare(name, mirror=arguments.mirror)
        sides = model_sides(task)
        cells = [(side, noise, False) for side in sides for noise in ((0.0,) if quick else NOISE)]
        cells += [(side, 0.0, True) for side in sides]
        for side, noise, shuffled in tqdm(cells, desc=name, disable=arguments.json):
            if (name, side, noise, shuffled) in done:
                continue
            rng = np.random.default_rng(0)
            space = degraded(sides[side], noise, rng) if noise else sides[side]
            if shuffled:
                space = space.copy(data=space.values[rng.permutation(len(space.values))])
            with warnings.catch_warnings():
                # A neighbour graph in several parts (latents are clusters) is said once by the demo, and joined.
                warnings.filterwarnings("ignore", message=".*neighbour graph.*")
                row = one(space, task, result["n_seeds"], 0)
            records.append({"dataset": name, "side": side, "noise": noise, "shuffled": shuffled, **row})
            save(result, out)
    result["agreement"] = {
        "over all datasets": agreement(records),
        **{name: agreement([r for r in records if r["dataset"] == name]) for name in arguments.datasets},
    }
    save(result, out)
    draw(records, picture)
    print(json.dumps(result["agreement"], indent=None if arguments.json else 1))


if __name__ == "__main__":
    main()
