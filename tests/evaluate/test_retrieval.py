"""Retrieval: closed forms of chance, agreement with whole tables, coverage of intervals, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import rankdata

import neurobridge as nb
from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.storage.files import save_variables
from neurobridge.evaluate import aggregate, check_score


def labelled(values, ids=None):
    ids = [f"s{k}" for k in range(len(values))] if ids is None else ids
    return nb.make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": range(values.shape[1])})


def two_spaces(n=40, d=8, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return labelled(X + noise * rng.normal(size=X.shape)), labelled(X)


def value(score, measure, direction="forward", name="raw"):
    return float(score[name].sel(direction=direction, measure=measure))


def test_measures_are_those_of_ranks_by_correlation():
    a, b = two_spaces()
    score = check_score(nb.retrieve(a, b, ks=(1, 3), similarity="correlation", n_permutations=20))
    r = np.corrcoef(a.values, b.values)[:40, 40:]
    for direction, table in (("forward", r), ("backward", r.T)):
        ranks = np.array([rankdata(-row)[k] for k, row in enumerate(table)])
        assert value(score, "R@1", direction) == np.mean(ranks <= 1)
        assert value(score, "R@3", direction) == np.mean(ranks <= 3)
        assert value(score, "median_rank", direction) == np.median(ranks)
        assert value(score, "identification", direction) == pytest.approx(1 - np.mean(ranks - 1) / 39)
        np.testing.assert_array_equal(score[f"{direction}_rank"].values, ranks)
    assert (score["raw_low"] <= score["raw"]).all()
    assert (score["raw"] <= score["raw_high"]).all()
    assert aggregate(score)["null_95"].shape == (2, 4)


def test_exchanging_the_spaces_exchanges_the_directions():
    a, b = two_spaces()
    first, second = (nb.retrieve(*order, n_permutations=0, n_bootstrap=0) for order in ((a, b), (b, a)))
    np.testing.assert_array_equal(first["raw"].values, second["raw"].values[::-1])


def test_the_same_space_is_found_at_once_and_a_stranger_by_chance():
    a, _ = two_spaces()
    same = nb.retrieve(a, a, n_permutations=19)
    assert (same["raw"].sel(measure=["R@1", "median_rank", "identification"]) == 1).all()
    assert (same["p_value"] == 0.05).all()
    stranger = labelled(np.random.default_rng(9).normal(size=a.shape))
    score = nb.retrieve(a, stranger, ks=(10,), n_permutations=200)
    assert (score["p_value"] > 0.01).all()
    # The mean of the null is chance.
    for measure, spread in (("R@10", 0.02), ("identification", 0.01), ("median_rank", 0.8)):
        assert score["null"].sel(measure=measure).mean() == pytest.approx(
            value(score, measure, name="chance"), abs=spread
        )


@pytest.mark.parametrize("n", [8, 9])
def test_chance_of_one_partner_in_closed_form(n):
    a, b = two_spaces(n)
    score = nb.retrieve(a, b, ks=(1, 3, 20), n_permutations=0, n_bootstrap=0)
    expected = [1 / n, 3 / n, 1, (n + 1) / 2, 0.5]
    np.testing.assert_allclose(score["chance"].values, [expected, expected])


def test_several_captions_of_an_image():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(12, 30))
    captions = np.repeat(images, 5, axis=0) + 0.1 * rng.normal(size=(60, 30))
    table = pd.DataFrame({
        "source_id": np.repeat([f"image {k}" for k in range(12)], 5), "target_id": [f"caption {k}" for k in range(60)],
    })  # fmt: skip
    source, target = labelled(images, table["source_id"].unique()), labelled(captions, table["target_id"])
    score = nb.retrieve(source, target, table, ks=(1,), n_permutations=0)
    assert (score["raw"] == 1).all()
    assert score["forward_rank"].sizes["source_stimulus"] == 12
    assert score["backward_rank"].sizes["target_stimulus"] == 60
    assert value(score, "R@1", name="chance") == pytest.approx(5 / 60)
    assert value(score, "R@1", "backward", "chance") == pytest.approx(1 / 12)
    # The best of five partners is above 55 strangers in five of six draws.
    assert value(score, "identification", name="chance") == pytest.approx(5 / 6)
    # Captions that have nothing to do with each other: five of them are five chances.
    mixed = labelled(rng.normal(size=captions.shape), table["target_id"])
    score = nb.retrieve(source, mixed, table, ks=(1,), n_permutations=400)
    for direction in ("forward", "backward"):
        for measure, spread in (("R@1", 0.02), ("identification", 0.02), ("median_rank", 1.5)):
            null = score["null"].sel(direction=direction, measure=measure)
            assert null.mean() == pytest.approx(value(score, measure, direction, "chance"), abs=spread)


def test_hub_correction_undoes_a_hub_and_is_named():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 30))
    # The first target lies where every query points to.
    queries = labelled(X + 1.5 * X[0] + 0.5 * rng.normal(size=X.shape))
    plain, corrected = (
        nb.retrieve(queries, labelled(X), n_permutations=0, n_bootstrap=0, hub_correction=name)
        for name in (None, "csls")
    )
    assert value(corrected, "R@1") > value(plain, "R@1")
    assert "csls" in corrected.attrs["metric"]
    assert (plain.attrs["hub_correction"], corrected.attrs["hub_correction"]) == ("none", "csls")


def test_a_score_is_written_and_read(tmp_path):
    a, b = two_spaces(12)
    score = nb.retrieve(a, b, n_permutations=9, n_bootstrap=9)
    with xr.open_dataset(save_variables(score, tmp_path / "retrieval.nc"), engine="netcdf4") as again:
        np.testing.assert_array_equal(again["raw"].values, score["raw"].values)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_cover_the_truth_and_nothing_is_found_where_nothing_is():
    """Simulated, 200 draws of 100 stimuli: the truth is the mean over 300 other draws of the same size."""
    options = {"n_permutations": 0, "ks": (1, 5)}
    scores = [nb.retrieve(*two_spaces(100, 10, seed=10_000 + k), n_bootstrap=0, **options) for k in range(300)]
    truth = np.mean([score["raw"].values for score in scores], axis=0)
    drawn = [nb.retrieve(*two_spaces(100, 10, seed=100 + k), n_bootstrap=400, **options) for k in range(200)]
    covered = np.mean([(s["raw_low"].values <= truth) & (truth <= s["raw_high"].values) for s in drawn], axis=0)
    assert (covered > 0.89).all()
    alarms = []
    for k in range(200):
        rng = np.random.default_rng(100 + k)
        spaces = [labelled(rng.normal(size=(40, 5))) for _ in range(2)]
        alarms.append(nb.retrieve(*spaces, n_permutations=199, n_bootstrap=0)["p_value"].values <= 0.05)
    # 95 % of binomial draws at the level of 0.05 lie below 0.08.
    assert (np.mean(alarms, axis=0) <= 0.08).all()


A, B = two_spaces(6)
REFUSED = {
    "another space": ((A, B[:, :3]), {}, r"8 neuroids of the source and 3 of the target"),
    "a similarity": ((A, B), {"similarity": "dot"}, r"similarity='dot'.*'cosine'"),
    "a correction": ((A, B), {"hub_correction": "isf"}, r"hub_correction='isf'.*'csls'"),
    "a k": ((A, B), {"ks": (0,)}, r"k=0.*1 or more"),
    "a confidence": ((A, B), {"confidence": 95}, r"confidence=95.*0\.95"),
    "no direction": ((A * 0, B), {}, r"6 stimuli of the source.*no response.*'s0'"),
    "a flat response": ((A * 0 + 1, B), {"similarity": "correlation"}, r"6 stimuli of the source.*same value"),
    "an unknown pair": ((A, B), {"pairs": ["s1", "x"]}, r"1 of 2 ids.*'x'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_retrieval_is_refused(case):
    spaces, options, facts = REFUSED[case]
    with pytest.raises(AssemblyError, match=facts):
        nb.retrieve(*spaces, **options)


def test_ranks_of_permutations_that_do_not_fit_are_refused_before_they_are_drawn(monkeypatch):
    monkeypatch.setattr("neurobridge.evaluate.retrieval._MEMORY_LIMIT", 1000)
    with pytest.raises(MemoryError, match=r"1000 permutations of 6 ranks.*n_permutations=13"):
        nb.retrieve(A, B)
