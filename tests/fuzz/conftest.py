"""Options of the fuzz campaign: ``make fuzz``, or ``pytest -m fuzz tests/fuzz --fuzz-seconds 600``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.campaign import Campaign

HERE = Path(__file__).parent
#: Tests of the campaign itself, which are light and run with all others.
LIGHT = {"test_campaign.py", "test_entrances.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.name.startswith("test_") and item.path.name not in LIGHT:
            item.add_marker("fuzz")
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """Campaign of this process; its counts are added to ``--fuzz-counts`` at the end."""
    seconds = float(request.config.getoption("--fuzz-seconds"))
    n_entrances = max(1, sum(item.get_closest_marker("fuzz") is not None for item in request.session.items))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    campaign = Campaign(seconds * workers / n_entrances, request.config.getoption("--fuzz-seed"))
    yield campaign
    path = request.config.getoption("--fuzz-counts")
    if path:
        campaign.write(Path(path) / f"{os.environ.get('PYTEST_XDIST_WORKER', 'all')}.jsonl")
