"""Sections of docs/benchmarks.md, by theme."""
