"""The walls of the house hold, room by room.

`lint-imports` checks the same layers by the contracts in pyproject.toml; here each room is a test of its own, and what a graph of
imports does not show is read from the source.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp", reason="the extra `test` brings import-linter and grimp")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neurobridge"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
(LAYERS,) = ([line.split(" | ") for line in c["layers"]] for c in CONTRACTS if c["type"] == "layers")
ROOMS = [room for layer in LAYERS for room in layer]
SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"), *(ROOT / "analyses").rglob("*.py")])
MODULES_IN_A_FOLDER = 11

#: Imports of neurobridge inside a function, and why. A circle is never a reason.
LATE_IMPORTS: dict[tuple[str, str], str] = {}
