"""Write docs/benchmarks.md from the kept benchmark results.

python analyses/benchmarks_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analyses.parts.alignment import markdown as alignment_tables
from analyses.parts.pages import markdown_table as table

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
KEPT = DOCS / "results" / "benchmarks"
HEAD = """# Benchmarks

For readers who choose a method or plan a run. After this page you will know which method wins where,
losses of ours included, and what it costs.

Made from `docs/results/benchmarks/` by `python analyses/benchmarks_page.py`; each table names the script that measured it.
Speed and memory were measured on a machine of two cores (x86-64, 24 GB, no GPU), shared with other work at times: ratios are of
runs one after the other, numbers are medians where there are several runs, and the files keep all of them.

The tables of MNIST by `mnist.py`, of alignment without a pair and of the fused bridge's scale were measured with the aligner of
version 0.1 and have not been measured again.
"""
PROTOTYPE = {
    10: (".367 / .26", ".281", ".307 / .22", ".409 / .28", ".582 / .52"),
    20: (".558 / .51", ".424", ".483 / .37", ".647 / .45", ".784 / .74"),
    100: (".795 / .78", ".738", ".778 / .65", ".883 / .65", ".897 / .87"),
    480: (".836 / .84", ".834", ".889 / .77", ".911 / .72", ".921 / .93"),
}


def kept_results(name: str) -> dict[str, Any] | None:
    """Read the kept results of a benchmark; None where there are none."""
    file = KEPT / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def alignment(results: dict[str, Any]) -> str:
    return f"""## Quality: every method on every set, from few pairs to many

`analyses/benchmarks/alignment_quality.py --mirror DIR`

Means ± half of the 95 % interval over seeds {results["seeds"][0]} to {results["seeds"][-1]}, on points that no fit has seen.
Unpaired pools are disjoint, unless the title says otherwise. Differences are paired by seed. Settings: developed on other seeds.

On recordings the aligner with its default criterion is the best method or level with it in 42 of 43 cells; with 60 stimuli in all
and 20 pairs relative representations beat it once. On captions and digits, and on embeddings
of two groups of people (THINGS), it is with the criterion of the score the best or level in all cells; its own spread over seeds is
large with five pairs of THINGS (.52 ± .12 top-1). Fused unbalanced Gromov-Wasserstein
transport and flows are not in this table.

![The score of every set over the number of pairs](figures/alignment_quality.png)

{alignment_tables(results)}
"""


def quality(results: dict[str, Any]) -> str:
    methods = ("ridge", "kernel_ridge", "labels", "bridge_euclidean", "bridge_geodesic", "fused")
    rows = []
    for n_pairs, summary in results["summary"].items():
        cells = []
        for method in methods:
            accuracy, r2 = summary[method]["accuracy"], summary[method].get("r2")
            cell = f"{accuracy['mean']:.3f} ± {accuracy['ci95']:.3f}"
            cells.append(cell if r2 is None else f"{cell} / {r2['mean']:.2f}")
        rows.append([f"{n_pairs} ({summary['n_seeds']} seeds)", *cells])
    before = [[str(n), *cells] for n, cells in PROTOTYPE.items()]
    return f"""## Quality: real MNIST, VAE latents (32-d) to CNN features (128-d)

`analyses/benchmarks/alignment/mnist.py --mirror DIR`

Accuracy of the frozen target head on 1,000 held-out digits ± 95 % confidence interval over seeds / R^2 of the transported features.
5,000 digits; unpaired pools disjoint; one default setting of `fuse`. Chance {results["accuracy_chance"]:.3f}; the head on the true
features {results["accuracy_true_features"]:.3f}. Developed on other digits and other extractors than those reported.

{table(["pairs", "ridge", "kernel ridge", "source + labels", "bridge, euclidean", "bridge, geodesic", "fused"], rows)}

The prototype that these numbers had to beat (other extractors, same protocol):

{table(["pairs", "ridge", "source + labels", "bridge, euclidean", "bridge, geodesic", "fused, geodesic"], before)}

![Accuracy and R^2 against the number of pairs](figures/mnist_quality.png)

