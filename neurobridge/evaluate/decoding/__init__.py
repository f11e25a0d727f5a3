"""Decoding of labels and attributes, with chance levels."""
