"""Metrics of neurobridge in Brain-Score's registry. Brain-Score finds them by reading these lines, so each is written out."""

from functools import partial

from brainscore_vision import metric_registry

from neurobridge.brainscore.metrics import UNFITTED_FOLDS, BrainScoreMetric

metric_registry["bridge"] = partial(BrainScoreMetric, "bridge")
# The names without prefix are Brain-Score's own metrics.
metric_registry["neurobridge_pls"] = partial(BrainScoreMetric, "pls")
metric_registry["neurobridge_ridge"] = partial(BrainScoreMetric, "ridge")
metric_registry["neurobridge_linear"] = partial(BrainScoreMetric, "linear")
metric_registry["neurobridge_neuron_to_neuron"] = partial(BrainScoreMetric, "neuron_to_neuron")
metric_registry["neurobridge_cka"] = partial(BrainScoreMetric, "cka")
metric_registry["neurobridge_cka_biased"] = partial(BrainScoreMetric, "cka_biased")
metric_registry["neurobridge_rdm"] = partial(BrainScoreMetric, "rdm")
metric_registry["neurobridge_rsa"] = partial(BrainScoreMetric, "rsa")
metric_registry["neurobridge_cca"] = partial(BrainScoreMetric, "cca")
metric_registry["neurobridge_svcca"] = partial(BrainScoreMetric, "svcca")
metric_registry["neurobridge_procrustes"] = partial(BrainScoreMetric, "procrustes")
# In the folds of Brain-Score's own metrics of these names.
metric_registry["neurobridge_cka_cv"] = partial(BrainScoreMetric, "cka", UNFITTED_FOLDS)
metric_registry["neurobridge_rdm_cv"] = partial(BrainScoreMetric, "rdm", UNFITTED_FOLDS)
