"""Figures hold what they were given: axes in, axes out, chance and ceiling drawn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from neurobridge import figures
from neurobridge.assemblies import make_assembly
from neurobridge.evaluate import correlate


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
    assert ax.lines[0].get_marker() not in ("", "None", None)
    bound = ax.lines[1]
    np.testing.assert_allclose(bound.get_ydata(), np.sqrt(bound.get_xdata()))


def test_sites_without_ceilings_are_ranked():
    score = xr.Dataset(
        {"raw": (("split", "neuroid"), [[0.1, 0.5, 0.3]]), "ceiling": ("neuroid", [np.nan] * 3)},
    )
    ax = figures.sites({"ridge": score})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.5, 0.3, 0.1])
    assert "ranked" in ax.get_xlabel()


def _by_site(r, *, ids=None, line=None, ceiling=None):
    coords = {} if ids is None else {"neuroid_id": ("neuroid", ids)}
    reliability = np.full(len(r), np.nan) if ceiling is None else ceiling
    extra = {} if line is None else {"null_site_95": line}
    return xr.Dataset({"raw": (("split", "neuroid"), [r]), "ceiling": ("neuroid", reliability), **extra}, coords=coords)


def test_methods_without_ceilings_share_one_order_of_the_sites():
    first, second = _by_site([0.1, 0.5, 0.3]), _by_site([0.6, 0.2, 0.1])
    ax = figures.sites({"ridge": first, "pls": second})
    # Means over methods .35, .35 and .2: equals stay in their order.
    for line, expected in zip(ax.lines, ([0.1, 0.5, 0.3], [0.6, 0.2, 0.1]), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), expected)


def test_sites_are_matched_by_their_ids_and_nan_stands_last():
    first = _by_site([0.1, np.nan, 0.3, 0.9], ids=["a", "b", "c", "d"])
    second = _by_site([0.2, 0.4], ids=["c", "a"])
    ax = figures.sites({"ridge": first, "pls": second})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.9, 0.1, 0.3, np.nan])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [2, 3])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.4, 0.2])
    with pytest.raises(ValueError, match=r"\[2, 3\] sites.*neuroid_id.*Mend"):
        figures.sites({"ridge": _by_site([0.1, 0.2, 0.3]), "pls": _by_site([0.1, 0.2])})


def test_the_chance_line_of_sites_is_the_null_of_a_single_site():
    scores = {"ridge": _by_site([0.1, 0.5], line=0.2, ceiling=[0.4, 0.9]), "pls": _by_site([0.2, 0.3], line=0.25)}
    assert "chance of one site (95th pct.) 0.25" in _labels(figures.sites(scores))
    assert "chance of one site (95th pct.) 0.07" in _labels(figures.sites(scores, null=0.07))
    undefined = {"ridge": _by_site([0.1, 0.5], line=np.nan), "pls": _by_site([0.1, 0.5])}
    assert _labels(figures.sites(undefined)) == ["ridge", "pls"]


def test_one_site_of_noise_in_twenty_lies_above_the_chance_line():
    rng, above = np.random.default_rng(0), []
    names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(40)}}
    for seed in range(10):
        noise, truth = (make_assembly(rng.normal(size=(60, 40)), **names) for _ in range(2))
        score = correlate(noise, truth, n_permutations=50, seed=seed)
        ax = figures.sites({"ridge": score})
        (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
        above.append(np.mean(ax.lines[0].get_ydata() > line.get_ydata()[0]))
    assert np.mean(above) == pytest.approx(0.05, abs=0.03)


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


def test_a_long_title_of_a_contact_sheet_is_broken_and_stays_inside_the_figure():
    images = xr.DataArray(np.zeros((2, 4, 4), dtype=np.uint8), dims=("presentation", "row", "column"))
    ax = figures.contact_sheet(
        images, title="a title of images that is much wider than the picture below it would let it be"
    )
    figure = ax.figure
    figure.draw_without_rendering()
    assert "\n" in ax.get_title()
    box = ax.title.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height


def test_saved_figures_are_whole_with_live_text_and_the_same_each_time(tmp_path):
    def draw(folder):
        ax = figures.accuracies([{"name": "a", "accuracy": [0.5], "chance": 0.25}])
        return figures.save_figure(ax, folder / "new" / "folder", "bars")

    first, second = draw(tmp_path / "1"), draw(tmp_path / "2")
    assert [path.suffix for path in first] == [".png", ".svg", ".pdf"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    assert ">accuracy, category" in first[1].read_text()
    # Embedded as TrueType, which editors keep as text.
    assert b"/Type42" in first[2].read_bytes() or b"/CIDFontType2" in first[2].read_bytes()
    assert sorted(path.name for path in (tmp_path / "1" / "new" / "folder").iterdir()) == [
        "bars.pdf",
        "bars.png",
        "bars.svg",
    ]


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
