"""The names that help texts list, written out so that help needs no torch; a test compares them with those of the rooms."""

from __future__ import annotations

#: Keys of `neurobridge.aligners.BASELINES`.
BASELINES = (
    "ridge", "procrustes", "pls", "cca", "relative", "keypoints", "self-trained", "whitened", "spectral", "fugw",
)  # fmt: skip
#: Those of `neurobridge.bridge.CRITERIA` that need no classifier; the first is the default.
CRITERIA = ("correlation", "error", "retrieval")
#: `neurobridge.aligners.options.MAPS` and `COUPLINGS`.
MAPS = ("barycentric", "flow", "linear")
COUPLINGS = ("fused", "pairs", "exact", "sinkhorn", "factored")
#: Distances of `neurobridge.bridge.METRICS` that need no matrix of the caller's.
METRICS = ("geodesic", "euclidean", "sqeuclidean", "cosine", "correlation")
#: `neurobridge.study.METHODS`.
METHODS = ("fused", "fused-flow", "bridge", "bridge-flow", "unbalanced", "pairs-flow", *BASELINES)
#: Keys of `neurobridge.evaluate.REGRESSIONS`.
REGRESSIONS = ("pls", "ridge", "linear", "neuron_to_neuron")
#: Keys of `neurobridge.evaluate.READOUTS`.
READOUTS = ("logistic", "svm", "ridge", "centroid", "lda", "correlation")
#: `neurobridge.points.ranks.SIMILARITIES` and `neurobridge.evaluate.retrieval.HUB_CORRECTIONS`.
SIMILARITIES = ("cosine", "correlation", "euclidean")
HUB_CORRECTIONS = ("csls",)
#: `neurobridge.evaluate.similarity.distances.DISTANCES`, and the cross-validated ones.
DISTANCES = ("correlation", "euclidean", "sqeuclidean", "cosine", "poisson", "crossvalidated", "crossnobis")
#: `neurobridge.evaluate.similarity.comparators.COMPARATORS` and `...inference.models.BOOTSTRAPS`.
COMPARATORS = (
    "corr", "corr_cov", "cosine", "cosine_cov", "kendall", "pearson", "rho-a", "spearman", "tau-a", "tau-b",
)  # fmt: skip
BOOTSTRAPS = ("both", "stimuli", "subjects")
#: `neurobridge.evaluate.comparison.models.COMPARED`.
COMPARED = ("pls", "ridge", "linear", "neuron_to_neuron", "rdm", "rsa")
#: Keys of `neurobridge.evaluate.splits.KINDS`.
SPLITS = ("shuffle", "stratified", "kfold", "group", "condition", "brainscore")
#: Keys of `neurobridge.features.references.recipes.REFERENCES`.
REFERENCES = ("conv_net", "conv_vae", "conv_contrastive", "gabor_energy")
#: `neurobridge.study.demo.DATASETS`; the first is simulated.
DEMO_DATASETS = ("simulated-hvm", "cowley2023-v4-210325", "majajhong2015-it-v6")
