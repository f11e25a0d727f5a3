"""One schema for everything that is scored: every scorer, the constructor, the validator, the reduction."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import BaseEstimator

from neurobridge._version import __version__
from neurobridge.assemblies import Pairs, make_assembly
from neurobridge.evaluate import (
    METRICS,
    aggregate,
    check_score,
    choices,
    consistency,
    correlate,
    cross_animal_consistency,
    cross_decode,
    cross_space_decode,
    decode,
    decode_attributes,
    decoding_curve,
    discriminate,
    generalise,
    generation_fidelity,
    internal_consistency,
    learning_curve,
    make_score,
    overlap,
    select_layer,
)
from neurobridge.evaluate.score.permutation import p_value
from neurobridge.evaluate.score.schema import VARIABLES, score_attrs
from tests.refusals import refused

N = 80


class LeastSquares(BaseEstimator):
    def fit(self, source, target, pairs):
        i, j = pairs.indices(source, target)
        self.forward_map = np.linalg.lstsq(source.values[i], target.values[j], rcond=1e-6)[0]
        self.neuroids = {"source": source["neuroid_id"].values, "target": target["neuroid_id"].values}
        return self

    def transform(self, source):
        return self._made(source, source.values @ self.forward_map, "target")

    def inverse_transform(self, target):
        return self._made(target, target.values @ np.linalg.pinv(self.forward_map), "source")

    def _made(self, like, values, side):
        presentation = {"stimulus_id": like["stimulus_id"].values, "object_name": like["object_name"].values}
        return make_assembly(values, presentation=presentation, neuroid={"neuroid_id": self.neuroids[side]})


@pytest.fixture(scope="module")
def world():
    """Simulated: six features and six sites that are linear in them and in the object; trials of the sites."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    features = rng.normal(size=(N, 6)) + labels[:, None]
    responses = features @ rng.normal(size=(6, 6)) + rng.normal(size=(N, 6))
    presentation = {
        "stimulus_id": np.arange(N),
        "object_name": np.array(["car", "face"])[labels],
        "variation": np.arange(N) // 2 % 2,
        "ty": features[:, 0],
    }
    layers = {"neuroid_id": [f"x{k}" for k in range(6)], "layer": ["first"] * 3 + ["second"] * 3}
    sites = {"neuroid_id": [f"y{k}" for k in range(6)], "animal": ["a"] * 3 + ["b"] * 3}
    source = make_assembly(features, presentation=presentation, neuroid=layers)
    target = make_assembly(responses, presentation=presentation, neuroid=sites)
    trials = make_assembly(
        np.concatenate([responses + rng.normal(size=responses.shape) for _ in range(3)]),
        presentation={"stimulus_id": np.tile(np.arange(N), 3), "repetition": np.repeat(np.arange(3), N)},
        neuroid=sites,
    )
    return source, target, trials


def _images(seed):
    pixels = np.random.default_rng(seed).normal(size=(12, 2, 2)).astype(np.float32)
    coords = {"stimulus_id": ("presentation", np.arange(12)), "side": ("presentation", np.arange(12) % 2)}
    return xr.DataArray(pixels, dims=("presentation", "row", "column"), coords=coords)


def _generation(n):
    return generation_fidelity(
        _images(0),
        "side",
        classifier=lambda x: x.flatten(1)[:, :2],
        classes=[0, 1],
        features=torch.nn.Flatten(),
        real=_images(1),
        reconstructions=_images(2),
        n_permutations=n,
    )


def _cross_space(source, target, n):
    train, test = slice(0, 50), slice(50, N)
    aligner = LeastSquares().fit(source[train], target[train], Pairs.shared(source[train], target[train]))
    sides = [(space[train], space[test]) for space in (source, target)]
    return cross_space_decode(
        aligner, (sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]), "object_name", n_permutations=n
    )


def _halves(source):
    rng = np.random.default_rng(1)
    return tuple(source.values[:, 0] + rng.normal(size=N) for _ in range(2))


