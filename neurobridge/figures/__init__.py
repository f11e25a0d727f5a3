"""Figures: axes in, axes out; one palette and one line style a method."""

from neurobridge.figures.plots import (
    accuracies,
    contact_sheet,
    layer_profile,
    learning_curve,
    save_figure,
    sites,
)
from neurobridge.figures.styles import STYLES

__all__ = [
    "STYLES",
    "accuracies",
    "contact_sheet",
    "layer_profile",
    "learning_curve",
    "save_figure",
    "sites",
]
