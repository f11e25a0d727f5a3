"""No anchors: does geometry alone align two spaces, and does the diagnostic know when it did?

Each case has two views of the same stimuli. Both pools hold the same training stimuli in different
orders, and no pair is known; 75 stimuli are held out. Every view is reduced to its first principal
components on its own pool, for all methods alike.

- MNIST (real): latents of a conv VAE trained on other digits, and MiniLM embeddings of captions
  drawn for each digit.
- Flickr8k (real): MiniLM embeddings of captions and CLIP embeddings of their images, from
  unrelated models.
- CLIP twice (real embeddings, simulated views): CLIP's image embeddings beside a rotated copy with
  noise.
- HvM (simulated): IT sites of two animals; V4 sites and IT sites; the IT sites in two halves of
  the trials.
- clusters (simulated): unequal clusters and a rotated, noisy copy; and unrelated clusters, where
  no partner is true and every method is at chance.

Methods without a pair are `align_unpaired` (entropic with Euclidean and geodesic distances, and
low rank), Gromov-Wasserstein and low-rank Gromov-Wasserstein (POT), and Wasserstein-Procrustes.
With pairs, the fused (from 2) and the factored bridge (from 1) run on up to 20. The ceiling is
ridge on all pairs. The score is the mean share of held-out targets that lie farther from a mapped
point than its true partner (chance 0.5, best 1; ties count half). Where stimuli have classes, it
is also the share of mapped points whose nearest held-out target has their class.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group, rankdata, spearmanr

from neurobridge import figures
from neurobridge.bridge import align_unpaired, bridge_cost, couple, fuse, ridge_map
from neurobridge.bridge.unpaired.align import UntrustedAlignmentWarning
from neurobridge.bridge.unpaired.gromov import inner_distances
from neurobridge.bridge.unpaired.lowrank import match_parts
from neurobridge.bridge.unpaired.trust import LEAST_CYCLE, LEAST_STABILITY, MOST_DISTORTION
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.panels import make_panels, save_panels
from neurobridge.study.tables import format_mean, over_seeds, select_records, table_of_means, verdict

from .parts.no_anchors.spaces import CASES, digests, draw_task, sizes

STARTS: dict[str, dict[str, Any]] = {
    "unpaired": {"metric": "euclidean"},
    "unpaired geodesic": {"metric": "geodesic"},
    "unpaired lowrank": {"solver": "lowrank"},
}
N_ANCHORS = (1, 2, 5, 10, 20)
CEILING = "all pairs"
# Share of the distance from chance to the score of all pairs at which a start counts as worked.
WORKED = 0.5
Map = Callable[[np.ndarray], np.ndarray]


def plan_map(X: np.ndarray, Y: np.ndarray, plan: np.ndarray) -> Map:
    """Fit ridge from the points to their mean partners under a plan, which maps new points too."""
    return ridge_map(X, plan @ Y / plan.sum(axis=1, keepdims=True))


def gromov(X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> Map:
    """Map by the plan of Gromov-Wasserstein."""
    return plan_map(X, Y, ot.gromov.gromov_wasserstein(inner_distances(X), inner_distances(Y), symmetric=True))


def lowrank(X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> Map:
    """Map by the plan of low-rank Gromov-Wasserstein."""
    results = match_parts(X, Y, rng, rank=min(30, len(X) // 4))
    return plan_map(X, Y, (results.left / results.mass) @ results.right.T)


def wasserstein_procrustes(X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> Map:
    """Map by exact transport and orthogonal rotation in turn, the best of five starts.

    Grave, Joulin & Berthet 2019.
    """
    d = min(X.shape[1], Y.shape[1])
    best: tuple[float, np.ndarray] | None = None
    for k in range(5):
        turn = np.eye(d) if k == 0 else ortho_group.rvs(d, random_state=rng)
        for _ in range(20):
            cost = cdist(X[:, :d] @ turn, Y[:, :d], "sqeuclidean")
            plan = ot.emd([], [], cost)
            U, _, Vt = np.linalg.svd(X[:, :d].T @ plan @ Y[:, :d])
            turn = U @ Vt
        if best is None or (plan * cost).sum() < best[0]:
            best = float((plan * cost).sum()), plan
    assert best is not None
    return plan_map(X, Y, best[1])


UNPAIRED: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], Map]] = {
    "GW": gromov, "low-rank GW": lowrank, "Wasserstein-Procrustes": wasserstein_procrustes,
}  # fmt: skip


def methods(run: Run) -> list[tuple[str, int]]:
    """Return the methods with their numbers of pairs."""
    counts = (2,) if run.quick else N_ANCHORS
    starts = ("unpaired",) if run.quick else tuple(STARTS)
    return [
        (CEILING, sizes(run)[0]), *((name, 0) for name in (*starts, *UNPAIRED)),
        *((name, n) for name in ("fused", "factored") for n in counts if name == "factored" or n > 1),
    ]  # fmt: skip


def cells(run: Run) -> list[dict[str, Any]]:
    cases = (CASES[0], CASES[1], CASES[5], CASES[6]) if run.quick else CASES
    return [
        {"seed": seed, "case": case, "method": name, "n_pairs": n}
        for seed in run.seeds
        for case in cases
        for name, n in methods(run)
    ]


def match(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the shares of other targets farther from image i than target j, entry (i, j)."""
    return 1 - (rankdata(cdist(images, truth), axis=1) - 1) / (len(truth) - 1)