{_without_pairs(kept_results("no_anchor"))}"""


def _without_pairs(results: Any) -> str:
    if results is None:
        return ""
    rows = [
        [
            f"{row['metric']}, seed {row['seed']}", f"{row['accuracy']:.3f}", f"{row['r2']:.2f}",
            f"{row['anchors_same_digit']:.2f}", "yes" if row["trust"]["trustworthy"] else "no", f"{row['seconds']:.0f}",
        ]
        for row in results
    ]  # fmt: skip
    return f"""Without a single pair (`align_unpaired`, {results[0]["n_points"]} points a space,
`analyses/benchmarks/no_anchor.py`; chance {results[0]["accuracy_chance"]:.2f}; [how far to trust it](diagnostics.md)):

{table(["start", "accuracy", "R^2", "anchors of the same digit", "called trustworthy", "seconds"], rows)}
"""


def _scale_row(label: str, row: dict[str, Any]) -> list[str]:
    drawn = f"{row['sample_1m_s']:.1f}" if "sample_1m_s" in row else "not measured"
    solve = f"{row['seconds'] - row['build_s']:.2f}"
    return [label, f"{row['build_s']:.2f}", solve, f"{row['iterations']:.0f}", f"{row['peak_gb']:.2f}", drawn]


def coupling(results: dict[str, Any]) -> str:
    peers = results["peers"]
    names = {
        "ours": '`couple(method="factored")`',
        "pot": "POT `sinkhorn_log`, the same cost",
        "pot-low-rank": "POT low-rank Sinkhorn, rank 200 (another problem: squared Euclidean)",
        "ott": "ott Sinkhorn, the same cost, compiled",
    }
    rows = []
    for name, row in peers.items():
        if row:
            ratio = results["ratios"].get(name)
            ratios = ("1", "1") if ratio is None else (f"{ratio['time']:.0f}", f"{ratio['memory']:.0f}")
            rows.append(
                [
                    names[name],
                    f"{row['seconds']:.3g}",
                    ratios[0],
                    f"{row['extra_gb']:.3f}",
                    ratios[1],
                    f"{row['error']:.1e}",
                ]
            )
    scale = [_scale_row(f"{int(n):,}", row) for n, row in results["scale"].items() if row]
    if results.get("streamed"):
        scale.append(_scale_row("1,280,000, all anchors, streamed", results["streamed"]))
    setting = results["setting"]
    n = setting["n_peer"]
    pace = {name: row["seconds"] / row["iterations"] for name, row in peers.items() if row and row["iterations"]}
    pace_text = ", ".join(f"{name} {pace[name] / pace['ours']:.0f}" for name in ("pot", "ott") if name in pace)
    return f"""## Couplings: beside peers, and from ten thousand to 1.28 million points a side

`analyses/benchmarks/coupling.py --geodesic --peer-python PYTHON`

Simulated points, {setting["dims"]} dimensions, epsilon {setting["epsilon"]}, to a marginal error of {setting["tol"]}.

{n:,} x {n:,} points, {setting["pairs_peer"]} pairs. Memory beyond the inputs; the dense cost counts for those that need one.

{table(["solver", "seconds", "times ours", "extra GB", "times ours", "marginal error"], rows)}

POT and ott look at their error every ten iterations, and so go further than they were asked to. An iteration alone takes as many
times as long as ours: {pace_text}.

{setting["pairs"]} pairs, the {setting["nearest"]} nearest kept (unless streamed). Log-log slope of seconds against points:
{results["slope"]:.2f}.

{table(["points a side", "distances (s)", "solve (s)", "iterations", "peak RSS (GB)", "1M draws (s)"], scale)}

![Seconds and peak memory against points](figures/coupling_benchmark.png)
"""


def geodesic_scale(results: dict[str, Any]) -> str:
    rows = [
        [
            f"{r['n']:,}", f"{r['cpu_seconds']:.1f}", f"{r['seconds']:.1f}", str(r["threads"]),
            " / ".join(f"{recall:.3f}" for recall in r["recall"]), f"{r['peak_rss_gb']:.2f}", f"{r['load_average']:.0f}",
        ]
        for r in results["records"]
    ]  # fmt: skip
    libraries = [
        [r["name"], f"{r['cpu_seconds']:.1f}", f"{r['recall']:.3f}", f"{r['peak_rss_gb']:.2f}"]
        for r in results["neighbours"]
    ]
    setting, heads = (
        results["setting"],
        ["points a side", "processor s", "wall s", "threads", "recall", "peak RSS (GB)", "load"],
    )
    beside = ""
    if libraries:
        n = results["neighbours"][0]["n"]
        beside = f"""
