"""Splits of stimuli (or sites) into training and held-out rows, drawn once and shared by all metrics."""

from neurobridge.evaluate.folds import Splits
from neurobridge.evaluate.splits.choice import KINDS, brainscore_splits, resolve_splits, splits_from_text
from neurobridge.evaluate.splits.drawing import (
    animal_splits,
    condition_splits,
    group_splits,
    kfold_splits,
    shuffle_splits,
    stratified_group_splits,
    stratified_splits,
)

__all__ = [
    "KINDS",
    "Splits",
    "animal_splits",
    "brainscore_splits",
    "condition_splits",
    "group_splits",
    "kfold_splits",
    "resolve_splits",
    "shuffle_splits",
    "splits_from_text",
    "stratified_group_splits",
    "stratified_splits",
]
