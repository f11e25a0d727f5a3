"""Command line: `neurobridge ...`. Modules of commands import heavy rooms inside the command: help and completion stay light."""

from neurobridge.cli.app import app, main

__all__ = ["app", "main"]
