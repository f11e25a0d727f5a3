"""Files of laboratories, whole, odd and damaged, into the readers: an assembly with the values of the file, or a refusal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge.assemblies import count_spikes, inspect_recordings, normalize_ids, read_recordings
from tests.assemblies.readers.files import MAP, PACKAGES, WRITERS, example, tables
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.strategies import IDS, NAMES, damage, numbers

#: Names of what is tried here, for the test of all entrances.
ENTRANCES = (
    "assemblies.read_recordings",
    "assemblies.inspect_recordings",
    "assemblies.count_spikes",
    "assemblies.normalize_ids",
)
FILES = [kind for kind in WRITERS if kind != "zarr"]


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files(campaign: Campaign, kind: str) -> None:
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind], reason=f"the extra io brings {PACKAGES[kind]}")
    lab = example()
    writer, needed = WRITERS[kind]
    columns = {} if kind == "assembly" else MAP
    with tempfile.TemporaryDirectory() as folder:
        path = writer(lab, Path(folder))
        name, whole = path.name, path.read_bytes()

    def check(contents: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(contents)
            with attempt():
                inspect_recordings(path)
            with attempt():
                recordings = read_recordings(path, columns=columns, **tables(lab, needed))
        assert not np.isinf(np.asarray(recordings.values, dtype=float)).any()
        if contents == whole:
            np.testing.assert_array_equal(recordings.values, lab.values)

    campaign.run(f"damaged {kind}", damage(whole) | st.just(whole), check)


@st.composite
def odd_tables(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Tables with odd names, ids and values, and options that may or may not fit."""
    n = draw(st.integers(0, 6))
    names = draw(
        st.lists(
            NAMES | st.sampled_from(["image", "unit", "value", "trial", "time", "u0", "u1"]), max_size=5, unique=True
        )
    )
    columns = {}
    for name in names:
        kind = draw(st.integers(0, 2))
        columns[name] = draw(st.lists(IDS, min_size=n, max_size=n)) if kind else draw(numbers((n,))).tolist()
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["columns"] = draw(st.dictionaries(NAMES, NAMES, max_size=2))
    if draw(st.booleans()):
        options["variable"] = draw(st.sampled_from(["u*", "*", "value", "none"]))
    if draw(st.integers(0, 3)) == 0:
        options["ids"] = draw(st.sampled_from(["stem", "casefold", "name,nfc", "none"]))
    if draw(st.integers(0, 3)) == 0:
        options["trials"] = draw(st.lists(IDS, max_size=6))
    return pd.DataFrame(columns), options


def test_odd_tables(campaign: Campaign) -> None:
    def check(drawn: tuple[pd.DataFrame, dict[str, Any]]) -> None:
        table, options = drawn
        with attempt():
            recordings = read_recordings(table, **options)
        with attempt():
            nb.save_assembly(recordings, Path(tempfile.mkdtemp()) / "a.nc")

    campaign.run("assemblies.read_recordings of tables", odd_tables(), check)


@st.composite
def nearly_whole_tables(draw: st.DrawFn) -> tuple[pd.DataFrame, np.ndarray, bool]:
    """Wide and long tables of responses, the responses, and whether one id or value was made odd."""
    n_trials, n_sites = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    values = draw(
        st.lists(st.floats(-9, 9) | st.just(np.nan), min_size=n_trials * n_sites, max_size=n_trials * n_sites)
    )
    responses = np.asarray(values, dtype=float).reshape(n_trials, n_sites)
    images: list[Any] = draw(
        st.lists(st.sampled_from(["a.png", "b.png", "7", "\u00e9"]), min_size=n_trials, max_size=n_trials)
    )
    odd = draw(st.integers(0, 3)) == 0
    if odd:
        images[draw(st.integers(0, n_trials - 1))] = draw(IDS)
    if draw(st.booleans()):
        table = pd.DataFrame({"stimulus_id": images, **{f"u{k}": responses[:, k] for k in range(n_sites)}})
    else:
        trial, site = (axis.ravel() for axis in np.indices(responses.shape))
        table = pd.DataFrame(
            {
                "trial": trial,
                "stimulus_id": pd.Series(images, dtype=object).iloc[trial].tolist(),
                "site": [f"u{k}" for k in site],
                "value": responses.ravel(),
            }
        )
        # Where a row of a long table stands has no meaning.
        table = table.iloc[draw(st.permutations(range(len(table))))] if draw(st.booleans()) else table
    return table, responses, odd


def test_nearly_whole_tables(campaign: Campaign) -> None:
    def check(drawn: tuple[pd.DataFrame, np.ndarray, bool]) -> None:
        table, responses, odd = drawn
        with attempt():
            recordings = read_recordings(table)
        # Trials of a long table come in the order of their first row; those without a single value are left out, and such sites.
        trials = table.drop_duplicates("trial") if "trial" in table else table.assign(trial=range(len(table)))
        known = ~np.isnan(responses)
        trials = trials[known.any(axis=1)[trials["trial"]]]
        sites = np.flatnonzero(known.any(axis=0))
        read = recordings.transpose("presentation", "neuroid").values
        order = np.argsort(recordings["neuroid_id"].values)
        np.testing.assert_array_equal(read[:, order], responses[np.ix_(trials["trial"], sites)])
        if not odd:
            assert recordings["stimulus_id"].values.tolist() == trials["stimulus_id"].tolist()

    campaign.run("assemblies.read_recordings of nearly whole tables", nearly_whole_tables(), check)


