"""Alignment without pairs."""
