"""`neurobridge rsa` as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge import similarity
from neurobridge.assemblies import AssemblyError
from neurobridge.cli.app import app

FEW = ("--n-bootstrap", 40)


@pytest.fixture
def files(tmp_path):
    """Simulated: two models, one without a stimulus, and two trials of five sites of each of three animals, on 16 stimuli."""
    rng = np.random.default_rng(0)
    latents, ids = rng.normal(size=(16, 4)), [f"s{k:02d}" for k in range(16)]

    def save(name, values, stimuli, **columns):
        neuroid = {"neuroid_id": range(values.shape[1]), **columns}
        return nb.save_assembly(
            nb.make_assembly(values, presentation=stimuli, neuroid=neuroid), tmp_path / f"{name}.nc"
        )

    sites = latents @ rng.normal(size=(4, 15))
    trials = np.concatenate([sites + rng.normal(size=sites.shape) for _ in range(2)])
    repeated = {"stimulus_id": ids * 2, "repetition": np.repeat(range(2), 16)}
    order = rng.permutation(16)
    made = {
        "all": save("all", latents[order], {"stimulus_id": [ids[k] for k in order]}),
        "noise": save("noise", rng.normal(size=(15, 4)), {"stimulus_id": ids[:15]}),
        "it": save("it", trials, repeated, animal=np.repeat(["a", "b", "c"], 5)),
    }
    return made | {name: save(name, trials[:, 5 * k : 5 * k + 5], repeated) for k, name in enumerate("abc")}


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def expected(files, distance, comparator):
    kept = [f"s{k:02d}" for k in range(15)]

    def squares(name, of_trials):
        assembly = nb.open_assembly(files[name])
        assembly = assembly[np.isin(assembly["stimulus_id"].values, kept)]
        if of_trials:
            return similarity.crossvalidated_rdm(assembly)
        assembly = nb.average_repetitions(assembly)
        return similarity.rdm(assembly, distance="sqeuclidean" if distance == "crossvalidated" else distance)

    return similarity.compare_rsa_models(
        {name: squares(name, of_trials=False) for name in ("all", "noise")},
        {name: squares(name, of_trials=distance == "crossvalidated") for name in "abc"},
        comparator=comparator,
        n_bootstrap=40,
        seed=3,
    )


@pytest.mark.parametrize(("distance", "comparator"), [("correlation", "rho-a"), ("crossvalidated", "cosine_cov")])
def test_the_numbers_are_those_of_the_function_from_one_file_and_from_three(files, tmp_path, distance, comparator):
    options = ("--distance", distance, "--comparator", comparator, "--seed", 3, *FEW)
    out, apart = tmp_path / "score.nc", tmp_path / "apart.nc"
    told = run("rsa", files["all"], files["noise"], "--recordings", files["it"], *options, "--out", out)
    assert "15 stimuli are in all files, 1 of" in told
    assert f"next: neurobridge report {out}" in told
    several = [word for name in "abc" for word in ("--recordings", files[name])]
    shown = json.loads(run("rsa", files["all"], files["noise"], *several, *options, "--out", apart, "--json"))
    alone = expected(files, distance, comparator)
    for path in (out, apart):
        with xr.open_dataset(path) as score:
            assert score["subject"].values.tolist() == ["a", "b", "c"]
            for name in ("raw", "sem", "ceiling", "ceiling_upper", "p_value_fdr", "p_difference_fdr"):
                np.testing.assert_allclose(score[name], alone[name])
    assert shown["scores"]["pairs"][0]["difference"] == pytest.approx(float(alone["difference"][0, 1]))
    assert shown["scores"]["models"]["all"]["value"] == pytest.approx(float(alone["raw"][0]))


def test_one_subject_is_refused_and_its_own_stimuli_can_be_drawn_and_reported(files, tmp_path):
    command = ("rsa", files["all"], files["noise"], "--recordings", files["a"], *FEW, "--out", tmp_path / "score.nc")
    with pytest.raises(ValueError, match=r"one subject, 'a'.*--bootstrap stimuli"):
        run(*command)
    assert "about other stimuli" in run(*command, "--bootstrap", "stimuli")
    run("report", tmp_path / "score.nc")
    run("plot", tmp_path / "score.nc", "--out", tmp_path / "plot.png")
    assert "Similarity of RDMs" in (tmp_path / "score.html").read_text()


def test_a_wrong_subject_and_missing_trials_are_named(files, tmp_path):
    out = ("--out", tmp_path / "score.nc", *FEW)
    with pytest.raises(AssemblyError, match=r"'monkey'.*it\.nc.*'animal'.*--subject none"):
        run("rsa", files["all"], "--recordings", files["it"], "--subject", "monkey", *out)
    nb.save_assembly(nb.average_repetitions(nb.open_assembly(files["it"])), tmp_path / "means.nc")
    command = ("rsa", files["all"], "--recordings", tmp_path / "means.nc", *out, "--distance")
    with pytest.raises(AssemblyError, match=r"subject 'a'.*--distance sqeuclidean"):
        run(*command, "crossvalidated")
    run(*command, "sqeuclidean")