SCORERS = {
    **{
        f"METRICS[{name!r}]": (lambda s, t, r, n, metric=metric: metric(s, t, n_permutations=n), ())
        for name, metric in METRICS.items()
    },
    "correlate": (lambda s, t, r, n: correlate(t, t + 0, n_permutations=n), ()),
    "cross_animal_consistency": (
        lambda s, t, r, n: cross_animal_consistency(t, regression="ridge", n_permutations=n),
        (),
    ),
    "internal_consistency": (lambda s, t, r, n: internal_consistency(r, n_bootstrap=10), ()),
    "decode": (lambda s, t, r, n: decode(t, "object_name", readout="lda", n_permutations=n), ()),
    "cross_decode": (lambda s, t, r, n: cross_decode(t[:40], t[40:], "object_name", n_permutations=n), ()),
    "cross_space_decode": (lambda s, t, r, n: _cross_space(s, t, n), ("reading",)),
    "decode_attributes": (lambda s, t, r, n: decode_attributes(t, ["ty"], n_permutations=n), ("attribute",)),
    "decoding_curve": (
        lambda s, t, r, n: decoding_curve(
            t, "object_name", n_sites=(1, 4), n_train=(20,), readout="lda", n_seeds=2, n_permutations=n, progress=False
        ),
        ("n_sites", "n_train"),
    ),
    "generalise": (
        lambda s, t, r, n: generalise(t, "object_name", readout="lda", n_permutations=n),
        ("trained", "tested"),
    ),
    "discriminate": (
        lambda s, t, r, n: discriminate(choices(t, "object_name", readout="lda", n_repeats=1), n_permutations=n),
        (),
    ),
    "consistency": (lambda s, t, r, n: consistency(_halves(s), _halves(s), n_permutations=n), ()),
    "overlap": (
        lambda s, t, r, n: overlap(s, t, n_permutations=n, n_alignments=n // 2, n_projections=10),
        ("measure",),
    ),
    "select_layer": (
        lambda s, t, r, n: select_layer(s, t, regression="ridge", n_permutations=n).scores,
        ("layer",),
    ),
    "learning_curve": (
        lambda s, t, r, n: learning_curve(
            s, t, {"ls": LeastSquares()}, n_pairs=(10, 20), n_seeds=2, n_permutations=n, progress=False
        ),
        ("aligner", "n_pairs", "seed"),
    ),
    "generation_fidelity": (lambda s, t, r, n: _generation(n), ()),
}


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_gives_a_score_that_can_be_reduced_and_written(world, tmp_path, name):
    scorer, leading = SCORERS[name]
    score = scorer(*world, 8)
    assert check_score(score) is score
    assert score["p_value"].dims == leading
    assert score.attrs["version"] == __version__
    json.loads(score.attrs["digests"])
    summary = aggregate(score, n_bootstrap=5)
    computed = name != "internal_consistency"
    if leading:
        assert dict(summary.sizes) == {dim: score.sizes[dim] for dim in leading}
        assert np.array_equal(summary["p_value"].values, score["p_value"].values)
        cell = dict.fromkeys(leading, 0)
        alone = aggregate(score.isel(cell), n_bootstrap=5)
        for key in ("raw", "null_mean", "null_95", "p_value"):
            assert summary[key].isel(cell).item() == pytest.approx(alone[key])
        assert len(summary.to_dataframe()) == score["p_value"].size
    else:
        assert (summary["null_mean"] is not None) == (summary["p_value"] is not None) == computed
        json.dumps(summary, allow_nan=False)
    score.to_netcdf(tmp_path / "score.nc")
    with xr.open_dataset(tmp_path / "score.nc", engine="netcdf4") as read:
        again = aggregate(read, n_bootstrap=5)
    assert again.identical(summary) if leading else again == summary


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"internal_consistency"}))
def test_what_was_not_computed_is_nan(world, name):
    scorer, leading = SCORERS[name]
    score = scorer(*world, 0)
    assert score["null"].sizes["permutation"] == 0
    assert np.isnan(score["p_value"].values).all()
    summary = aggregate(score, n_bootstrap=0)
    assert np.isnan(summary["null_95"].values).all() if leading else summary["null_95"] is None


