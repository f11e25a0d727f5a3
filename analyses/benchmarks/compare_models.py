"""Comparison of models at the size of IT's public recordings, beside a loop over scikit-learn and scipy.

    python analyses/benchmarks/compare_models.py [--models 10] [--layers 5] [--features 1000] [--stimuli 3200] [--out FILE]

SIMULATED: every layer is a random linear mixture of 60 latents and noise, 168 sites of two animals
are another one. Metrics "ridge" and "rsa", five folds, 1,000 draws, no permutations. The peer does
for one model what the package does for all: `RidgeCV` for each layer and fold, the layer by its
leave-one-out error; `pdist` and `spearmanr` for each layer, fold and animal; no draws. Each runs in a
process of its own; peak memory is that of the process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from analyses.parts.processes import run_json
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json

_DATA = """
import json, resource, sys, time
import numpy as np
n_models, n_layers, n_features, n_stimuli, out = *map(int, sys.argv[1:5]), None
rng = np.random.default_rng(0)
latents = rng.normal(size=(n_stimuli, 60))
Y = latents @ rng.normal(size=(60, 168)) / 8 + rng.normal(size=(n_stimuli, 168))
animal = np.repeat(["Chabo", "Tito"], [58, 110])
def layers_of(model):
    rng = np.random.default_rng([1, model])
    for layer in range(n_layers):
        signal = latents @ rng.normal(size=(60, n_features)) / 8
        noise = (1 + 0.2 * model + 0.1 * abs(layer - 2)) * rng.normal(size=signal.shape)
        yield (signal + noise).astype(np.float32)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
"""
OURS = (
    _DATA
    + """
import neurobridge as nb
stimuli = {"stimulus_id": [f"s{k:05d}" for k in range(n_stimuli)]}
class Models(dict):
    def __getitem__(self, name):
        units = {"neuroid_id": range(n_layers * n_features), "layer": np.repeat([f"layer{k}" for k in range(n_layers)], n_features)}
        return nb.make_assembly(np.hstack(list(layers_of(self.number(name)))), presentation=stimuli, neuroid=units)
    def number(self, name):
        return int(name.split()[1])
models = Models({f"model {k}": None for k in range(n_models)})
recordings = nb.make_assembly(Y, presentation=stimuli, neuroid={"neuroid_id": range(168), "animal": animal})
start, wall = time.process_time(), time.perf_counter()
compared = nb.compare_models(models, recordings, ("ridge", "rsa"))
print(json.dumps({"processor_s": time.process_time() - start, "wall_s": time.perf_counter() - wall, "peak_gb": peak(),
    "value": compared["value"].values.round(4).tolist(), "layers": sorted(set(compared["layer"].values.ravel().tolist()))}))
"""
)
PEER = (
    _DATA
    + """
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
layers = list(layers_of(0))
start = time.process_time()
order = np.random.default_rng(1).permutation(n_stimuli)
r, rsa = [], []
for test in np.array_split(order, 5):
    train = np.setdiff1d(order, test)
    fits = [RidgeCV(alphas=np.logspace(-3, 6, 19), alpha_per_target=True).fit(X[train], Y[train]) for X in layers]
    best = int(np.argmax([np.median(fit.best_score_) for fit in fits]))
    predicted = fits[best].predict(layers[best][test])
    r.append(np.median([np.corrcoef(predicted[:, k], Y[test, k])[0, 1] for k in range(Y.shape[1])]))
    def score(X, rows):
        model = pdist(X[rows], "correlation")
        return np.mean([spearmanr(model, pdist(Y[rows][:, animal == a], "correlation"))[0] for a in ("Chabo", "Tito")])
    best = int(np.argmax([score(X, train) for X in layers]))
    rsa.append(score(layers[best], test))
print(json.dumps({"processor_s": time.process_time() - start, "peak_gb": peak(),
    "value": [float(np.mean(r)), float(np.mean(rsa))]}))
"""
)


def main(
    models: Annotated[int, typer.Option(min=2)] = 10,
    layers: Annotated[int, typer.Option(min=1)] = 5,
    features: Annotated[int, typer.Option(min=2)] = 1000,
    stimuli: Annotated[int, typer.Option(min=50)] = 3200,
    peer: Annotated[bool, typer.Option(help="Run the loop over scikit-learn and scipy, too.")] = True,
    out: Annotated[Path | None, typer.Option(help="JSON file with the numbers.")] = None,
) -> None:
    load = os.getloadavg()[0]
    sizes = [str(models), str(layers), str(features), str(stimuli)]
    results: dict[str, Any] = {
        "sizes": dict(zip(("models", "layers", "features", "stimuli"), map(int, sizes), strict=True))
    }
    results["load"] = load
    results["ours"] = run_json([sys.executable, "-c", OURS, *sizes])
    if peer:
        results["peer, one model"] = run_json([sys.executable, "-c", PEER, *sizes])
        results["ratio"] = models * results["peer, one model"]["processor_s"] / results["ours"]["processor_s"]
    typer.echo(json.dumps(results, indent=1))
    if out is not None:
        write_json(results, out)


if __name__ == "__main__":
    run_script(main, __doc__)
