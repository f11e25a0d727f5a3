"""Files around the package say the same as the package: citation, recipe, workflow, hooks, templates."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

import neurobridge

yaml = pytest.importorskip("yaml", reason="PyYAML reads the files")
ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Names on PyPI that conda-forge has under another one.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "POT": "pot", "netCDF4": "netcdf4", "dask[array]": "dask"}


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_has_what_its_format_requires():
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == PROJECT["license"]
    for entry in [citation, *citation["references"]]:
        assert entry["title"]
        assert all("name" in author or "family-names" in author for author in entry["authors"])
    assert all(
        entry["type"] in {"article", "data", "generic", "conference-paper", "dataset"}
        for entry in citation["references"]
    )
    assert "message" in citation
    version = str(citation.get("version", neurobridge.__version__))
    assert version.split(".dev")[0] == neurobridge.__version__.split(".dev")[0]


def test_the_recipe_has_the_dependencies_of_the_package():
    text = (ROOT / "conda.recipe" / "meta.yaml").read_text(encoding="utf-8")
    run = re.search(r"  run:\n(.*?)\n\n", text, flags=re.DOTALL)
    assert run is not None
    recipe = {line.strip(" -") for line in run[1].splitlines()}
    named = (re.fullmatch(r"([\w\[\]-]+)(.*)", each) for each in PROJECT["dependencies"])
    expected = {f"{CONDA.get(match[1], match[1])} {match[2]}" for match in named if match is not None}
    assert recipe == expected | {f"python {PROJECT['requires-python']}"}


def test_the_workflow_covers_every_python_of_the_classifiers():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each}
    assert set(matrix["python"]) == named
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert all(command.startswith("make ") for command in commands)


def test_the_hooks_are_those_of_the_environment():
    hooks = [hook for repository in read(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_a_template_of_issues_has_what_its_format_requires(path):
    template = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem != "config":
        assert {"name", "description", "body"} <= set(template)
        assert all(field["attributes"]["label"] for field in template["body"] if field["type"] != "markdown")


def test_the_kept_inventories_are_those_of_the_list():
    folder = ROOT / "docs" / "_inventories"
    write = runpy.run_path(str(folder / "write.py"))
    for project, entry in write["projects"]().items():
        assert (folder / f"{project}.inv").read_bytes() == write["inventory"](project, entry["pages"])
