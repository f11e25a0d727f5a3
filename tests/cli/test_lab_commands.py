"""The commands of a laboratory: what they write is what Python gives, and what they leave out they say."""

from __future__ import annotations

import json
import logging
import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.aligners import BASELINES, BridgeAligner, RidgeAligner
from neurobridge.assemblies import drop_incomplete, save_assembly
from neurobridge.cli.app import app
from neurobridge.points.progress import NO_PROGRESS, progress_bar, showing, write_above


def run(*words, ok=True):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert (result.exit_code == 0) == ok, result.output + str(result.exception)
    return result.stdout if ok else str(result.exception)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Trials with a dead site and missing values, a model with a dead unit, and their averages; all simulated."""
    folder = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(60, 3))
    stimuli = [f"s{k:02d}.png" for k in range(60)]
    signal = latents @ rng.normal(size=(3, 5))
    trials = np.concatenate([signal + rng.normal(size=signal.shape) for _ in range(4)])
    trials[rng.random(trials.shape) < 0.02] = np.nan
    # Stimulus s07 was never seen by site n1.
    trials[7::60, 1] = np.nan
    trials[:, 3] = 1.5
    presentation = {"stimulus_id": stimuli * 4, "repetition": np.repeat(range(4), 60), "kind": ["a", "b"] * 120}
    recordings = nb.make_assembly(
        trials, presentation=presentation, neuroid={"neuroid_id": [f"n{k}" for k in range(5)]}
    )
    features = latents @ rng.normal(size=(3, 9))
    features[:, 2] = 0
    model = nb.make_assembly(
        features,
        presentation={"stimulus_id": stimuli, "kind": ["a", "b"] * 30},
        neuroid={"neuroid_id": [f"u{k}" for k in range(9)], "layer": ["v1"] * 9},
    )
    save_assembly(recordings, folder / "rec.nc")
    save_assembly(model, folder / "model.nc")
    save_assembly(nb.average_repetitions(recordings), folder / "avg.nc")
    return folder


def test_averages_are_those_of_python(lab, tmp_path):
    text = run("average", lab / "rec.nc", "--out", tmp_path / "avg.nc", "--min-repetitions", 4)
    expected = nb.average_repetitions(nb.open_assembly(lab / "rec.nc"), min_repetitions=4)
    assert nb.open_assembly(tmp_path / "avg.nc").identical(expected)
    assert f"{expected.attrs['n_missing_values']} of 1,200 values are missing" in text
    assert f"{expected.attrs['n_missing_averages']} of 300 averages are missing" in text
    summary = json.loads(run("average", lab / "rec.nc", "--out", tmp_path / "b.nc", "--keep-missing", "--json"))
    kept = nb.average_repetitions(nb.open_assembly(lab / "rec.nc"), skipna=False)
    assert summary["n_missing_averages"] == int(np.isnan(kept.values).sum())


def test_ceilings_are_those_of_python_and_dead_sites_are_named(lab, tmp_path):
    options = ("--n-splits", 3, "--n-bootstrap", 10, "--seed", 4)
    text = run("ceiling", lab / "rec.nc", "--out", tmp_path / "c.nc", *options)
    assert "left out 1 of 5 sites" in text
    assert "n3" in text
    trials = nb.assemblies.drop_constant(nb.open_assembly(lab / "rec.nc"))
    expected = nb.internal_consistency(trials, n_splits=3, n_bootstrap=10, seed=4)
    with xr.open_dataset(tmp_path / "c.nc") as score:
        np.testing.assert_array_equal(score["ceiling"].values, expected["ceiling"].values)
    assert f"{float(expected['median']):.3f}" in text


def pairs_of(lab, tmp_path, form):
    ids = [f"s{k:02d}.png" for k in range(20, 40)]
    if form == "ids":
        return ",".join(ids)
    if form == "column":
        pd.DataFrame({"stimulus_id": ids}).to_csv(tmp_path / "ids.csv", index=False)
        return tmp_path / "ids.csv"
    if form == "list":
        (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n\n")
        return tmp_path / "ids.txt"
    if form == "table":
        pd.DataFrame({"source_id": ids, "target_id": ids}).to_csv(tmp_path / "pairs.csv", index=False)
        return tmp_path / "pairs.csv"
    return {"number": "20", "fraction": "0.339"}[form]


@pytest.mark.parametrize("form", ["number", "fraction", "ids", "column", "list", "table"])
def test_pairs_are_named_in_any_form_and_what_is_incomplete_is_left_out(lab, tmp_path, form):
    line = ("align", lab / "model.nc", lab / "avg.nc", "--out", tmp_path / "a.nc", "--method", "ridge")
    text = run(*line, "--pairs", pairs_of(lab, tmp_path, form))
    assert "over 20 pairs" in text
    assert "left out 1 of 9 units" in text
    assert "left out 1 of 5 sites" in text
    assert "left out 1 of 60 stimuli" in text
    model, averages = (nb.assemblies.drop_constant(nb.open_assembly(lab / f"{name}.nc")) for name in ("model", "avg"))
    by_name = [f"s{k:02d}.png" for k in range(20, 40)]
    pairs = by_name if form in ("ids", "column", "list", "table") else 20
    expected = RidgeAligner().fit(model, drop_incomplete(averages), pairs=pairs).transform(model)
    np.testing.assert_allclose(nb.open_assembly(tmp_path / "a.nc").values, expected.values, rtol=1e-6)


def test_align_takes_the_options_of_the_bridge_and_keeps_the_aligner(lab, tmp_path):
    options = (
        "--map",
        "linear",
        "--metric",
        "cosine",
        "--coupling",
        "factored",
        "--epsilon",
        0.1,
        "--stratify",
        "kind",
    )
    line = ("align", lab / "model.nc", lab / "avg.nc", "--out", tmp_path / "a.nc", "--pairs", 10, *options)
    summary = json.loads(run(*line, "--save", tmp_path / "aligner", "--seed", 3, "--json"))
    assert (summary["map"], summary["metric"], summary["epsilon"]) == ("linear", "cosine", 0.1)
    aligner = nb.aligners.load(tmp_path / "aligner")
    assert isinstance(aligner, BridgeAligner)
    assert (aligner.metric, aligner.coupling, aligner.seed) == ("cosine", "factored", 3)
    for wrong, allowed in (("--map", "barycentric"), ("--metric", "geodesic"), ("--coupling", "fused")):
        assert allowed in run(*line[:5], wrong, "magic", ok=False)
    assert "method 'ridge'" in run(*line, "--method", "ridge", ok=False)


def test_repeated_stimuli_are_refused_with_the_command_that_averages_them(lab, tmp_path):
    message = run("align", lab / "model.nc", lab / "rec.nc", "--out", tmp_path / "a.nc", ok=False)
    mend = message.split("Mend: ")[1].split(", then")[0]
    assert mend.startswith(f"neurobridge average {lab / 'rec.nc'} --out ")
    run(*mend.split()[1:-1], tmp_path / "avg.nc")
    run("align", lab / "model.nc", tmp_path / "avg.nc", "--out", tmp_path / "a.nc", "--method", "ridge")


def test_a_curve_is_that_of_python(lab, tmp_path):
    run("ceiling", lab / "rec.nc", "--out", tmp_path / "c.nc", "--n-bootstrap", 0)
    line = ("curve", lab / "model.nc", lab / "avg.nc", "--out", tmp_path / "curve", "--methods", "ridge,procrustes")
    text = run(*line, "--pairs", "0.1,0.2", "--seeds", 2, "--n-permutations", 5, "--ceiling", tmp_path / "c.nc")
    assert "next: neurobridge report" in text
    model, averages = (nb.assemblies.drop_constant(nb.open_assembly(lab / f"{name}.nc")) for name in ("model", "avg"))
    with xr.open_dataset(tmp_path / "c.nc") as score:
        ceiling = score["ceiling"].load()
    expected = nb.learning_curve(
        model,
        averages,
        {name: BASELINES[name]() for name in ("ridge", "procrustes")},
        n_pairs=(6, 12),
        n_seeds=2,
        n_permutations=5,
        ceiling=ceiling,
        progress=False,
    )
    with xr.open_dataset(tmp_path / "curve" / "learning_curve.nc") as curve:
        for name in ("raw", "normalized", "p_value", "n_neuroids"):
            np.testing.assert_array_equal(curve[name].values, expected[name].values)
        assert set(json.loads(curve.attrs["digests"])) == {"model.nc", "avg.nc", "c.nc"}
    results = json.loads((tmp_path / "curve" / "scores.json").read_text())
    assert len(results["tables"][0]["rows"]) == 4
    assert (tmp_path / "curve" / "learning_curve.png").exists()
    assert "n_permutations" in run(*line, "--pairs", "6", "--n-permutations", 6, "--seeds", 1, ok=False)


def test_a_curve_says_how_many_pairs_a_score_needs(lab, tmp_path):
    line = ("curve", lab / "model.nc", lab / "avg.nc", "--out", tmp_path / "curve", "--methods", "ridge")
    options = ("--pairs", "5,10,20,40", "--seeds", 3, "--n-permutations", 0, "--plan", 0.8)
    assert "Pairs for a median r of 0.8" in run(*line, *options)
    table = json.loads((tmp_path / "curve" / "scores.json").read_text())["tables"][1]
    with xr.open_dataset(tmp_path / "curve" / "learning_curve.nc") as curve:
        plan = nb.evaluate.plan_from_curve(curve.load(), 0.8)
    shown = [str(int(np.ceil(n))) if np.isfinite(n) else "no number" for n in (plan.n_pairs, plan.low, plan.high)]
    assert table["rows"] == [["ridge", shown[0], f"{shown[1]} to {shown[2]}", f"{plan.plateau:.3f}"]]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (("--plan", "0.5"), "3 number(s) of pairs and 1 seed(s)"),
        (("--pairs", "10,x"), "'10,x'"),
        (("--pairs", "0.1,20"), "'0.1,20'"),
        (("--pairs", "nan"), "'nan'"),
        (("--pairs", "500"), "500 pairs"),
        (("--methods", "magic"), "'magic'"),
        (("--ceiling", "nowhere.nc"), "nowhere.nc"),
        (("--held-out", "1"), "held_out"),
    ],
)
def test_wrong_options_of_a_curve_are_refused(lab, tmp_path, options, facts):
    line = ("curve", lab / "model.nc", lab / "avg.nc", "--out", tmp_path, "--methods", "ridge", "--seeds", 1)
    message = run(*line, *options, ok=False)
    assert facts in message
    assert "Mend: " in message


def test_a_ceiling_of_other_sites_is_refused_and_one_of_some_is_told(lab, tmp_path):
    run("ceiling", lab / "rec.nc", "--out", tmp_path / "c.nc", "--n-bootstrap", 0)
    averages = nb.open_assembly(lab / "avg.nc")
    line = ("score", lab / "model.nc", tmp_path / "avg.nc", "--regression", "ridge", "--ceiling", tmp_path / "c.nc")
    save_assembly(averages.assign_coords(neuroid_id=("neuroid", list("abcde"))), tmp_path / "avg.nc")
    assert "same sites" in run(*line, ok=False)
    save_assembly(averages.assign_coords(neuroid_id=("neuroid", ["n0", "n1", "n2", "n3", "x"])), tmp_path / "avg.nc")
    assert "1 of 4 sites have no ceiling" in run(*line)


def test_score_normalises_draws_and_counts_what_is_missing(lab, tmp_path):
    run("ceiling", lab / "rec.nc", "--out", tmp_path / "c.nc", "--n-bootstrap", 0)
    files = ("--out", tmp_path / "score.nc", "--save-figure", tmp_path / "new" / "sites.png")
    options = ("--regression", "ridge", "--alpha", 10, "--splits", "kfold,n_splits=3", "--n-permutations", 20)
    line = ("score", lab / "model.nc", lab / "avg.nc", "--ceiling", tmp_path / "c.nc", *options, *files)
    summary = json.loads(run(*line, "--json"))
    assert summary["normalized"] > 0
    assert (tmp_path / "new" / "sites.svg").exists()
    with xr.open_dataset(tmp_path / "score.nc") as score:
        assert score["n_stimuli_of_site"].values.tolist() == [60, 59, 60, 60]
        assert score["raw"].shape == (3, 4)
    assert "ceiling" in run("score", "--benchmark", "x", "--activations", "a.nc", "--ceiling", "c.nc", ok=False)


def test_the_curve_that_is_offered_after_an_alignment_can_be_drawn(lab, tmp_path):
    few = nb.open_assembly(lab / "avg.nc").isel(presentation=slice(0, 30))
    save_assembly(few, tmp_path / "few.nc")
    align = (
        "align",
        lab / "model.nc",
        tmp_path / "few.nc",
        "--pairs",
        20,
        "--method",
        "ridge",
        "--out",
        tmp_path / "a.nc",
    )
    last = run(*align).splitlines()[-1]
    # One of 30 stimuli misses a value and six are held out, so that 40 pairs cannot be drawn.
    assert "--pairs 10,20,23" in last
    run("ceiling", lab / "rec.nc", "--out", tmp_path / "ceiling.nc", "--n-bootstrap", 0)
    assert f"--ceiling {tmp_path / 'ceiling.nc'}" in run(*align)
    save_assembly(few.assign_coords(neuroid_id=("neuroid", list("abcde"))), tmp_path / "few.nc")
    assert "--ceiling" not in run(*align)


def test_switches_of_every_command(lab, tmp_path, capfd):
    line = ("average", lab / "rec.nc", "--out", tmp_path / "avg.nc")
    assert run(*line, "--quiet") == ""
    result = CliRunner().invoke(app, [*map(str, line), "--verbose"])
    assert f"read {lab / 'rec.nc'}: 240x5 of float64" in result.output + capfd.readouterr().err
    assert logging.getLogger("neurobridge").handlers == []
    assert NO_PROGRESS not in os.environ
    for words in (["data", "list"], ["features", "extract"], ["demo"]):
        text = run(*words, "--help")
        assert all(switch in text for switch in ("--quiet", "--no-progress", "--verbose"))


def test_the_log_says_what_was_read_left_out_and_how_long_it_took(lab, caplog):
    trials = nb.open_assembly(lab / "rec.nc")
    n_missing = int(trials.isnull().sum())
    with caplog.at_level(logging.DEBUG, "neurobridge"):
        alive = nb.assemblies.drop_constant(trials)
        averages = nb.average_repetitions(alive)
        median = float(nb.internal_consistency(alive, n_splits=2, n_bootstrap=0)["median"])
        model = nb.open_assembly(lab / "model.nc").isel(neuroid=slice(0, 2), presentation=slice(0, 40))
        nb.predictivity(model, averages, "ridge", alpha=10, splits="kfold,n_splits=2", n_permutations=0)
    lines = {record.name.removeprefix("neurobridge."): record.getMessage() for record in caplog.records}
    assert lines["assemblies.selection"] == "left out 1 of 5 neuroids whose response never changes"
    average = rf"averaged 240 presentations of 4 neuroids to 60 stimuli: {n_missing} missing values, 0 stimuli left out, [\d.]+ s"
    assert re.fullmatch(average, lines["assemblies.repeats"])
    assert re.fullmatch(
        rf"ceilings: median {median:.3f} over 4 of 4 neuroids, 240 presentations of 60 stimuli, 2 halvings, 0 draws, [\d.]+ s",
        lines["evaluate.ceiling"],
    )
    assert lines["assemblies.matching"] == "matched 40 stimuli; left out 0 of the source and 20 of the target"
    predicted = r"predicted 4 neuroids from 2 on held-out parts of 40 stimuli, .*; 1 values missing, [\d.]+ s"
    assert re.fullmatch(predicted, lines["evaluate.predict"])


def test_the_log_counts_the_stimuli_of_an_extraction(tmp_path, caplog):
    images = np.random.default_rng(0).integers(0, 255, (5, 32, 32)).astype(np.uint8)
    options = {"batch_size": 2, "out": tmp_path / "model.nc", "identifier": "gabor"}
    with caplog.at_level(logging.DEBUG, "neurobridge.features"):
        for _ in range(2):
            nb.extract(nb.features.GaborEnergy(n_scales=1), images, "v1", **options)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "showing 5 stimuli to gabor: 1 layers, batches of 2, 0 stimuli already done"
    assert lines[1:4] == [f"{n} of 5 stimuli shown" for n in (2, 4, 5)]
    assert re.fullmatch(r"activations of gabor: 5 stimuli, \d+ units, 3 blocks read, [\d.]+ s", lines[4])
    assert lines[-1] == f"read {tmp_path / 'model.nc'}: this extraction is finished"


def test_one_switch_shows_bars_on_a_terminal_alone(monkeypatch, capsys):
    def shown(progress):
        list(progress_bar(range(3), progress=progress, desc="steps"))
        return "steps" in capsys.readouterr().err

    assert not shown(True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert shown(True)
    assert not shown(False)
    assert not shown(None)
    with showing(True):
        assert shown(None)
        assert not shown(False)
    write_above("waiting", progress=True)
    assert "waiting" in capsys.readouterr().err
    monkeypatch.setenv(NO_PROGRESS, "1")
    assert not shown(True)
    write_above("waiting", progress=True)
    assert capsys.readouterr().err == ""
