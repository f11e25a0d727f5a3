"""Results of the two rooms print short, with the facts that matter."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.assemblies import Pairs, make_assembly, match_stimuli
from neurobridge.evaluate import draw_curve_fold, select_layer, train_readout
from neurobridge.evaluate.splits import Splits, condition_splits, kfold_splits, shuffle_splits

LONG = "a_very_long_name_of_something_" * 6


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    return make_assembly(
        rng.normal(size=(300, 6)),  # simulated
        presentation={
            "stimulus_id": [f"{LONG}{k}" for k in range(300)],
            LONG: [f"{LONG}{k % 40}" for k in range(300)],
        },
        neuroid={"neuroid_id": [f"{LONG}{k}" for k in range(6)], "layer": ["first", "second"] * 3},
    )


def results(space):
    ids = space["stimulus_id"].values
    return {
        "Pairs": (Pairs(ids, ids[::-1]), ("300 pairs",)),
        "Matched": (match_stimuli(space[:200], space[100:]), ("n_shared=100", "n_dropped_source=100")),
        "CurveFold": (draw_curve_fold(space, space, 20, seed=0), ("n_pairs=20", "n_test=60")),
        "Splits": (shuffle_splits(300), ("10 folds", "270 train", "30 test", "seed 1")),
        "Splits of unequal parts": (kfold_splits(13, n_splits=2), ("2 folds", "6 to 7 train")),
        "Splits of many conditions": (
            condition_splits(np.arange(300), train=range(299), test=[299]),
            ("1 folds", "299 train"),
        ),
        "Splits of neuroids": (Splits([([0], [1])], dim="neuroid"), ("neuroid",)),
        "Readout": (train_readout(space, LONG, readout="centroid"), ("centroid", "n_stimuli=300", "n_classes=40")),
        "LayerChoice": (
            select_layer(space, space, regression="ridge", n_permutations=0),
            ("'first'", "n_layers=2", "held_out_r="),
        ),
    }


def test_results_print_in_at_most_400_characters_and_say_what_matters(space):
    for name, (result, facts) in results(space).items():
        text = repr(result)
        assert text.startswith(f"{type(result).__name__}("), name
        assert len(text) <= 400, name
        assert "\n" not in text, name
        for fact in facts:
            assert fact in text, (name, text)
        page = result._repr_html_()
        assert page.startswith(f"<table><caption>{type(result).__name__}</caption>"), name
        assert page.count("<tr>") >= 2, name
        assert len(page) < 1500, name


def test_small_results_show_their_content():
    assert repr(Pairs(["a"], ["b"])) == "Pairs(1 pairs of 1 source and 1 target stimuli: 'a' - 'b')"
    assert repr(Pairs([], [])) == "Pairs(0 pairs of 0 source and 0 target stimuli)"
