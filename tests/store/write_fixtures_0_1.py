"""Write ``fixtures_0_1``: every kind of file that version 0.1 saved, with the points given to it and what it made of them.

Runs with version 0.1 alone; later versions only read what it wrote:

    git worktree add ../v0.1 1a79cc9 && cd ../v0.1 && python PATH/TO/write_fixtures_0_1.py

Every folder is a saved aligner or flow, a reference model or a file of principal components. ``forward.npy`` and
``backward.npy`` beside an aligner are what `transform` and `inverse_transform` gave for ``source.nc`` and ``target.nc``.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

import neurobridge as nb
from neurobridge.aligner import AssemblyAligner
from neurobridge.baselines import BASELINES
from neurobridge.bridge import kernel_map, ridge_map
from neurobridge.features import LayerPCA, save_reference, train_reference
from neurobridge.flow import VelocityMLP

assert nb.__version__ == "0.1.0", f"found neurobridge {nb.__version__}; expected 0.1.0"
HERE = Path(__file__).parent / "fixtures_0_1"
FAST = {"n_steps": 5, "width": 8, "depth": 1}
N_FITTED, N_PAIRS = 24, 8


def spaces():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3)) + 2
    Y = X @ rng.normal(size=(3, 4))
    Y += 0.05 * rng.normal(size=Y.shape)
    ids = [f"s{i}" for i in range(len(X))]
    sides = []
    for points, name in ((X, "v"), (Y, "m")):
        n = points.shape[1]
        neuroid = {"neuroid_id": [f"{name}{k}" for k in range(n)], "depth": np.linspace(0, 1, n).astype(np.float32)}
        sides.append(nb.make_assembly(points, presentation={"stimulus_id": ids}, neuroid=neuroid))
    return sides[0], sides[1]


def manhattan(X, Z):
    return (X[:, None, :] - Z[None, :, :]).abs().sum(dim=2)


def small_network(n_dims, n_condition):
    return VelocityMLP(n_dims, n_condition, width=8, depth=1)


def aligners():
    candidate = nb.bridge.Candidate
    chosen = {
        "fused-barycentric": candidate(0.9, 0.05, 2, "barycentric"),
        "fused-linear": candidate(0.9, 0.05, 2, "linear"),
        "fused-mean": candidate(0.9, 0.05, 2, "mean"),
        "fused-kernel": candidate(0.9, 0.05, 2, "kernel", 1),
        "fused-curved-barycentric": candidate(0.5, 0.05, 1, "barycentric", 1),
    }
    for name, one in chosen.items():
        yield name, nb.BridgeAligner(map="barycentric", fuse_options={"candidate": one})
    few = {"lams": (0.9,), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0,)}
    yield "fused-core", nb.BridgeAligner(map="barycentric", fuse_options={**few, "core": 16})
    yield "fused-chosen", nb.BridgeAligner("euclidean", map="barycentric")
    yield "fused-cost-linear", nb.BridgeAligner(map="barycentric", cost="linear", fuse_options={"n_rounds": (1,)})
    for metric in ("euclidean", "sqeuclidean", "cosine", "correlation", "geodesic"):
        yield f"factored-{metric}", nb.BridgeAligner(metric, "factored", "barycentric")
    yield "factored-two-metrics", nb.BridgeAligner(("geodesic", "cosine"), "factored", "barycentric")
    yield "factored-nearest", nb.BridgeAligner("euclidean", "factored", "barycentric", nearest=3)
    yield "factored-geodesic-nearest", nb.BridgeAligner("geodesic", "factored", "barycentric", nearest=3)
    yield "factored-unbalanced", nb.BridgeAligner("euclidean", "factored", "barycentric", unbalanced=0.5)
    for coupling in ("sinkhorn", "exact", "pairs"):
        yield f"{coupling}-kernel", nb.BridgeAligner("euclidean", coupling, "barycentric", epsilon=0.3)
    yield "sinkhorn-min", nb.BridgeAligner("euclidean", "sinkhorn", "barycentric", epsilon=0.3, reduce="min")
    yield "exact-cost-linear", nb.BridgeAligner("euclidean", "exact", "barycentric", cost="linear")
    yield "linear", nb.BridgeAligner(map="linear", support_quantile=0.9, seed=3)
    for base in ("affine", "pad", "noise"):
        yield f"flow-{base}", nb.BridgeAligner("euclidean", "factored", base=base, flow_options=FAST)
    for coupling in ("factored", "fused", "pairs"):
        options = {"fuse_options": few} if coupling == "fused" else {}
        yield (
            f"flow-{coupling}-barycentric",
            nb.BridgeAligner("euclidean", coupling, base="barycentric", flow_options=FAST, **options),
        )
    for name, kind in BASELINES.items():
        yield name, kind()


def write_aligner(name: str, aligner: AssemblyAligner, source, target, pairs=None) -> None:
    fitted = aligner.fit(source[:N_FITTED], target[:N_FITTED], pairs)
    folder = HERE / "aligners" / name
    fitted.save(folder)
    np.save(folder / "forward.npy", fitted.transform(source).values)
    np.save(folder / "backward.npy", fitted.inverse_transform(target).values)


def write_aligners() -> None:
    source, target = spaces()
    nb.save_assembly(source, HERE / "source.nc")
    nb.save_assembly(target, HERE / "target.nc")
    ids = np.array([f"s{i}" for i in range(0, 2 * N_PAIRS, 2)])
    pairs = nb.Pairs(ids, ids)
    for name, aligner in aligners():
        write_aligner(name, aligner, source, target, pairs)
    # Two source stimuli share each caption: anchors are repeated.
    captions = pd.DataFrame({"source_id": [f"s{i}" for i in range(12)], "target_id": [f"s{i // 2}" for i in range(12)]})
    for metric in ("euclidean", "geodesic"):
        nearest = nb.BridgeAligner(metric, "factored", "barycentric", nearest=3)
        write_aligner(f"repeated-{metric}-nearest", nearest, source, target, captions)
    # Parameters that are code.
    one = nb.bridge.Candidate(0.9, 0.05, 1, "barycentric")
    code = {"fused": {"fuse_options": {"candidate": one}}, "factored": {}}
    for coupling, options in code.items():
        aligner = nb.BridgeAligner((manhattan, "cosine"), coupling, "barycentric", **options)
        write_aligner(f"code-metric-{coupling}", aligner, source, target, pairs)
    aligner = nb.BridgeAligner("euclidean", "pairs", flow_options={"network": small_network, "n_steps": 5})
    write_aligner("code-network", aligner, source, target, pairs)
    # Labels of every type.
    n = target.sizes["neuroid"]
    labelled = target.assign_coords(
        number=("neuroid", np.arange(n, dtype=np.int16)),
        good=("neuroid", np.arange(n) % 2 == 0),
        implanted=("neuroid", np.array(["2020-01-02"] * n, dtype="datetime64[ns]")),
        mixed=("neuroid", np.array([None, "a", 1.5, True], dtype=object)),
    )
    write_aligner("labels", BASELINES["ridge"](), source, labelled, pairs)
    write_chosen(source, target, np.arange(0, 2 * N_PAIRS, 2), "ridge", "linear")
    # A relation that only a curved map of the pairs sees.
    centred = source - 2
    curved = target.copy(data=(centred.values @ np.random.default_rng(1).normal(size=(3, 4))) ** 2)
    write_chosen(centred, curved, np.arange(N_FITTED), "kernel-ridge", "kernel")
    nb.save_assembly(centred, HERE / "aligners" / "fused-kernel-ridge" / "source.nc")
    nb.save_assembly(curved, HERE / "aligners" / "fused-kernel-ridge" / "target.nc")


def write_chosen(source, target, rows: np.ndarray, name: str, readout: str) -> None:
    """Keep an aligner for which cross-validation chose ridge or kernel ridge on the pairs."""
    ids = source["stimulus_id"].values[rows]
    options = {"lams": (0.0,), "epsilons": (0.1,), "n_rounds": (1,), "kernel_rounds": (0, int(readout == "kernel"))}
    aligner = nb.BridgeAligner("euclidean", map="barycentric", fuse_options=options)
    write_aligner(f"fused-{name}", aligner, source, target, nb.Pairs(ids, ids))
    candidate = aligner.fused_["forward"].candidate
    assert (candidate.n_rounds, candidate.readout) == (0, readout), candidate


class Matching:
    anchors = np.arange(8), np.arange(8)

    def sample(self, n, rng):
        rows = rng.integers(0, 24, n)
        return rows, rows


def write_flows() -> None:
    source, target = spaces()
    X, Y = source.values, target.values
    i, j = Matching.anchors
    bases = {
        "affine": "affine",
        "pad": "pad",
        "noise": "noise",
        "linear-map": ridge_map(X[i], Y[j]),
        "kernel-map-both": (kernel_map(X[i], Y[j]), kernel_map(Y[j], X[i])),
        "code": lambda points: points @ np.ones((3, 4)),
    }
    flows = {name: nb.ConditionalFlow(base, **FAST) for name, base in bases.items()}
    flows["settings"] = nb.ConditionalFlow(
        **FAST, method="dopri5", rtol=1e-4, atol=1e-5, chunk_size=7, sigma=0.2, ema=0.5, batch_size=16, learning_rate=0.01,
        weight_decay=0.1, clip=0.5, validation=0.2, patience=3, validate_every=2, minibatch_ot=True, support_quantile=0.8,
        mixed_precision=False, seed=5,
    )  # fmt: skip
    flows["network"] = nb.ConditionalFlow(network=small_network, n_steps=5)
    for name, flow in flows.items():
        flow.fit(X[:N_FITTED], Y[:N_FITTED], Matching())
        folder = HERE / "flows" / name
        flow.save(folder)
        np.save(folder / "forward.npy", flow.transport(X, "forward"))
        if flow.backward_ is not None or flow.base == "pad":
            np.save(folder / "backward.npy", flow.transport(Y, "backward"))


def write_features() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (8, 8, 8), dtype=np.uint8)
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column"),
        coords={
            "stimulus_id": ("presentation", [f"s{i}" for i in range(8)]),
            "category_name": ("presentation", ["a", "b"] * 4),
        },
    )
    reference = train_reference("conv_net", images, labels="category_name", n_features=2, progress=False)
    save_reference(reference, HERE / "reference")
    batch = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    np.save(HERE / "reference" / "scores.npy", reference.model(batch).detach().numpy())
    pca = LayerPCA(
        n_components=2,
        mean={"conv1": torch.from_numpy(rng.normal(size=5).astype(np.float32))},
        components={"conv1": torch.from_numpy(rng.normal(size=(2, 5)).astype(np.float32))},
        explained={"conv1": 0.5},
        kept=("head",),
        fitted_on=frozenset({"sha256:a", "sha256:b"}),
        of_model={"model": "conv_net"},
    )
    pca.save(HERE / "pca" / "components.safetensors")
    (HERE / "pca" / "record.json").write_text(json.dumps({"record": pca.record()}) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    shutil.rmtree(HERE, ignore_errors=True)
    write_aligners()
    write_flows()
    write_features()
