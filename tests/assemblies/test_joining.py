"""Sites of several sessions in one population: every value stands at its stimulus, trial and site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, join_sites, make_assembly


def code(stimulus: str, trial: int, site: str) -> float:
    """A number that tells stimulus, trial and site."""
    return 100.0 * int(stimulus.strip("s.png")) + trial + 0.01 * int(site.strip("n"))


def session(ids, sites=("n0", "n1"), **columns):
    """Trials in the order of ids, each value telling where it stands."""
    seen: dict[str, int] = {}
    trials = [seen.update({name: seen.get(name, -1) + 1}) or seen[name] for name in ids]
    values = [[code(name, trial, site) for site in sites] for name, trial in zip(ids, trials, strict=True)]
    return make_assembly(
        values,
        presentation={"stimulus_id": list(ids), "repetition": trials, **columns},
        neuroid={"neuroid_id": list(sites)},
    )


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=2, max_size=3),
    st.booleans(),
)
def test_every_value_stands_at_its_stimulus_trial_and_site(days, all_stimuli):
    parts = {f"d{k}": session([f"s{i}" for i in day], [f"n{2 * k}", f"n{2 * k + 1}"]) for k, day in enumerate(days)}
    common = set.intersection(*map(set, days))
    if not common and not all_stimuli:
        with pytest.raises(AssemblyError, match="no stimulus_id shared"):
            join_sites(parts)
        return
    joined = join_sites(parts, all_stimuli=all_stimuli)
    kept = set.union(*map(set, days)) if all_stimuli else common
    assert set(joined["stimulus_id"].values.tolist()) == {f"s{i}" for i in kept}
    counts = {i: max(day.count(i) for day in days) for i in kept}
    assert len(joined) == sum(counts.values())
    repetition = joined["repetition"].values if "repetition" in joined.coords else np.zeros(len(joined), dtype=int)
    for row, (name, trial) in enumerate(zip(joined["stimulus_id"].values.tolist(), repetition.tolist(), strict=True)):
        for column, site in enumerate(joined["neuroid_id"].values.tolist()):
            has = days[column // 2].count(int(name[1:])) > trial
            expected = code(name, trial, site) if has else np.nan
            np.testing.assert_equal(float(joined.values[row, column]), expected)
    assert joined.attrs.get("n_missing_values", 0) == np.isnan(joined.values).sum()
    assert joined.attrs["n_left_out_stimuli"] == [len(set(day) - kept) for day in days]


def test_averages_of_the_joined_trials_are_the_joined_averages():
    rng = np.random.default_rng(0)

    def day(n_trials, prefix):
        ids = [f"s{k}" for k in range(6)] * n_trials
        sites = {"neuroid_id": [f"{prefix}{k}" for k in range(3)]}
        values = np.tile(rng.normal(size=(6, 3)), (n_trials, 1)) + 0.1 * rng.normal(size=(len(ids), 3))
        return make_assembly(values, presentation={"stimulus_id": ids}, neuroid=sites)

    days = {"a": day(4, "a"), "b": day(2, "b")}
    of_trials = nb.average_repetitions(join_sites(days))
    of_averages = join_sites({name: nb.average_repetitions(each) for name, each in days.items()})
    np.testing.assert_allclose(of_trials.values, of_averages.values, atol=1e-12)
    ceilings = nb.internal_consistency(join_sites(days), n_bootstrap=0)["ceiling"]
    assert ceilings.sizes["neuroid"] == 6
    assert (ceilings > 0.9).all()


def test_ids_of_sites_are_qualified_only_where_they_collide():
    ids = ["s0", "s1"]
    different = join_sites({"a": session(ids, ["n0"]), "b": session(ids, ["n1"])})
    assert different["neuroid_id"].values.tolist() == ["n0", "n1"]
    assert different.attrs["qualified_ids"] == 0
    collided = join_sites({"a": session(ids, ["n0", "n1"]), "b": session(ids, ["n1"])}, by="animal")
    assert collided["neuroid_id"].values.tolist() == ["a-n0", "a-n1", "b-n1"]
    assert collided["animal"].values.tolist() == ["a", "a", "b"]
    assert "session" not in collided.coords
    own = session(ids, ["n0", "n1"]).assign_coords(session=("neuroid", ["mon", "tue"]))
    assert join_sites([own, own.isel(neuroid=[0]).assign_coords(session=("neuroid", ["wed"]))])[
        "neuroid_id"
    ].values.tolist() == ["mon-n0", "tue-n1", "wed-n0"]


def test_columns_that_agree_are_kept_and_the_others_named():
    first = session(["s0", "s1"], kind=["car", "face"], depth=[1, 2], only=["x", "y"])
    second = session(["s1", "s0"], ["n2"], kind=["face", "car"], depth=[2, 7])
    second = second.assign_coords(region=("neuroid", ["IT"]))
    joined = join_sites({"a": first, "b": second})
    assert joined["kind"].values.tolist() == ["car", "face"]
    assert sorted(joined.attrs["left_out_columns"]) == ["depth", "only"]
    assert joined["region"].values.tolist() == ["", "", "IT"]


def test_time_bins_stay_and_other_ones_are_refused(tmp_path):
    def binned(start, prefix):
        return make_assembly(
            np.arange(8.0).reshape(2, 2, 2),
            presentation={"stimulus_id": ["s0", "s1"]},
            neuroid={"neuroid_id": [f"{prefix}0", f"{prefix}1"]},
            time_bin={"time_bin_start": [start, start + 10]},
        )

    joined = join_sites({"a": binned(0, "a"), "b": binned(0, "b")})
    assert joined.sizes == {"presentation": 2, "neuroid": 4, "time_bin": 2}
    assert joined["time_bin_start"].values.tolist() == [0, 10]
    assert nb.open_assembly(nb.save_assembly(joined, tmp_path / "both.nc")).identical(joined)
    with pytest.raises(AssemblyError, match="time bins"):
        join_sites({"a": binned(0, "a"), "b": binned(5, "b")})
    with pytest.raises(AssemblyError, match="no time bins in b"):
        join_sites({"a": binned(0, "a"), "b": binned(0, "b").isel(time_bin=0)})


def test_ids_are_matched_by_the_rules_of_the_house():
    numbers = make_assembly([[1.0], [2.0]], presentation={"stimulus_id": [7, 8]}, neuroid={"neuroid_id": ["n0"]})
    texts = make_assembly([[3.0], [4.0]], presentation={"stimulus_id": ["8", "9"]}, neuroid={"neuroid_id": ["n1"]})
    assert join_sites({"a": numbers, "b": texts}).values.tolist() == [[2.0, 3.0]]
    everything = join_sites({"a": numbers, "b": texts}, all_stimuli=True)
    assert everything["stimulus_id"].values.tolist() == ["7", "8", "9"]
    with pytest.warns(UserWarning, match="extension"):
        joined = join_sites({"a": session(["s0.png", "s1.png"]), "b": session(["s1", "s0"], ["n7"])})
    assert joined["stimulus_id"].values.tolist() == ["s0.png", "s1.png"]
    np.testing.assert_allclose(joined.values[:, 2], [0.07, 100.07])


def test_counts_stay_whole_numbers_where_nothing_is_missing():
    one = make_assembly([[1], [2]], presentation={"stimulus_id": ["s0", "s1"]}, neuroid={"neuroid_id": ["n0"]})
    two = one.assign_coords(neuroid_id=("neuroid", ["n1"]))
    assert join_sites({"a": one, "b": two}).dtype.kind == "i"
    assert join_sites({"a": one, "b": two.isel(presentation=[0])}, all_stimuli=True).dtype == float


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (lambda a: [a], ["1"]),
        (lambda a: [a, a], ["session"]),
        (lambda a: {"a": a, "b": session(["s5"])}, ["'s0'", "'s5'", "--all-stimuli"]),
        (lambda a: [each.assign_coords(session=("neuroid", ["x", "x"])) for each in (a, a)], ["x-n0", "2"]),
        (
            lambda a: {"a": nb.average_repetitions(session(["s0", "s1"])), "b": session(["s0", "s0"], ["n3"])},
            ["n_repetitions", "single trials in b"],
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(make, facts):
    with pytest.raises(AssemblyError) as error:
        join_sites(make(session(["s0", "s1"])))
    for fact in facts:
        assert fact in str(error.value)


def test_a_name_of_the_schema_is_no_session():
    with pytest.raises(AssemblyError, match="stimulus_id"):
        join_sites({"a": session(["s0"]), "b": session(["s0"], ["n1"])}, by="stimulus_id")
