"""The campaign tells an error of the package from any other, and counts what it saw."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from neurobridge.assemblies import validate
from tests.fuzz.campaign import Campaign, Refused, attempt


def test_an_error_of_the_package_is_a_refusal():
    with pytest.raises(Refused, match="expected an xarray"), attempt():
        validate([1.0])


@pytest.mark.parametrize("error", [ValueError("found 1; expected 2. Mend: 3."), KeyError("expected")])
def test_any_other_error_is_a_fault(error):
    with pytest.raises(type(error)), attempt():
        raise error


def test_outcomes_are_counted_and_a_fault_ends_the_campaign():
    campaign = Campaign(seconds=1.0, seed=0)
    # The first batch of a process takes longer.
    campaign.run("nothing", st.none(), lambda drawn: None)

    def check(number):
        if number < 0:
            raise Refused

    campaign.run("numbers", st.integers(-5, 5), check)
    counts = campaign.counts["numbers"]
    assert min(counts["accepted"], counts["refused"]) > 0
    assert counts["accepted"] + counts["refused"] == counts["inputs"]
    with pytest.raises(ZeroDivisionError):
        campaign.run("quotients", st.integers(-5, 5), lambda number: 1 / (number - number))
    assert campaign.counts["quotients"]["faults"] > 0
