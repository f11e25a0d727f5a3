"""Learning curves over pairs: pools without leakage, known areas, resumption, null and ceiling, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from neurobridge.aligners import BASELINES
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import CurveSettings, aggregate, curve_dataset, curve_records, draw_curve_fold, learning_curve
from neurobridge.evaluate.curves.learning import area_under_curve, interval
from tests.refusals import refused


class LeastSquares(BaseEstimator):
    """A duck-typed aligner: minimum-norm least squares on the pairs."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def fit(self, source, target, pairs):
        i, j = pairs.indices(source, target)
        self.x, self.y = source.values.mean(0), target.values.mean(0)
        self.map = np.linalg.lstsq(source.values[i] - self.x, target.values[j] - self.y, rcond=1e-6)[0]
        self.neuroids = target["neuroid_id"].values
        return self

    def transform(self, source):
        values = self.gain * (source.values - self.x) @ self.map + self.y
        presentation = {"stimulus_id": source["stimulus_id"].values}
        return make_assembly(values, presentation=presentation, neuroid={"neuroid_id": self.neuroids})


def space(values, prefix, first=0):
    ids = [f"s{i:03d}" for i in range(first, first + len(values))]
    return make_assembly(
        values,
        presentation={"stimulus_id": ids, "object_name": [f"o{i % 4}" for i in range(len(values))]},
        neuroid={"neuroid_id": [f"{prefix}{k}" for k in range(values.shape[1])]},
    )


@pytest.fixture(scope="module")
def spaces():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 8))
    return space(X, "x"), space(X @ rng.normal(size=(8, 5)) + 0.5 * rng.normal(size=(120, 5)), "y")


# ---- folds -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(n_pairs=st.integers(2, 96), seed=st.integers(0, 50), unpaired=st.sampled_from(["disjoint", "shared", "none"]))
def test_nothing_held_out_is_in_a_pool_and_pools_overlap_as_asked(spaces, n_pairs, seed, unpaired):
    fold = draw_curve_fold(*spaces, n_pairs, seed=seed, unpaired=unpaired)
    left, right, test = (set(a["stimulus_id"].values) for a in (fold.source_train, fold.target_train, fold.source_test))
    assert test == set(fold.target_test["stimulus_id"].values)
    assert len(test) == 24
    assert not test & (left | right)
    paired = set(fold.pairs.source_id)
    assert len(paired) == n_pairs
    assert left & right == (paired if unpaired != "shared" else left)
    assert len(left | right | test) == (120 if unpaired != "none" else 24 + n_pairs)


def test_fewer_pairs_are_among_more_and_held_out_stimuli_stay(spaces):
    few, many = (draw_curve_fold(*spaces, n, seed=3) for n in (5, 50))
    assert set(few.pairs.source_id) <= set(many.pairs.source_id)
    assert np.array_equal(few.source_test["stimulus_id"].values, many.source_test["stimulus_id"].values)


def test_stimuli_of_one_space_alone_join_its_pool_and_classes_are_held_out_evenly(spaces):
    source, target = spaces
    fold = draw_curve_fold(source, target.isel(presentation=slice(20, None)), 10, seed=0, stratify="object_name")
    first = set(source["stimulus_id"].values[:20])
    assert first <= set(fold.source_train["stimulus_id"].values)
    counts = np.unique(fold.source_test["object_name"].values, return_counts=True)[1]
    assert counts.tolist() == [5] * 4


@pytest.mark.parametrize("kind", [str, object])
def test_long_names_of_one_space_alone_are_not_cut(spaces, kind):
    source, target = spaces
    names = target["stimulus_id"].values.astype("U40")
    names[:3] = [f"seen-by-the-animal-alone-{k}" for k in range(3)]
    other = target.assign_coords(stimulus_id=("presentation", names.astype(kind)))
    fold = draw_curve_fold(source, other, 10, seed=0)
    assert set(names[:3]) <= set(fold.target_train["stimulus_id"].values)
    assert set(source["stimulus_id"].values[:3]) <= set(fold.source_train["stimulus_id"].values)