Neighbour lists of {n:,} of these points alone, on one thread, with settings of about this recall or the libraries' own; recall on
500 points. "pynndescent" with its compilation, which every process repeats, "pynndescent-warm" without it.

{table(["lists", "processor s", "recall", "peak RSS (GB)"], libraries)}
"""
    return f"""## Geodesic distances, from ten thousand to 1.28 million points a side

`analyses/benchmarks/geodesic_scale.py`, then `--neighbours`

Simulated points, {setting["dims"]} dimensions, {setting["pairs"]:,} pairs, {setting["n_neighbors"]} neighbours, the
{setting["nearest"]} nearest anchors kept; both sides together, one draw (seeds {setting["seeds"][0]} and {setting["seeds"][1]}).
Recall: share of the true nearest neighbours in the graph, source / target. Load: running processes when the measurement ended;
above the number of cores, wall seconds say nothing of the method. Log-log slope of processor seconds against points:
{results["slope"]["cpu_seconds"]:.2f}. Before (exact neighbours to 100,000 points, faiss above, a search from every anchor), 1.28
million took 905 s of wall clock on two threads and 4.1 s for the solve, 2.7 GB.

{table(heads, rows)}
{beside}"""


def flow(results: dict[str, Any]) -> str:
    ratios = results["ratio_to_peer"]
    dims = sorted({key.split("/")[2] for key in ratios}, key=int)
    rows = [
        [d, *(f"{ratios[f'{mode}/5000/{d}']['steps_per_cpu_s']:.2f}" for mode in ("coupling", "affine", "minibatch"))]
        for d in dims
    ]
    batch = results["batch"]
    return f"""## Flow: training steps beside a torchcfm loop

`analyses/benchmarks/flow.py --peer-python PYTHON`: steps per processor second, as a multiple of those of a
minibatch-OT loop written with torchcfm (same network, batch of {batch}, one thread). "Plan" and "affine" draw from a plan
solved beforehand, whose time is not counted.

{table(["dimensions", "plan, no condition", "plan, affine base", "re-solved in each minibatch"], rows)}

Above 256 dimensions matrix products dominate, and every ratio falls below 1.5.

![Training steps and transport](figures/flow_benchmark.png)
"""


def flow_quality(results: dict[str, Any]) -> str:
    rows = []
    for row in results["summary"]:
        change = row["flow_less_barycentric"]
        distances = [f"{row[name]['sliced_wasserstein']['mean']:.4f}" for name in ("barycentric", "flow", "target")]
        changes = [f"{change[m]['mean']:+.4f} ± {change[m]['ci95']:.4f}" for m in ("sliced_wasserstein", "score")]
        kept = "{} of {}".format(*row["networks_kept"])
        score = f"{row['barycentric']['score']['mean']:.3f}"
        rows.append(
            [f"{row['set']}, {row['n_pairs']}", str(row["n_test"]), *distances, changes[0], score, changes[1], kept]
        )
    missed = [
        f"{row['set']} at {row['n_pairs']} pairs"
        for row in results["summary"]
        if not (row["nearer"] and row["score_kept"])
    ]
    n_seeds = len(results["summary"][0]["seeds"])
    heads = [
        "set, pairs", "n held out", "barycentric: SW", "flow: SW", "true points: SW", "flow less barycentric: SW",
        "barycentric: score", "flow less barycentric: score", "networks kept",
    ]  # fmt: skip
    return f"""## Flow: the moved cloud beside the barycentric images

`analyses/benchmarks/flow_quality.py --mirror DIR`: {n_seeds} seeds; differences are paired, mean ± 95 % CI. SW: sliced Wasserstein
distance of the images of held-out stimuli to the true target points of other held-out stimuli; the true points' own value is
what sampling leaves. Score: median r (V4, IT), accuracy (MNIST), R@10 both ways (Flickr8k). The last column counts
the fields, of both directions, whose network validation kept beside the closed form.

