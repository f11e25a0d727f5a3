"""Sections on the time and memory of scores, decoding and comparisons, beside their peers."""

from __future__ import annotations

from typing import Any

from analyses.parts.pages import markdown_table as table

# Targets: times faster than Brain-Score, or seconds and memory.
TARGETS = {
    "pls": "25", "ridge": "5", "linear": "-", "neuron_to_neuron": "20", "cka": "-", "rdm": "5", "consistency": "10",
    "benchmark": "8 s, 1 GB",
}  # fmt: skip


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

`analyses/benchmarks/predictivity.py`, in Brain-Score's environment (brainscore-vision 2.4.2, numpy below 2)

Both compute on the same simulated arrays: 3,200 x 1,000 predictors, 168 sites and ten splits; for consistency 147,200
x 256. "benchmark" is averaging, ceiling and pls of the IT sites on two threads. The table gives processor seconds on
one thread (wall seconds for the benchmark): medians of three runs of ours, and one run of theirs. Permutation nulls
are not included, since theirs has none. "asked" is the speed that was required beforehand.

{table(["what", "ours (s)", "theirs (s)", "times faster", "asked", "ours, peak GB", "theirs, peak GB"], rows)}
"""


def beside(results: dict[str, Any]) -> str:
    """Say that other work ran on the machine, where it did: processor seconds then count, and they are longer, too."""
    load = results.get("load", 0.0)
    return f" Other work ran during the measurement (load {load:.0f} on two cores)." if load > 2 else ""


def decoding_time(results: dict[str, Any]) -> str:
    rows = [
        [name, f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.1f}", f"{row['peak_rss_over_data'] / 1e9:.2f}"]
        for name, row in results.items()
        if isinstance(row, dict) and "cpu_seconds" in row and "accuracies" in row
    ]
    return f"""## Decoding in time beside a loop over scikit-learn

`analyses/benchmarks/decoding_time.py`

The data have 150 time bins, 132 sites and 400 trials (80 stimuli, 8 classes, SIMULATED). Logistic readouts are fitted
on ten folds of whole stimuli without permutations: 1,500 fits. The peer is scikit-learn's `LogisticRegression` after a
`StandardScaler`, on the same folds. It takes {results["ratio"]["cpu_seconds"]:.1f} times our processor time. The
largest difference of an accuracy is {results["largest_difference_of_accuracy"]:.3f}.{beside(results)}

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

`analyses/benchmarks/analyses_time.py`

The data are SIMULATED. Both packages have the same arrays, draws, folds, penalties and permutations, and give the same
numbers: the last column is their largest difference, divided by the largest value. Times are processor seconds on one
thread, medians of {n_runs} runs in separate processes, without the time of imports and of making the arrays. Memory is
the peak above that before the run. himalaya fits the partition in both, so that no gain of speed is possible there.
Both RSA rows draw stimuli and subjects; with corr_cov, rsatoolbox 0.3.2 stops with an error in draws of 100 stimuli or
more.
{losses}{beside(results)}

{table(["what", "peer", "ours (s)", "peer (s)", "times faster", "ours (MB)", "peer (MB)", "difference"], rows)}
"""


def bridge_metric(results: dict[str, Any]) -> str:
    by_region: dict[str, dict[str, dict[str, Any]]] = {}
    for row in results["rows"]:
        by_region.setdefault(row["region"], {})[row["metric"]] = row
    rows = [
        [
            region,
            f"{of['bridge']['processor_s']:.0f}",
            f"{of['ridge']['processor_s']:.1f}",
            f"{of['bridge']['processor_s'] / of['ridge']['processor_s']:.0f}",
            f"{of['bridge']['peak_rss_gb']:.2f}",
        ]
        for region, of in by_region.items()
    ]
    return f"""## Brain-Score's metric `bridge` at the size of the public recordings

`analyses/benchmarks/bridge_metric.py`: 3,200 SIMULATED stimuli, a layer of 512 features, 168 sites of IT or 88 of V4; ten folds of
nine tenths, of which a tenth are pairs for the bridge and all for ridge. Not normalised, no permutations.{beside(results)}

{table(["region", "bridge (processor s)", "ridge (processor s)", "ratio", "peak RSS of the bridge (GB)"], rows)}
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

`analyses/benchmarks/compare_models.py`

There are {sizes["models"]} models of {sizes["layers"]} layers of {sizes["features"]:,} features, {sizes["stimuli"]:,}
stimuli, and 168 sites of two animals (SIMULATED). The metrics are ridge and rsa, with five folds, 1,000 draws and no
permutations. Our wall time is {ours["wall_s"]:.0f} s.{ratio}{beside(results)}

{table(["what", "processor (s)", "peak RSS (GB)"], rows)}
"""
