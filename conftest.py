"""Settings of every test run, the examples of the docstrings included."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import matplotlib as mpl
import pytest
from _pytest.doctest import DoctestItem
from hypothesis import settings

mpl.use("Agg")

# The same inputs in every run, so that a change that passed does so again; `make fuzz` draws new ones.
settings.register_profile("same-inputs", derandomize=True)
settings.load_profile("same-inputs")

collect_ignore = [
    # Imported by Brain-Score alone, whose registries it fills.
    "neurobridge/brainscore/plugins",
    # Modules of version 0.1: importing one warns. tests/test_public.py has them.
    "neurobridge/aligner.py",
    "neurobridge/baselines.py",
    "neurobridge/experiment.py",
    # Scripts with environments of their own.
    "tests/golden/write.py",
    "tests/store/write_fixtures_0_1.py",
    "tests/store/write_fixtures_0_2_dev.py",
]

#: Modules whose examples need a package of an extra.
EXAMPLES_NEED = {"evaluate/banded.py": "himalaya", "evaluate/partition.py": "himalaya"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mirror", default=None, help="folder with the real data files, laid out <dataset>/<file>")
    fuzz = parser.getgroup("fuzz", "the fuzz campaign of tests/fuzz")
    fuzz.addoption("--fuzz-seconds", type=float, default=60, help="of the whole campaign, shared by its entrances")
    fuzz.addoption("--fuzz-seed", type=int, default=0, help="of the drawn inputs")
    fuzz.addoption("--fuzz-counts", default=None, help="folder for the table of accepted and refused inputs")


@pytest.fixture(autouse=True)
def _examples_write_into_a_folder_of_their_own(request: pytest.FixtureRequest) -> Iterator[None]:
    if isinstance(request.node, DoctestItem):
        for place, package in EXAMPLES_NEED.items():
            if request.node.path.as_posix().endswith(f"neurobridge/{place}"):
                pytest.importorskip(package, reason=f"the extra `{package}`")
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
    yield
    if isinstance(request.node, DoctestItem) and "matplotlib.pyplot" in sys.modules:
        # Figures of examples stay open, and matplotlib warns of more than twenty.
        sys.modules["matplotlib.pyplot"].close("all")
