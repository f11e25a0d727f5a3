"""Jobs come back in their order, here and from workers; few are on their way at once; an error is the caller's."""

from __future__ import annotations

import operator
import sys

import pytest

from neurobridge.points.workers import active_client, job_runner
from tests.refusals import refused


@pytest.mark.parametrize("distributed", [False, True])
def test_results_come_in_order_and_jobs_are_read_as_they_are_sent(cluster, distributed):
    read = []

    def jobs():
        # The first takes longest.
        for number in (200_000, *range(1, 40)):
            read.append(number)
            yield 3, number

    results = job_runner(distributed)(pow, jobs())
    assert next(results) == 3**200_000
    # Two jobs a thread of two workers, and one more.
    assert len(read) <= 6
    assert list(results) == [3**number for number in range(1, 40)]


@pytest.mark.parametrize("distributed", [False, True])
def test_an_error_of_a_job_is_raised_as_it_is(cluster, distributed):
    with pytest.raises(ZeroDivisionError):
        list(job_runner(distributed)(operator.truediv, [(1, 2), (1, 0), (2, 1)]))


def test_needs_a_client_and_the_extra(monkeypatch):
    with refused(ValueError, "distributed=True", "no client", "client = Client("):
        active_client()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with refused(ImportError, "distributed=True", "'neurobridge[distributed]'"):
        job_runner(True)
