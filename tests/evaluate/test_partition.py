"""Variance partitioning: parts of known size, sums, intervals, and what is refused."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

import neurobridge as nb
from neurobridge.assemblies import AssemblyError
from neurobridge.evaluate import aggregate, check_score
from neurobridge.evaluate.banded import fit_banded

pytest.importorskip("himalaya", reason="the extra `himalaya`")
#: Nine latents drive the sites: three of A alone, three of both, three of B alone. Three more are in C and drive nothing.
MIXING = np.random.default_rng(7).normal(size=(9, 10)) / 3
NOISE = 0.7


def labelled(values):
    return nb.make_assembly(
        values, presentation={"stimulus_id": range(len(values))}, neuroid={"neuroid_id": range(values.shape[1])}
    )


def simulated(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 12))
    recordings = z[:, :9] @ MIXING + NOISE * rng.normal(size=(n, MIXING.shape[1]))
    return {"A": labelled(z[:, :6]), "B": labelled(z[:, 3:9]), "C": labelled(z[:, 9:])}, labelled(recordings)


def two(spaces):
    return {name: spaces[name] for name in ("A", "B")}


def test_parts_have_the_size_that_they_were_given():
    spaces, recordings = simulated(1000)
    parts = check_score(nb.partition_variance(two(spaces), recordings, n_iter=3, n_bootstrap=100))
    power = np.square(MIXING)
    total = power.sum(axis=0) + NOISE**2
    expected = np.stack([power[rows].sum(axis=0) / total for rows in (slice(0, 3), slice(6, 9), slice(3, 6))])
    np.testing.assert_allclose(parts["value"].values, expected, atol=0.1)
    np.testing.assert_allclose(parts["median"].values, np.median(expected, axis=1), atol=0.05)
    assert (parts["median_low"] < parts["median"]).all()
    assert (parts["median"] < parts["median_high"]).all()
    assert aggregate(parts)["raw"].sizes == {"part": 3}


def test_parts_of_three_spaces_add_up_and_a_useless_one_has_none():
    spaces, recordings = simulated(150)
    parts = nb.partition_variance(spaces, recordings, n_iter=4, n_bootstrap=50)
    assert parts["part"].values.tolist() == ["A", "B", "C", "A + B", "A + C", "B + C", "A + B + C"]
    np.testing.assert_allclose(parts["value"].sum("part"), parts["r2"].sel(subset="A + B + C"), atol=1e-12)
    with_c = [name for name in parts["part"].values.tolist() if "C" in name]
    np.testing.assert_allclose(parts["median"].sel(part=with_c), 0, atol=0.03)
    # By inclusion and exclusion, on the values themselves.
    r2 = parts["r2"]
    shared = r2.sel(subset="A + C") + r2.sel(subset="B + C") - r2.sel(subset="C") - r2.sel(subset="A + B + C")
    np.testing.assert_allclose(parts["value"].sel(part="A + B"), shared, atol=1e-12)


def test_r2_is_that_of_predictions_of_the_held_out_stimuli():
    spaces, recordings = simulated(60)
    rows = np.arange(60)
    folds = [(np.setdiff1d(rows, rows[k::3]), rows[k::3]) for k in range(3)]
    parts = nb.partition_variance(two(spaces), recordings, splits=folds, n_iter=3, n_bootstrap=0)
    X, Y = np.hstack([spaces["A"].values, spaces["B"].values]), recordings.values
    predicted, mean = np.empty_like(Y), np.empty_like(Y)
    for train, test in folds:
        predicted[test] = fit_banded(X[train], Y[train], bands=["A"] * 6 + ["B"] * 6, n_iter=3)(X[test])
        mean[test] = Y[train].mean(axis=0)
    expected = 1 - np.square(Y - predicted).sum(axis=0) / np.square(Y - mean).sum(axis=0)
    np.testing.assert_allclose(parts["r2"].sel(subset="A + B"), expected)
    assert np.isnan(parts["median_low"]).all()


def test_values_in_units_of_the_ceiling_leave_out_sites_without_one():
    spaces, recordings = simulated(80)
    ceiling = (
        recordings.isel(presentation=0, drop=True).drop_vars("stimulus_id", errors="ignore").copy(data=np.full(10, 0.5))
    )
    ceiling[3] = -0.1
    with pytest.warns(UserWarning, match=r"1 of 10 ceiling"):
        parts = nb.partition_variance(two(spaces), recordings, ceiling=ceiling, n_iter=2, n_bootstrap=20)
    kept = np.arange(10) != 3
    np.testing.assert_allclose(parts["normalized"].values[:, kept], 2 * parts["value"].values[:, kept])
    assert np.isnan(parts["normalized"].values[:, 3]).all()
    np.testing.assert_allclose(parts["normalized_median"], np.median(2 * parts["value"].values[:, kept], axis=1))


def test_the_figure_writes_the_numbers_and_takes_up_to_three_circles():
    mpl.use("Agg")
    spaces, recordings = simulated(40)
    parts = nb.partition_variance(spaces, recordings, n_iter=1, n_bootstrap=5)
    drawn = nb.figures.variance_parts(parts)
    assert len(drawn.patches) == 3
    texts = [text.get_text().splitlines()[0] for text in drawn.texts]
    assert {f"{value:.3f}" for value in parts["median"].values} <= set(texts)
    assert len(nb.figures.variance_parts(parts, kind="bars").patches) == 7
    with pytest.raises(ValueError, match=r"kind='pie' for 3 spaces.*kind='bars'"):
        nb.figures.variance_parts(parts, kind="pie")


def test_what_is_no_partition_is_refused():
    spaces, recordings = simulated(20)
    with pytest.raises(AssemblyError, match=r"1 spaces \['A'\].*2 to 4"):
        nb.partition_variance({"A": spaces["A"]}, recordings)
    with pytest.raises(AssemblyError, match=r"5 spaces.*2 to 4"):
        nb.partition_variance(dict.fromkeys("abcde", spaces["A"]), recordings)
    with pytest.raises(AssemblyError, match=r"'A \+ B'.*' \+ '"):
        nb.partition_variance({"A + B": spaces["A"], "C": spaces["C"]}, recordings)
    with pytest.raises(AssemblyError, match=r"DataArray.*mapping of names"):
        nb.partition_variance(spaces["A"], recordings)
    with pytest.raises(AssemblyError, match=r"confidence=95"):
        nb.partition_variance(two(spaces), recordings, confidence=95)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_cover_the_expected_parts_and_a_useless_space_raises_few_alarms():
    """Simulated, 200 draws of 150 stimuli: the truth is the mean over 100 other draws of the same size."""
    expected = np.mean(
        [
            nb.partition_variance(two(spaces), recordings, n_iter=2, n_bootstrap=0)["median"].values
            for spaces, recordings in (simulated(150, seed=10_000 + k) for k in range(100))
        ],
        axis=0,
    )
    covered, alarms = [], []
    for k in range(200):
        spaces, recordings = simulated(150, seed=100 + k)
        parts = nb.partition_variance(two(spaces), recordings, n_iter=2, n_bootstrap=300)
        covered.append((parts["median_low"].values <= expected) & (expected <= parts["median_high"].values))
        useless = {"A": spaces["A"], "C": spaces["C"]}
        alarms.append(
            nb.partition_variance(useless, recordings, n_iter=2, n_bootstrap=300)["median_low"].sel(part="C").item() > 0
        )
    print(np.mean(covered, axis=0), np.mean(alarms))
    assert (np.mean(covered, axis=0) > 0.85).all()
    assert np.mean(alarms) <= 0.05