def margin(trust: dict[str, Any]) -> float:
    """Return the weakest of the three conditions of the rule in units of its threshold.

    A start is trusted from 1 on.

    The rule asks besides that the distortion lies below that of every surrogate, and the share of mutual nearest neighbours
    above it.
    """
    conditions = [
        (trust[name] - trust[f"{name}_chance"]) / (1 - trust[f"{name}_chance"]) / threshold
        for name, threshold in (("stability", LEAST_STABILITY), ("cycle", LEAST_CYCLE))
    ]
    ratio = MOST_DISTORTION * np.median(trust["null_distortions"]) / max(float(np.median(trust["distortions"])), 1e-12)
    return float(min(*conditions, ratio))


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    task = draw_task(run, cell["case"], cell["seed"])
    rng = np.random.default_rng([cell["seed"], 7])
    known = np.random.default_rng([cell["seed"], 8]).permutation(len(task.source))[: cell["n_pairs"]]
    rows = known, task.partner[known]
    trust: dict[str, Any] | None = None
    name = cell["method"]
    if name in STARTS:
        with warnings.catch_warnings():
            # The verdict is in the table.
            warnings.simplefilter("ignore", UntrustedAlignmentWarning)
            try:
                start = align_unpaired(task.source, task.target, seed=cell["seed"], **STARTS[name])
            except ValueError as error:
                # The low-rank start refuses where it finds no two distinct parts.
                return [{**cell, "refused": str(error)}]
        trust, moved = start.trust.to_dict(), start.map(task.source_test)
    elif name in UNPAIRED:
        moved = UNPAIRED[name](task.source, task.target, rng)(task.source_test)
    elif name == "fused":
        # One candidate: with so few pairs the cross-validation score is mostly chance, and the search is slow.
        one_candidate: dict[str, Any] = {
            "lams": (0.9,), "epsilons": (0.02,), "n_rounds": (5,), "kernel_rounds": (0,), "n_folds": 2,
        }  # fmt: skip
        options = one_candidate if len(known) >= 4 else {}
        moved = fuse(task.source, task.target, rows, seed=cell["seed"], **options).map(task.source_test)
    elif name == "factored":
        plan = couple(bridge_cost(task.source, task.target, rows, metric="geodesic"), epsilon=0.05)
        moved = np.asarray(plan.map(task.source_test, task.target))
    else:
        moved = ridge_map(task.source[rows[0]], task.target[rows[1]])(task.source_test)
    match_table = match(np.asarray(moved), task.target_test)
    match_score = float(np.diag(match_table).mean())
    null = [
        float(match_table[np.arange(len(match_table)), rng.permutation(len(match_table))].mean()) for _ in range(500)
    ]
    agreement, agreement_chance = None, None
    if task.labels_test is not None:
        predicted = task.labels_test[match_table.argmax(axis=1)]
        agreement = float((predicted == task.labels_test).mean())
        agreement_chance = float((predicted[:, None] == task.labels_test[None, :]).mean())
    return [{
        **cell, "match": match_score, "agreement": agreement, "agreement_chance": agreement_chance,
        "null_95": float(np.quantile(null, 0.95)),
        "p": (1 + sum(value >= match_score for value in null)) / 501, "n_test": len(match_table), "n_train": len(task.source),
        "trusted": None if trust is None else bool(trust["trustworthy"]), "margin": None if trust is None else margin(trust),
        "trust": trust and {key: value for key, value in trust.items() if key != "rule"},
    }]  # fmt: skip


