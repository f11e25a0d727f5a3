"""Activations behind the interface of a BrainModel; the real class is asked what it sees."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.brainscore import AlignedBrainModel, from_brainscore

pytestmark = pytest.mark.brainscore
IDS = [f"im{k:02d}" for k in range(12)]


def units(n: int = 5, seed: int = 0, ids=IDS) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    return make_assembly(
        rng.normal(size=(len(ids), n)),
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": [f"u{k}" for k in range(n)], "layer": ["last"] * n},
    )


def stimuli(order=IDS) -> pd.DataFrame:
    return pd.DataFrame({"Unnamed: 0": range(len(order)), "stimulus_id": order, "object_name": "car", "variation": 3})


@pytest.fixture(autouse=True)
def _real():
    pytest.importorskip("brainscore_core", reason="needs the extra brainscore")


def squeezed_bin() -> np.ndarray:
    """What Brain-Score hands over where it squeezed the time: a 0-d array that holds a tuple."""
    value = np.empty((), dtype=object)
    value[()] = (70, 170)
    return value


@pytest.mark.parametrize(
    ("time_bins", "expected"),
    [
        ([(70, 170)], [(70, 170)]),
        ([squeezed_bin()], [(70, 170)]),
        ([np.array([70, 170])], [(70, 170)]),
        ([(0, 10), (10, 20)], [(0, 10), (10, 20)]),
    ],
)
def test_time_bins_of_any_form_come_back_as_bounds(time_bins, expected):
    model = AlignedBrainModel(units(), "m")
    model.start_recording("IT", time_bins)
    seen = model.look_at(stimuli())
    assert seen.dims == ("presentation", "neuroid", "time_bin")
    assert list(zip(seen["time_bin_start"].values, seen["time_bin_end"].values, strict=True)) == expected
    for k in range(len(expected)):
        np.testing.assert_array_equal(seen.values[:, :, k], units().values)


def test_stimuli_come_back_in_the_order_shown_with_their_labels():
    order = IDS[::-2]
    model = AlignedBrainModel(units(), "m", visual_degrees=10)
    assert (model.identifier, model.visual_degrees()) == ("m", 10)
    model.start_recording("V4", [(70, 170)])
    seen = from_brainscore(model.look_at(stimuli(order), number_of_trials=50))
    assert list(seen["stimulus_id"].values) == order
    assert set(seen["object_name"].values) == {"car"}
    assert "Unnamed: 0" not in seen.coords
    np.testing.assert_array_equal(seen.values[:, :, 0], units().values[::-2])
    assert seen.attrs["identifier"] == "m"


def test_paths_are_known_by_their_stem():
    model = AlignedBrainModel(units(), "m")
    model.start_recording("IT", [(70, 170)])
    assert list(model.look_at(["/a/im03.png", "/b/im01.png"])["stimulus_id"].values) == ["im03", "im01"]


def test_an_aligned_model_records_in_the_space_of_the_recordings():
    source, target = units(), units(8, seed=1)
    aligner = RidgeAligner().fit(source, target)
    model = AlignedBrainModel(source, "aligned", aligner=aligner)
    model.start_recording("IT", [(70, 170)])
    seen = from_brainscore(model.look_at(stimuli()))
    np.testing.assert_allclose(seen.values[:, :, 0], aligner.transform(source).values)


def test_regions_have_activations_and_aligners_of_their_own():
    model = AlignedBrainModel({"V4": units(3), "IT": units(4)}, "m")
    for region, n in (("V4", 3), ("IT", 4)):
        model.start_recording(region, [(70, 170)])
        assert model.look_at(stimuli()).sizes["neuroid"] == n
    with pytest.raises(AssemblyError, match=r"'IT', 'V4'.*'V1'"):
        model.start_recording("V1", [(70, 170)])
    with pytest.raises(AssemblyError, match=r"'IT'.*'V4'"):
        AlignedBrainModel(units(), "m", aligner={"IT": RidgeAligner()}).start_recording("V4", [(70, 170)])


def test_an_extractor_is_given_the_stimuli():
    shown = []

    def extract(given):
        shown.append(given)
        return units()

    model = AlignedBrainModel(extract, "m")
    model.start_recording("IT", [(70, 170)])
    given = stimuli()
    assert model.look_at(given).shape == (12, 5, 1)
    assert shown[0] is given


def test_passive_viewing_records_nothing_and_other_tasks_are_refused():
    model = AlignedBrainModel(units(), "m")
    assert model.look_at(stimuli()) is None
    model.start_recording("IT", [(70, 170)])
    model.start_task("passive")
    assert model.look_at(stimuli()) is None
    with pytest.raises(NotImplementedError, match=r"'label'.*'passive'"):
        model.start_task("label", ["dog", "cat"])


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda model: model.start_recording("IT", []), "found no time bin"),
        (lambda model: model.start_recording("IT", [70]), "time_bins.* 70;"),
        (lambda model: model.start_recording("IT", ["ab"]), "time_bins.* 'ab';"),
        (lambda model: model.look_at(stimuli([*IDS, "new"])), "1 of 13.*'new'"),
        (lambda model: model.look_at(pd.DataFrame({"image": IDS})), r"\['image'\].*'stimulus_id'"),
        (lambda model: AlignedBrainModel(units(ids=["a", "a"]), "m"), "activations"),
        (lambda model: AlignedBrainModel(units() * np.nan, "m"), "NaN or infinite"),
    ],
)
def test_what_cannot_be_recorded_is_refused(do, message):
    model = AlignedBrainModel(units(), "m")
    model.start_recording("IT", [(70, 170)])
    with pytest.raises(AssemblyError, match=message) as caught:
        do(model)
    assert "Mend:" in str(caught.value)
