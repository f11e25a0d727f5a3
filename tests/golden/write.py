"""Write the golden values of this folder from the real packages.

    PYTHON tests/golden/write.py brainscore    # in the environment of the extra `brainscore`, with brainscore_vision
    PYTHON tests/golden/write.py rsatoolbox    # with the extra `rsa`
    PYTHON tests/golden/write.py sklearn

The inputs are simulated (inputs.py). Only numbers are kept, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Ceilings are cached by name alone, and plugins may call pip.
os.environ |= {"RESULTCACHING_DISABLE": "1", "BS_INSTALL_DEPENDENCIES": "no"}


def brainscore() -> dict[str, Any]:
    """Brain-Score's own metrics, called directly: per split and neuroid where there are neuroids."""
    from brainscore_vision.benchmark_helpers.neural_common import explained_variance
    from brainscore_vision.metrics.cka.metric import CKA
    from brainscore_vision.metrics.internal_consistency.ceiling import InternalConsistency
    from brainscore_vision.metrics.rdm.metric import RDMMetric
    from brainscore_vision.metrics.regression_correlation import metric as m
    from inputs import spaces

    from neurobridge.brainscore import to_brainscore

    source, target, recordings = spaces()
    source, target, recordings = (to_brainscore(a) for a in (source, target.drop_vars("n_repetitions"), recordings))
    values: dict[str, Any] = {}
    regressions = {
        "pls": m.pls_regression(),
        "ridge": m.ridge_regression(),
        "linear": m.linear_regression(),
        "neuron_to_neuron": m.single_regression(),
    }
    scores = {}
    for name, regression in regressions.items():
        metric = m.CrossRegressedCorrelation(regression=regression, correlation=m.pearsonr_correlation())
        scores[name] = metric(source, target)
        values[name] = {"raw": _by_neuroid(scores[name]), "score": float(scores[name].values)}
    values["cka"] = float(CKA()(source, target).values)
    values["cka_biased"] = float(CKA(unbiased=False)(source, target).values)
    values["rdm"] = float(RDMMetric()(source, target).values)
    ceiling = InternalConsistency()(recordings)
    values["ceiling"] = {
        "by_neuroid": _by_neuroid(ceiling),
        "score": float(ceiling.values),
        "error": float(ceiling.attrs["error"].values),
    }
    values["pls_normalized"] = float(explained_variance(scores["pls"], ceiling).values)
    return values


def _by_neuroid(score: Any) -> list[list[float]]:
    """Values of every split and neuroid, splits in rows, neuroids sorted by id."""
    raw = score
    while "raw" in raw.attrs:
        raw = raw.attrs["raw"]
    raw = raw.transpose("split", "neuroid").sortby("split")
    return raw.values[:, np.argsort(raw["neuroid_id"].values)].tolist()


def sklearn() -> dict[str, Any]:
    """scikit-learn's PLS with its iterations converged, on the first of Brain-Score's splits."""
    from inputs import spaces
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.linear_model import RidgeCV

    from neurobridge.evaluate.regression import ALPHAS
    from neurobridge.evaluate.splits import resolve_splits

    source, target, _ = spaces()
    X, Y = source.values, target.values
    train, test = resolve_splits(target, None)[0]
    converged = PLSRegression(25, scale=False, tol=1e-12, max_iter=1_000_000).fit(X[train], Y[train])
    ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X[train], Y[train])
    return {"pls": converged.predict(X[test]).tolist(), "ridge": ridge.predict(X[test]).tolist()}


def rsatoolbox() -> dict[str, Any]:
    """RDM comparisons, noise ceilings and cross-validated distances of rsatoolbox."""
    import rsatoolbox as rsa
    from inputs import spaces
    from rsatoolbox.inference import boot_noise_ceiling

    source, target, recordings = spaces()
    names = np.unique(target["animal"].values)
    model = rsa.rdm.calc_rdm(rsa.data.Dataset(source.values), method="correlation")
    each = [
        rsa.rdm.calc_rdm(rsa.data.Dataset(target.values[:, target["animal"].values == name]), method="correlation")
        for name in names
    ]
    subjects = rsa.rdm.concat(each)
    few = recordings.isel(presentation=recordings["stimulus_id"].values < "image0012")
    data = rsa.data.Dataset(
        few.values, obs_descriptors={"stimulus": few["stimulus_id"].values, "run": few["repetition"].values}
    )
    crossnobis = rsa.rdm.calc_rdm(data, method="crossnobis", descriptor="stimulus", cv_descriptor="run")
    methods = {"spearman": "spearman", "pearson": "corr", "cosine": "cosine"}
    return {
        "comparisons": {
            ours: rsa.rdm.compare(model, subjects, method=theirs)[0].tolist() for ours, theirs in methods.items()
        },
        "noise_ceiling": {
            ours: [float(bound) for bound in boot_noise_ceiling(subjects, method=theirs)]
            for ours, theirs in methods.items()
        },
        "crossnobis": crossnobis.dissimilarities[0].tolist(),
    }


WRITERS: dict[str, tuple[Callable[[], dict[str, Any]], tuple[str, ...]]] = {
    "brainscore": (brainscore, ("brainscore-core", "brainscore-vision", "scikit-learn", "scipy", "numpy", "xarray")),
    "sklearn": (sklearn, ("scikit-learn", "numpy")),
    "rsatoolbox": (rsatoolbox, ("rsatoolbox", "scipy", "numpy")),
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in WRITERS:
        sys.exit(f"found {sys.argv[1:]}; expected one of {sorted(WRITERS)}")
    write, packages = WRITERS[name]
    written = {"values": write(), "packages": {package: version(package) for package in packages}}
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(written, indent=None, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{path}: {path.stat().st_size / 1000:.1f} kB, {written['packages']}")


if __name__ == "__main__":
    main()
