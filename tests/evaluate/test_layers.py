"""Layer selection: known truths, no glance at held-out stimuli, the region's own layer, and every refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import aggregate, predictivity, select_layer

N = 120
LAYERS = ("early", "middle", "late")


def model_and_brain(seed: int = 0, noise: float = 0.5) -> tuple[xr.DataArray, xr.DataArray]:
    """Three layers of independent units; V4 reads the middle one, IT the late one."""
    rng = np.random.default_rng(seed)
    parts = {layer: rng.normal(size=(N, 6)) for layer in LAYERS}
    v4, it = (parts[name] @ rng.normal(size=(6, 4)) for name in ("middle", "late"))
    responses = np.hstack([v4, it])
    responses = responses + noise * responses.std() * rng.normal(size=responses.shape)
    ids = [f"s{k:03d}" for k in range(N)]
    activations = make_assembly(
        np.hstack(list(parts.values())),
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": [f"u{k}" for k in range(18)], "layer": np.repeat(LAYERS, 6)},
    )
    recordings = make_assembly(
        responses,
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": [f"n{k}" for k in range(8)], "region": ["V4"] * 4 + ["IT"] * 4},
    )
    return activations, recordings


def test_each_region_gets_the_layer_that_drives_it() -> None:
    activations, recordings = model_and_brain()
    for region, layer in (("V4", "middle"), ("IT", "late")):
        choice = select_layer(activations, recordings, region=region, regression="ridge", n_permutations=100)
        assert choice.layer == layer
        assert choice.scores["layer"].values.tolist() == list(LAYERS)
        assert choice.scores["raw"].shape == (3, 10, 4)
        assert choice.scores["n_units"].values.tolist() == [6, 6, 6]
        assert choice.scores.attrs["region"] == region
        medians = np.median(choice.scores["raw"], axis=2).mean(axis=1)
        other = LAYERS.index(layer)
        assert medians[other] > 0.7
        assert np.delete(medians, other).max() < 0.3
        assert aggregate(choice.held_out)["raw"] > 0.7
        assert aggregate(choice.held_out)["n_splits"] == 1


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 100))
def test_held_out_responses_have_no_part_in_the_choice(seed: int, scale: float) -> None:
    activations, recordings = model_and_brain(seed, noise=3.0)
    train = recordings["stimulus_id"].values[np.random.default_rng(seed).permutation(N)[:80]]
    changed = recordings.copy(deep=True)
    rows = ~np.isin(changed["stimulus_id"].values, train)
    changed.values[rows] = scale * np.random.default_rng(seed + 1).normal(size=(rows.sum(), 8))
    options: dict[str, Any] = {"train": train, "regression": "ridge", "n_permutations": 10}
    first, second = (select_layer(activations, brain, **options) for brain in (recordings, changed))
    assert first.layer == second.layer
    xr.testing.assert_identical(first.scores, second.scores)
    assert not np.array_equal(first.held_out["raw"], second.held_out["raw"])


def test_scores_are_those_of_predictivity_and_order_of_stimuli_does_not_matter() -> None:
    activations, recordings = model_and_brain(1)
    train = recordings["stimulus_id"].values[:90]
    choice = select_layer(activations, recordings, train=train, n_permutations=10)
    alone = predictivity(
        activations.isel(presentation=slice(90), neuroid=slice(6, 12)),
        recordings.isel(presentation=slice(90)),
        n_permutations=10,
    )
    np.testing.assert_allclose(choice.scores["raw"].sel(layer="middle"), alone["raw"], atol=1e-12)
    order = np.random.default_rng(0).permutation(N)
    turned = select_layer(activations.isel(presentation=order), recordings, train=train, n_permutations=10)
    np.testing.assert_allclose(turned.scores["raw"], choice.scores["raw"], atol=1e-10)
    np.testing.assert_allclose(turned.held_out["raw"], choice.held_out["raw"], atol=1e-10)


def test_of_equals_the_earlier_layer_and_all_stimuli_leave_none_held_out() -> None:
    activations, recordings = model_and_brain(2)
    twin = activations.copy(deep=True)
    twin.values[:, :6] = twin.values[:, 12:]
    choice = select_layer(
        twin, recordings, region="IT", train=recordings["stimulus_id"].values, regression="ridge", n_permutations=10
    )
    assert choice.layer == "early"
    assert choice.held_out is None


def test_the_draw_is_seeded_and_stratified_and_ceilings_follow_the_region(tmp_path: Any) -> None:
    activations, recordings = model_and_brain(3)
    recordings = recordings.assign_coords(object_name=("presentation", np.repeat(["a", "b", "c", "d"], N // 4)))
    reliability = xr.DataArray(
        np.linspace(0.2, 0.9, 8), dims="neuroid", coords={"neuroid_id": recordings["neuroid_id"]}
    )
    options: dict[str, Any] = {"region": "IT", "regression": "ridge", "ceiling": reliability, "n_permutations": 10}
    first, again, other = (select_layer(activations, recordings, seed=seed, **options) for seed in (0, 0, 1))
    xr.testing.assert_identical(first.scores, again.scores)
    assert not np.array_equal(first.scores["raw"], other.scores["raw"])
    np.testing.assert_allclose(first.scores["ceiling"], np.linspace(0.2, 0.9, 8)[4:])
    np.testing.assert_allclose(first.held_out["ceiling"], np.linspace(0.2, 0.9, 8)[4:])
    assert first.scores.attrs["n_held_out"] == 24
    first.scores.to_netcdf(tmp_path / "scores.nc")
    np.testing.assert_array_equal(xr.load_dataset(tmp_path / "scores.nc")["raw"], first.scores["raw"])


def test_a_recording_may_have_layers_of_its_own() -> None:
    activations, recordings = model_and_brain(4)
    recordings = recordings.assign_coords(layer=("neuroid", ["L4", "L5"] * 4))
    assert select_layer(activations, recordings, region="V4", regression="ridge", n_permutations=0).layer == "middle"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 1.5}, "1.5.*0.*1"),
        ({"train": []}, "train: found no ids"),
        ({"train": ["s000", "nowhere"]}, "1 id.*'nowhere'"),
        ({"region": "V1"}, "region='V1'"),
        ({"regression": "guess"}, "'guess'"),
    ],
)
def test_bad_requests_are_refused(change: dict[str, Any], message: str) -> None:
    activations, recordings = model_and_brain()
    with pytest.raises(AssemblyError, match=message) as caught:
        select_layer(activations, recordings, **change)
    assert "Mend:" in str(caught.value)


def test_activations_without_layers_are_refused() -> None:
    activations, recordings = model_and_brain()
    with pytest.raises(AssemblyError, match=r"'layer'.*'neuroid'.*Mend"):
        select_layer(activations.drop_vars("layer"), recordings)
