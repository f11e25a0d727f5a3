"""Sections on the time and memory of couplings, distances and flows."""

from __future__ import annotations

import statistics
from typing import Any

from analyses.parts.pages import markdown_table as table


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

The points are simulated, in {setting["dims"]} dimensions. Epsilon is {setting["epsilon"]}, and the solvers stop at a
marginal error of {setting["tol"]}.

The first table has {n:,} x {n:,} points and {setting["pairs_peer"]} pairs. Memory is that beyond the inputs; the dense
cost is counted for the solvers that need one.

{table(["solver", "seconds", "times ours", "extra GB", "times ours", "marginal error"], rows)}

POT and ott check their error every ten iterations, and therefore reach a smaller error than they were asked for. The
time of a single iteration, as a multiple of ours, is: {pace_text}.

The second table has {setting["pairs"]:,} pairs, of which the {setting["nearest"]} nearest to each point are kept
(unless streamed). The log-log slope of seconds against points is {results["slope"]:.2f}.

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
The next table compares the neighbour lists alone, of {n:,} of these points on one thread. Each library has settings of
about this recall, or its own defaults; recall is measured on 500 points. "pynndescent" includes its compilation, which
every process repeats; "pynndescent-warm" does not.

{table(["lists", "processor s", "recall", "peak RSS (GB)"], libraries)}
"""
    return f"""## Geodesic distances, from ten thousand to 1.28 million points a side

`analyses/benchmarks/geodesic_scale.py`, then the same with `--neighbours`

The points are simulated, in {setting["dims"]} dimensions, with {setting["pairs"]:,} pairs and {setting["n_neighbors"]}
neighbours. The {setting["nearest"]} nearest anchors are kept. Times are of both sides together, for one draw (seeds
{setting["seeds"][0]} and {setting["seeds"][1]}).

- Recall is the share of the true nearest neighbours that the graph has, source / target.
- Load is the number of running processes when the measurement ended. Where it is above the number of cores, wall
  seconds do not describe the method.

The log-log slope of processor seconds against points is {results["slope"]["cpu_seconds"]:.2f}. An earlier version
(exact neighbours up to 100,000 points, faiss above, a search from every anchor) took 905 s of wall clock for 1.28
million points on two threads, 4.1 s for the solve, and 2.7 GB.

{table(heads, rows)}
{beside}"""


def fuse_time(results: dict[str, Any]) -> str:
    rows = [
        [
            f"{r['n']:,}", f"{r['n_pairs']:,}", f"{r['fuse_s']:.1f}", f"{r['ridge_s']:.3f}", f"{r['fuse_s'] / r['ridge_s']:.0f}",
            f"{r['peak_rss_gb']:.2f}",
        ]
        for r in results["rows"]
    ]  # fmt: skip
    columns = ["points a side", "pairs", "fused bridge (s)", "ridge of the pairs (s)", "ratio", "peak RSS (GB)"]
    return f"""## Fused bridge: both directions at once, beside ridge

`analyses/benchmarks/fuse_time.py`

Two simulated views of {" and ".join(map(str, results["dims"]))} dimensions, in processor seconds of one thread, medians
of {results["runs"]} runs. Asked were at most 3 s at 272 points and 6 s at 2,000. Of a hundred pairs the first folds are
enough to give up curved rounds and rotations that are behind; where they are not, as on most of the real sets, the search
takes up to 2 s longer. Run in turn on one machine, the code before these rules (b4546ee) took 2.7 to 3.0 and 6.1 s, and this
one 2.6 and 5.5.

{table(columns, rows)}
"""


def fused_scale(results: dict[str, Any]) -> str:
    rows = [
        [
            f"{r['n']:,}", r["dims"], f"{r['n_pairs']:,}", f"{r['r2']:.3f}", f"{r['r2_by_the_plan']:.3f}", f"{r['r2_ridge']:.3f}",
            f"{r['cpu_seconds']:.0f}", f"{r['cpu_seconds_expected']:.0f}", f"{r['peak_rss_gb']:.2f}", f"{r['gb_expected']:.2f}",
            f"{r['new_points_a_cpu_second']:,.0f}",
        ]
        for r in sorted(results["records"], key=lambda r: (r["n"], r["dims"], r["n_pairs"]))
    ]  # fmt: skip
    columns = [
        "points a side", "dimensions", "pairs", "R^2", "R^2 by the plan", "ridge R^2", "fit (processor s)", "predicted (s)",
        "peak RSS (GB)", "predicted (GB)", "new points a processor second",
    ]  # fmt: skip
    return f"""## Fused bridge: many points in minibatches along the factored plan

`analyses/benchmarks/fused_scale.py`

The clouds are simulated and read from npy files. Minibatches have {results["minibatch_size"]:,} points, distances are
Euclidean, {results["n_test"]:,} points are held out, and there is one thread and one draw. Above 100,000 points a
side, a kernel map replaces the plan for new points; "R^2 by the plan" is that without the kernel map (4,000 points).
Other jobs ran on the two cores of the machine, so that seconds are processor seconds. The constants of the prediction
were set on these runs.

