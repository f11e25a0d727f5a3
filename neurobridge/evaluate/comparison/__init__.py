"""Comparison of models on the same stimuli, folds and draws."""
