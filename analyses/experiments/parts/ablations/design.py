"""Settings, levels and parts of the ablations."""

from __future__ import annotations

from .problems import IMAGES, SITES

SETTINGS = (IMAGES, SITES)
LABELS = {IMAGES: "images: accuracy", SITES: "IT sites: median r"}
METRICS = ("euclidean", "cosine", "correlation")
#: Marginal penalties. The smallest was best on development digits; the other experiments use 1.
RHOS = (0.03, 0.1, 1.0, 10.0)
WEAK, USUAL = (f"rho {rho:g}" for rho in (RHOS[0], 1.0))
EPSILONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
N_PAIRS = (10, 20, 50, 100, 200, 400)
NOISE = (0.0, 0.1, 0.2, 0.3, 0.5)
NOISE_FUSED = (0.2, 0.5)
RATIOS = (1.0, 2.0, 5.0, 10.0)
OUTLIERS = 0.2
#: Number of seeds of parts that take minutes on images.
N_SLOW = 3
#: Largest loss that counts as none.
TOLERANCE = 0.02
DEFAULT, KERNEL = "bridge (default)", "readout: kernel ridge of mean partners"
DENSE, MIN = "coupling: sinkhorn, softmin", "reduce: min (sinkhorn)"
#: Name of the balanced bridge in the sweep of the pools.
BALANCED = "bridge"
#: Part (row of the table) -> part that it is compared with.
PARTS = {
    **{f"metric: {name}": DEFAULT for name in METRICS},
    KERNEL: DEFAULT,
    **{f"metric: {name}, kernel readout": KERNEL for name in METRICS},
    DENSE: KERNEL,
    MIN: DENSE,
    "coupling: exact": KERNEL,
    "coupling: pairs": KERNEL,
    **{f"unbalanced: rho {rho:g}": DEFAULT for rho in RHOS},
    "map: linear (ridge of the pairs)": DEFAULT,
    "map: flow from ridge": DEFAULT,
    "map: flow from the barycentric map": DEFAULT,
    "fused": DEFAULT,
}
SWEEPS = {
    "epsilon": "epsilon (default .05), bridge",
    "n_pairs": "number of pairs",
    "noise": "share of wrong pairs",
    "ratio": "imbalance 1:r of the pools",
}
