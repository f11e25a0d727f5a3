"""Align brain recordings and model activations through a few shared stimuli."""

from neurobridge._version import __version__
from neurobridge.aligner import BridgeAligner
from neurobridge.assemblies import (
    AssemblyError,
    Pairs,
    average_repetitions,
    bootstrap_repetitions,
    drop_constant,
    make_assembly,
    match_stimuli,
    open_assembly,
    save_assembly,
    select,
    split_halves,
    validate,
)
from neurobridge.baselines import ProcrustesAligner, RidgeAligner
from neurobridge.bridge import BridgeCost, Coupling, align_unpaired, bridge_cost, couple, diagnose, fuse
from neurobridge.datasets import Experiment, fetch, list_datasets, load, simulate_hvm
from neurobridge.evaluate import (
    aggregate,
    correlate,
    cross_decode,
    decode,
    internal_consistency,
    predictivity,
    shuffle_splits,
    stratified_splits,
    train_readout,
)
from neurobridge.features import GaborEnergy, extract
from neurobridge.flow import ConditionalFlow

__all__ = [
    "AssemblyError",
    "BridgeAligner",
    "BridgeCost",
    "ConditionalFlow",
    "Coupling",
    "Experiment",
    "GaborEnergy",
    "Pairs",
    "ProcrustesAligner",
    "RidgeAligner",
    "__version__",
    "aggregate",
    "align_unpaired",
    "average_repetitions",
    "bootstrap_repetitions",
    "bridge_cost",
    "correlate",
    "couple",
    "cross_decode",
    "decode",
    "diagnose",
    "drop_constant",
    "extract",
    "fetch",
    "fuse",
    "internal_consistency",
    "list_datasets",
    "load",
    "make_assembly",
    "match_stimuli",
    "open_assembly",
    "predictivity",
    "save_assembly",
    "select",
    "shuffle_splits",
    "simulate_hvm",
    "split_halves",
    "stratified_splits",
    "train_readout",
    "validate",
]
