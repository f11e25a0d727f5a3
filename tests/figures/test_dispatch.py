"""Whatever the package returns has a figure, a caption with n, and an alternative text with numbers."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from neurobridge import figures
from tests.refusals import refused

KINDS = [
    "curve", "ceiling", "score by site", "two methods", "three methods", "decoding", "decodings", "similarity", "overlap",
    "coupling", "aligner", "baseline", "rdm", "assembly", "trials", "comparison",
]  # fmt: skip


def _legend_outside(ax):
    """Whether no legend lies over the axes, once drawn."""
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    return legend is None or not legend.get_window_extent().overlaps(ax.get_window_extent())


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_drawn_and_told(results, kind):
    thing = results[kind]
    ax = figures.plot(thing)
    assert ax.get_xlabel()
    assert _legend_outside(ax)
    text, alt = figures.caption(thing), figures.alt_text(thing)
    assert text.endswith(".")
    assert re.search(r"\d", text + alt)
    assert re.search(r"\d", alt)
    assert not re.search(r"\bnan\b|\bNone\b", text + alt)


def test_nothing_else_is_drawn():
    with refused(ValueError, "str", "Mend"):
        figures.plot("scores.json")


def test_a_learning_curve_is_drawn_as_it_was_returned(results):
    curve = results["curve"]
    ax = figures.learning_curve(curve)
    for line, method in zip(ax.containers, curve["aligner"].values, strict=True):
        assert line.get_label() == method
        np.testing.assert_allclose(line[0].get_ydata(), curve["mean"].sel(aligner=method))
        values = curve["raw"].sel(aligner=method).values
        # Two seeds have a range, no interval.
        bars = np.array([segment[:, 1] for segment in line[2][0].get_segments()])
        np.testing.assert_allclose(bars, np.stack([values.min(axis=1), values.max(axis=1)], axis=1))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert any(label.startswith("ceiling") for label in labels)
    assert any(label.startswith("chance") for label in labels)
    for method, style in figures.STYLES.items():
        lines = [line[0] for line in ax.containers if line.get_label() == method]
        assert all(line.get_color() == style["color"] for line in lines)
    with refused(ValueError, "('split', 'neuroid')", "learning_curve"):
        figures.learning_curve(results["score by site"])


def test_the_bars_of_two_methods_stand_beside_each_other():
    values = [[0.1, 0.2], [0.3, 0.4], [0.4, 0.5]]
    many = {f"model {k}": ([100, 110, 120], values) for k in range(20)}
    ax = figures.learning_curve(many)
    places = np.sort(np.concatenate([line[0].get_xdata() for line in ax.containers]))
    assert len(set(places)) == len(places), "every bar has a place of its own"
    # Those of one number of pairs stand together, around it.
    np.testing.assert_allclose(np.log10(places).reshape(3, -1).mean(axis=1), np.log10([100, 110, 120]))
    without_bars = figures.learning_curve({name: ([5, 50], [[0.1], [0.3]]) for name in ("ridge", "fused")})
    assert [line[0].get_xdata().tolist() for line in without_bars.containers] == [[5, 50], [5, 50]]


def test_a_comparison_is_drawn_as_it_was_returned(results):
    compared = results["comparison"]
    ax = figures.plot(compared)
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert sorted(names) == ["early, ridge", "early, rsa", "late, ridge", "late, rsa"]
    drawn = {name: bars[0].get_xdata()[0] for name, bars in zip(names, ax.containers, strict=True)}
    for name, value in drawn.items():
        model, metric = name.split(", ")
        assert value == pytest.approx(compared["value"].sel(metric=metric, model=model).item())
    # Under one metric the models that do not differ are joined.
    ranked = figures.plot(compared.sel(metric=["ridge"]))
    assert [tick.get_text() for tick in ranked.get_yticklabels()] == ["late", "early"]
    assert ranked.get_xlabel().startswith("ridge")


def test_five_seeds_have_intervals():
    raw = np.random.default_rng(0).normal(size=(1, 2, 5))
    bounds = {"low": raw.mean(axis=2) - 1, "high": raw.mean(axis=2) + 2}
    curve = xr.Dataset(
        {"raw": (("aligner", "n_pairs", "seed"), raw), "ceiling": np.nan,
         **{name: (("aligner", "n_pairs"), values) for name, values in bounds.items()},
         "null": (("aligner", "n_pairs", "seed", "permutation"), np.empty((1, 2, 5, 0)))},
        coords={"aligner": ["ridge"], "n_pairs": [5, 50], "seed": range(5)},
    )  # fmt: skip
    ax = figures.learning_curve(curve)
    ends = np.array([segment[:, 1] for segment in ax.containers[0][2][0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([bounds["low"][0], bounds["high"][0]], axis=1))


def test_a_ceiling_far_above_the_data_does_not_press_them_down():
    curve = {"ridge": ([5, 50], [[0.1, 0.2], [0.3, 0.4]])}
    near, far = figures.learning_curve(curve, ceiling=0.6), figures.learning_curve(curve, ceiling=0.9)
    assert near.get_ylim()[1] >= 0.6
    assert far.get_ylim()[1] < 0.5
    assert "ceiling 0.90, beyond the axis" in [text.get_text() for text in far.get_legend().get_texts()]


def test_the_caption_names_what_is_drawn_of_the_ceiling(results):
    curve = results["curve"]
    top = float(curve["raw"].max())
    assert "Dotted: ceiling" in figures.caption(curve.assign(ceiling=1.2 * top))
    assert "Triangle at the upper edge: ceiling" in figures.caption(curve.assign(ceiling=2.0 * top))


def test_sites_of_one_score(results):
    score = results["score by site"]
    ax = figures.sites(score)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), score["raw"].mean("split"))
    with refused(ValueError, "plot", "neuroid"):
        figures.sites(results["similarity"])


def test_two_methods_are_paired_by_site():
    def score(ids, r):
        return xr.Dataset(
            {"raw": (("split", "neuroid"), [r]), "ceiling": ("neuroid", r)}, coords={"neuroid_id": ("neuroid", ids)}
        )

    first, second = score(["a", "b", "c", "d"], [0.1, 0.2, 0.3, 0.9]), score(["c", "b", "a"], [0.4, 0.1, 0.3])
    ax = figures.paired({"ridge": first, "fused": second})
    # a rises from .1 to .3, b falls from .2 to .1, c rises from .3 to .4; d is in one score alone.
    points = np.concatenate([part.get_offsets() for part in ax.collections])
    np.testing.assert_allclose(sorted(points.tolist()), [[0.1, 0.3], [0.2, 0.1], [0.3, 0.4]])
    assert ax.get_title() == "fused above ridge: 67 % of 3 sites,\nmedian difference +0.10"
    (identity,) = ax.lines
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    with refused(ValueError, "1 methods", "paired"):
        figures.paired({"ridge": first})
    with refused(ValueError, "none of them in both"):
        figures.paired({"ridge": first, "fused": score(["x"], [0.4])})


def test_confusions_are_shares_of_the_truth():
    classes = {"truth": ["a", "b"], "choice": ["a", "b"]}
    ax = figures.confusion(xr.DataArray([[8, 2], [5, 5]], dims=("truth", "choice"), coords=classes))
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.8, 0.2], [0.5, 0.5]])
    with refused(ValueError, "truth", "decode"):
        figures.confusion(xr.Dataset({"raw": 1.0}))


def test_a_plan_shows_shares_of_the_rows_and_the_pairs_first(results):
    coupling = results["coupling"]
    ax = figures.plan(coupling, order=(np.arange(60), np.arange(60)))
    shown = ax.images[0].get_array() ** 2
    np.testing.assert_allclose(shown.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(shown, coupling.conditional(np.arange(60)), atol=1e-9)
    rings = figures.plan(coupling).collections[0].get_offsets()
    np.testing.assert_array_equal(rings, np.stack([np.arange(20)] * 2, axis=1))
    with refused(ValueError, "60 x 60"):
        figures.plan(coupling, order=(np.arange(60), np.array([60])))
    with refused(ValueError, "BridgeAligner", "coupling_"):
        figures.plan(results["aligner"])


def test_dissimilarities_are_ranks_with_the_noise_ceiling(results):
    rdm = results["rdm"]
    axes = figures.rdms(rdm, rdm + 1, names=("sites", "model"), noise_ceiling=(0.5, 0.7))
    first, second = (np.asarray(ax.images[0].get_array()) for ax in axes[:2])
    np.testing.assert_array_equal(first, second)
    assert (first.min(), first.max()) == (0, 1)
    assert {"noise ceiling 0.50 to 0.70", "spearman 1.00"} == {t.get_text() for t in axes[2].get_legend().get_texts()}
    assert len(figures.rdms(rdm, rdm)) == 2
    with refused(ValueError, (60, 60), (59, 59)):
        figures.rdms(rdm, rdm[:59, :59])


def test_partners_stand_beside_their_stimulus(results):
    pixels = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)
    images = xr.DataArray(pixels, dims=("presentation", "row", "column"))
    coupling = results["coupling"]
    ax = figures.partners(coupling, images, rows=[7], n_partners=2)
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet[0, 0] == 7
    best = np.argsort(-coupling.conditional(7), kind="stable")[:2]
    assert [value for value in dict.fromkeys(sheet[0].tolist()) if value not in (255, 7)] == [k for k in best if k != 7]
    with refused(ValueError, (60, 60), "59"):
        figures.partners(coupling, images[:59])


@pytest.mark.parametrize(("style", "width"), [("nature", 89), ("wide", 183)])
def test_a_figure_has_the_width_of_the_journal(results, tmp_path, style, width):
    ax = figures.plot(results["curve"], style=style)
    assert 25.4 * ax.figure.get_figwidth() == pytest.approx(width)
    sizes = {text.get_fontsize() for text in [*ax.get_legend().get_texts(), ax.xaxis.label, *ax.get_xticklabels()]}
    assert max(sizes) <= 7
    assert min(sizes) >= 5
    assert plt.rcParams["font.size"] == plt.rcParamsDefault["font.size"]
    with refused(ValueError, "cell", "nature"):
        figures.plot(results["curve"], style="cell")


def test_panels_share_a_legend_and_have_letters(results):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    for ax in axes:
        figures.learning_curve(results["curve"], ax=ax)
    figures.shared_legend(axes)
    figures.panel_letters(axes)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ridge", "procrustes"]
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b"]
    assert all(ax.get_legend() is None and "chance" in ax.get_title() for ax in axes)
    figure.canvas.draw()
    assert not any(legend.get_window_extent().overlaps(ax.get_window_extent()) for ax in axes)
