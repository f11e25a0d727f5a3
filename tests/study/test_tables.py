"""Tables and panels of studies: what their cells, bars and files hold."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from neurobridge import figures
from neurobridge.aligners import BASELINES, BridgeAligner
from neurobridge.study import (
    METHODS,
    Run,
    curves_of,
    error_bars,
    format_mean,
    format_value,
    make_aligner,
    make_panels,
    mean_ci,
    save_panels,
    select_records,
    table_of_means,
    verdict,
)
from neurobridge.study.methods import BRIDGES, FLOWS
from tests.refusals import refused

RECORDS = [
    {"method": method, "n_pairs": n, "seed": seed, "r": round(0.1 * n + seed + 10 * (method == "ridge"), 3)}
    for method in ("fused", "ridge")
    for n in (5, 20)
    for seed in range(5)
]


def test_the_interval_is_students():
    values = [0.1, 0.4, 0.2, 0.7]
    mean, half = mean_ci(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_every_cell_of_a_table_is_the_mean_of_its_records():
    table = table_of_means("t", RECORDS, "r", extra={"chance": "0", "ceiling": ["1", "2"]})
    assert table["columns"] == ["method", "5", "20"]
    for name, *cells in table["rows"][:2]:
        for n, cell in zip((5, 20), cells, strict=True):
            assert cell == format_mean([r["r"] for r in select_records(RECORDS, method=name, n_pairs=n)])
    assert table["rows"][2:] == [["chance", "0", "0"], ["ceiling", "1", "2"]]


def test_bars_are_ranges_of_few_values_and_intervals_of_five():
    few, many = [1.0, 2.0, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    bars = error_bars([few, many])
    assert bars[:, 0].tolist() == [2.0, 3.0]
    assert bars[:, 1].tolist() == pytest.approx([mean_ci(many)[1]] * 2)


def test_curves_hold_the_values_of_every_seed():
    curves = curves_of(RECORDS, "r")
    assert list(curves) == ["fused", "ridge"]
    assert curves["ridge"] == ([5, 20], [[10.5, 11.5, 12.5, 13.5, 14.5], [12.0, 13.0, 14.0, 15.0, 16.0]])


@pytest.mark.parametrize(
    ("n_met", "n_cases", "part", "word"),
    [(2, 2, 0.5, "holds"), (1, 2, 0.5, "holds in part"), (1, 3, 0.5, "does not hold here"),
     (0, 0, 0.5, "does not hold here"), (1, 3, 0.0, "holds in part"), (0, 3, 0.0, "does not hold here")],
)  # fmt: skip
def test_verdicts(n_met, n_cases, part, word):
    assert verdict(n_met, n_cases, part) == word


def test_values_that_are_not_there_are_said():
    assert format_value(None) == format_mean([]) == "n/a"
    assert format_mean([0.25]) == format_value(0.25) == "0.250"


def test_panels_stand_in_rows_and_are_saved_with_their_caption(tmp_path):
    figure, axes = make_panels(3, columns=2)
    assert len(axes) == 3
    assert sum(ax.axison for ax in figure.axes) == 3
    entry = save_panels(figure, Run(quick=True, seed=0, n_seeds=1, out=tmp_path), "name", "n = 3; seed 0")
    assert entry == {"file": "name.png", "caption": "n = 3; seed 0"}
    assert "n = 3; seed 0" in (tmp_path / "name.svg").read_text()


def test_every_method_has_an_aligner_with_its_seed_and_a_style():
    assert (*BRIDGES, *BASELINES) == METHODS
    assert set(METHODS) <= set(figures.STYLES)
    assert set(FLOWS) <= set(BRIDGES)
    for name in METHODS:
        aligner = make_aligner(name, 7)
        assert aligner.get_params()["seed"] == 7
        assert isinstance(aligner, BridgeAligner) == (name in BRIDGES)
    assert make_aligner("fused", map="flow").get_params()["map"] == "flow"
    with refused(ValueError, "'magic'", "'ridge'"):
        make_aligner("magic")


def test_styles_are_told_apart():
    # Unbalanced transport has rho 1, so these two are one method.
    styles = {name: style for name, style in figures.STYLES.items() if name != "rho 1"}
    assert figures.STYLES["rho 1"] == styles["unbalanced"]
    assert len({repr(sorted(style.items())) for style in styles.values()}) == len(styles)


def test_memory_is_that_of_this_process():
    # In a process of its own: here an earlier test may have taken more, and given it back.
    code = (
        "import numpy as np; from neurobridge.study.machine import peak_rss; before = peak_rss(); "
        "block = np.ones(30_000_000); print((peak_rss() - before) / block.nbytes)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0.5 < float(grown) < 2