def test_the_chance_of_a_single_site_is_that_of_single_sites(world):
    rng = np.random.default_rng(3)
    names = {"presentation": {"stimulus_id": np.arange(64)}, "neuroid": {"neuroid_id": np.arange(400)}}
    noise, truth = (make_assembly(rng.normal(size=(64, 400)), **names) for _ in range(2))
    score = correlate(noise, truth, n_permutations=50)
    assert float((score["raw"] > score["null_site_95"]).mean()) == pytest.approx(0.05, abs=0.03)
    # r of 64 Gaussian stimuli: 1.645 standard deviations of 1 / sqrt(63).
    assert float(score["null_site_95"]) == pytest.approx(1.645 / np.sqrt(63), rel=0.03)
    assert aggregate(score)["null_95"] < 0.05


def test_a_large_null_of_sites_is_thinned(monkeypatch, world):
    whole = correlate(world[1], world[1] + 0, n_permutations=200)
    monkeypatch.setattr("neurobridge.evaluate.correlation.N_KEPT", 100)
    thinned = correlate(world[1], world[1] + 0, n_permutations=200)
    assert np.array_equal(thinned["null"].values, whole["null"].values)
    assert float(thinned["null_site_95"]) == pytest.approx(float(whole["null_site_95"]), abs=0.15)


# ---- constructor and validator ---------------------------------------------------------------------------------

ATTRS = score_attrs({"metric": "m", "splits": "s", "n_stimuli": 9}, 2, 4, 0)


def test_direction_decides_p_and_bound():
    null = np.array([[1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 3.0, 4.0]])
    score = make_score([0.5, 0.5], ("measure",), null=null, smaller_is_better=[False, True], attrs=ATTRS)
    assert score["p_value"].values.tolist() == [1.0, 0.2]
    bound = aggregate(score)["null_95"].values
    assert bound.tolist() == [np.quantile([1, 2, 3], 0.95), np.quantile([1, 2, 3, 4], 0.05)]
    distance = make_score([0.5], ("split",), null=null[1], smaller_is_better=True, attrs=ATTRS)
    assert aggregate(distance)["null_95"] == np.quantile([1, 2, 3, 4], 0.05)


def test_p_values_of_nothing_are_nan():
    assert p_value(0.5, np.array([0.1, 0.9, 0.2])) == 0.5
    assert np.isnan(p_value(np.nan, np.array([0.1, 0.9])))
    assert np.isnan(p_value(0.5, np.empty(0)))
    assert np.isnan(p_value(0.5, np.array([np.nan])))


def test_ceilings_of_sites_are_shared_by_leading_dims():
    raw = np.ones((2, 3, 2)) * np.array([0.4, 0.8])
    score = make_score(raw, ("layer", "split", "neuroid"), ceiling=[0.5, np.nan], attrs=ATTRS)
    assert score["normalized"].dims == ("layer", "neuroid")
    assert score["normalized"].values[0, 0] == pytest.approx(0.8)
    assert np.isnan(score["normalized"].values[:, 1]).all()
    assert set(VARIABLES) | {"null_site_95"} == set(score.data_vars)


@pytest.mark.parametrize(
    ("raw", "dims"), [([[1.0]], ("neuroid", "split")), ([[1.0]], ("split", "draw")), ([1.0], ()), (1.0, ("split",))]
)
def test_bad_layouts_are_refused(raw, dims):
    with pytest.raises(ValueError, match=r"score.*raw.*Mend"):
        make_score(raw, dims, attrs=ATTRS)


def test_an_infinite_value_is_no_score():
    with refused(ValueError, "2 infinite", "raw"):
        make_score([0.5, np.inf, -np.inf, np.nan], ("split",), attrs=ATTRS)


def test_what_is_no_score_is_refused():
    score = make_score(np.ones((3, 2)), ("split", "neuroid"), attrs=ATTRS)
    for name in (*VARIABLES, "null_site_95"):
        with pytest.raises(ValueError, match=rf"score.*{name}.*Mend"):
            check_score(score.drop_vars(name))
    with refused(ValueError, "normalized", "('split',)"):
        check_score(score.assign(normalized=("split", np.ones(3))))
    with pytest.raises(ValueError, match=r"'split'.*Mend"):
        check_score(score.assign(ceiling=("split", np.ones(3))))
    with pytest.raises(ValueError, match=r"'digests'.*Mend"):
        check_score(xr.Dataset(score.variables, attrs={k: v for k, v in score.attrs.items() if k != "digests"}))
