"""The figure of compared models: bars, ceiling, marks of what is significant."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

mpl.use("Agg")

from neurobridge import figures


def compared(raw, p_zero, p_ceiling, p_pair) -> xr.Dataset:
    n = len(raw)
    names = [f"m{k}" for k in range(n)]
    pairs = np.full((n, n), np.nan)
    pairs[0, 1] = pairs[1, 0] = p_pair
    each = "model"
    return xr.Dataset(
        {
            "raw": (each, raw), "sem": (each, [0.05] * n), "ceiling": (each, [0.6] * n), "ceiling_upper": 0.8,
            "raw_by_subject": ((each, "subject"), np.stack([raw, raw], axis=1)), "p_value_fdr": (each, p_zero),
            "p_ceiling_fdr": (each, p_ceiling), "p_difference_fdr": ((each, "model_2"), pairs),
        },
        coords={"model": names, "model_2": names},
        attrs={"comparator": "rho-a", "n_subjects": 2, "n_stimuli": 9, "n_bootstrap": 20, "bootstrap": "both", "seed": 0},
    )  # fmt: skip


@pytest.mark.parametrize(("p_pair", "n_brackets"), [(0.01, 1), (0.2, 0)])
def test_bars_marks_and_brackets_say_what_the_score_says(p_pair, n_brackets):
    ax = figures.rsa_models(compared([0.5, 0.1, 0.2], [0.01, 0.3, 0.01], [0.3, 0.01, 0.3], p_pair))
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches[:3]], [0.5, 0.1, 0.2])
    assert [text.get_text() for text in ax.texts] == ["*", "\u2020", "*"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["noise ceiling 0.60 to 0.80"]
    assert sum(len(line.get_xdata()) == 4 for line in ax.lines) == n_brackets
    assert "rho-a" in ax.get_ylabel()
    assert "seed 0" in ax.get_title()


def test_a_title_that_is_given_is_the_title():
    score = compared([0.5, 0.1, 0.2], [0.01, 0.3, 0.01], [0.3, 0.01, 0.3], 0.2)
    assert figures.rsa_models(score, title="mine").get_title() == "mine"
