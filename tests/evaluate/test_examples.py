"""Every public name of the room is documented in full; the examples themselves run as doctests."""

from __future__ import annotations

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
def test_every_public_name_says_what_it_takes_and_gives_and_shows_an_example(name):
    thing = THINGS[name]
    sections = set(inspect.getdoc(thing).split("\n"))
    assert "Examples" in sections
    if inspect.isfunction(thing):
        assert {"Parameters", "Returns"} <= sections
        assert all(parameter in inspect.getdoc(thing) for parameter in inspect.signature(thing).parameters)
