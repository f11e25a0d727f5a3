"""Command line: `neurobridge ...`."""

from neurobridge.cli.app import app, main

__all__ = ["app", "main"]