{table(heads, rows)}

Asked of the flow: the interval of SW below 0, and the score at most .005 lower.
{"Both hold in every cell above." if not missed else f"Missed: {'; '.join(missed)}."}
{f"Not run yet: {', '.join(results['not_run'])}." if results["not_run"] else ""}

![Distances and scores, flow beside barycentric](figures/flow_quality.png)
"""


def fused_scale(results: dict[str, Any]) -> str:
    rows = [
        [
            f"{r['n']:,}, {'all at once' if r['core'] is None else 'parts of ' + format(r['core'], ',')}", f"{r['r2']:.3f}",
            f"{r['r2_ridge']:.3f}", f"{r['cpu_seconds']:.0f}", f"{r['peak_rss_gb']:.2f}", f"{r['row_marginal_l1']:.0e}",
            f"{r['seconds_to_draw_100000']:.1f}",
        ]
        for r in results["records"]
    ]  # fmt: skip
    n_pairs, n_test = results["n_pairs"], results["n_test"]
    return f"""## Fused bridge: many points in minibatches along the factored plan

`analyses/benchmarks/fused_scale.py`: simulated clouds, {n_pairs} pairs, {n_test:,} held-out points, one thread.

{table(["points a side", "R^2", "ridge R^2", "fit (processor s)", "peak RSS (GB)", "L1 of row sums", "100k draws (s)"], rows)}
"""


def features(results: dict[str, Any]) -> str:
    names = {
        "bare": "bare forward pass on batches in memory", "loop": "hand-written hook loop", "memory": "`extract`, in memory",
        "stream": "`extract`, streamed to netCDF",
    }  # fmt: skip
    rows = []
    for case in ("resnet18", "small"):
        for task, row in results[case]["tasks"].items():
            rows.append([f"{case}, {names[task]}", f"{row['images_per_s']:.1f}", f"{row['of_bare']:.2f}"])
    flat = ", ".join(f"{row['peak_rss_gb']:.2f} GB for {row['n_stimuli']:,}" for row in results["memory"])
    large, little = results["resnet18"], results["small"]
    return f"""## Features: extraction beside the bare forward pass

`analyses/benchmarks/features.py`: {large["n_images"]} images of {large["size"]} pixels through a ResNet-18 (random weights), and
{little["n_images"]} of {little["size"]} through a network so small that decoding the files takes longer than the model. All but
the bare pass read and decode the files.

{table(["what", "images a second", "of bare"], rows)}

Peak RSS of an extraction to netCDF: {flat} stimuli. thingsvision is not beside it: its release pins a torchvision that does not
install beside this torch.
"""


def predictivity(results: dict[str, Any]) -> str:
    rows = []
    for name, target in TARGETS.items():
        our_row, peer_row = (results["rows"].get(f"{side}_{name}") for side in ("ours", "peer"))
        clock = "seconds" if name == "benchmark" else "cpu_seconds"
        if our_row and peer_row:
            rows.append(
                [
                    name.replace("_", " "), f"{our_row[clock]:.2f}", f"{peer_row[clock]:.1f}",
                    f"{peer_row[clock] / our_row[clock]:.1f}", target, f"{our_row['peak_rss_gb']:.2f}",
                    f"{peer_row['peak_rss_gb']:.2f}",
                ]
            )  # fmt: skip
    return f"""## Predictivity and ceilings beside Brain-Score's own code

`analyses/benchmarks/predictivity.py`, in Brain-Score's environment (brainscore-vision 2.4.2, numpy below 2), the same arrays:
3,200 x 1,000 predictors, 168 sites, ten splits; consistency of 147,200 x 256; "benchmark": averaging, ceiling and pls of the IT
sites, two threads. All simulated. Processor seconds on one thread (wall seconds for the benchmark), medians of three runs of ours
and one of theirs, without permutation nulls (theirs have none).

