"""Figures hold what they were given: axes in, axes out, chance and ceiling drawn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from neurobridge import figures


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def _labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_learning_curve_draws_every_method_with_its_mean_and_range():
    _, ax = plt.subplots()
    curves = {"bridge": ([10, 20], [[0.1, 0.3], [0.4, 0.6]]), "ridge": ([10, 20], [[0.2, 0.2], [0.5, 0.5]])}
    returned = figures.learning_curve(curves, ax=ax, null=0.05, ceiling=0.9)
    assert returned is ax
    bridge = ax.containers[0]
    np.testing.assert_allclose(bridge[0].get_ydata(), [0.2, 0.5])
    np.testing.assert_allclose([segment[:, 1] for segment in bridge[2][0].get_segments()], [[0.1, 0.3], [0.4, 0.6]])
    assert {"bridge", "ridge", "ceiling 0.90", "chance (95th pct.) 0.05"} <= set(_labels(ax))
    assert "pair" in ax.get_xlabel()


def test_sites_draws_correlation_against_reliability_and_the_bound():
    score = xr.Dataset(
        {"raw": (("split", "neuroid"), [[0.1, 0.5]]), "ceiling": ("neuroid", [0.4, 0.9])},
    )
    ax = figures.sites({"mine": score}, null=0.02)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.4, 0.9])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.1, 0.5])
    # A name without a style of its own is seen all the same.
    assert ax.lines[0].get_marker() == "."
    bound = ax.lines[1]
    np.testing.assert_allclose(bound.get_ydata(), np.sqrt(bound.get_xdata()))


def test_sites_without_ceilings_are_ranked():
    score = xr.Dataset(
        {"raw": (("split", "neuroid"), [[0.1, 0.5, 0.3]]), "ceiling": ("neuroid", [np.nan] * 3)},
    )
    ax = figures.sites({"ridge": score})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.5, 0.3, 0.1])
    assert "ranked" in ax.get_xlabel()


def test_accuracies_marks_each_rows_own_chance():
    rows = [
        {"name": "a", "accuracy": [0.5, 0.7], "chance": 0.25},
        {"name": "b", "accuracy": [0.9], "chance": 0.1},
    ]
    ax = figures.accuracies(rows)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [0.6, 0.9])
    chances = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(chances, [0.25, 0.1])


@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 4, 4, 3)])
def test_contact_sheet_shows_every_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    dims = ("presentation", "row", "column", "channel")[: len(shape)]
    ax = figures.contact_sheet(xr.DataArray(pixels, dims=dims), n_columns=3)
    sheet = ax.images[0].get_array()
    assert sheet.shape[:2] == (8, 12)
    np.testing.assert_array_equal(sheet[:4, 4:8], pixels[1])
    np.testing.assert_array_equal(sheet[4:8, 8:12], np.full_like(pixels[0], 255))


def test_saved_figures_are_png_and_svg_and_the_same_each_time(tmp_path):
    def draw(folder):
        folder.mkdir()
        ax = figures.accuracies([{"name": "a", "accuracy": [0.5], "chance": 0.25}])
        return figures.save_figure(ax.figure, folder, "bars")

    first, second = draw(tmp_path / "1"), draw(tmp_path / "2")
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    assert "accuracy" in first[1].read_text()


def test_layer_profile_rings_the_chosen_layer_and_draws_chance_and_ceiling():
    rng = np.random.default_rng(0)

    def table(layers, chosen):
        raw = np.tile(np.linspace(0.1, 0.5, len(layers))[:, None, None], (1, 4, 3))
        return xr.Dataset(
            {
                "raw": (("layer", "split", "neuroid"), raw),
                "null": (("layer", "permutation"), rng.normal(0, 0.01, (len(layers), 50))),
            },
            coords={"layer": layers},
            attrs={"layer": chosen},
        )

    one = table(["a", "b", "c"], "c")
    ax = figures.layer_profile({"V4": one, "IT": one}, ceiling=0.8, title="t")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]
    np.testing.assert_allclose(ax.containers[0][0].get_ydata(), [0.1, 0.3, 0.5])
    rings = [line for line in ax.lines if line.get_fillstyle() == "none"]
    assert [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings] == [(2, 0.5), (2, 0.5)]
    chance = float(np.quantile(one["null"], 0.95))
    assert {"V4", "IT", "ceiling 0.80", f"chance (95th pct.) {chance:.2f}"} <= set(_labels(ax))
    side_by_side = figures.layer_profile({"m": one, "n": table(["x", "y"], "x")})
    assert [tick.get_text() for tick in side_by_side.get_xticklabels()] == ["a", "b", "c", "x", "y"]
    np.testing.assert_allclose(side_by_side.containers[1][0].get_xdata(), [3, 4])
