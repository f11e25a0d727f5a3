"""Tables, claims and figures of alignment without a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from neurobridge import figures
from neurobridge.figures.styles import PALETTE
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import error_bars, make_panels, save_panels
from neurobridge.study.tables import format_value, over_seeds, select_records, table_of_means, verdict

from ..paired import difference_table, mean_of, negative_first, paired_differences, seeds_of, tally
from .methods import CEILINGS, FEW, GW, GW_TRAINED, LOW_RANK, UNPAIRED, WITHOUT
from .spaces import DIGITS

#: Share of points, beyond chance, in the right neighbourhood from which on an alignment counts as worked.
WORKED = 0.5
# Loss of the chosen start to the best one that is none.
_CLOSE = 0.02
BEST_OF_ALL = "all pairs (ceiling)"
SHOWN = (UNPAIRED, GW, GW_TRAINED, LOW_RANK, FEW)
JUDGED = "partner among the first ten (digits: the first)"


def summary(run: Run, records: list[Record]) -> dict[str, Any]:
    """Return the answer, tables, claims and figures of all records."""
    rows = judged(records)
    starts, of_gw = (select_records(rows, method=method) for method in (UNPAIRED, GW))
    related = select_records(rows, related=True)
    gains = paired_differences(related, "hit", UNPAIRED, [name for name in WITHOUT if name != UNPAIRED], ("set",))
    seeds = over_seeds(run.seeds)
    tables = [
        table_of_means(f"{title}, by set; {seeds}", rows, value, rows="set", columns="method")
        for value, title in (
            ("top 1", "Share of points whose partner is the most similar target (digits: any of the digit)"),
            ("top 5", "Share of points whose partner is among the five most similar targets"),
            ("top 10", "Share of points whose partner is among the ten most similar targets"),
            ("right", "Share, beyond chance, with the most similar target in the neighbourhood of the partner"),
            ("seconds", "Processor seconds"),
        )
    ]
    tables += [chance_table(starts), reliability_table(starts), verdict_table(starts), choice_table(of_gw)]
    rule = f"paired by seed; * p < .05, t test, Holm over {len(gains)} comparisons"
    title = f"{UNPAIRED} less each other method without a pair, {JUDGED}; {rule}"
    tables.append(difference_table(title, gains, rows="set", columns="rival"))
    return {
        "answer": "Quick." if run.quick else answer_of(related, starts), "tables": tables,
        "claims": [] if run.quick else negative_first(claims_of(related, starts, of_gw, gains)),
        "figures": [matches_figure(run, rows), trust_figure(run, starts), restarts_figure(run, of_gw)],
    }  # fmt: skip


def judged(records: list[Record]) -> list[Record]:
    """Add the shares by name, the share that is judged with its chance, and whether the alignment worked."""
    return [
        {
            **r, **{f"top {k}": share for k, share in r["top"].items()}, "hit": r["top"][str(r["main"])],
            "hit_null_95": r["null_95"][str(r["main"])], "worked": bool(r["p"] < 0.01 and r["right"] >= WORKED),
        }
        for r in records
    ]  # fmt: skip


def chance_table(starts: list[Record]) -> dict[str, Any]:
    """Tabulate what permuted partners give."""
    rows = []
    for name in dict.fromkeys(r["set"] for r in starts):
        group = select_records(starts, set=name)
        shares = [f"{np.mean([r['null_95'][k] for r in group]):.3f}" for k in ("1", "5", "10")]
        rows.append([name, str(group[0]["n_test"]), *shares])
    title = "Chance: 95 % quantile of permuted partners, mean over seeds"
    return {"title": title, "columns": ["set", "points", "top 1", "top 5", "top 10"], "rows": rows}


def reliability_table(starts: list[Record]) -> dict[str, Any]:
    """Tabulate how much is right of what is trusted, and of what is not."""
    rows = []
    for name, trusted, related in (
        ("trusted, with partners", True, True), ("trusted, without partners", True, False),
        ("not trusted, with partners", False, True), ("not trusted, without partners", False, False),
    ):  # fmt: skip
        group = select_records(starts, trusted=trusted, related=related)
        means = [_mean(group, key) for key in ("expected", "right", "hit", "anchors_right")]
        least = min((r["right"] for r in group), default=None)
        cells = [format_value(value, 2) for value in (means[0], means[1], least, means[2], means[3])]
        rows.append([name, str(len(group)), str(sum(r["worked"] for r in group)), *cells])
    columns = ["verdict", "starts", "worked", "expected", "right", "least right", JUDGED, "anchors right"]
    return {"title": "Reliability of the verdict: means over starts", "columns": columns, "rows": rows}


def verdict_table(starts: list[Record]) -> dict[str, Any]:
    """Tabulate every start without a pair."""
    return {
        "title": "Every start: the verdict beside the truth, and the conditions of the verdict that failed",
        "columns": ["start", "expected", "right", JUDGED, "anchors right", "trusted", "worked", "failed conditions"],
        "rows": [
            [
                f"{r['set']}, seed {r['seed']}", f"{r['expected']:.2f}", f"{r['right']:.2f}", f"{r['hit']:.3f}",
                f"{r['anchors_right']:.2f}", *("yes" if r[key] else "no" for key in ("trusted", "worked")),
                "; ".join(r["reasons"]) or "none",
            ]
            for r in starts
        ],
    }  # fmt: skip


def choice_table(of_gw: list[Record]) -> dict[str, Any]:
    """Tabulate what the least distance chose among the entropic starts."""
    rows = []
    for r in of_gw:
        best = max(r["trials"], key=lambda trial: trial["top"], default=None)
        chosen = min(r["trials"], key=lambda trial: trial["distance"], default=None)
        if best is None or chosen is None:
            rows.append([f"{r['set']}, seed {r['seed']}", f"0 of {r['n_trials']}", *["n/a"] * 6])
            continue
        rows.append([
            f"{r['set']}, seed {r['seed']}", f"{len(r['trials'])} of {r['n_trials']}", f"{chosen['epsilon']:.4f}",
            f"{chosen['distance']:.3f}", f"{chosen['top']:.3f}", f"{best['top']:.3f}", f"{best['epsilon']:.4f}",
            format_value(rank_correlation(r["trials"]), 2),
        ])  # fmt: skip
    return {
        "title": "Entropic starts: distance of the chosen plan (1: independent plan), and its matches beside the best start's",
        "columns": ["set", "solved", "epsilon", "distance", JUDGED, "best start", "its epsilon", "rho"], "rows": rows,
    }  # fmt: skip


def rank_correlation(trials: list[dict[str, float]]) -> float:
    """Return Spearman's correlation of nearness (the negative distance) and matches; NaN if it is not defined."""
    near, matches = [-trial["distance"] for trial in trials], [trial["top"] for trial in trials]
    varies = len(trials) > 2 and np.ptp(near) > 0 and np.ptp(matches) > 0
    return float(spearmanr(near, matches).statistic) if varies else float("nan")


