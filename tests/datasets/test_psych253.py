"""The averaged recordings of psych253, proven with a stand-in file that holds the real IT sites where a mirror is present."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neurobridge.assemblies import AssemblyError, make_assembly, validate
from neurobridge.datasets import Experiment, load
from neurobridge.datasets.loaders import majajhong2015
from neurobridge.datasets.loaders.majajhong2015 import match_columns
from tests.refusals import refused

N_IMAGES, N_KNOWN, N_IT, N_SITES = 90, 24, 5, 9


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """SIMULATED files of the layout, small: the known sites are columns of the whole file, in another order."""
    rng = np.random.default_rng(0)
    pose = {name: rng.normal(size=N_IMAGES) for name in ("ty", "tz", "rxy_semantic", "rxz_semantic", "ryz_semantic")}
    stimuli = pd.DataFrame({
        "stimulus_id": [f"image{k}" for k in range(N_IMAGES)], "object_name": [f"object{k % 6}" for k in range(N_IMAGES)],
        "category_name": [f"category{k % 3}" for k in range(N_IMAGES)], "variation": [6] * N_IMAGES, "s": 1.0, **pose,
    })  # fmt: skip
    values = rng.normal(size=(N_IMAGES, N_SITES)).astype(np.float32)
    rows, columns = np.sort(rng.permutation(N_IMAGES)[:N_KNOWN]), rng.permutation(N_SITES)[:N_IT]
    known = values[np.ix_(rows, columns)]

    def use(values=values, known=known, rows=rows):
        np.save(tmp_path / "neural_data.npy", values)
        recordings = make_assembly(
            known,
            presentation={"stimulus_id": stimuli["stimulus_id"].to_numpy()[rows]},
            neuroid={"neuroid_id": [f"it-{k:03d}" for k in range(N_IT)], "region": ["IT"] * N_IT},
        )
        it = Experiment("majajhong2015-it-v6", "recorded", stimuli, recordings=recordings)
        monkeypatch.setattr(majajhong2015, "N_SITES", N_SITES)
        monkeypatch.setattr(majajhong2015, "fetch", lambda *a, **k: {"neural_data.npy": tmp_path / "neural_data.npy"})
        monkeypatch.setattr(majajhong2015, "hvm_stimuli", lambda **k: stimuli)
        monkeypatch.setattr(majajhong2015, "load", lambda **k: it)

    return values, known, rows, columns, use


def test_it_columns_prove_themselves_against_the_known_sites(stand_in):
    values, known, rows, columns, use = stand_in
    use()
    experiment = load("psych253")
    recordings = validate(experiment.recordings)
    assert recordings.shape == (N_IMAGES, N_SITES)
    assert recordings.attrs["proof"] > 1 - 1e-9
    it = recordings.isel(neuroid=np.flatnonzero(recordings["region"].values == "IT"))
    order = [it["neuroid_id"].values.tolist().index(f"it-{k:03d}") for k in range(N_IT)]
    assert np.array_equal(it.values[rows][:, order], known)
    assert it["file_column"].values[order].tolist() == columns.tolist()
    assert (recordings["region"].values == "V4").sum() == N_SITES - N_IT
    assert experiment.latents.sizes["presentation"] == N_IMAGES
    assert {"neural_data.npy", "data_subset.npy"} <= set(experiment.attrs["digests"])
    # Other units are the same sites.
    use(values=(3 * values - 1).astype(np.float32))
    assert load("psych253").recordings["region"].values.tolist() == recordings["region"].values.tolist()


def test_rows_out_of_place_and_missing_columns_are_refused(stand_in):
    values, known, _, columns, use = stand_in
    swapped = known.copy()
    swapped[[3, 4]] = known[[4, 3]]
    use(known=swapped)
    with refused(AssemblyError, f"{N_IT} of {N_IT} IT sites", "majajhong2015-it-v6"):
        load("psych253")
    lost = values.copy()
    lost[:, columns[2]] += np.random.default_rng(1).normal(size=N_IMAGES)
    use(values=lost)
    with refused(AssemblyError, f"1 of {N_IT} IT sites"):
        load("psych253")
    twice = known.copy()
    twice[:, 1] = known[:, 0]
    use(known=twice)
    with refused(AssemblyError, "1 that share one"):
        load("psych253")


@pytest.mark.parametrize(
    "spoil", [lambda v: v[:-1], lambda v: v[:, :-1], lambda v: np.where(v > 2, np.nan, v), lambda v: v.astype(np.int16)]
)
def test_another_file_is_refused(stand_in, spoil):
    values, *_, use = stand_in
    use(values=spoil(values))
    with refused(AssemblyError, "neural_data.npy", (N_IMAGES, N_SITES)):
        load("psych253")


@pytest.mark.realdata
def test_one_row_out_of_640_shows_in_the_real_sites(mirror):
    known = load("majajhong2015-it-v6", mirror=mirror).recordings.values
    rng = np.random.default_rng(0)
    whole = np.hstack([known[:, ::-1], rng.normal(size=(640, 128))])
    columns, agreement = match_columns(whole, known)
    assert columns.tolist() == list(range(167, -1, -1))
    assert agreement.min() > 1 - 1e-12
    whole[[10, 11]] = whole[[11, 10]]
    with refused(AssemblyError, "of 168 IT sites"):
        match_columns(whole, known)
