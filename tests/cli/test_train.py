"""`neurobridge features train`: a folder with weights and card, the same twice, and refusals in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from neurobridge.cli.train import train_command
from neurobridge.features import load_reference
from tests.refusals import refused

app = typer.Typer(pretty_exceptions_enable=False)
app.command("train")(train_command)


@pytest.mark.realdata
def test_a_reference_is_trained_from_a_seed_and_kept(mirror: Path, tmp_path: Path) -> None:
    options = ["--mirror", str(mirror), "--images", "200", "--epochs", "1", "--seed", "3"]
    vae = ["conv_vae", "--latents", "5", "--beta", "2", *options]
    summaries = []
    for folder in ("first", "second"):
        result = CliRunner().invoke(app, [*vae, "--json", "--out", str(tmp_path / folder)])
        assert result.exit_code == 0, result.output
        summaries.append(json.loads(result.stdout))
    (weights,) = (tmp_path / "first").glob("model-*.safetensors")
    for name in (weights.name, "card.json", "README.md"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert summaries[0]["weights_digest"] == summaries[1]["weights_digest"]
    assert summaries[0]["n_images"] == 200
    card = load_reference(tmp_path / "first").card
    assert card["arguments"] == {"channels": 1, "size": 28, "n_latents": 5, "beta": 2.0}
    assert card["data"]["identifier"] == "mnist-train"
    shown = CliRunner().invoke(app, ["conv_net", *options, "--out", str(tmp_path / "net")])
    assert shown.exit_code == 0, shown.output
    assert "reference conv_net" in shown.stdout
    assert load_reference(tmp_path / "net").card["classes"] == list("0123456789")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["conv_vae", "--images", "70000"], ["--images", "70000", "60000", "mnist"]),
        (["conv_net", "--images", "20", "--beta", "1"], ["conv_net", "beta"]),
        (["conv_vae", "--dataset", "clip-flickr8k"], ["'clip-flickr8k'", "images"]),
        (["transformer", "--images", "20"], ["'transformer'"]),
    ],
)
def test_bad_requests_are_refused(mirror: Path, tmp_path: Path, arguments: list[str], facts: list[str]) -> None:
    result = CliRunner().invoke(app, [*arguments, "--mirror", str(mirror), "--out", str(tmp_path / "kept")])
    with refused(ValueError, *facts):
        raise result.exception
    assert not (tmp_path / "kept").exists()
