"""Examples in the docstrings of the room run, and every public function and class has one."""

from __future__ import annotations

import doctest
import inspect

import pytest

from neurobridge import evaluate
from neurobridge.evaluate import decoding, similarity, splits

THINGS = {
    name: getattr(room, name)
    for room in (evaluate, decoding, similarity, splits)
    for name in room.__all__
    if callable(getattr(room, name))
}


@pytest.mark.parametrize("name", sorted(THINGS))
def test_every_public_name_has_an_example_that_runs(name):
    assert "Examples\n" in inspect.getdoc(THINGS[name])
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(recurse=False).find(THINGS[name], name):
        runner.run(example)
    assert runner.failures == 0
