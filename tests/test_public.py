"""The public face: every name resolves, every public thing is documented, the README's example runs as printed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import neurobridge

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = [
    "bridge_cost", "couple", "ConditionalFlow", "BridgeAligner", "predictivity", "decode", "internal_consistency", "load",
    "simulate_hvm", "extract", "Pairs", "BridgeCost", "Coupling", "RidgeAligner", "ProcrustesAligner",
]  # fmt: skip


def modules():
    yield neurobridge
    for info in pkgutil.walk_packages(neurobridge.__path__, "neurobridge."):
        # Plugin folders are imported by Brain-Score alone.
        if not info.name.startswith("neurobridge.brainscore.plugins."):
            yield importlib.import_module(info.name)


def test_every_public_name_resolves_and_the_contract_is_kept():
    for module in modules():
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{module.__name__}.{name}"
    assert set(CONTRACT) <= set(neurobridge.__all__)


@pytest.mark.parametrize("name", [name for name in neurobridge.__all__ if name != "__version__"])
def test_every_public_thing_is_documented(name):
    thing = getattr(neurobridge, name)
    assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        parameters = [p for p in inspect.signature(thing).parameters if not p.startswith("_")]
        for parameter in parameters:
            assert parameter in inspect.getdoc(thing), f"{name} says nothing of {parameter}"


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("bridge_cost", ["X", "Y", "pairs", "metric", "scale", "reduce", "nearest"]),
        ("couple", ["cost", "method", "epsilon", "tol", "max_iter", "a", "b", "unbalanced"]),
        ("ConditionalFlow", ["base", "seed", "device"]),
        ("BridgeAligner", ["metric", "map", "seed", "device"]),
        ("predictivity", ["source", "target", "regression", "splits"]),
        ("load", ["name", "mirror"]),
    ],
)
def test_the_contracts_keywords_are_there(call, names):
    assert set(names) <= set(inspect.signature(getattr(neurobridge, call)).parameters)


def test_the_readme_example_has_ten_lines_and_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(example.strip().splitlines()) == 10
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["aligned"].sizes["neuroid"] == names["recordings"].sizes["neuroid"]
    assert float(names["score"]["p_value"]) <= 0.01


def test_the_figures_and_files_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
        assert (ROOT / target.partition("#")[0]).exists(), target
