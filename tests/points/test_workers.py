"""Jobs come back in their order, here and from workers; few are on their way at once; an error is the caller's."""

from __future__ import annotations

import sys
import time

import pytest

from neurobridge.points.workers import active_client, job_runner
from tests.refusals import refused


def slow_square(number: int) -> int:
    time.sleep(0.02 if number == 0 else 0)
    if number < 0:
        raise ArithmeticError(f"{number}")
    return number**2


@pytest.mark.parametrize("distributed", [False, True])
def test_results_come_in_order_and_jobs_are_read_as_they_are_sent(cluster, distributed):
    read = []

    def jobs():
        for number in range(40):
            read.append(number)
            yield (number,)

    results = job_runner(distributed)(slow_square, jobs())
    assert next(results) == 0
    # Two jobs a thread of two workers, and one more.
    assert len(read) <= 6
    assert list(results) == [number**2 for number in range(1, 40)]


@pytest.mark.parametrize("distributed", [False, True])
def test_an_error_of_a_job_is_raised_as_it_is(cluster, distributed):
    with pytest.raises(ArithmeticError, match="-3"):
        list(job_runner(distributed)(slow_square, [(1,), (-3,), (2,)]))


def test_needs_a_client_and_the_extra(monkeypatch):
    with refused(ValueError, "distributed=True", "no client", "client = Client("):
        active_client()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with refused(ImportError, "distributed=True", "'neurobridge[distributed]'"):
        job_runner(True)