# ---- areas and intervals ---------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(height=st.floats(-1, 1), counts=st.sets(st.integers(2, 1000), min_size=1, max_size=8))
def test_the_area_of_a_constant_curve_is_its_value(height, counts):
    n_pairs = sorted(counts)
    assert area_under_curve(n_pairs, np.full((3, len(n_pairs)), height)) == pytest.approx(height)


def test_the_area_is_read_on_a_logarithmic_axis():
    assert area_under_curve([1, 10, 100], np.array([0.0, 1.0, 2.0])) == pytest.approx(1)
    # A line in log n has the area of its middle, however it is sampled.
    n = [5, 7, 30, 500]
    middle = (np.log(5) + np.log(500)) / 2
    assert area_under_curve(n, np.log(n)) == pytest.approx(middle)


def test_the_interval_is_students():
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert np.isnan(interval(np.array([[1.0]]))).all()


# ---- the curve -------------------------------------------------------------------------------------------------


def test_a_learnable_relation_is_learned_and_a_shuffled_one_is_not(spaces):
    source, target = spaces
    curve = learning_curve(source, target, {"ls": LeastSquares()}, n_pairs=(5, 20, 90), n_seeds=3, progress=False)
    assert curve["raw"].dims == ("aligner", "n_pairs", "seed")
    mean = curve["mean"].values[0]
    assert mean[0] < mean[1] < mean[2]
    assert mean[2] > 0.9
    assert (curve["low"].values < curve["mean"].values).all()
    assert curve["p_value"].values[0, 2].max() == pytest.approx(1 / 201)
    assert curve["null"].dims == ("aligner", "n_pairs", "seed", "permutation")
    assert aggregate(curve, n_bootstrap=0)["null_95"].values.max() < 0.35
    assert np.isnan(curve["normalized"].values).all()
    assert np.isnan(curve["ceiling"].item())
    assert curve.attrs["n_stimuli"] == 24
    order = np.random.default_rng(0).permutation(120)
    stranger = target.copy(data=target.values[order])
    null = learning_curve(source, stranger, {"ls": LeastSquares()}, n_pairs=(90,), n_seeds=3, progress=False)
    assert abs(null["auc_mean"].item()) < 0.2
    assert null["p_value"].values.min() > 0.01


def test_all_methods_see_the_same_draws_and_a_gain_changes_no_correlation(spaces):
    methods = {"ls": LeastSquares(), "louder": LeastSquares(gain=3)}
    curve = learning_curve(*spaces, methods, n_pairs=(10, 40), n_seeds=2, n_permutations=20, progress=False)
    assert np.allclose(curve["raw"].sel(aligner="ls").values, curve["raw"].sel(aligner="louder").values)
    assert np.allclose(curve["null"].sel(aligner="ls").values, curve["null"].sel(aligner="louder").values)


def test_the_ceiling_normalises_and_bounds(spaces):
    source, target = spaces
    reliability = xr.DataArray([0.25] * 5, dims="neuroid", coords={"neuroid_id": target["neuroid_id"]})
    curve = learning_curve(
        source,
        target,
        {"ls": LeastSquares()},
        n_pairs=(60,),
        n_seeds=1,
        ceiling=reliability,
        n_permutations=0,
        progress=False,
    )
    assert curve["ceiling"].item() == pytest.approx(0.5)
    assert curve["normalized"].item() > 1
    assert curve["null"].sizes["permutation"] == 0
    assert np.isnan(curve["p_value"].item())
    assert np.isnan(curve["low"].item())


@pytest.mark.parametrize("settings", [{"stratify": np.nan}, {"stratify": 3}, {"unpaired": "all"}, {"unpaired": None}])
def test_settings_of_no_known_kind_are_refused_before_a_fit(settings):
    with pytest.raises(ValueError, match="Mend"):
        CurveSettings(**settings)


