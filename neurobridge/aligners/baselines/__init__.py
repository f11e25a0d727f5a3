"""Baselines: what any alignment must be compared with, on the same pairs and behind the same interface."""
