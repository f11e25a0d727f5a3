"""Modules that the scripts of ``analyses/`` share, and programs that they hold as text."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import r2_score


@pytest.mark.parametrize(("path", "name"), [("benchmarks/majajhong_public", "CHILD"), ("benchmarks/coupling", "_OTT")])
def test_a_program_held_as_text_is_python(script, path, name):
    compile(getattr(script(path), name), name, "exec")


def test_a_process_returns_the_json_of_its_last_line(script):
    processes = script("parts/processes")
    program = "import os, json; print('first'); print(json.dumps({'value': os.environ['VALUE']}))"
    assert processes.run_json([sys.executable, "-c", program], {"VALUE": "7"}) == {"value": "7"}


@pytest.mark.parametrize(
    ("program", "text"),
    [("raise ValueError('bad size')", "ValueError: bad size"), ("import os; os._exit(3)", "killed")],
)
def test_a_process_that_fails_raises_the_last_line_of_its_errors(script, program, text):
    processes = script("parts/processes")
    with pytest.raises(processes.ProcessError, match=text):
        processes.run_json([sys.executable, "-c", program])


def test_r2_weighs_dimensions_by_their_variance(script):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 4)) * [1, 2, 5, 10]
    predicted = truth + rng.normal(size=truth.shape)
    expected = r2_score(truth, predicted, multioutput="variance_weighted")
    assert script("parts/scores").r2(predicted, truth) == pytest.approx(expected, rel=1e-12)
