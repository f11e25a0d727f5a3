"""`neurobridge retrieve` as a user runs it."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, resolve_pairs
from neurobridge.cli.app import app

FEW = ("--n-permutations", 19, "--n-bootstrap", 20)


@pytest.fixture
def files(tmp_path):
    """Simulated: a model of six units and recordings of eight sites of the same latents, on 40 stimuli; a site lacks much."""
    rng = np.random.default_rng(0)
    latents, ids = rng.normal(size=(40, 4)), [f"s{k:02d}" for k in range(40)]

    def save(name, values):
        names = [f"{name}{k}" for k in range(values.shape[1])]
        assembly = nb.make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": names})
        return nb.save_assembly(assembly, tmp_path / f"{name}.nc")

    sites = latents @ rng.normal(size=(4, 8)) + 0.3 * rng.normal(size=(40, 8))
    sites[:20, 3] = np.nan
    return {"model": save("model", latents @ rng.normal(size=(4, 6))), "sites": save("sites", sites)}


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_pairs_of_an_alignment_are_left_out_and_the_numbers_are_those_of_the_function(files, tmp_path):
    aligned, out = tmp_path / "aligned.nc", tmp_path / "score.nc"
    run("align", files["model"], files["sites"], "--method", "ridge", "--pairs", 15, "--seed", 3, "--out", aligned)
    told = run("retrieve", aligned, files["sites"], "--fitted-pairs", 15, "--seed", 3, "--out", out, *FEW)
    assert "left out 1 of 8 sites" in told
    assert "left out 15 pairs" in told
    assert f"next: neurobridge report {out}" in told
    spaces = nb.open_assembly(files["model"]), nb.open_assembly(files["sites"])[:, [0, 1, 2, 4, 5, 6, 7]]
    fitted = resolve_pairs(*spaces, 15, seed=3).source_id
    held_out = [name for name in spaces[0]["stimulus_id"].values.tolist() if name not in fitted]
    moved = nb.aligners.BASELINES["ridge"]().fit(*spaces, fitted.tolist()).transform(spaces[0])
    alone = nb.retrieve(moved, spaces[1], held_out, n_permutations=19, n_bootstrap=20, seed=3)
    with xr.open_dataset(out) as score:
        assert set(score["source_stimulus"].values) == set(held_out)
        for name in ("raw", "null", "raw_low", "raw_high", "p_value"):
            np.testing.assert_allclose(score[name], alone[name])
    kept = tmp_path / "kept.nc"
    told = run("retrieve", aligned, files["sites"], "--seed", 3, "--out", kept, *FEW)
    assert "left out 15 pairs that the alignment was fitted on, which its file names" in told
    with xr.open_dataset(kept) as score, xr.open_dataset(out) as asked:
        np.testing.assert_array_equal(score["source_stimulus"], asked["source_stimulus"])
        np.testing.assert_array_equal(score["raw"], asked["raw"])
    backward = json.loads(run("retrieve", files["sites"], aligned, *FEW, "--json"))
    assert (backward["n_stimuli"], backward["n_fitted_left_out"]) == (25, 15)
    told = run("retrieve", aligned, files["sites"], "--fitted-pairs", "none", *FEW)
    assert "fitted on 15 pairs, of which 0 are left out" in told
    run("report", out)
    run("plot", out, "--out", tmp_path / "plot.png")
    assert "R@5" in out.with_suffix(".html").read_text()


def test_options_reach_the_function_and_json_holds_its_numbers(files, tmp_path):
    told = run("retrieve", files["sites"], files["sites"], "--similarity", "correlation", "--hub-correction", "csls",
               "--ks", "1,2", "--save-figure", tmp_path / "figure.png", *FEW, "--json")  # fmt: skip
    summary = json.loads(told)
    assert list(summary["scores"]["backward"]) == ["R@1", "R@2", "median_rank", "identification"]
    expected = {"value": 1, "low": 1, "high": 1, "chance": 1 / 40, "p_value": 1 / 20}
    assert summary["scores"]["forward"]["R@1"] == pytest.approx(expected)
    assert "csls" in summary["metric"]
    assert (tmp_path / "figure.png").is_file()


def test_files_of_different_spaces_are_refused_with_commands_that_mend_it(files):
    with pytest.raises(AssemblyError, match=r"6 and 7 neuroids") as error:
        run("retrieve", files["model"], files["sites"])
    align, retrieve = str(error.value).partition("Mend: ")[2].removesuffix(".").split(", then ")
    run(*shlex.split(align)[1:])
    assert "left out 20 pairs" in run(*shlex.split(retrieve)[1:], *FEW)


def test_where_all_stimuli_were_pairs_all_are_searched_and_the_ranks_called_too_good(files, tmp_path):
    aligned = tmp_path / "aligned.nc"
    run("align", files["model"], files["sites"], "--method", "ridge", "--out", aligned)
    kept = nb.open_assembly(aligned).attrs
    assert list(kept["fitted_source_ids"]) == list(kept["fitted_target_ids"]) == [f"s{k:02d}" for k in range(40)]
    told = run("retrieve", aligned, files["sites"], *FEW)
    assert "fitted on 40 pairs, of which 0 are left out" in told
