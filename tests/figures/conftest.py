"""Results of every kind, small and simulated, as the package returns them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

import neurobridge as nb
from neurobridge.aligners import ProcrustesAligner, RidgeAligner


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def spaces():
    """Sixty images in six features and in ten sites that are linear in them, with two categories."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 6))
    features[::2, 0] += 3
    sites = features @ rng.normal(size=(6, 10)) + rng.normal(size=(60, 10))
    stimuli = {"stimulus_id": [f"image{k}" for k in range(60)], "category_name": ["car", "face"] * 30}
    return tuple(
        nb.make_assembly(
            values, presentation=stimuli, neuroid={"neuroid_id": [f"{name}{k}" for k in range(values.shape[1])]}
        )
        for name, values in (("unit", features), ("site", sites))
    )


@pytest.fixture(scope="session")
def results(spaces):
    """A result of every kind by its name."""
    source, target = spaces
    trials = nb.make_assembly(
        np.concatenate([target.values + k for k in range(3)]) + np.random.default_rng(1).normal(size=(180, 10)),
        presentation={"stimulus_id": np.tile(target["stimulus_id"].values, 3), "repetition": np.repeat(range(3), 60)},
        neuroid={"neuroid_id": target["neuroid_id"].values},
    )
    aligners = {"ridge": RidgeAligner(), "procrustes": ProcrustesAligner()}
    ceiling = nb.internal_consistency(trials, n_splits=4, n_bootstrap=20)
    folds = {"splits": "shuffle,n_splits=2", "n_permutations": 40}
    by_site = {
        name: nb.predictivity(source, target, name, ceiling=ceiling["ceiling"], **folds) for name in ("ridge", "pls")
    }
    decoding = nb.decode(target, "category_name", splits="shuffle,n_splits=2", n_permutations=40)
    fitted = nb.BridgeAligner(coupling="factored", epsilon=0.2, seed=0).fit(source, target, pairs=20)
    return {
        "curve": nb.learning_curve(
            source,
            target,
            aligners,
            n_pairs=(5, 20),
            n_seeds=2,
            n_permutations=20,
            ceiling=ceiling["ceiling"],
            progress=False,
        ),
        "ceiling": ceiling,
        "score by site": by_site["ridge"],
        "two methods": by_site,
        "three methods": {**by_site, "again": by_site["pls"]},
        "decoding": decoding,
        "decodings": {"sites": decoding, "again": decoding},
        "comparison": nb.compare_models(
            {"early": source.isel(neuroid=slice(3)), "late": source},
            target.assign_coords(animal=("neuroid", ["first", "second"] * 5)),
            ("ridge", "rsa"),
            n_bootstrap=20,
        ),
        "similarity": nb.METRICS["cka"](source, target, n_permutations=30),
        "overlap": nb.similarity.overlap(source, target, n_permutations=10, n_alignments=5, n_projections=10),
        "coupling": fitted.coupling_,
        "aligner": fitted,
        "baseline": RidgeAligner().fit(source, target, pairs=30),
        "rdm": nb.similarity.rdm(target),
        "assembly": target,
        "trials": trials,
    }
