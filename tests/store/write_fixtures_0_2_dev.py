"""Write ``fixtures_0_2_dev``: fused aligners as 0.2 saved them in development, one bridge a direction, and what they mapped.

Runs with commit 7250c52 alone; later versions only read what it wrote:

    git worktree add ../before 7250c52 && cd ../before && python PATH/TO/write_fixtures_0_2_dev.py

``points.npz`` holds the points; ``forward.npy`` and ``backward.npy`` beside an aligner are what its maps gave for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import neurobridge as nb
from neurobridge.bridge import Candidate
from neurobridge.bridge.fused.result import FusedBridge
from neurobridge.flow import Training

assert not hasattr(FusedBridge, "map_back"), (
    "found a version that maps both ways by one bridge; expected commit 7250c52"
)
HERE = Path(__file__).parent / "fixtures_0_2_dev"
N_FITTED, PAIRS = 24, (np.arange(8), np.arange(8))


def main() -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3)) + 2
    Y = X @ rng.normal(size=(3, 4)) + 0.05 * rng.normal(size=(30, 4))
    np.savez(HERE / "points.npz", X=X, Y=Y)
    few = {"lams": (0.9, 0.5), "epsilons": (0.05,), "n_rounds": (1, 2), "kernel_rounds": (0,)}
    mean = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="mean")
    curved = Candidate(lam=0.9, epsilon=0.05, n_rounds=1, readout="kernel", kernel_rounds=1)
    training = Training(n_steps=5, width=8, depth=1)
    aligners = {
        "chosen": nb.BridgeAligner("euclidean", map="barycentric", fuse_options=few),
        "mean": nb.BridgeAligner(map="barycentric", fuse_options={"candidate": mean}),
        "curved-in-minibatches": nb.BridgeAligner(
            "euclidean", map="barycentric", fuse_options={"candidate": curved, "minibatch_size": 16}
        ),
        "flow": nb.BridgeAligner(
            "euclidean", base="barycentric", fuse_options={"candidate": mean}, flow_options={"training": training}
        ),
    }
    for name, aligner in aligners.items():
        aligner.fit(X[:N_FITTED], Y[:N_FITTED], PAIRS).save(HERE / name)
        np.save(HERE / name / "forward.npy", aligner.transform(X))
        np.save(HERE / name / "backward.npy", aligner.inverse_transform(Y))
        (HERE / name / ".aligner.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
