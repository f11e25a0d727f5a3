"""Check on real sets how often `plan_pairs` is right about numbers of pairs that its pilot did not have.

A pilot is a part of the stimuli of a set, drawn by its seed. Its learning curve goes up to its own training stimuli; the
scores with two, four and eight times as many pairs are held out. Their truth is the mean of twenty draws of the whole set (of
which the pilot is a part). Recorded are the predicted score with its interval, and the interval of the number of pairs for the
true score.

Ridge transports, to keep the check short. Settings (exponents, weights, widening) were chosen on seeds 100 to 104; seeds 0 to 4 are
reported. "not widened" is the same with the plain bootstrap, for comparison.

    python analyses/benchmarks/plan_pairs.py --mirror DIR [--seeds 0 --seeds 1] [--out results/benchmarks/plan_pairs.json]
    python analyses/benchmarks/plan_pairs.py --draw docs/results/benchmarks/plan_pairs.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from sklearn.decomposition import PCA

from analyses.parts.script import run_script
from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies import average_repetitions, drop_constant, make_assembly
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.datasets import load
from neurobridge.evaluate import learning_curve, plan_from_curve
from neurobridge.features import GaborEnergy, embed_text, extract
from neurobridge.figures.layout import legend_beside
from neurobridge.figures.styles import PALETTE
from neurobridge.store.atomic import write_json

Spaces = tuple[xr.DataArray, xr.DataArray]
#: Stimuli of the pilots of a set, as shares of all.
PILOTS = (1 / 8, 1 / 4)
MULTIPLES = (2, 4, 8)
HELD_OUT, N_DRAWS, N_TRUE_DRAWS, N_COUNTS = 0.2, 10, 20, 7
#: Shares of the score with all pairs of which the figure says when they are reached.
SHARES = (0.5, 0.8, 0.9)


def v4(mirror: Path) -> Spaces:
    """Return Gabor energies and the V4 session."""
    session: Any = load("cowley2023-v4-210325", mirror=mirror)
    return drop_constant(extract(GaborEnergy(), session.images, "v1")), average_repetitions(session.recordings)


def it_halves(mirror: Path) -> Spaces:
    """Return two halves of the IT sites."""
    sites: Any = load("majajhong2015-it-v6", mirror=mirror).recordings
    order = np.random.default_rng(0).permutation(sites.sizes[NEUROID])
    first, second = np.array_split(order, 2)
    return sites.isel({NEUROID: np.sort(first)}), sites.isel({NEUROID: np.sort(second)})


def it_latents(mirror: Path) -> Spaces:
    """Return generative latents and the IT sites."""
    data: Any = load("majajhong2015-it-v6", mirror=mirror)
    return drop_constant(data.latents), data.recordings


def things(mirror: Path) -> Spaces:
    """Return the embeddings of two groups of people."""
    first, second = (load("things-similarity", group=group, mirror=mirror).activations for group in ("female", "male"))
    assert first is not None
    assert second is not None
    return drop_constant(first), drop_constant(second)


def flickr(mirror: Path) -> Spaces:
    """Return captions (MiniLM) and images (CLIP)."""
    data: Any = load("clip-flickr8k", mirror=mirror)
    ids = data.activations["stimulus_id"].values
    text = np.asarray(embed_text(data.stimuli["caption"].tolist()).values)
    return named(text, ids), data.activations


def mnist(mirror: Path) -> Spaces:
    """Return the upper and the lower halves of 4,000 digits, components of other digits."""
    images: Any = load("mnist", part="train", mirror=mirror).images
    pixels = np.asarray(images[:14_000].values, dtype=np.float64) / 255
    ids = images["stimulus_id"].values[10_000:14_000]
    halves = (pixels[:, :14].reshape(len(pixels), -1), pixels[:, 14:].reshape(len(pixels), -1))
    upper, lower = (
        named(PCA(n, random_state=0).fit(half[:10_000]).transform(half[10_000:]), ids)
        for half, n in zip(halves, (40, 20), strict=True)
    )
    return upper, lower


def named(values: np.ndarray, ids: np.ndarray) -> xr.DataArray:
    """Return rows of known stimuli as an assembly."""
    return make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": range(values.shape[1])})


SETS: dict[str, Callable[[Path], Spaces]] = {
    "V4, Gabor energies": v4,
    "IT, other half of the sites": it_halves,
    "IT, latents": it_latents,
    "THINGS, female to male": things,
    "Flickr8k, captions to images": flickr,
    "MNIST, upper to lower half": mnist,
}


def curve_of(spaces: Spaces, counts: list[int], n_draws: int, seed: int) -> xr.Dataset:
    """Return the learning curve of ridge."""
    return learning_curve(
        *spaces, {"ridge": RidgeAligner()}, n_pairs=counts, n_seeds=n_draws, held_out=HELD_OUT, unpaired="none",
        n_permutations=0, seed=seed, progress=False,
    )  # fmt: skip


def counts_up_to(largest: int) -> list[int]:
    """Return the numbers of pairs of a curve, evenly spaced in their logarithm."""
    return sorted({round(n) for n in np.geomspace(6, largest, N_COUNTS)})


def measure(name: str, spaces: Spaces, seeds: list[int]) -> dict[str, Any]:
    """Return the records of one set, and its whole curve."""
    n = spaces[0].sizes[PRESENTATION]
    most = int(n * (1 - HELD_OUT))
    sizes = [round(share * n) for share in PILOTS]
    tops = {size: int(size * (1 - HELD_OUT)) for size in sizes}
    wanted = {size: [m * tops[size] for m in MULTIPLES if m * tops[size] <= most] for size in sizes}
    counts = sorted({*counts_up_to(most), *(count for each in wanted.values() for count in each)})
    whole = curve_of(spaces, counts, N_TRUE_DRAWS, seeds[0])
    truth = dict(zip(counts, whole["mean"].sel(aligner="ridge").values.tolist(), strict=True))
    records = []
    for seed in seeds:
        for size in sizes:
            rows = np.sort(np.random.default_rng([seed, 7]).permutation(n)[:size])
            pilot = tuple(space.isel({PRESENTATION: rows}) for space in spaces)
            started = time.process_time()
            curve = curve_of((pilot[0], pilot[1]), counts_up_to(tops[size]), N_DRAWS, 1000 * (seed + 1))
            seconds = time.process_time() - started
            for count in wanted[size]:
                for widened in (True, False):
                    plan = plan_from_curve(curve, truth[count], held_out=HELD_OUT if widened else 1e-9, seed=seed)
                    predicted = plan.predict(count)
                    records.append({
                        "set": name, "seed": seed, "pilot": size, "pairs": tops[size], "multiple": count // tops[size],
                        "count": count, "truth": round(truth[count], 4), "widened": widened,
                        **{key: round(float(predicted[key][0]), 4) for key in ("mean", "low", "high")},
                        **{f"pairs_{key}": finite(getattr(plan, key)) for key in ("n_pairs", "low", "high")},
                        "last": round(float(curve["mean"][0, -1]), 4), "seconds": round(seconds, 2),
                    })  # fmt: skip
    return {
        "records": records,
        "curve": {"n_pairs": counts, "mean": [round(truth[count], 4) for count in counts]},
        "n_stimuli": n,
        "needed": {str(share): needed(counts, list(truth.values()), share) for share in SHARES},
        "exponent": round(float(plan_from_curve(whole).fitted.exponent[0]), 2),
    }


def finite(number: float) -> float | None:
    """Return a number that JSON can hold; None for infinity."""
    return round(number, 1) if np.isfinite(number) else None


def needed(counts: list[int], scores: list[float], share: float) -> float:
    """Return the number of pairs at which a curve first reaches a share of its last score, straight in log pairs."""
    height = share * scores[-1]
    k = next(k for k, score in enumerate(scores) if score >= height)
    if k == 0:
        return float(counts[0])
    part = (height - scores[k - 1]) / (scores[k] - scores[k - 1])
    return round(float(np.exp(np.log(counts[k - 1]) + part * np.log(counts[k] / counts[k - 1]))), 1)


def covered(record: dict[str, Any]) -> tuple[bool, bool]:
    """Tell whether the interval of the score, and that of the number of pairs, hold the truth."""
    high = np.inf if record["pairs_high"] is None else record["pairs_high"]
    low = np.inf if record["pairs_low"] is None else record["pairs_low"]
    return record["low"] <= record["truth"] <= record["high"], low <= record["count"] <= high


def summarise(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return coverage and errors, by multiple of the pilot's pairs and by whether intervals are widened."""
    rows = []
    for widened in (True, False):
        for multiple in MULTIPLES:
            group = [r for r in records if r["widened"] == widened and r["multiple"] == multiple]
            if not group:
                continue
            scores, pairs = zip(*map(covered, group), strict=True)
            factors = [np.inf if r["pairs_n_pairs"] is None else r["pairs_n_pairs"] / r["count"] for r in group]
            rows.append({
                "widened": widened, "multiple": multiple, "n": len(group), "sets": len({r["set"] for r in group}),
                "score_covered": round(float(np.mean(scores)), 3), "pairs_covered": round(float(np.mean(pairs)), 3),
                "score_error": round(float(np.median([abs(r["mean"] - r["truth"]) for r in group])), 4),
                "score_bias": round(float(np.mean([r["mean"] - r["truth"] for r in group])), 4),
                "as_if_flat": round(float(np.median([abs(r["last"] - r["truth"]) for r in group])), 4),
                "factor": [finite(float(q)) for q in np.quantile(factors, [0.1, 0.5, 0.9], method="inverted_cdf")],
                "unlimited": round(float(np.mean([r["pairs_high"] is None for r in group])), 3),
            })  # fmt: skip
    return rows


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (curves, errors) = plt.subplots(1, 2, figsize=(13, 4.2), layout="constrained")
    names = list(results["sets"])
    colours = dict(zip(names, dict.fromkeys(PALETTE.values()), strict=False))
    for name, each in results["sets"].items():
        counts, mean = np.array(each["curve"]["n_pairs"]), np.array(each["curve"]["mean"])
        curves.plot(
            counts, mean / mean[-1], marker=".", color=colours[name], label=f"{name}, {each['n_stimuli']:,} stimuli"
        )
        curves.plot([each["needed"]["0.9"]], [0.9], marker="D", color=colours[name], markersize=7)
    curves.axhline(0.9, color="0.5", linestyle="--", linewidth=1)
    curves.set_xscale("log")
    curves.set_ylim(0, 1.05)
    curves.set_xlabel("pairs (count, log scale)")
    curves.set_ylabel("median r, share of that with all pairs")
    curves.set_title("pairs needed for nine tenths (diamonds)", fontsize="small")
    legend_beside(curves)
    records = [r for r in results["records"] if r["widened"]]
    for name in names:
        group = [r for r in records if r["set"] == name]
        x = [r["multiple"] * (0.92 + 0.03 * names.index(name)) for r in group]
        y = [r["mean"] - r["truth"] for r in group]
        bars = np.array([[r["mean"] - r["low"], r["high"] - r["mean"]] for r in group]).T
        errors.errorbar(x, y, yerr=np.maximum(bars, 0), fmt=".", color=colours[name], linewidth=0.8, markersize=5)
    errors.axhline(0, color="black", linewidth=1)
    errors.set_xscale("log")
    errors.set_xticks(MULTIPLES, labels=[f"{m} x" for m in MULTIPLES])
    errors.minorticks_off()
    errors.set_xlabel("pairs, as a multiple of the pilot's")
    errors.set_ylabel("predicted r - true r")
    errors.set_title("95 % intervals of the score; they should cross the line", fontsize="small")
    seeds = results["seeds"]
    figure.supxlabel(
        f"Real sets, ridge, seeds {seeds[0]} to {seeds[-1]}, pilots of an eighth and a quarter of the stimuli.",
        fontsize="x-small",
    )
    figure.savefig(path, dpi=150)


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seeds")] = None,
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/plan_pairs.json"),
    figure_file: Annotated[Path, typer.Option("--figure")] = Path("docs/figures/plan_pairs.png"),
    kept: Annotated[Path | None, typer.Option("--draw", help="Kept results to draw again.")] = None,
) -> None:
    if kept is not None:
        draw(json.loads(kept.read_text(encoding="utf-8")), figure_file)
        return
    if mirror is None:
        raise typer.BadParameter("found no --mirror; expected the folder of the real files. Mend: --mirror DIR.")
    chosen = seeds or list(range(5))
    started = time.process_time()
    sets = {name: measure(name, make(mirror), chosen) for name, make in SETS.items()}
    records = [record for each in sets.values() for record in each.pop("records")]
    results = {
        "seeds": chosen, "n_draws": N_DRAWS, "sets": sets, "summary": summarise(records), "records": records,
        "cpu_seconds": round(time.process_time() - started, 1),
    }  # fmt: skip
    write_json(results, out_file)
    print(json.dumps({"summary": results["summary"], "cpu_seconds": results["cpu_seconds"]}, indent=1))
    draw(results, figure_file)


if __name__ == "__main__":
    run_script(main, __doc__)