def test_a_run_goes_on_from_its_records_and_can_be_written(spaces, tmp_path):
    options = {"n_pairs": (5, 20), "n_seeds": 2, "n_permutations": 10}
    settings = CurveSettings(**options)
    whole = list(curve_records(*spaces, {"ls": LeastSquares()}, settings, progress=False))
    assert len(whole) == 4
    assert json.loads(json.dumps(whole)) == whole

    class Refuses(LeastSquares):
        def fit(self, source, target, pairs):
            raise AssertionError("fitted again")

    curve = learning_curve(*spaces, {"ls": Refuses()}, known=whole, progress=False, **options)
    assert curve["raw"].sel(aligner="ls", n_pairs=20, seed=1).item() == whole[-1]["raw"]
    rest = list(curve_records(*spaces, {"ls": LeastSquares()}, settings, known=whole[:3], progress=False))
    assert len(rest) == 1
    assert rest[0]["raw"] == whole[3]["raw"]
    # Cells that are not wanted do not speak.
    stray = {**whole[0], "seed": 9, "n_stimuli": 1000}
    assert curve_dataset([*whole, stray], ["ls"], settings).attrs["n_stimuli"] == 24
    curve.to_netcdf(tmp_path / "curve.nc")
    with xr.open_dataset(tmp_path / "curve.nc", engine="netcdf4") as read:
        assert np.array_equal(read["auc"].values, curve["auc"].values)
        assert aggregate(read).identical(aggregate(curve))


def test_the_flat_forms_of_version_0_1_and_its_records_still_work(spaces):
    settings = CurveSettings(n_pairs=(5, 20), n_seeds=2, n_permutations=10)
    records = list(curve_records(*spaces, {"ls": LeastSquares()}, settings, progress=False))
    with pytest.warns(DeprecationWarning, match="CurveSettings"):
        flat = list(
            curve_records(
                *spaces, {"ls": LeastSquares()}, n_pairs=(5, 20), n_seeds=2, n_permutations=10, progress=False
            )
        )
    for new, old in zip(records, flat, strict=True):
        assert {**new, "seconds": 0} == {**old, "seconds": 0}
    known = [{key: value for key, value in record.items() if key != "null"} for record in records]
    with pytest.warns(DeprecationWarning, match="CurveSettings"):
        curve = curve_dataset(known, ["ls"], [5, 20], [0, 1])
    assert np.array_equal(curve["p_value"].values.ravel(), [records[k]["p_value"] for k in (0, 2, 1, 3)])
    assert curve["null"].sizes["permutation"] == 0
    # Records come seed by seed: those of seed 1 are from version 0.1.
    mixed = aggregate(curve_dataset([*records[:2], *known[2:]], ["ls"], settings), n_bootstrap=0)
    assert np.isnan(mixed["null_mean"].sel(seed=1)).all()
    assert mixed["null_mean"].sel(seed=0).values.ravel().tolist() == [r["null_mean"] for r in records[:2]]


def test_a_journal_keeps_every_record_and_refuses_those_of_another_run(spaces, tmp_path):
    path, options = tmp_path / "curve" / "records.jsonl", {"n_permutations": 5, "progress": False}
    first = learning_curve(*spaces, {"ls": LeastSquares()}, n_pairs=(5,), n_seeds=2, journal=path, **options)
    kept = path.read_text().splitlines()
    assert len(kept) == 3
    # What a kill cut off is computed again.
    path.write_text("\n".join(kept[:2]) + "\n" + kept[2][:20])
    longer = learning_curve(*spaces, {"ls": LeastSquares()}, n_pairs=(5, 20), n_seeds=2, journal=path, **options)
    lines = path.read_text().splitlines()
    assert lines[:2] == kept[:2]
    assert len(lines) == 5
    assert longer.sel(n_pairs=[5])["raw"].equals(first["raw"])
    without = learning_curve(*spaces, {"ls": LeastSquares()}, n_pairs=(5, 20), n_seeds=2, **options)
    for name in ("raw", "null", "p_value", "auc"):
        assert longer[name].equals(without[name])
    for other in ({"held_out": 0.3}, {"n_permutations": 6}, {"unpaired": "none"}):
        with refused(ValueError, "records.jsonl", next(iter(other))):
            learning_curve(*spaces, {"ls": LeastSquares()}, n_pairs=(5,), journal=path, **options | other)
    with refused(ValueError, "target"):
        learning_curve(spaces[0], spaces[1] + 1, {"ls": LeastSquares()}, n_pairs=(5,), journal=path, **options)
    with refused(ValueError, "ls"):
        learning_curve(*spaces, {"ls": LeastSquares(gain=2)}, n_pairs=(5,), journal=path, **options)
    path.write_text("not a record\n")
    with refused(ValueError, "not JSON"):
        learning_curve(*spaces, {"ls": LeastSquares()}, n_pairs=(5,), journal=path, **options)