{table(["what", "ours (s)", "theirs (s)", "times faster", "asked", "ours, peak GB", "theirs, peak GB"], rows)}
"""


# Targets: times faster than Brain-Score, or seconds and memory.
TARGETS = {
    "pls": "25", "ridge": "5", "linear": "-", "neuron_to_neuron": "20", "cka": "-", "rdm": "5", "consistency": "10",
    "benchmark": "8 s, 1 GB",
}  # fmt: skip


def beside(results: dict[str, Any]) -> str:
    """Say that other work ran on the machine, where it did: processor seconds then count, and they are longer, too."""
    load = results.get("load", 0.0)
    return f" Measured beside other work (load {load:.0f} on two cores)." if load > 2 else ""


def decoding_time(results: dict[str, Any]) -> str:
    rows = [
        [name, f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.1f}", f"{row['peak_rss_over_data'] / 1e9:.2f}"]
        for name, row in results.items()
        if isinstance(row, dict) and "cpu_seconds" in row and "accuracies" in row
    ]
    return f"""## Decoding in time beside a loop over scikit-learn

`analyses/benchmarks/decoding_time.py`: 150 time bins x 132 sites x 400 trials (80 stimuli, 8 classes, SIMULATED), logistic
readouts, ten folds of whole stimuli, no permutations: 1,500 fits. The peer is scikit-learn's `LogisticRegression` behind a
`StandardScaler`, on the same folds; the largest difference of an accuracy is
{results["largest_difference_of_accuracy"]:.3f}. It takes
{results["ratio"]["cpu_seconds"]:.1f} times our processor time.{beside(results)}

{table(["what", "wall (s)", "processor (s)", "memory over the data (GB)"], rows)}
"""


def analyses_time(results: dict[str, Any]) -> str:
    rows = []
    for case in results["cases"].values():
        ours, peer = case["neurobridge"], case["peer"]
        rows.append(
            [
                f"{case['title']}: {case['size']}", case["peer_title"], f"{ours['cpu_seconds']:.2f}", f"{peer['cpu_seconds']:.2f}",
                f"{case['ratio']['cpu_seconds']:.2f}", f"{ours['peak_rss_over_data'] / 1e6:.0f}",
                f"{peer['peak_rss_over_data'] / 1e6:.0f}", f"{case['compared']}: {case['largest_relative_difference']:.0e}",
            ]
        )  # fmt: skip
    slower = [case["title"] for case in results["cases"].values() if case["ratio"]["cpu_seconds"] < 1]
    larger = [
        case["title"]
        for case in results["cases"].values()
        if case["neurobridge"]["peak_rss_over_data"] > case["peer"]["peak_rss_over_data"]
    ]
    losses = f"The peer is faster in: {'; '.join(slower) or 'none'}. The peer needs less memory in: {'; '.join(larger) or 'none'}."
    n_runs = min(case["n_runs"] for case in results["cases"].values())
    return f"""## RDM inference, crossnobis, variance partition and retrieval beside rsatoolbox, himalaya and scikit-learn

`analyses/benchmarks/analyses_time.py`: SIMULATED data; the same arrays, draws, folds, penalties and permutations for both, and the
same numbers from both: the last column is their largest difference over the largest value. Processor seconds on one thread,
medians of {n_runs} runs in processes of their own, arrays and imports before the clock; memory is the peak over that before the
run. The partition is fitted by himalaya in both, so that no speed is to be won there. Both RSA rows draw stimuli and subjects;
rsatoolbox 0.3.2 stops with an error in draws of 100 stimuli or more with corr_cov.
{losses}{beside(results)}

{table(["what", "peer", "ours (s)", "peer (s)", "times faster", "ours (MB)", "peer (MB)", "difference"], rows)}
"""


def compared_models(results: dict[str, Any]) -> str:
    sizes, ours, peer = results["sizes"], results["ours"], results.get("peer, one model")
    rows = [[f"`compare_models`, {sizes['models']} models", f"{ours['processor_s']:.0f}", f"{ours['peak_gb']:.2f}"]]
    if peer:
        rows.append(
            ["a loop over scikit-learn and scipy, one model", f"{peer['processor_s']:.0f}", f"{peer['peak_gb']:.2f}"]
        )
    ratio = f" For all models the loop would take {results['ratio']:.1f} times our processor time." if peer else ""
    return f"""## Comparison of models at the size of IT's public recordings