def claims_of(
    related: list[Record], starts: list[Record], of_gw: list[Record], gains: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Return the claims with their verdicts and evidence."""
    names = list(dict.fromkeys(r["set"] for r in related))
    any_worked = {name: [r["worked"] for r in select_records(starts, set=name)] for name in names}
    solved = sum(all(values) for values in any_worked.values())
    trusted, doubted = (select_records(starts, trusted=value) for value in (True, False))
    right = [r for r in starts if r["worked"]]
    recognised = select_records(right, trusted=True)
    better = [each for each in gains if each["rival"] == GW]
    n_level = sum(each["mean"] >= 0 for each in better)
    losses = [
        max(t["top"] for t in r["trials"]) - min(r["trials"], key=lambda t: t["distance"])["top"]
        for r in of_gw
        if r["related"] and r["trials"]
    ]
    nearest = sorted(
        (min(t["distance"] for t in r["trials"]), r["set"], r["related"]) for r in of_gw if r["trials"]
    )  # fmt: skip
    first_control = next((k for k, (_, _, partner) in enumerate(nearest) if not partner), len(nearest))
    below = [name for _, name, partner in nearest[first_control:] if partner]
    without = {name: max(mean_of(related, "hit", set=name, method=m) for m in SHOWN[:4]) for name in names}
    with_few = {name: mean_of(related, "hit", set=name, method=FEW) for name in names}
    gained = [name for name in names if with_few[name] > without[name]]
    doubtful = f"{len(doubted)} starts not trusted, of which {sum(r['worked'] for r in doubted)} had worked"
    return [
        {
            "claim": "Two spaces that show the same things can be aligned without any pair",
            "verdict": verdict(solved, len(names), part=0),
            "evidence": f"`align_unpaired` worked with every seed in {solved} of {len(names)} sets: "
            + "; ".join(f"{name}: {sum(v)} of {len(v)}" for name, v in any_worked.items())
            + f". Rule: in all sets holds, in any in part. Worked: {WORKED:g} of the points, beyond chance, in the neighbourhood "
            "of their partner, p < .01. Figure: no_pair.png",
        },
        {
            "claim": "What the verdict trusts is right",
            "verdict": verdict(sum(r["worked"] for r in trusted), len(trusted)),
            "evidence": f"of {len(trusted)} trusted starts {sum(r['worked'] for r in trusted)} had worked (right on average "
            f"{_mean(trusted, 'right'):.2f}, least {min([r['right'] for r in trusted], default=float('nan')):.2f}; expected "
            f"{_mean(trusted, 'expected'):.2f}); of {len(select_records(starts, related=False))} starts of controls "
            f"{len(select_records(trusted, related=False))} were trusted. Rule: all holds, half in part. Figure: trust.png",
        },
        {
            "claim": "The verdict knows every alignment that worked",
            "verdict": verdict(len(recognised), len(right)),
            "evidence": f"of {len(right)} starts that had worked {len(recognised)} were trusted; {doubtful} (right on average "
            f"{_mean(select_records(doubted, related=True), 'right'):.2f} where there are partners, "
            f"{_mean(select_records(doubted, related=False), 'right'):.2f} in controls). Rule: all holds, half in part. Figure: "
            "trust.png",
        },
        {
            "claim": "`align_unpaired` finds partners at least as well as entropic Gromov-Wasserstein with restarts (GWTune)",
            "verdict": verdict(n_level, len(better)),
            "evidence": f"{JUDGED}, mean at least as high in {n_level} of {len(better)} sets: {tally(better)}; "
            + "; ".join(
                f"{name}: {mean_of(related, 'hit', set=name, method=UNPAIRED):.3f} and "
                f"{mean_of(related, 'hit', set=name, method=GW):.3f} (processor seconds "
                f"{mean_of(related, 'seconds', set=name, method=UNPAIRED):.0f} and "
                f"{mean_of(related, 'seconds', set=name, method=GW):.0f})"
                for name in names
            )
            + ". Rule: all sets holds, half in part. Figure: no_pair.png",
        },
        {
            "claim": "Among entropic starts the least distance picks one of the best",
            "verdict": verdict(sum(loss <= _CLOSE for loss in losses), len(losses)),
            "evidence": f"within {_CLOSE:g} of the best start's matches in {sum(loss <= _CLOSE for loss in losses)} of "
            f"{len(losses)} draws; loss {np.median(losses):.3f} at the median, {max(losses):.3f} at most. Rule: all holds, half "
            "in part. Figure: restarts.png",
        },
        {
            "claim": "The distance itself tells partners from none: controls are farther than every set with partners",
            "verdict": "holds" if not below else "holds in part" if len(set(below)) < len(names) / 2 else "does not hold here",
            "evidence": (
                f"the nearest control, {nearest[first_control][1]}, has a distance of {nearest[first_control][0]:.3f} of that of "
                f"the independent plan; farther than it are draws of {', '.join(dict.fromkeys(below)) or 'no set with partners'}"
                if first_control < len(nearest)
                else "no control was solved"
            )
            + ". Rule: none holds, of fewer than half of the sets in part. Figure: restarts.png",
        },
        {
            "claim": "20 pairs are worth more than no pair",
            "verdict": verdict(len(gained), len(names)),
            "evidence": f"{JUDGED}, rotation trained on 20 pairs beside the best method without a pair, picked afterwards, which "
            "favours the latter: "
            + "; ".join(f"{name}: {with_few[name]:.3f} and {without[name]:.3f}" for name in names)
            + ". Rule: more in all sets holds, in half in part. Figure: no_pair.png",
        },
    ]  # fmt: skip


def _mean(records: list[Record], value: str) -> float:
    return float(np.mean([r[value] for r in records])) if records else float("nan")


def answer_of(related: list[Record], starts: list[Record]) -> str:
    """Return the main numbers in words."""
    parts = []
    for name in dict.fromkeys(r["set"] for r in related):
        shares = [mean_of(related, "top 1", set=name, method=m) for m in (UNPAIRED, GW, GW_TRAINED, FEW)]
        group = select_records(starts, set=name)
        parts.append(
            f"{name}: {shares[0]:.2f}, {shares[1]:.2f}, {shares[2]:.2f}, {shares[3]:.2f} "
            f"(ceiling {ceiling(related, name, 'top 1'):.2f}; trusted {sum(r['trusted'] for r in group)} of {len(group)})"
        )
    controls = select_records(starts, related=False)
    return (
        "Share of points whose most similar target is the partner (digits: shows the digit), without a pair by "
        "`align_unpaired`, by entropic GW with restarts and by a rotation trained from its plan, and with 20 pairs: "
        f"{'; '.join(parts)}. Controls: {sum(r['trusted'] for r in controls)} of {len(controls)} trusted."
    )


def ceiling(records: list[Record], name: str, value: str) -> float:
    """Return the better of the two maps of all pairs of a set; NaN where there is none."""
    means = [mean_of(records, value, set=name, method=method) for method in CEILINGS]
    return max(means) if np.isfinite(means).all() else float("nan")


def matches_figure(run: Run, rows: list[Record]) -> dict[str, str]:
    """Draw how many points find their partner, a row a set: the first, and among the first ten."""
    names = list(dict.fromkeys(r["set"] for r in rows))
    styles = figures.styles_of(SHOWN)
    styles[LOW_RANK]["marker"] = "x"
    figure, axes = make_panels(2, 5.6, 0.45 * len(names) + 1.6)
    for ax, value in zip(axes, ("top 1", "hit"), strict=True):
        for k, method in enumerate(SHOWN):
            of_method = select_records(rows, method=method)
            shown = [name for name in names if select_records(of_method, set=name)]
            values = [[r[value] for r in select_records(of_method, set=name)] for name in shown]
            places = [names.index(name) + 0.12 * (k - len(SHOWN) // 2) for name in shown]
            look = {**styles[method], "linestyle": "none", "markersize": 5.5, "capsize": 2, "label": method}
            ax.errorbar([np.mean(v) for v in values], places, xerr=error_bars(values), **look)
        for place, name in enumerate(names):
            group = select_records(rows, set=name, method=UNPAIRED)
            key = "1" if value == "top 1" else str(group[0]["main"])
            null, top = float(np.mean([r["null_95"][key] for r in group])), ceiling(rows, name, value)
            for x, look, label in ((null, figures.CHANCE, "chance (95th pct.)"), (top, figures.CEILING, BEST_OF_ALL)):
                ax.plot(
                    [x, x],
                    [place - 0.42, place + 0.42],
                    **{**look, "linewidth": 1.4},
                    label=label if place == 0 else None,
                )
        ax.set_yticks(range(len(names)), labels=names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(-0.02, 1.02)
        ax.grid(axis="y", color="0.93")
        ax.set_axisbelow(True)
    axes[1].set_yticklabels([])
    axes[0].set(xlabel="share of points", title="partner is the most similar target")
    axes[1].set(xlabel="share of points", title=JUDGED)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize="small", frameon=False)
    n_points = sorted({r["n"] for r in rows})
    text = (
        f"Real data, {' or '.join(f'{n:,}' for n in n_points)} points a cloud; {seeds_of(run)}. {DIGITS}: any of the digit "
        "is a partner. Controls have none"
    )
    return save_panels(figure, run, "no_pair", text)


def trust_figure(run: Run, starts: list[Record]) -> dict[str, str]:
    """Draw what is right over what the verdict expects, a mark a start."""
    figure, (ax,) = make_panels(1, 7.6, 4.6)
    names = list(dict.fromkeys(r["set"] for r in starts))
    styles = figures.styles_of(names)
    for name in names:
        for trusted in (True, False):
            group = select_records(starts, set=name, trusted=trusted)
            look = {**styles[name], "linestyle": "none", "markersize": 7}
            if not group or not group[0]["related"]:
                look |= {"marker": "x" if "mouse" in name else "+", "markeredgewidth": 1.6}
            look["markerfacecolor"] = look["color"] if trusted else "none"
            label = f"{name}: {len(select_records(starts, set=name, trusted=True))} of {len(select_records(starts, set=name))}"
            shown = label if group and (trusted or not select_records(starts, set=name, trusted=True)) else None
            ax.plot([r["expected"] for r in group], [r["right"] for r in group], **look, label=shown)
    ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, label="as expected")
    ax.axhline(WORKED, color=PALETTE["relative"], linestyle=(0, (1, 3)), linewidth=1, label="worked from here")
    ax.axhline(0, **figures.CHANCE, label="chance")
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.08, 1.05))
    ax.set_xlabel("expected by the verdict, which sees no partner")
    ax.set_ylabel("share in the right neighbourhood,\nbeyond chance")
    figures.legend_beside(ax, title="set: trusted starts (filled)")
    text = f"`align_unpaired` on real data, {len(starts)} starts; seeds {run.seeds.start}-{run.seeds.stop - 1}"
    return save_panels(figure, run, "trust", text)


def restarts_figure(run: Run, of_gw: list[Record]) -> dict[str, str]:
    """Draw matches over the distance of each entropic start; the chosen one is filled."""
    names = list(dict.fromkeys(r["set"] for r in of_gw))
    figure, axes = make_panels(len(names), 3.0, 2.7, columns=min(5, len(names)))
    for ax, name in zip(axes, names, strict=True):
        group = select_records(of_gw, set=name)
        for k, r in enumerate(group):
            look = {"color": list(PALETTE.values())[(3, 6, 7)[k % 3]], "marker": "os^"[k % 3], "linestyle": "none"}
            trials = sorted(r["trials"], key=lambda trial: trial["distance"])
            for part, fill in ((trials[1:], "none"), (trials[:1], "full")):
                ax.plot(
                    [t["distance"] for t in part], [t["top"] for t in part], fillstyle=fill,
                    markersize=5 if fill == "none" else 8, **look,
                )  # fmt: skip
        ax.axhline(float(np.mean([r["hit_null_95"] for r in group])), **figures.CHANCE)
        failed = sum(r["n_failed"] for r in group)
        head = name.replace(", ", ",\n", 1).replace(" (control)", "\n(control)")
        ax.set_title(f"{head}\n{failed} of {sum(r['n_trials'] for r in group)} starts failed", fontsize="x-small")
        ax.set(xlim=(0, 1.05), ylim=(-0.03, 1.03))
        ax.tick_params(labelsize="small")
    figure.supylabel("share of points with the partner among the first ten\n(digits: the first)", fontsize="small")
    text = (
        "Entropic GW: distance as a share of that of the independent plan. Filled: the start of least distance, which is "
        f"taken; dashed: chance (95th pct.); colours: seeds {run.seeds.start}-{run.seeds.stop - 1}"
    )
    return save_panels(figure, run, "restarts", text)
