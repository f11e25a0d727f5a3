"""Measurements in processes of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


class ProcessError(RuntimeError):
    """A process that ended with an error; the text is the last line that it wrote to stderr."""


def run_json(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """Run a command to its end and return the JSON of the last line that it printed."""
    completed = subprocess.run(command, env=environment, capture_output=True, text=True)
    if completed.returncode:
        raise ProcessError((completed.stderr.strip().splitlines() or ["killed"])[-1])
    return json.loads(completed.stdout.strip().splitlines()[-1])
