"""Shared fixtures: the mirror of real data, and small assemblies."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

from neurobridge.assemblies import make_assembly

TESTS = Path(__file__).resolve().parent
#: Tests of what an older numpy, pandas, xarray or scikit-learn could change, and of files that both stacks read. The others see
#: plain arrays and torch, which are of one version on both.
TWO_STACKS = (
    "aligners/",
    "assemblies/",
    "brainscore/",
    "cli/test_score.py",
    "datasets/",
    "evaluate/",
    "features/test_storage.py",
    "flow/test_storage.py",
    "store/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(TWO_STACKS):
            item.add_marker("two_stacks")


@pytest.fixture(scope="session")
def mirror(request: pytest.FixtureRequest) -> Path:
    """Folder with the real files; the test is skipped, with the reason, where there is none."""
    given = request.config.getoption("--mirror") or os.environ.get("NEUROBRIDGE_MIRROR")
    if not given:
        pytest.skip("real data: no mirror given (--mirror DIR or NEUROBRIDGE_MIRROR)")
    folder = Path(given)
    if not folder.is_dir():
        pytest.fail(f"the mirror {folder} is not a folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Import a script of ``analyses/`` by its path there, without ``.py``."""

    def load(path: str) -> ModuleType:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(Path(__file__).resolve().parents[1])
            return importlib.import_module(f"analyses.{path.replace('/', '.')}")

    return load


@pytest.fixture(scope="session")
def _two_workers() -> Iterator:
    """A client of two processes, forked from one that has imported what they need; no one's default."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.utils import get_mp_context

    settings = {
        "distributed.admin.tick.limit": "1h",  # a busy machine is not this test's business
        "distributed.worker.multiprocessing-method": "forkserver",
    }
    with dask.config.set(settings):
        preloaded = ["distributed", "neurobridge.bridge.cost.distributed", "neurobridge.bridge.fused.jobs"]
        get_mp_context().set_forkserver_preload(preloaded)
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, memory_limit="1GB", dashboard_address=":0"
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def cluster(_two_workers) -> Iterator:
    """The active client of two worker processes, shared by all tests and active in those that ask for it alone."""
    with _two_workers.as_current():
        yield _two_workers


@pytest.fixture
def killed_worker(cluster) -> Iterator[Callable[[], None]]:
    """A function that kills one of the two workers, whom the nanny replaces; the test fails if it was not called."""
    pids = {info["pid"] for info in cluster.run(lambda: {"pid": os.getpid()}).values()}
    victim = min(pids)
    yield lambda: os.kill(victim, signal.SIGKILL)
    cluster.wait_for_workers(2, timeout=30)
    assert victim not in {info["pid"] for info in cluster.run(lambda: {"pid": os.getpid()}).values()}


def random_assembly(
    n_stimuli: int = 20, n_neuroids: int = 5, *, n_repetitions: int = 1, noise: float = 0.5, seed: int = 0
) -> xr.DataArray:
    """Draw a small assembly: one Gaussian signal a stimulus, plus independent noise on each repetition."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n_stimuli, n_neuroids))
    values = np.concatenate([signal + noise * rng.normal(size=signal.shape) for _ in range(n_repetitions)])
    stimuli = [f"s{i:04d}" for i in range(n_stimuli)]
    presentation = {
        "stimulus_id": stimuli * n_repetitions,
        "category_name": [f"c{i % 4}" for i in range(n_stimuli)] * n_repetitions,
    }
    if n_repetitions > 1:
        presentation["repetition"] = np.repeat(np.arange(n_repetitions), n_stimuli)
    return make_assembly(
        values, presentation=presentation, neuroid={"neuroid_id": [f"n{i}" for i in range(n_neuroids)]}
    )


@pytest.fixture(scope="session")
def make_random_assembly():
    """The factory `random_assembly`, for tests that need several sizes."""
    return random_assembly
