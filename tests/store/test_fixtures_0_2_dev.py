"""Fused aligners that 0.2 saved in development, when each direction was a bridge of its own, are read and map as they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurobridge.aligners import BridgeAligner, load
from neurobridge.bridge import FusedBridge

HERE = Path(__file__).parent / "fixtures_0_2_dev"
NAMES = sorted(path.name for path in HERE.iterdir() if path.is_dir())

pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")


def maps_as_recorded(aligner, folder):
    points = np.load(HERE / "points.npz")
    np.testing.assert_allclose(aligner.transform(points["X"]), np.load(folder / "forward.npy"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        aligner.inverse_transform(points["Y"]), np.load(folder / "backward.npy"), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_aligner_of_two_bridges_maps_as_it_did_and_can_be_saved_again(name, tmp_path):
    aligner = load(HERE / name)
    assert isinstance(aligner, BridgeAligner)
    maps_as_recorded(aligner, HERE / name)
    aligner.save(tmp_path)
    maps_as_recorded(load(tmp_path), HERE / name)


def test_a_bridge_of_one_direction_says_so():
    points = np.load(HERE / "points.npz")
    bridge = load(HERE / "chosen").maps_["barycentric-forward"].bridge
    assert isinstance(bridge, FusedBridge)
    assert (bridge.criterion, bridge.candidate.map, bridge.spreads) == ("error", "ridge", (1.0, 1.0))
    assert bridge.errors[bridge.candidate] == min(bridge.errors.values())
    assert "held-out loss (error)" in repr(bridge)
    with pytest.raises(ValueError, match=r"way back.*Mend: fuse\(X, Y, pairs\)"):
        bridge.map_back(points["Y"])
