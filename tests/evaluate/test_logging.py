"""Decoding and RSA log what they fit, with its sizes."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import neurobridge as nb

RNG = np.random.default_rng(0)
LABELS = np.array(["car", "face"] * 12)


def assembly(n_sites: int) -> object:
    return nb.make_assembly(
        RNG.normal(size=(24, n_sites)) + (LABELS == "car")[:, None],
        presentation={"stimulus_id": range(24), "category_name": LABELS},
        neuroid={"neuroid_id": range(n_sites), "animal": ["a", "b"] * (n_sites // 2)},
    )


@pytest.mark.parametrize(
    ("run", "facts"),
    [
        (lambda a: nb.decode(a, "category_name", readout="centroid", n_permutations=3), ("centroid", "24 trials", "6 sites")),
        (
            lambda a: nb.decode(a, "category_name", readout="centroid", n_permutations=3, refit=True, progress=False),
            ("3 permutations",),
        ),
        (lambda a: nb.similarity.rsa(a, a, n_permutations=3), ("rsa", "24 stimuli", "3 permutations")),
        (lambda a: nb.similarity.rdm_similarity(a, a, n_permutations=3), ("rdm", "24 stimuli")),
        (
            lambda a: nb.similarity.compare_rsa_models(
                {"m": nb.similarity.rdm(a)}, np.stack([nb.similarity.rdm(a).values] * 2), n_bootstrap=20
            ),
            ("1 models", "2 subjects", "20 draws"),
        ),
    ],
)  # fmt: skip
def test_what_is_fitted_is_logged(run, facts, caplog):
    with caplog.at_level(logging.INFO, logger="neurobridge"):
        run(assembly(6))
    text = "\n".join(record.getMessage() for record in caplog.records)
    for fact in facts:
        assert fact in text
