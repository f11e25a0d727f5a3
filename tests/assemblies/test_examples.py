"""Every public name of the room is documented in full; the examples themselves run as doctests."""

from __future__ import annotations

import inspect

import pytest

from neurobridge import assemblies


@pytest.mark.parametrize("name", [name for name in assemblies.__all__ if callable(getattr(assemblies, name))])
def test_every_public_name_says_what_it_takes_and_gives_and_shows_an_example(name):
    thing = getattr(assemblies, name)
    sections = set(inspect.getdoc(thing).split("\n"))
    assert "Examples" in sections
    if inspect.isfunction(thing):
        assert {"Parameters", "Returns"} <= sections
        assert all(parameter in inspect.getdoc(thing) for parameter in inspect.signature(thing).parameters)
