"""Examples in the docstrings of the room run, and every public name has one."""

from __future__ import annotations

import doctest
import inspect

import pytest

from neurobridge import assemblies


@pytest.mark.parametrize("name", assemblies.__all__)
def test_every_public_name_has_an_example_that_runs(name):
    thing = getattr(assemblies, name)
    assert "Examples\n" in inspect.getdoc(thing)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(recurse=False).find(thing, name):
        runner.run(example)
    assert runner.failures == 0