def test_neuroids_constant_in_a_pool_or_among_the_held_out_are_left_out_and_counted(spaces):
    source, target = spaces
    values = target.values.copy()
    values[:, 0] = 0
    values[7, 0] = 1
    lone = target.copy(data=values)
    curve = learning_curve(
        source, lone, {"ls": LeastSquares()}, n_pairs=(20,), n_seeds=2, n_permutations=0, progress=False
    )
    assert (curve["n_neuroids"].values == 4).all()


# ---- errors ----------------------------------------------------------------------------------------------------


def test_bad_requests_are_refused(spaces):
    source, target = spaces
    with refused(AssemblyError, "97 pairs", "2", "96", "120"):
        draw_curve_fold(source, target, 97, seed=0)
    with pytest.raises(AssemblyError, match=r"1 pairs"):
        draw_curve_fold(source, target, 1, seed=0)
    with refused(ValueError, "unpaired='both'", "'none'"):
        draw_curve_fold(source, target, 5, seed=0, unpaired="both")
    with refused(ValueError, "held_out=1", "(0, 1)"):
        draw_curve_fold(source, target, 5, seed=0, held_out=1)
    for bad in ({"n_seeds": 0}, {"n_pairs": (20, 5)}, {"n_pairs": ()}):
        with pytest.raises(ValueError, match=r"n_seeds=.*n_pairs=.*Mend"):
            learning_curve(source, target, **{"aligners": {"ls": LeastSquares()}, "progress": False, **bad})
    with refused(ValueError, "2 cells", "('ls', 5, 0)"):
        curve_dataset([], ["ls"], CurveSettings(n_pairs=(5, 10), n_seeds=1))
    with pytest.raises(ValueError, match=r"no aligner.*Mend"):
        learning_curve(source, target, {})
    with pytest.raises(AssemblyError, match=r"ndarray"):
        learning_curve(source.values, target, {"ls": LeastSquares()})


# ---- the script that draws them --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_the_script_sums_up_and_draws_a_curve(script, spaces, tmp_path, n_seeds):
    predictivity = script("bridge_predictivity")
    methods = {"fused": LeastSquares(), "louder": LeastSquares(gain=2)}
    curve = learning_curve(*spaces, methods, n_pairs=(5, 40), n_seeds=n_seeds, n_permutations=10, progress=False)
    told = predictivity.summary(curve)
    assert told["auc_differences"] == [
        {
            "aligner": "louder",
            "fused_minus_it": pytest.approx(0, abs=1e-9),
            "ci95": pytest.approx(0, abs=1e-9) if n_seeds > 1 else None,
        }
    ]
    assert told["aligners"]["fused"]["mean"] == pytest.approx(curve["mean"].values[0].tolist(), abs=1e-4)
    assert told["ceiling_r"] is None
    json.dumps(told)
    predictivity.draw({"world": ("a title", curve)}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    # What is compared is what the package offers.
    assert set(predictivity.compared_aligners(False)) == {"fused", "bridge", *BASELINES}
