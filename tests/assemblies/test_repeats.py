"""Averages and halves agree with pandas, and lose nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neurobridge.assemblies import average_repetitions, bootstrap_repetitions, make_assembly, split_halves


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    counts = rng.integers(2, 7, size=25)
    ids = np.repeat([f"s{i}" for i in range(25)], counts)
    order = rng.permutation(len(ids))
    repetition = np.concatenate([np.arange(n) for n in counts])
    return make_assembly(
        rng.normal(size=(len(ids), 4, 1)),
        presentation={
            "stimulus_id": ids[order],
            "repetition": repetition[order],
            "category_name": np.array([f"c{s[-1]}" for s in ids])[order],
            "score": np.where(np.char.endswith(ids, "1"), np.nan, 1.0)[order],
        },
        neuroid={"neuroid_id": list("abcd")},
        time_bin={"time_bin_start": [70], "time_bin_end": [170]},
        attrs={"identifier": "made"},
    )


def test_average_agrees_with_pandas(trials):
    averaged = average_repetitions(trials)
    frame = pd.DataFrame(trials.values[:, :, 0]).groupby(trials["stimulus_id"].values, sort=False).mean()
    assert averaged["stimulus_id"].values.tolist() == frame.index.tolist()
    assert np.allclose(averaged.values[:, :, 0], frame.values)
    assert "repetition" not in averaged.coords
    assert averaged["n_repetitions"].values.sum() == trials.sizes["presentation"]
    assert averaged["category_name"].dims == ("presentation",)
    assert averaged.attrs["identifier"] == "made"
    assert {"time_bin_start", "neuroid_id", "score"} <= set(averaged.coords)


@pytest.mark.parametrize("seed", range(5))
def test_halves_are_disjoint_balanced_and_add_up(trials, seed):
    first, second = split_halves(trials, seed=seed)
    assert np.array_equal(first["stimulus_id"].values, second["stimulus_id"].values)
    n_first, n_second = first["n_repetitions"].values, second["n_repetitions"].values
    assert np.abs(n_first - n_second).max() <= 1
    total = first.values * n_first[:, None, None] + second.values * n_second[:, None, None]
    averaged = average_repetitions(trials)
    assert np.allclose(total, averaged.values * averaged["n_repetitions"].values[:, None, None])
    again = split_halves(trials, seed=seed)[0]
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, split_halves(trials, seed=seed + 100)[0].values)


def test_bootstrap_draws_only_a_stimulus_own_repetitions(trials):
    # Responses that name their stimulus: whatever is drawn, the average must still name it.
    code = {name: k for k, name in enumerate(dict.fromkeys(trials["stimulus_id"].values.tolist()))}
    named = trials.copy(
        data=np.broadcast_to([[[code[s]]] for s in trials["stimulus_id"].values], trials.shape).astype(float)
    )
    drawn = bootstrap_repetitions(named, seed=0)
    assert np.allclose(drawn.values[:, 0, 0], [code[s] for s in drawn["stimulus_id"].values])
    assert np.array_equal(drawn["n_repetitions"].values, average_repetitions(trials)["n_repetitions"].values)


def test_bootstrap_has_the_mean_and_the_spread_of_resampling(trials):
    plain = average_repetitions(trials)
    draws = np.stack([bootstrap_repetitions(trials, seed=seed).values for seed in range(200)])
    frame = pd.DataFrame(trials.values[:, :, 0]).groupby(trials["stimulus_id"].values, sort=False)
    expected = np.sqrt(frame.var(ddof=0).to_numpy() / frame.size().to_numpy()[:, None])
    assert np.allclose(draws.mean(axis=0), plain.values, atol=0.15)
    assert np.allclose(draws.std(axis=0)[:, :, 0] / expected, 1, atol=0.25)
    again = bootstrap_repetitions(trials, seed=3)
    assert np.array_equal(again.values, draws[3])


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_chunks_do_not_change_averages(trials, rows):
    lazy = trials.chunk({"presentation": rows, "neuroid": -1})
    for function in (
        average_repetitions,
        lambda a: split_halves(a, seed=1)[1],
        lambda a: bootstrap_repetitions(a, seed=1),
    ):
        assert np.allclose(function(lazy).values, function(trials).values)
