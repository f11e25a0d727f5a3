"""Bridge predictivity: held-out responses from the transported model space, by known pairs.

The model side is transported into the recordings' space (frozen Gabor energies of the images; the
generative latents where images are not public) and correlated, site by site, with the responses to
stimuli that no method saw. All methods get the same pairs, the same pools of unpaired stimuli
(each stimulus in one pool only) and the same held-out stimuli; none has a setting that depends on
the number of pairs. Records are kept as they come, and a second run goes on from them.

    python analyses/bridge_predictivity.py --mirror DIR [--seeds 5] [--dataset NAME ...] [--flow] [--quick] [--json]
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import typer
import xarray as xr

import neurobridge
from analyses.parts.script import one_of, run_script
from neurobridge import figures
from neurobridge.aligners import BASELINES, AssemblyAligner
from neurobridge.bridge import fuse
from neurobridge.evaluate import CurveSettings, aggregate, curve_dataset, curve_records
from neurobridge.evaluate.curves.folds import N_PAIRS
from neurobridge.evaluate.curves.learning import interval
from neurobridge.evaluate.score.schema import score_attrs
from neurobridge.flow import Training
from neurobridge.store.atomic import write_text
from neurobridge.study.demo.task import DATASETS, prepare
from neurobridge.study.methods import make_aligner

mpl.use("Agg")
from matplotlib import pyplot as plt

HELD_OUT, N_PERMUTATIONS = 0.2, 200
# With fewer draws the t interval is wider than any correlation.
LEAST_DRAWS = 4


class ForwardFused(AssemblyAligner):
    """Forward half of ``BridgeAligner(coupling="fused", map="barycentric")``.

    It gives the same numbers in half the time.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        self.fused_ = fuse(X, Y, rows, metric="geodesic", seed=self.seed)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.fused_.map(X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        raise NotImplementedError("found a request for the way back; expected transform alone. Mend: BridgeAligner.")


def compared_aligners(flow: bool) -> dict[str, AssemblyAligner]:
    """Make the bridge's maps, of which the fused is forward only, and every baseline."""
    names = ("bridge", *BASELINES)
    aligners: dict[str, AssemblyAligner] = {"fused": ForwardFused(), **{name: make_aligner(name) for name in names}}
    if flow:
        # As in the demo: a few hundred points train no wide network.
        options = {"training": Training(n_steps=250, width=128, depth=2)}
        aligners["fused-flow"] = make_aligner("fused-flow", flow_options=options)
    return aligners


def compare(curve: xr.Dataset, reference: str = "fused") -> list[dict[str, Any]]:
    """Compare a reference method's area with every other's, paired over seeds."""
    reference_auc = curve["auc"].sel(aligner=reference).values
    rows = []
    for name in curve["aligner"].values:
        if name != reference:
            difference = reference_auc - curve["auc"].sel(aligner=name).values
            half = float(interval(difference))
            row = {"aligner": str(name), "fused_minus_it": float(difference.mean())}
            rows.append({**row, "ci95": half if np.isfinite(half) else None})
    return rows


def summary(curve: xr.Dataset) -> dict[str, Any]:
    """Summarise one dataset's curves in plain numbers."""
    ceiling = float(curve["ceiling"])
    out: dict[str, Any] = {
        "ceiling_r": ceiling if np.isfinite(ceiling) else None,
        "null_95": chance(curve),
        "n_stimuli_held_out": int(curve.attrs["n_stimuli"]),
        "n_seeds": int(curve.sizes["seed"]),
        "auc_differences": compare(curve),
        "aligners": {},
    }
    for name in curve["aligner"].values:
        aligner_curve = curve.sel(aligner=name)
        out["aligners"][str(name)] = {
            **{key: rounded(aligner_curve[key].values) for key in ("mean", "low", "high")},
            "auc": rounded(aligner_curve["auc_mean"].item()),
            "auc_ci95": rounded([aligner_curve["auc_low"].item(), aligner_curve["auc_high"].item()]),
            "largest_p_value": float(aligner_curve["p_value"].max()),
            "seconds": rounded(aligner_curve["seconds"].mean("seed").values),
        }
    return out


def chance(curve: xr.Dataset) -> float:
    """Return the largest 95 % quantile of the nulls of the cells."""
    return float(curve.attrs.get("null_95", aggregate(curve, n_bootstrap=0)["null_95"].max()))


def curve_of(entry: dict[str, Any]) -> xr.Dataset:
    """Rebuild the curves from a dataset's records.

    The file does not keep their nulls, but their quantiles.
    """
    settings = CurveSettings(
        n_pairs=entry["n_pairs"], n_seeds=entry["n_seeds"], held_out=HELD_OUT, n_permutations=N_PERMUTATIONS
    )
    curve = curve_dataset(entry["records"], entry["aligners"], settings)
    cells = {(m, n, s) for m in entry["aligners"] for n in entry["n_pairs"] for s in settings.seeds}
    curve.attrs["null_95"] = max(
        r["null_95"] for r in entry["records"] if (r["aligner"], r["n_pairs"], r["seed"]) in cells
    )
    curve["ceiling"] = np.nan if entry["ceiling_r"] is None else entry["ceiling_r"]
    return curve


def title_of(name: str, entry: dict[str, Any]) -> str:
    """Title a panel with its data, and the word SIMULATED where they are."""
    word = "SIMULATED" if entry["kind"] == "simulated" else "real"
    return f"{name} ({word}), {entry['n_seeds']} draw(s):\n{entry['n_model_dimensions']} dimensions to {entry['n_sites']} sites"


def rounded(value: Any) -> Any:
    """Round to four digits; None for NaN."""
    array = np.round(np.asarray(value, dtype=np.float64), 4)
    return (
        [None if np.isnan(v) else float(v) for v in array]
        if array.ndim
        else (None if np.isnan(array) else float(array))
    )


def draw(curves: Mapping[str, tuple[str, xr.Dataset]], path: Path) -> None:
    """Draw a panel for each dataset: methods with intervals, chance and ceiling."""
    figure, axes = plt.subplots(1, len(curves), figsize=(7.2 * len(curves), 4.6), squeeze=False, layout="constrained")
    for ax, (title, curve) in zip(axes[0], curves.values(), strict=True):
        order = np.argsort(-curve["auc_mean"].values)
        # The line is the mean of what it is given, the bar its range: the interval, or with few draws the draws themselves.
        wide = curve.sizes["seed"] < LEAST_DRAWS
        shown = curve["raw"].values if wide else np.moveaxis(curve[["low", "mean", "high"]].to_array().values, 0, -1)
        counts = curve["n_pairs"].values
        # Lines are shifted a little, so that bars do not hide one another.
        lines = {
            str(curve["aligner"].values[k]): (counts * 1.025 ** (position - len(order) / 2), shown[k])
            for position, k in enumerate(order)
        }
        figures.learning_curve(
            lines, ax=ax, null=chance(curve), ceiling=float(curve["ceiling"]), title=title,
        )  # fmt: skip
        ax.set_xticks(counts, labels=[str(n) for n in counts])
        areas = dict(zip(map(str, curve["aligner"].values), curve["auc_mean"].values, strict=True))
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(
            handles, [f"{label}  {areas[label]:.3f}" if label in areas else label for label in labels],
            title="method, area under the curve", fontsize=8, title_fontsize=8, frameon=False, loc="upper left",
            bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0,
        )  # fmt: skip
        ax.set_ylabel("median r over sites, held-out stimuli")
        ax.spines[["top", "right"]].set_visible(False)
    n_held_out = ", ".join(str(curve.attrs["n_stimuli"]) for _, curve in curves.values())
    figure.supxlabel(
        f"n = {n_held_out} held-out stimuli a draw; unpaired stimuli in one space only. Line: mean over draws of "
        "pairs and held-out stimuli;\nbar: its 95 % t interval, or the range of the draws where they are fewer than "
        f"{LEAST_DRAWS}",
        fontsize=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def load(path: Path) -> dict[str, Any]:
    """Read the results of earlier runs, or make an empty set."""
    return json.loads(path.read_text()) if path.exists() else {"datasets": {}}


def save(result: dict[str, Any], path: Path) -> None:
    """Write the results, whole or not at all."""
    write_text(path, json.dumps(result, indent=1, sort_keys=True) + "\n")


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real data files.")] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option("--dataset", callback=one_of(DATASETS), help="May be repeated; all by default."),
    ] = None,
    n_seeds: Annotated[int, typer.Option("--seeds")] = 5,
    flow: Annotated[bool, typer.Option("--flow", help="The trained flow as well (adds half a minute a cell).")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two draws, 10 and 100 pairs, into results/ unless told otherwise.")
    ] = False,
    out_file: Annotated[Path | None, typer.Option("--out", help="JSON of records and summary.")] = None,
    figure_file: Annotated[Path | None, typer.Option("--figure")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    chosen = datasets or list(DATASETS)
    out = out_file or Path("results" if quick else "docs/results") / "bridge_predictivity.json"
    figure_path = figure_file or Path("results" if quick else "docs/figures") / "bridge_predictivity.png"
    n_pairs, n_draws = ((10, 100), 2) if quick else (N_PAIRS, n_seeds)
    result = load(out)
    result["neurobridge"] = neurobridge.__version__
    compared = compared_aligners(flow)
    for name in chosen:
        task = prepare(name, mirror=mirror)
        entry = result["datasets"].setdefault(name, {"records": []})
        entry["kind"], entry["model_side"] = task.experiment.kind, task.model_name
        entry["n_sites"], entry["n_model_dimensions"] = task.brain.sizes["neuroid"], task.model.sizes["neuroid"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            settings = CurveSettings(n_pairs=n_pairs, n_seeds=n_draws, held_out=HELD_OUT, n_permutations=N_PERMUTATIONS)
            kept_records = list(entry["records"])
            for record in curve_records(
                task.model,
                task.brain,
                compared,
                settings,
                ceiling=task.ceiling,
                known=kept_records,
                progress=not as_json,
            ):
                entry["records"].append({key: value for key, value in record.items() if key != "null"})
                save(result, out)
        warning_texts = {str(w.message) for w in caught} | set(entry.get("warnings", []))
        entry["warnings"] = sorted(warning_texts)[:20]
        attrs = score_attrs({"metric": "bridge predictivity"}, n_draws, N_PERMUTATIONS, 0, (task.model, task.brain))
        entry |= {"n_pairs": list(n_pairs), "n_seeds": n_draws, "aligners": list(compared)}
        entry["ceiling_r"] = None if task.ceiling is None else float(np.sqrt(max(0, np.median(task.ceiling.values))))
        entry["digests"] = json.loads(attrs["digests"])
        entry["summary"] = summary(curve_of(entry))
        save(result, out)
        if not as_json:
            print(name)
            for method, row in sorted(entry["summary"]["aligners"].items(), key=lambda item: -item[1]["auc"]):
                print(f"  {method:12s} area {row['auc']:.3f} {row['auc_ci95']}, r at {list(n_pairs)}: {row['mean']}")
    # The figure shows every dataset in the file, those of earlier runs too.
    finished = {name: result["datasets"][name] for name in DATASETS if "summary" in result["datasets"].get(name, {})}
    draw({name: (title_of(name, entry), curve_of(entry)) for name, entry in finished.items()}, figure_path)
    if as_json:
        print(json.dumps({name: result["datasets"][name]["summary"] for name in chosen}))


if __name__ == "__main__":
    run_script(main, __doc__)
