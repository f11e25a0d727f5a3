"""NWB: spikes of units in windows of the trials, processed tables, and series."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, inspect_recordings
from tests.refusals import refused

# hdmf warns about its own dependencies while it is imported and while it writes.
pytestmark = pytest.mark.filterwarnings("ignore")
UNITS = [[0.07, 0.10, 1.12], [1.05, 1.20]]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    pynwb = pytest.importorskip("pynwb", reason="the extra io brings pynwb")
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    file = pynwb.NWBFile("simulated", "session 1", start)
    file.add_trial_column("image_name", "image that was shown")
    for onset, name in ((0.0, "a.png"), (1.0, "b.png")):
        file.add_trial(start_time=onset, stop_time=onset + 0.4, image_name=name)
    file.add_unit_column("region", "area")
    for k, times in enumerate(UNITS):
        intervals = [[0.0, 1.5]] if k == 0 else [[0.9, 1.5]]
        file.add_unit(spike_times=times, region=["V4", "IT"][k], obs_intervals=intervals)
    module = file.create_processing_module("behavior", "processed")
    series = pynwb.TimeSeries("lfp", data=np.arange(30.0).reshape(15, 2), unit="V", rate=10.0)
    module.add(series)
    module.add(pynwb.TimeSeries("rates", data=np.array([[1.0, 2.0], [3.0, 4.0]]), unit="Hz", rate=1.0))
    responses = pynwb.core.DynamicTable("responses", "one trial a row")
    for name in ("u0", "u1"):
        responses.add_column(name, "a unit")
    for row in ((1.0, 2.0), (3.0, 4.0)):
        responses.add_row(u0=row[0], u1=row[1])
    module.add(responses)
    path = tmp_path_factory.mktemp("nwb") / "session.nwb"
    with pynwb.NWBHDF5IO(str(path), "w") as stream:
        stream.write(file)
    return path


def test_spikes_of_units_are_counted_in_the_trials_of_the_file(session):
    counts = nb.read_recordings(session, windows={"response": (70, 170), "late": (170, 300)})
    np.testing.assert_array_equal(counts.values[:, :, 0], [[2, np.nan], [1, 0]])
    np.testing.assert_array_equal(counts.values[:, :, 1], [[0, np.nan], [0, 1]])
    assert counts["stimulus_id"].values.tolist() == ["a.png", "b.png"]
    assert counts["region"].values.tolist() == ["V4", "IT"]
    assert counts["neuroid_id"].values.tolist() == ["0", "1"]
    assert counts.attrs["format"] == "NWB"


def test_a_processed_table_and_a_series_of_trials(session):
    for name in ("responses", "processing/behavior/rates"):
        recordings = nb.read_recordings(session, variable=name)
        assert recordings.values.tolist() == [[1, 2], [3, 4]], name
        assert recordings["stimulus_id"].values.tolist() == ["a.png", "b.png"]


def test_a_series_is_averaged_in_windows(session):
    averages = nb.read_recordings(session, variable="lfp", windows={"w": (0, 200), "none": (90, 95)})
    # Samples every 100 ms: 0 and 1 of the first trial, 10 and 11 of the second.
    np.testing.assert_allclose(averages.values[:, :, 0], [[1, 2], [21, 22]])
    assert np.isnan(averages.values[:, :, 1]).all()


def test_what_is_in_the_file_is_shown_and_asked_for(session):
    shown = inspect_recordings(session)
    assert {"units", "trials", "processing/behavior/lfp", "processing/behavior/responses"} <= set(shown["name"])
    with refused(AssemblyError, "2 units", "--window", "--var"):
        nb.read_recordings(session)
    with refused(AssemblyError, "0 items 'none'", "processing/behavior/lfp"):
        nb.read_recordings(session, variable="none")
    with refused(AssemblyError, "15 samples", "2 trials"):
        nb.read_recordings(session, variable="lfp")


def test_a_damaged_file_is_refused(session, tmp_path):
    whole = session.read_bytes()
    for k, damaged in enumerate((whole[: len(whole) // 2], b"\x89HDF\r\n\x1a\n" + bytes(500), b"")):
        path = tmp_path / f"{k}.nwb"
        path.write_bytes(damaged)
        with refused(AssemblyError, path.name):
            nb.read_recordings(path, bins=(0, 100, 10))
