"""Experiments: harness, tables, report pages, and the demo."""
