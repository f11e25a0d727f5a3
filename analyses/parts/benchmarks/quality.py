"""Sections on quality: the score of every method, and the cloud that a flow makes."""

from __future__ import annotations

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

from analyses.parts.alignment import markdown as alignment_tables
from analyses.parts.pages import markdown_table as table
from neurobridge.study.tables import mean_ci

METHOD_NAMES = {
    "ridge": "ridge", "kernel_ridge": "kernel ridge", "labels": "source + labels", "bridge_euclidean": "bridge, euclidean",
    "bridge_geodesic": "bridge, geodesic", "fused": "fused", "fused_labels": "fused, labels",
}  # fmt: skip
OURS = ("fused", "fused_labels")
#: Accuracies of the fused bridge of version 0.1, by number of pairs, a seed each.
FUSED_BEFORE = Path(__file__).resolve().parents[3] / "docs" / "results" / "benchmarks" / "mnist_fused_0_1.json"


def alignment(results: dict[str, Any]) -> str:
    return f"""## Quality: every method on every set, from few pairs to many

`analyses/benchmarks/alignment_quality.py --mirror DIR`

Values are means ± half of the 95 % interval over seeds {results["seeds"][0]} to {results["seeds"][-1]}, on points that
no fit has seen. The pools of unpaired points are disjoint, unless the title says otherwise. Differences are paired by
seed. All settings were developed on other seeds.

On recordings, the aligner with its default criterion is the best method, or not distinguishable from the best, in 42
of 43 cells. In one relative representations have a higher score: V4 with 20 of 81 stimuli (by .014 ± .011; on eight
development draws of this cell both are level, .245 and .244). On captions, on digits, and on embeddings of two
groups of people (THINGS), the aligner with the criterion of the score is the best method, or not distinguishable from
it, in all cells. Its spread over seeds is large with five pairs of THINGS and with ten or twenty of digits. Each interval
is of one cell: where two methods are equal, one of twenty such intervals excludes zero, half of these on either side.
Flows are not in these tables.

![The score of every set over the number of pairs](figures/alignment_quality.png)

{alignment_tables(results)}
"""


def _change(records: list[dict[str, Any]], name: str, n_pairs: str, old: list[float]) -> str:
    """Format the difference of accuracies to those of version 0.1, paired by seed."""
    rows = sorted((record for record in records if record["n_pairs"] == int(n_pairs)), key=itemgetter("seed"))
    mean, half = mean_ci([row[name]["accuracy"] - last for row, last in zip(rows, old, strict=True)])
    return f"{mean:+.3f} ± {half:.3f}"


def mnist(results: dict[str, Any]) -> str:
    rows = []
    for n_pairs, summary in results["summary"].items():
        cells = []
        for method in METHOD_NAMES:
            accuracy, r2 = summary[method]["accuracy"], summary[method].get("r2")
            cell = f"{accuracy['mean']:.3f} ± {accuracy['ci95']:.3f}"
            cells.append(cell if r2 is None else f"{cell} / {r2['mean']:.2f}")
        rows.append([f"{n_pairs} ({summary['n_seeds']} seeds)", *cells])
    before = [
        [n_pairs, f"{sum(old) / len(old):.3f}", *(_change(results["records"], name, n_pairs, old) for name in OURS)]
        for n_pairs, old in json.loads(FUSED_BEFORE.read_text(encoding="utf-8")).items()
    ]
    return f"""## Quality: real MNIST, VAE latents (32-d) to CNN features (128-d)

`analyses/benchmarks/alignment/mnist.py --mirror DIR`

Each cell gives the accuracy of the frozen target head on 1,000 held-out digits, ± the 95 % confidence interval over
seeds, then R^2 of the transported features. There are 5,000 digits in disjoint pools, and `fuse` has its default
settings. Chance is {results["accuracy_chance"]:.3f}, and the head has {results["accuracy_true_features"]:.3f} on the
true features. The method was developed on other digits and other extractors than those reported.

{table(["pairs", *METHOD_NAMES.values()], rows)}

The next table sets the fused bridge beside that of version 0.1, by the same spaces and seeds. Under the criterion of
this score, "labels", it is level with it at every number of pairs. So it is under its default criterion, correlation,
but for 10 pairs, where it names fewer digits: up to twelve pairs compare no temperatures, and the first is .05.
`fuse(..., epsilons=(0.02,))` (aligner: `fuse_options={{"epsilons": (0.02,)}}`) named .806 of the digits on four
development draws of 10 pairs, and the default .749; on the draws of the table above, whose dimensions are scaled one by
one, it named fewer.

{table(["pairs", "version 0.1", *(f"{METHOD_NAMES[name]}: difference, paired by seed" for name in OURS)], before)}

![Accuracy and R^2 against the number of pairs](figures/mnist_quality.png)
"""


def without_pairs(results: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{row['metric']}, seed {row['seed']}", f"{row['accuracy']:.3f}", f"{row['r2']:.2f}",
            f"{row['anchors_same_digit']:.2f}", "yes" if row["trust"]["trustworthy"] else "no", f"{row['seconds']:.0f}",
        ]
        for row in results
    ]  # fmt: skip
    return f"""The next table is of alignment without a single pair (`align_unpaired`), with {results[0]["n_points"]} points in each
space. `analyses/benchmarks/no_anchor.py` measured it; chance is {results[0]["accuracy_chance"]:.2f}. The page of
[diagnostics](diagnostics.md) explains how far such an alignment can be trusted.

{table(["start", "accuracy", "R^2", "anchors of the same digit", "called trustworthy", "seconds"], rows)}
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
            [
                f"{row['set']}, {row['n_pairs']}",
                f"{row['n_test']}, {len(row['seeds'])}",
                *distances,
                changes[0],
                score,
                changes[1],
                kept,
            ]
        )
    missed = [
        f"{row['set']} at {row['n_pairs']} pairs"
        for row in results["summary"]
        if not (row["nearer"] and row["score_kept"])
    ]
    heads = [
        "set, pairs", "n held out, seeds", "barycentric: SW", "flow: SW", "true points: SW", "flow less barycentric: SW",
        "barycentric: score", "flow less barycentric: score", "networks kept",
    ]  # fmt: skip
    return f"""## Flow: the moved cloud beside the barycentric images

`analyses/benchmarks/flow_quality.py --mirror DIR`

Differences are paired over seeds and given as mean ± 95 % confidence interval.

- SW is the sliced Wasserstein distance between the images of held-out stimuli and the true target points of other
  held-out stimuli. The value of the true points themselves is due to sampling alone.
- The score is the median r (V4, IT), accuracy (MNIST), or R@10 in both directions (Flickr8k).
- "Networks kept" is the number of velocity fields, of both directions, in which validation kept the network beside the
  closed form.

{table(heads, rows)}

Two things are required of the flow: the whole interval of the difference of SW is below 0, and the score is at most
.005 lower.
{"Both hold in every cell above." if not missed else f"They do not both hold for {'; '.join(missed)}."}
{f"Not run yet: {', '.join(results['not_run'])}." if results["not_run"] else ""}

![Distances and scores, flow beside barycentric](figures/flow_quality.png)
"""