`analyses/benchmarks/compare_models.py`: {sizes["models"]} models of {sizes["layers"]} layers of {sizes["features"]:,} features,
{sizes["stimuli"]:,} stimuli, 168 sites of two animals (SIMULATED), metrics ridge and rsa, five folds, 1,000 draws, no permutations.
Wall time of ours {ours["wall_s"]:.0f} s.{ratio}{beside(results)}

{table(["what", "processor (s)", "peak RSS (GB)"], rows)}
"""


def distributed(results: dict[str, Any]) -> str:
    rows = []
    for key, row in results["rows"].items():
        place, n = key.split("/")
        peak = row.get("worker_peak_rss_gb", row.get("peak_rss_gb"))
        travels = f"{row['bytes_iteration']['to_client'] / 1e3:.1f}" if "bytes_iteration" in row else "-"
        name = "in memory, one thread" if place == "memory" else f"{results['settings']['workers']} workers"
        rows.append(
            [f"{int(n):,}, {name}", f"{row['build_s']:.1f}", f"{row['iteration_s']:.2f}", f"{peak:.2f}", travels]
        )
    settings = results["settings"]
    return f"""## Distributed: the factored solver on dask workers

`analyses/benchmarks/distributed_solver.py`: {settings["d"]} dimensions, {settings["pairs"]} pairs, {settings["nearest"]}
nearest kept;
largest relative difference from the result in memory {results["largest_relative_difference"]:.0e}. On one machine the workers are
slower than one process: this form is for points that do not fit into one.

{table(["points a side", "build (s)", "an iteration (s)", "peak RSS (GB, a worker)", "kB to the client an iteration"], rows)}
"""


def repeats(results: dict[str, Any]) -> str:
    rows = [
        [name.replace("_", " "), f"{row['seconds']:.2f}", f"{row['peak_rss_gb']:.2f}", row["n_runs"]]
        for name, row in results["rows"].items()
        if isinstance(row, dict)
    ]
    ratios = [
        f"{key.removeprefix('ratio_')} {value:.1f}"
        for key, value in results["rows"].items()
        if key.startswith("ratio_")
    ]
    ratio_text = f"\n\nBrain-Score takes as many times as long: {', '.join(ratios)}." if ratios else ""
    return f"""## Repetitions: 147,200 x 256 to 3,200 x 256, and split-half consistency over 10 splits

`analyses/benchmarks/repeats.py` (simulated noise; the assembly itself, {3200 * 46 * 256 * 4 / 1e9:.2f} GB, counts in the peak)

{table(["what", "seconds", "peak RSS (GB)", "runs"], rows)}{ratio_text}
"""


def public(results: dict[str, Any]) -> str:
    rows = [
        [step, f"{results[step]['seconds']:.2f}", f"{results[step]['peak_rss_gb']:.2f}"]
        for step in ("fetch", "load", "lazy")
    ]
    return f"""## MajajHong2015.public: a file of its layout and size (148,480 x 256 x 1)

`analyses/benchmarks/majajhong_public.py` ({results["values"]}; served from the same machine)

{table(["what", "seconds", "peak RSS (GB)"], rows)}
"""


def simulation(results: dict[str, Any]) -> str:
    return f"""## The simulated HvM experiment at public size (147,200 presentations)

`analyses/benchmarks/simulate_hvm.py`: {results["total_s"]:.0f} s, {results["peak_rss_gb"]:.2f} GB peak RSS,
{results["file_mb"]:.0f} MB written in {results["chunks"]} chunks.
"""


SECTIONS = {
    "alignment_quality": alignment,
    "mnist_quality": quality,
    "coupling": coupling,
    "geodesic_scale": geodesic_scale,
    "fused_scale": fused_scale,
    "distributed": distributed,
    "flow_quality": flow_quality,
    "flow": flow,
    "predictivity": predictivity,
    "decoding_time": decoding_time,
    "analyses_time": analyses_time,
    "compare_models": compared_models,
    "features": features,
    "repeats": repeats,
    "majajhong_public": public,
    "simulate_hvm": simulation,
}


def page() -> str:
    """Return the text of docs/benchmarks.md."""
    parts = [
        section(results).strip() for name, section in SECTIONS.items() if (results := kept_results(name)) is not None
    ]
    return "\n\n".join([HEAD.strip(), *parts]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
