"""Overlap of spaces: known truths, nulls, invariances, errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import aggregate
from neurobridge.evaluate.similarity.relations import MEASURES, calibration_scorer, neighbour_scorer, overlap
from tests.refusals import refused

SMALL = {"n_permutations": 40, "n_alignments": 8, "n_projections": 50}


def space(values, prefix="x"):
    return make_assembly(
        values,
        presentation={"stimulus_id": [f"s{i:03d}" for i in range(len(values))]},
        neuroid={"neuroid_id": [f"{prefix}{k}" for k in range(values.shape[1])]},
    )


def related(noise, n=120, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.linspace(1, 2, d)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return space(X), space(X @ turn + noise * rng.normal(size=(n, d)), "y")


def test_a_turned_space_overlaps_wholly():
    score = overlap(*related(0.0), **SMALL)
    assert score["measure"].values.tolist() == list(MEASURES)
    assert np.allclose(score["raw"].values[:3], 1, atol=1e-6)
    # As near as two samples of the target are, or nearer: the held-out points lie on the target's own.
    assert score["raw"].values[3] < score["floor"].item()
    assert np.allclose(score["p_value"].values, [1 / 41] * 3 + [1 / 9])
    assert (score["effect"].values > 3).all()


def test_strangers_are_at_their_null():
    rng = np.random.default_rng(5)
    score = overlap(space(rng.normal(size=(120, 6))), space(rng.normal(size=(120, 5)), "y"), **SMALL)
    null_mean = aggregate(score)["null_mean"].values
    assert null_mean[0] == pytest.approx(10 / 119, abs=0.005)
    assert np.allclose(null_mean[1:3], 0, atol=0.02)
    assert (np.abs(score["effect"].values) < 3.5).all()
    assert (score["p_value"].values > 0.02).all()


def test_more_noise_is_less_overlap_in_every_measure():
    values = np.stack([overlap(*related(noise), **SMALL)["raw"].values for noise in (0.2, 1.0, 4.0)])
    assert (np.diff(values[:, :3], axis=0) < 0).all()
    assert (np.diff(values[:, 3]) > 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500), k=st.integers(1, 12))
def test_neighbours_agree_with_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 5))

    def names(Z):
        Z = Z - Z.mean(axis=0)
        return NearestNeighbors(n_neighbors=k, metric="cosine").fit(Z).kneighbors(return_distance=False)

    order = rng.permutation(20)
    expected = np.mean([len(set(a) & set(b)) / k for a, b in zip(names(X), names(Y[order]), strict=True)])
    assert neighbour_scorer(X, Y, k)(order) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500), scale=st.floats(0.1, 100))
def test_calibration_agrees_with_scipy_and_ignores_scale(seed, scale):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(15, 4)), rng.normal(size=(15, 5))
    order = rng.permutation(15)
    expected = scipy.stats.spearmanr(pdist(X), pdist(Y[order])).statistic
    assert calibration_scorer(X, scale * Y)(order) == pytest.approx(expected, abs=1e-9)


def test_the_order_and_the_extra_stimuli_of_an_assembly_do_not_matter():
    source, target = related(0.5)
    first = overlap(source.isel(presentation=slice(0, 100)), target, **SMALL)
    order = np.random.default_rng(0).permutation(120)
    second = overlap(source.isel(presentation=slice(0, 100)), target.isel(presentation=order), **SMALL)
    assert np.allclose(first["raw"].values, second["raw"].values)
    assert first.attrs["n_stimuli"] == 100


class Mean(BaseEstimator):
    """Says the target's mean, whatever it is given."""

    def fit(self, source, target, pairs):
        self.like = target.mean("presentation").values, target["neuroid_id"].values
        return self

    def transform(self, source):
        ids = {"stimulus_id": source["stimulus_id"].values}
        values = np.tile(self.like[0], (source.sizes["presentation"], 1))
        return make_assembly(values, presentation=ids, neuroid={"neuroid_id": self.like[1]})


def test_a_map_that_says_the_mean_scores_about_one():
    score = overlap(*related(0.0, n=400), aligner=Mean(), **SMALL)
    assert score["raw"].sel(measure="sliced_wasserstein").item() == pytest.approx(1, abs=0.12)
    # Shuffling the pairs changes nothing of such a map.
    assert score["p_value"].sel(measure="sliced_wasserstein").item() == 1
    assert score.attrs["aligner"] == "Mean"


def test_no_null_is_said_and_scores_can_be_written(tmp_path):
    score = overlap(*related(0.5), n_permutations=0, n_alignments=0, n_projections=20)
    assert np.isnan(aggregate(score)["null_95"].values).all()
    assert np.isnan(score["p_value"].values).all()
    assert np.isnan(score["effect"].values).all()
    score.to_netcdf(tmp_path / "overlap.nc")
    with xr.open_dataset(tmp_path / "overlap.nc", engine="netcdf4") as read:
        assert np.array_equal(read["raw"].values, score["raw"].values)


def test_bad_requests_are_refused():
    source, target = related(0.5)
    with refused(AssemblyError, "120 shared", "k=119", "2 neighbours"):
        overlap(source, target, k=119)
    with pytest.raises(AssemblyError, match=r"5 shared.*k=2.*8.*Mend"):
        overlap(source.isel(presentation=slice(0, 5)), target, k=2)
    with pytest.raises(MemoryError, match=r"120 shared.*0\.00.*Mend"):
        overlap(source, target, memory_limit=1e5)
    with pytest.raises(AssemblyError, match=r"ndarray"):
        overlap(source.values, target)


def test_a_column_that_rounding_alone_varies_changes_next_to_nothing():
    source, target = related(0.5)
    rng = np.random.default_rng(1)
    still = 1.0 + 1e-15 * rng.normal(size=(len(target), 1))
    one = 0.01 * (np.arange(len(target)) == 7)[:, None]
    plain = overlap(source, target, **SMALL)
    more = overlap(source, space(np.hstack([target.values, still + one]), "y"), **SMALL)
    place = {"measure": "sliced_wasserstein"}
    assert more["raw"].sel(place).item() < 2 * plain["raw"].sel(place).item()
    assert more["floor"].item() < 2 * plain["floor"].item()