@st.composite
def odd_arrays(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    """Arrays of up to four axes with ids that may or may not fit."""
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=0, max_size=4)))
    options: dict[str, Any] = {"trials": draw(st.lists(IDS, max_size=5))}
    if draw(st.booleans()):
        words = st.sampled_from(["presentation", "site", "time", "repeat", "stimulus", "none"])
        options["dims"] = draw(st.lists(words, min_size=1, max_size=4))
    if draw(st.integers(0, 2)) == 0:
        options["bins"] = draw(st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.integers(-1, 3)))
    return draw(numbers(shape)), options


def test_odd_arrays(campaign: Campaign) -> None:
    def check(drawn: tuple[np.ndarray, dict[str, Any]]) -> None:
        array, options = drawn
        with attempt():
            recordings = read_recordings(array, **options)
        assert recordings.size <= array.size

    campaign.run("assemblies.read_recordings of arrays", odd_arrays(), check)


@st.composite
def odd_spikes(draw: st.DrawFn) -> tuple[dict[Any, Any], dict[str, Any], dict[str, Any]]:
    """Spikes, trials and windows with odd ids and numbers."""
    times = st.lists(st.integers(-3, 9) | st.floats(-1, 9), max_size=6) | st.just([np.nan])
    spikes = draw(st.dictionaries(IDS.filter(lambda name: name is not pd.NA and name == name), times, max_size=3))
    n = draw(st.integers(0, 4))
    trials = {
        draw(st.sampled_from(["stimulus_id", "image", "x"])): draw(st.lists(IDS, min_size=n, max_size=n)),
        draw(st.sampled_from(["onset", "start_time", "y"])): draw(
            st.lists(st.integers(0, 5) | st.none(), min_size=n, max_size=n)
        ),
    }
    edges = st.tuples(st.integers(-2000, 5000), st.integers(-2000, 5000))
    options: dict[str, Any] = {"windows": draw(st.dictionaries(st.text(max_size=3), edges, max_size=2))}
    if draw(st.booleans()):
        options = {
            "bins": draw(st.tuples(st.integers(-9, 9), st.integers(0, 3000), st.sampled_from([1, 100, 0.5, 0, -1])))
        }
    options["sampling_rate"] = draw(st.sampled_from([1.0, 1000.0, 0.0, np.nan]))
    return spikes, trials, options


def test_odd_spikes(campaign: Campaign) -> None:
    def check(drawn: Any) -> None:
        spikes, trials, options = drawn
        with attempt():
            counts = count_spikes(spikes, trials, **options)
        assert counts.values.min() >= 0
        assert counts.values.sum() >= 1

    campaign.run("assemblies.count_spikes", odd_spikes(), check)


@st.composite
def whole_spikes(draw: st.DrawFn) -> tuple[dict[str, list[float]], list[int], tuple[int, int, int]]:
    """Spike times in eighths of a second, onsets, and bins (start, end, width) in milliseconds."""
    eighths = st.integers(-8, 40).map(lambda k: k / 8)
    spikes = draw(st.dictionaries(st.sampled_from(["u0", "u1", "u2"]), st.lists(eighths, max_size=8), min_size=1))
    onsets = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    width = draw(st.sampled_from([125, 250, 500]))
    start = 125 * draw(st.integers(-4, 4))
    return spikes, onsets, (start, start + width * draw(st.integers(1, 4)), width)


def test_whole_spikes(campaign: Campaign) -> None:
    def check(drawn: tuple[dict[str, list[float]], list[int], tuple[int, int, int]]) -> None:
        spikes, onsets, (start, end, width) = drawn
        trials = {"stimulus_id": [f"s{k}" for k in range(len(onsets))], "onset": onsets}
        with attempt():
            counts = count_spikes(spikes, trials, bins=(start, end, width))
        counts = counts.transpose("presentation", "neuroid", "time_bin")
        for (row, column, number), count in np.ndenumerate(counts.values):
            begin = start + number * width
            times = 1000 * (np.asarray(spikes[str(counts["neuroid_id"].values[column])]) - onsets[row])
            assert count == ((times >= begin) & (times < begin + width)).sum()

    campaign.run("assemblies.count_spikes of whole spikes", whole_spikes(), check)


def test_forms_of_ids(campaign: Campaign) -> None:
    forms = st.lists(
        st.sampled_from(["stem", "name", "casefold", "nfc", "nfkc", "strip", "visible", "none"]), max_size=3
    )
    drawn = st.tuples(st.lists(IDS, min_size=1, max_size=5), forms)

    def check(given: Any) -> None:
        ids, chosen = given
        with attempt():
            values = np.zeros((len(ids), 1))
            assembly = nb.make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["n"]})
        with attempt():
            changed = normalize_ids(assembly, chosen)
        assert len(set(changed["stimulus_id"].values.tolist())) == len(
            {str(i) for i in assembly["stimulus_id"].values.tolist()}
        )

    campaign.run("assemblies.normalize_ids", drawn, check)
