"""Figures of models beside each other: scores, shares of variance, RDMs."""