{table(columns, rows)}
"""


def road(results: dict[str, Any]) -> str:
    steps = ("align", "transform", "retrieval", "report")
    rows = []
    for record in sorted(results["records"], key=lambda r: r["n"]):
        measures, retrieval = record["measures"], record["measures"]["retrieval"]
        rows.append(
            [
                f"{record['n']:,}", record["dims"], f"{record['n_pairs']:,}",
                *(f"{record['steps'][name]['seconds']:.0f}" for name in steps),
                f"{record['seconds']:.0f}", f"{record['cpu_seconds']:.0f}",
                f"{max(step['peak_rss_gb'] for step in record['steps'].values()):.2f}",
                f"{measures['r2']:.3f}", f"{measures['r2_of_ridge_of_the_pairs']:.3f}",
                f"{retrieval['R@10']['value']:.3f} ({retrieval['R@10']['chance']:.1g})",
            ]
        )  # fmt: skip
    columns = [
        "rows a file", "dimensions", "pairs", *(f"{name} (s)" for name in steps), "all (s)", "all (processor s)", "peak RSS (GB)",
        "R^2", "ridge R^2", "R@10 (chance)",
    ]  # fmt: skip
    return f"""## From two files to a report: the road

`analyses/benchmarks/road.py`

The two npy files are simulated, with a partner in every row; {results["records"][0]["n_queries"]:,} partners are held out of the
fit and sought among all rows of the target by cosine. There is one run a size; OMP_NUM_THREADS is {results["threads"]}.

{table(columns, rows)}
"""


def distributed_fuse(results: dict[str, Any]) -> str:
    rows = []
    for row in results["rows"]:
        busiest = max(row.get("worker_cpu_seconds", [0.0]))
        rows.append(
            [
                f"{row['n']:,}",
                "one process" if row["form"] == "process" else f"{results['settings']['workers']} workers",
                f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.1f}", f"{busiest:.1f}" if busiest else "-",
                f"{row['cpu_seconds'] + busiest:.1f}", f"{row['load_average_before']:.1f}",
            ]
        )  # fmt: skip
    settings = results["settings"]
    columns = [
        "points a side",
        "where",
        "seconds",
        "processor s, this process",
        "processor s, busiest worker",
        "sum",
        "load before",
    ]
    largest = max(results["largest_difference_in_standard_deviations"].values())
    model, gains = results["model_of_the_clock"], {}
    for n in sorted({row["n"] for row in results["rows"]}):
        medians = [
            statistics.median(row["seconds"] for row in results["rows"] if row["n"] == n and row["form"] == form)
            for form in ("process", "workers")
        ]
        gains[n] = medians[0] / medians[1]
    return f"""## Distributed: the minibatches of a fused bridge on dask workers

`analyses/benchmarks/distributed_fuse.py`: simulated clouds, {settings["dims"]} dimensions, {settings["pairs"]} pairs, a given
candidate, minibatches of {settings["minibatch_size"]:,}, one thread a process; workers keep freed memory
([scale.md](scale.md#on-a-cluster)). Largest difference of mapped points between the forms, in standard deviations: {largest:.0e}.

{table(columns, rows)}

The sum is the processor time along the longest path: this process waits while workers work. Median times of one process over
those of two workers: {", ".join(f"{ratio:.2f} at {n:,} points a side" for n, ratio in gains.items())}. On these two cores the two
workers and this process share the cores. This process keeps the part that does not divide: distances, the coarse plan, and the
cutting of minibatches. The clock fits **{model["fixed_s"]:.1f} s + n ({model["alone_s_a_million"]:.0f} s +
{model["shared_s_a_million"]:.0f} s / workers)**, n in millions of points a side: more workers gain at most a factor of
{1 + model["shared_s_a_million"] / model["alone_s_a_million"]:.1f}.
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

`analyses/benchmarks/distributed_solver.py`

There are {settings["d"]} dimensions and {settings["pairs"]} pairs, of which the {settings["nearest"]} nearest to each
point are kept. The largest relative difference from the result in memory is
{results["largest_relative_difference"]:.0e}. On one machine the workers are slower than one process: this form is for
points that do not fit into one process. The numbers were measured before small chunks were joined, with workers that
give freed memory back at once; [scale.md](scale.md#on-a-cluster) says what that costs.

{table(["points a side", "build (s)", "an iteration (s)", "peak RSS (GB, a worker)", "kB to the client an iteration"], rows)}
"""


def flow(results: dict[str, Any]) -> str:
    ratios = results["ratio_to_peer"]
    dims = sorted({key.split("/")[2] for key in ratios}, key=int)
    rows = [
        [d, *(f"{ratios[f'{mode}/5000/{d}']['steps_per_cpu_s']:.2f}" for mode in ("coupling", "affine", "minibatch"))]
        for d in dims
    ]
    batch = results["batch"]
    return f"""## Flow: training steps beside a torchcfm loop

`analyses/benchmarks/flow.py --peer-python PYTHON`

The table gives training steps per processor second as a multiple of those of a minibatch-OT loop written with torchcfm
(same network, batches of {batch}, one thread). "Plan" and "affine" draw from a plan that was solved beforehand, and
its time is not counted.

{table(["dimensions", "plan, no condition", "plan, affine base", "re-solved in each minibatch"], rows)}

Above 256 dimensions matrix products dominate, and every ratio falls below 1.5.

![Training steps and transport](figures/flow_benchmark.png)
"""