def with_quality(records: list[Record]) -> list[Record]:
    """Add to each record its quality and whether it worked.

    Quality is 0 at chance and 1 at the ceiling of its case and seed.
    """
    out = []
    for record in records:
        (all_pairs,) = select_records(records, case=record["case"], seed=record["seed"], method=CEILING)
        reach = all_pairs["match"] - 0.5
        # A case is solvable if ridge on all pairs is above chance.
        is_solvable = all_pairs["p"] < 0.01 and reach > 0.05
        share = (record["match"] - 0.5) / reach if is_solvable else 0.0
        out.append({**record, "share": share, "worked": bool(is_solvable and share >= WORKED and record["p"] < 0.01)})
    return [
        {**r, "label": r["method"] if r["method"] not in ("fused", "factored") else f"{r['method']}, {r['n_pairs']}"}
        for r in out
    ]


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    refused = [r for r in records if "refused" in r]
    runs = with_quality([r for r in records if "refused" not in r])
    n_test, n_train = records[0]["n_test"], records[0]["n_train"]
    seeds = f"{over_seeds(run.seeds)}; {n_train} training and {n_test} held-out stimuli"
    cases = list(dict.fromkeys(r["case"] for r in runs))
    chance = [f"{np.mean([r['null_95'] for r in select_records(runs, case=case)]):.3f}" for case in sorted(cases)]
    tables = [
        table_of_means(
            f"Share of held-out targets farther than the true partner, by method (with its pairs) and case; chance .5; {seeds}",
            runs, "match", rows="label", columns="case", extra={"chance, 95 % quantile": chance},
        )
    ]  # fmt: skip
    classed = [r for r in runs if r["agreement"] is not None]
    if classed:
        chance = [
            format_mean([r["agreement_chance"] for r in select_records(classed, case=c)])
            for c in sorted({r["case"] for r in classed})
        ]
        tables.append(
            table_of_means(f"Share whose nearest held-out target is of the same class; {seeds}", classed, "agreement", rows="label",
                  columns="case", extra={"chance, permuted": chance})
        )  # fmt: skip
    starts = [r for r in runs if r["trusted"] is not None]
    counts = {(t, w): len(select_records(starts, trusted=t, worked=w)) for t in (True, False) for w in (True, False)}
    tables.append({
        "title": f"Diagnostic beside truth, {len(starts)} unpaired starts (worked: p < .01, half way from chance to all pairs)",
        "columns": ["", "worked", "did not"],
        "rows": [[name, counts[t, True], counts[t, False]] for name, t in (("trusted", True), ("not trusted", False))],
    })  # fmt: skip
    tables.append({
        "title": "Every unpaired start: the verdict beside the truth",
        "columns": ["run", "match", "share of the way", "margin", "trusted", "worked"],
        "rows": [
            [f"{r['case']}, {r['method']}, seed {r['seed']}", f"{r['match']:.3f}", f"{r['share']:.2f}", f"{r['margin']:.2f}",
             "yes" if r["trusted"] else "no", "yes" if r["worked"] else "no"]
            for r in starts
        ],
    })  # fmt: skip
    rho, p = rank_correlation_above([r["margin"] for r in starts], [r["share"] for r in starts], run.seed)
    margin_by_case = {c: float(np.mean([r["margin"] for r in select_records(starts, case=c)])) for c in cases}
    share_by_case = {c: float(np.mean([r["share"] for r in select_records(starts, case=c)])) for c in cases}
    worked_text = {
        c: f"{sum(r['worked'] for r in select_records(starts, case=c))} of {len(select_records(starts, case=c))}"
        for c in cases
    }
    _draw(run, runs, starts, cases, f"Spearman {rho:.2f}, p = {p:.4f}, n = {len(starts)}")
    real_cases = [c for c in cases if c.startswith(("MNIST", "Flickr"))]
    solved = [any(r["worked"] for r in select_records(starts, case=c)) for c in real_cases]
    trusted = counts[True, True] + counts[True, False]
    case_text = "; ".join(
        f"{c}: {worked_text[c]} worked (mean {share_by_case[c]:.2f} of the way to all pairs)" for c in cases
    )
    claims = [
        {
            "claim": "Different representations of the same things can be aligned without any pair",
            "verdict": verdict(sum(solved), len(solved), part=0),
            "evidence": f"real unrelated models ({', '.join(real_cases)}) with any, some or no unpaired start "
            f"that worked; {case_text}",
        },
        {
            "claim": "The diagnostic tells when an alignment without pairs worked",
            "verdict": (
                "does not hold here" if p >= 0.05 or counts[True, False] > counts[True, True]
                else "holds" if counts[True, False] == 0 and counts[False, True] == 0
                else "holds in part"
            ),
            "evidence": f"trusted and worked {counts[True, True]}, trusted and did not {counts[True, False]}, not "
            f"trusted but worked {counts[False, True]}, neither {counts[False, False]}; rank correlation of margin "
            f"and quality {rho:.2f} (p = {p:.4f}, n = {len(starts)} runs of {len(cases)} cases, runs of one case are "
            f"not independent; over the {len(cases)} case means "
            f"{spearmanr(list(margin_by_case.values()), list(share_by_case.values())).statistic:.2f}). Holds: no run "
            "on the wrong side; in part: p < .05 and trusted runs mostly worked",
        },
    ]  # fmt: skip
    answer = (
        f"Unpaired starts worked in {sum(r['worked'] for r in starts)} of {len(starts)} runs: {case_text}. The "
        f"diagnostic trusted {trusted}, of which {counts[True, True]} had worked, and doubted {counts[False, True]} "
        f"that had; its margin and the true quality have a rank correlation of {rho:.2f} (p = {p:.4f}, n = "
        f"{len(starts)})."
    )
    note = (
        "MNIST and Flickr8k are real. HvM and the clusters are SIMULATED, and the turned views are simulated from real "
        f"embeddings. {n_train} stimuli are in both pools, in unknown order, and {n_test} are held out; a pool is reduced to at "
        f"most {sizes(run)[2]} principal components. Pools that hold the same stimuli favour methods without pairs; disjoint pools "
        "were not run. From 5 pairs on the fused bridge uses one candidate in place of its search (lam .9, epsilon .02, five "
        f"rounds), below 4 its default. {len(refused)} unpaired starts found no two distinct parts and are in no table: "
        + (", ".join(f"{r['case']} {r['method']} seed {r['seed']}" for r in refused) or "none")
        + "."
    )
    shown = [{
        "file": "no_anchors.png",
        "caption": f"Left: quality by method and case, 0 is chance and 1 is ridge on all pairs; right: margin of the diagnostic "
        f"against quality, {len(starts)} unpaired starts. HvM and clusters are simulated.",
    }]  # fmt: skip
    return {
        "note": note, "answer": answer, "tables": tables, "claims": claims, "figures": shown, "counts_2x2": {
            "trusted_worked": counts[True, True], "trusted_failed": counts[True, False],
            "doubted_worked": counts[False, True], "doubted_failed": counts[False, False],
        }, "digests": digests(run),
    }  # fmt: skip


