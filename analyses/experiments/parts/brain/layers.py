"""Layers of networks on the V4 session: profiles with ceilings, the choice within the training images, and paired differences."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from neurobridge import figures
from neurobridge.assemblies import select
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate import select_layer
from neurobridge.evaluate.correlation import pearson
from neurobridge.evaluate.curves.folds import draw_curve_fold
from neurobridge.study.harness import Record, Run
from neurobridge.study.methods import make_aligner
from neurobridge.study.panels import make_panels, save_panels
from neurobridge.study.tables import format_mean, select_records, verdict

from .spaces import session_data, session_features

#: Networks that are compared layer by layer, the reference last.
NETWORKS = ("EfficientNet", "untrained EfficientNet", "Gabor")
#: What a reader of the comparison has to know.
CHOSEN_ON_THE_SESSION = (
    "How the layers of the networks are read was chosen on this session: 300 random projections of a layer gave r .509 "
    "(Gabor .521, one draw), means of the channels in 4 x 4 cells more, on other splits of the same images; the gain over "
    "Gabor is not independent of it."
)
_N_PERMUTATIONS, _N_BOOTSTRAP = 100, 1000


def layer_records(run: Run, cell: dict[str, Any]) -> list[Record]:
    """Profile the layers of every network on the training images of a seed, and score the chosen ones on the others."""
    seed = cell["seed"]
    brain, ceiling, _, _ = session_data(run)
    test = draw_curve_fold(brain, brain, 2, seed=seed).target_test[STIMULUS_ID].values
    train = brain[STIMULUS_ID].values[~np.isin(brain[STIMULUS_ID].values, test)]
    records: list[Record] = []
    predicted = {}
    for network in NETWORKS:
        features = session_features(run, network)
        choice: Any = select_layer(
            features, brain, train=train, regression="ridge", ceiling=ceiling, n_permutations=_N_PERMUTATIONS, seed=seed
        )
        of_split = np.median(choice.scores["raw"].values, axis=2)
        for layer, values in zip(choice.scores["layer"].values.tolist(), of_split, strict=True):
            records.append({**cell, "network": network, "layer": layer, "r": round(float(values.mean()), 4)})
        predicted[network] = _predict(select(features, layer=choice.layer), brain, train, test)
        truth = _rows(brain, test).values
        records.append({
            **cell, "network": network, "chosen": choice.layer,
            "r": round(float(np.median(pearson(predicted[network], truth)[0])), 4),
            "null_95": round(float(np.quantile(choice.held_out["null"].values, 0.95)), 4),
        })  # fmt: skip
    rng = np.random.default_rng([seed, 6])
    drawn = [rng.integers(len(test), size=len(test)) for _ in range(_N_BOOTSTRAP)]
    for first, second in combinations(NETWORKS, 2):
        gains = [
            np.median(pearson(predicted[first][rows], truth[rows])[0])
            - np.median(pearson(predicted[second][rows], truth[rows])[0])
            for rows in drawn
        ]
        # Three comparisons of each seed: Bonferroni.
        low, high = np.quantile(gains, [0.025 / 3, 1 - 0.025 / 3])
        records.append({
            **cell, "first": first, "second": second, "gain": round(float(np.mean(gains)), 4),
            "low": round(float(low), 4), "high": round(float(high), 4),
        })  # fmt: skip
    return records


def _predict(features: xr.DataArray, brain: xr.DataArray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    ridge = make_aligner("ridge").fit(_rows(features, train), _rows(brain, train))
    return np.asarray(ridge.transform(_rows(features, test)).values, dtype=np.float64)


def _rows(space: xr.DataArray, ids: np.ndarray) -> xr.DataArray:
    row_of = {stimulus: row for row, stimulus in enumerate(space[STIMULUS_ID].values)}
    return space.isel({PRESENTATION: [row_of[stimulus] for stimulus in ids]})


def layers_figure(run: Run, records: list[Record], ceiling: float) -> list[dict[str, str]]:
    """Draw the profile of every network, its ceiling, and the chosen layers on held-out images."""
    figure, (profile, held_out) = make_panels(2, 5.6, 3.8)
    colours = {"EfficientNet": figures.STYLES["fused"], "untrained EfficientNet": figures.STYLES["bridge"]}
    names = {
        "EfficientNet": "EfficientNet-Lite0, ImageNet weights",
        "untrained EfficientNet": "EfficientNet-Lite0, untrained",
    }
    of_layers = [r for r in records if "layer" in r]
    for position, network in enumerate(NETWORKS):
        style = {"color": colours.get(network, figures.STYLES["ridge"])["color"]}
        of_network = select_records(of_layers, network=network)
        layers = list(dict.fromkeys(r["layer"] for r in of_network))
        means = [np.mean([r["r"] for r in select_records(of_network, layer=layer)]) for layer in layers]
        if len(layers) == len(LAYER_TICKS):
            profile.plot(range(len(layers)), means, marker="o", label=names[network], **style)
        else:
            profile.axhline(max(means), linestyle="-.", label=f"GaborEnergy, best of {len(layers)} layers", **style)
        chosen = [r["r"] for r in records if r.get("network") == network and "chosen" in r]
        held_out.errorbar(
            [position], [np.mean(chosen)], yerr=[[np.mean(chosen) - min(chosen)], [max(chosen) - np.mean(chosen)]],
            marker="o", capsize=3, **style,
        )  # fmt: skip
    chance = max(r["null_95"] for r in records if "null_95" in r)
    for ax in (profile, held_out):
        ax.axhline(ceiling, color="black", linestyle=":", linewidth=1, label=f"ceiling r = {ceiling:.2f}")
        ax.axhline(chance, color="0.5", linestyle="--", linewidth=1, label="chance (95th pct.)")
        ax.set_ylim(min(0, ax.get_ylim()[0]), 1)
    profile.set_xticks(range(len(LAYER_TICKS)), labels=LAYER_TICKS)
    profile.set_xlabel("block of EfficientNet-Lite0")
    profile.set_ylabel("median r over 50 sites")
    profile.set_title("cross-validated on the training images", fontsize="small")
    profile.legend(fontsize="x-small", frameon=False, loc="lower left", bbox_to_anchor=(0, 0.11))
    held_out.set_xticks(
        range(len(NETWORKS)), labels=["EfficientNet\nImageNet", "EfficientNet\nuntrained", "Gabor\nenergies"]
    )
    held_out.set_xlim(-0.6, len(NETWORKS) - 0.4)
    held_out.set_ylabel("median r over 50 sites")
    held_out.set_title("chosen layer, 128 held-out images", fontsize="small")
    text = (
        "Real V4 (50 sites, 640 images, one animal): ridge from each layer. The layer is chosen by cross-validation within 512 "
        f"training images. Bars: range of {len({r['seed'] for r in records})} seeds."
    )
    return [save_panels(figure, run, "layers", text)]


#: Names of the layers under the profile.
LAYER_TICKS = ("1", "3", "5", "7", "9", "11", "13", "15")


def layers_tables(records: list[Record]) -> list[dict[str, Any]]:
    """Tabulate the layers, and the chosen layers with their differences."""
    of_layers, chosen, gains = ([r for r in records if key in r] for key in ("layer", "chosen", "first"))
    keys = dict.fromkeys((r["network"], r["layer"]) for r in of_layers)
    profile = [
        [network, layer, format_mean([r["r"] for r in select_records(of_layers, network=network, layer=layer)])]
        for network, layer in keys
    ]
    held = [
        [
            network,
            ", ".join(dict.fromkeys(r["chosen"] for r in select_records(chosen, network=network))),
            format_mean([r["r"] for r in select_records(chosen, network=network)]),
        ]
        for network in NETWORKS
    ]
    differences = [
        [f"{r['first']} - {r['second']}", str(r["seed"]), f"{r['gain']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}"]
        for r in gains
    ]
    n_seeds = len({r["seed"] for r in records})
    return [
        {"title": f"V4 session, layers of networks: median r by ridge, 10 splits of 512 training images, {n_seeds} seeds",
         "columns": ["network", "layer", "median r"], "rows": profile},
        {"title": "V4 session, layer chosen within the training images: median r on 128 held-out images, all 512 paired",
         "columns": ["network", "chosen layer", "median r"], "rows": held},
        {"title": "V4 session, differences of median r on the same held-out images: bootstrap intervals, 95 % for three together",
         "columns": ["networks", "seed", "difference", "interval"], "rows": differences},
    ]  # fmt: skip


def network_claim(records: list[Record]) -> Record:
    """Judge whether the real network predicts V4 better than Gabor energies and than itself untrained."""
    gains = [r for r in records if r.get("first") == "EfficientNet"]
    n_above = sum(r["low"] > 0 for r in gains)
    shown = "; ".join(
        f"{r['first']} - {r['second']}, seed {r['seed']}: {r['gain']:.3f} ({r['low']:.3f} to {r['high']:.3f})"
        for r in gains
    )
    return {
        "claim": "A network with ImageNet weights predicts V4 better than Gabor energies and than the same network untrained",
        "verdict": verdict(n_above, len(gains)),
        "evidence": f"interval of the difference on held-out images above 0 in {n_above} of {len(gains)} comparisons: {shown}. "
        "Rule: all hold, half or more in part. Figure: layers.png",
    }
