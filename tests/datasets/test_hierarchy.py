"""The simulated sites: developed once, then read from the cache folder, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.datasets.simulated import hierarchy


@pytest.fixture
def sites(monkeypatch, tmp_path):
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal((3, 2)).astype(dtype) for name, dtype in (("prototypes", "f4"), ("fisher", "f8"))
    }
    developed = []

    def develop():
        developed.append(1)
        return hierarchy._Sites(weights | {"positions": np.arange(4), "types": np.arange(2)})

    monkeypatch.setattr(hierarchy._Sites, "develop", develop)
    return hierarchy._sites.__wrapped__, developed, tmp_path / "simulated"


def test_a_second_process_reads_the_weights_of_the_first(sites):
    make, developed, _ = sites
    first, second = make(), make()
    assert developed == [1]
    assert {name: (w.dtype, w.tobytes()) for name, w in first.weights.items()} == {
        name: (w.dtype, w.tobytes()) for name, w in second.weights.items()
    }


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:50] + b"x" + raw[51:], lambda raw: b""])
def test_a_damaged_file_is_developed_again(sites, damage):
    make, developed, folder = sites
    make()
    (path,) = folder.glob("hierarchy-*.weights")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    make()
    assert developed == [1, 1]
    assert path.read_bytes() == whole


def test_without_a_folder_to_write_in_the_sites_are_developed(sites, monkeypatch, tmp_path):
    make, developed, _ = sites
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "file" / "below"))
    assert make().weights["types"].tolist() == [0, 1]
    assert developed == [1]
