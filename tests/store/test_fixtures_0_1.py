"""Files that version 0.1 saved are read, and map as they did then."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from neurobridge.aligners import AlignerFileError, AssemblyAligner, BridgeAligner, load
from neurobridge.assemblies import open_assembly
from neurobridge.features import LayerPCA, load_reference
from neurobridge.flow import ConditionalFlow, VelocityMLP
from neurobridge.store import kinds

HERE = Path(__file__).parent / "fixtures_0_1"
ALIGNERS = sorted(path.name for path in (HERE / "aligners").iterdir())
FLOWS = sorted(path.name for path in (HERE / "flows").iterdir())

pytestmark = [
    pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning"),
    # Settings of a flow as version 0.1 took them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def manhattan(X, Z):
    return (X[:, None, :] - Z[None, :, :]).abs().sum(dim=2)


def small_network(n_dims, n_condition):
    return VelocityMLP(n_dims, n_condition, width=8, depth=1)


CODE = {
    "code-metric-factored": {"metric": (manhattan, "cosine")},
    "code-metric-fused": {"metric": (manhattan, "cosine")},
    "code-network": {"flow_options": {"network": small_network, "n_steps": 5}},
}


@functools.cache
def _opened(folder):
    return tuple(open_assembly(folder / f"{side}.nc").load() for side in ("source", "target"))


def _points(folder):
    source, target = _opened(folder if (folder / "source.nc").exists() else HERE)
    if folder.name == "labels":
        n = target.sizes["neuroid"]
        target = target.assign_coords(
            number=("neuroid", np.arange(n, dtype=np.int16)),
            good=("neuroid", np.arange(n) % 2 == 0),
            implanted=("neuroid", np.array(["2020-01-02"] * n, dtype="datetime64[ns]")),
            mixed=("neuroid", np.array([None, "a", 1.5, True], dtype=object)),
        )
    return source, target


def _maps_as_recorded(aligner, folder):
    source, target = _points(folder)
    forward, backward = aligner.transform(source), aligner.inverse_transform(target)
    np.testing.assert_allclose(forward.values, np.load(folder / "forward.npy"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(backward.values, np.load(folder / "backward.npy"), rtol=1e-6, atol=1e-6)
    for name, coord in target.coords.items():
        if coord.dims == ("neuroid",):
            assert forward[name].dtype == coord.dtype
            np.testing.assert_array_equal(forward[name], coord)


@pytest.mark.parametrize("name", ALIGNERS)
def test_an_aligner_of_0_1_maps_as_it_did_and_can_be_saved_again(name, tmp_path):
    folder = HERE / "aligners" / name
    aligner = load(folder, **CODE.get(name, {}))
    _maps_as_recorded(aligner, folder)
    aligner.save(tmp_path)
    assert not any(path.is_dir() for path in tmp_path.iterdir())
    _maps_as_recorded(AssemblyAligner.load(tmp_path, **CODE.get(name, {})), folder)


def _copied(name, folder):
    for file in (HERE / "aligners" / name).rglob("*"):
        if file.is_file() and file.suffix != ".npy":
            copy = folder / file.relative_to(HERE / "aligners" / name)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())


def test_saving_over_an_aligner_of_0_1_leaves_nothing_of_it(tmp_path):
    _copied("flow-affine", tmp_path)
    (tmp_path / "flow-mine").mkdir()
    BridgeAligner.load(tmp_path).save(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [".json", ".lock", ".safetensors"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["flow-mine"]
    _maps_as_recorded(BridgeAligner.load(tmp_path), HERE / "aligners" / "flow-affine")


def test_another_flow_in_the_folder_of_an_aligner_of_0_1_is_refused(tmp_path):
    _copied("flow-affine", tmp_path)
    (header,) = tmp_path.glob("flow-*/flow.json")
    header.write_text(header.read_text().replace('"seed": 0', '"seed": 9'))
    with pytest.raises(AlignerFileError, match=r"flow-\w+: .*no flow.*aligner\.json"):
        BridgeAligner.load(tmp_path)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_of_0_1_transports_as_it_did_and_can_be_saved_again(name, tmp_path):
    folder = HERE / "flows" / name
    code = {
        "network": {"network": small_network},
        "code": {"base": lambda points: points @ np.ones((3, 4))},
    }.get(name, {})
    source, target = (side.values for side in _opened(HERE))
    flow = ConditionalFlow.load(folder, **code)
    for loaded in (flow, ConditionalFlow.load(flow.save(tmp_path).parent, **code)):
        for direction, points in (("forward", source), ("backward", target)):
            if (folder / f"{direction}.npy").exists():
                expected = np.load(folder / f"{direction}.npy")
                np.testing.assert_allclose(loaded.transport(points, direction), expected, rtol=1e-5, atol=1e-5)


def test_the_settings_of_a_flow_of_0_1_come_back():
    flow = ConditionalFlow.load(HERE / "flows" / "settings")
    assert (flow.training.batch_size, flow.training.sigma, flow.training.minibatch_ot) == (16, 0.2, True)
    assert (flow.ode.method, flow.ode.rtol, flow.ode.chunk_size) == ("dopri5", 1e-4, 7)
    assert (flow.seed, flow.support_quantile) == (5, 0.8)


def test_a_reference_model_and_components_of_0_1_are_read():
    reference = load_reference(HERE / "reference")
    batch = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    scores = reference.model(batch).detach().numpy()
    np.testing.assert_allclose(scores, np.load(HERE / "reference" / "scores.npy"), rtol=1e-6, atol=1e-6)
    pca = LayerPCA.load(HERE / "pca" / "components.safetensors")
    assert pca.record() in (HERE / "pca" / "record.json").read_text().replace('\\"', '"')


def test_every_name_in_the_files_of_0_1_has_a_kind():
    names = set()
    for file in HERE.rglob("*.json"):
        text = file.read_text()
        names |= set(re.findall(r'"(neurobridge\.[\w.]+:\w+)"', text)) | set(re.findall(r'"class": "(\w+)"', text))
    assert len(names) > 20
    assert names <= set(kinds.NAMES_0_1)
    for name, kind in kinds.NAMES_0_1.items():
        assert kinds.name_of(kinds.class_of(name)) == kind
