"""Large arrays, mapped, of zarr or of dask, are read in blocks and in float32, and give what arrays in memory give."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from neurobridge import BridgeAligner
from neurobridge.aligners import RidgeAligner, inputs, spaces
from neurobridge.points.arrays import in_memory
from tests.bridge.fused.pools import clustered
from tests.refusals import refused

pytestmark = [
    pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning"),
    pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning"),
]
X, Y, PAIRS, NEW, _ = (
    side.astype("f") if isinstance(side, np.ndarray) else side for side in clustered(150, n_pairs=12)
)
QUICK = {"lams": (0.9,), "epsilons": (0.05,), "n_rounds": (2,), "kernel_rounds": (0,), "maps": ("ridge",), "n_folds": 2}


def mapped(array, folder, name):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def zarred(array, folder, name):
    zarr = pytest.importorskip("zarr", reason="the extra `zarr` is not installed")
    stored = zarr.open(str(folder / f"{name}.zarr"), mode="w", shape=array.shape, chunks=(40, 7), dtype="f4")
    stored[:] = array
    return zarr.open(str(folder / f"{name}.zarr"), mode="r")


FORMS = {
    "memory": lambda array, folder, name: array,
    "map": mapped,
    "dask": lambda array, folder, name: da.from_array(array, chunks=(60, -1)),
    "zarr": zarred,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "aligner", [RidgeAligner(), BridgeAligner("euclidean", fuse_options=QUICK)], ids=["ridge", "bridge"]
)
def test_large_arrays_of_any_form_align_as_those_in_memory(form, aligner, tmp_path, monkeypatch):
    small = aligner.fit(X, Y, PAIRS).transform(NEW)
    monkeypatch.setattr(inputs, "_LARGE", 10)
    monkeypatch.setattr(spaces, "_ROWS", 33)
    source, target, new = (FORMS[form](side, tmp_path, name) for side, name in ((X, "x"), (Y, "y"), (NEW, "new")))
    fitted = aligner.fit(source, target, PAIRS)
    large = fitted.transform(new)
    assert isinstance(large, np.ndarray)
    np.testing.assert_allclose(large, small, rtol=0, atol=2e-3 * small.std())
    if isinstance(fitted, BridgeAligner):
        assert fitted.training_[0].dtype == np.float32


@pytest.mark.parametrize("form", ["map", "dask", "zarr"])
def test_points_on_disk_are_read_whole_in_their_precision(form, tmp_path):
    read = in_memory(FORMS[form](X, tmp_path, "x"), name="X")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, X)


@pytest.mark.parametrize("form", ["memory", "map", "dask"])
def test_what_no_block_may_hold_is_refused_in_a_large_array(form, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "_LARGE", 10)
    bad, flat = X.copy(), X.copy()
    bad[140, 2], flat[:, 4] = np.nan, 3.0
    with refused(ValueError, "source", "NaN"):
        RidgeAligner().fit(FORMS[form](bad, tmp_path, "bad"), Y, PAIRS)
    with refused(ValueError, "1 column(s)", "the first is 4"):
        RidgeAligner().fit(FORMS[form](flat, tmp_path, "flat"), Y, PAIRS)
