"""One look a method: apart in greyscale and under colour blindness, by marker and by line."""

from __future__ import annotations

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from neurobridge import figures
from neurobridge.study import METHODS

_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
#: Full strength, Machado, Oliveira & Fernandes 2009, of linear RGB.
_BLINDNESS = {
    "none": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _lab(colour, blindness="none"):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = _XYZ @ np.clip(np.asarray(_BLINDNESS[blindness]) @ linear, 0, 1) / (_XYZ @ np.ones(3))
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_colours_differ_in_lightness():
    lightness = sorted(_lab(colour)[0] for colour in figures.PALETTE.values())
    assert min(np.diff(lightness)) > 3
    # A line has to be seen on white.
    assert lightness[-1] < 85


@pytest.mark.parametrize("blindness", _BLINDNESS)
def test_colours_differ_for_every_eye(blindness):
    seen = [_lab(colour, blindness) for colour in figures.PALETTE.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10


def test_every_compared_method_has_a_look_of_its_own():
    assert set(METHODS) <= set(figures.STYLES)
    compared = [figures.STYLES[method] for method in METHODS]
    without_colour = {(style["marker"], str(style["linestyle"]), style.get("markerfacecolor")) for style in compared}
    assert len(without_colour) == len(METHODS)
    looks = [str(sorted(style.items(), key=str)) for style in figures.STYLES.values()]
    assert len(set(looks)) == len(looks) - 1, "rho 1 is the method unbalanced, no two others are alike"
    for style in figures.STYLES.values():
        assert style["color"] in figures.PALETTE.values()
        mpl.lines.Line2D([0, 1], [0, 1], **style)


def test_names_get_one_style_each_and_methods_their_own():
    names = ["ridge", "IT", "Fused", "ridge, pearson", *(f"model {k}" for k in range(20))]
    styles = figures.styles_of(names)
    assert styles["ridge"] == figures.STYLES["ridge"]
    assert styles["Fused"] == figures.STYLES["fused"]
    looks = [str(sorted(style.items(), key=str)) for style in styles.values()]
    assert len(set(looks)) == len(names)
    assert figures.styles_of(["ridge, pearson"])["ridge, pearson"] == figures.STYLES["ridge"]
    assert figures.styles_of([]) == {}
    # Four names without a style of their own differ in marker and in line, not in colour alone.
    four = figures.styles_of(["IT", "V4", "V2", "V1"]).values()
    assert len({style["marker"] for style in four}) == len({str(style["linestyle"]) for style in four}) == 4