def rank_correlation_above(
    x: list[float], y: list[float], seed: int, n_permutations: int = 2000
) -> tuple[float, float]:
    """Return Spearman's rho and its one-sided permutation p."""
    rng = np.random.default_rng(seed)
    rho = float(spearmanr(x, y).statistic)
    x_ranks, y_ranks = rankdata(x), rankdata(y)
    null = [float(np.corrcoef(x_ranks, rng.permutation(y_ranks))[0, 1]) for _ in range(n_permutations)]
    return rho, (1 + sum(value >= rho for value in null)) / (n_permutations + 1)


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _draw(run: Run, runs: list[Record], starts: list[Record], cases: list[str], correlation_text: str) -> None:
    """Draw quality by method and case, and the margin against quality."""
    figure, axes = make_panels(2, width=7.0, height=5.4)
    labels = list(dict.fromkeys(r["label"] for r in runs))
    for k, case in enumerate(cases):
        shade = {"color": str(0.75 * k / max(1, len(cases) - 1)), "marker": MARKERS[k], "linestyle": "none"}
        means = [
            np.mean([r["share"] for r in select_records(runs, case=case, label=label)] or [np.nan]) for label in labels
        ]
        axes[0].plot(means, np.arange(len(labels)) + 0.5 * k / len(cases) - 0.25, markersize=6, label=case, **shade)
        group = select_records(starts, case=case)
        for worked in (True, False):
            part = select_records(group, worked=worked)
            axes[1].plot(
                [r["margin"] for r in part], [r["share"] for r in part], markersize=7,
                fillstyle="full" if worked else "none", **shade,
            )  # fmt: skip
    axes[0].set_yticks(range(len(labels)), labels=labels)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("quality: 0 chance, 1 ridge on all pairs (ceiling)")
    axes[0].axvline(0, label="chance", **figures.CHANCE)
    axes[0].axvline(1, label="ceiling", **figures.CEILING)
    axes[0].set_title("by method, with its number of pairs", fontsize="medium")
    axes[1].axvline(1, color="black", linestyle="-.", linewidth=1, label="trusted from here (margin 1)")
    axes[1].axhline(WORKED, color="0.3", linestyle=(0, (1, 3)), linewidth=1, label="worked from here")
    axes[1].axhline(0, **figures.CHANCE)
    axes[1].axhline(1, **figures.CEILING)
    axes[1].set_xlabel("margin of the diagnostic (weakest condition, in units of its threshold)")
    axes[1].set_ylabel("quality of the unpaired start")
    axes[1].set_title(f"{correlation_text}; filled: worked", fontsize="medium")
    pairs_of = [ax.get_legend_handles_labels() for ax in axes]
    figure.legend([h for hs, _ in pairs_of for h in hs], [n for _, ns in pairs_of for n in ns],
                  loc="outside upper center", ncols=3, fontsize="small", frameon=False)  # fmt: skip
    caption = (
        f"MNIST, Flickr8k real; HvM and clusters simulated; {runs[0]['n_train']} training, {runs[0]['n_test']} held-out stimuli; "
        f"seeds {run.seeds.start}-{run.seeds.stop - 1}"
    )
    save_panels(figure, run, "no_anchors", caption)


STUDY = Study(
    "no_anchors",
    "Alignment without pairs: real MNIST and Flickr8k, simulated HvM and clusters",
    cells,
    compute,
    finish,
    n_seeds=2,
    extras=("text",),
)

if __name__ == "__main__":
    main(STUDY)
