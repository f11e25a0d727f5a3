"""The walls of the house hold, room by room.

`lint-imports` checks the contracts of pyproject.toml as a whole. Here each room is a test of its own, by the same layers, and
what a graph of imports does not show is read from the source: stubs, private names, imports inside functions, full folders.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp", reason="the extra `test` brings import-linter and grimp")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neurobridge"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LAYERS = [
    line.split(" | ")
    for c in CONTRACTS
    if c["type"] == "layers" and "neurobridge" in c["containers"]
    for line in c["layers"]
]
ROOMS = [room for layer in LAYERS for room in layer]
SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"), *(ROOT / "analyses").rglob("*.py")])

#: Modules beside `__init__`, at most.
MODULES_IN_A_FOLDER = 12
#: Folders that may hold more, and why.
FULL_FOLDERS = {
    "cli": (25, "a module a command"),
    "flow": (13, "moved.py ends with version 0.3"),
}
#: Files whose functions may import neurobridge, and why. A circle is never a reason.
LATE_IMPORTS = {
    "neurobridge/cli/*.py": "help and completion load no room",
    "analyses/benchmarks/*.py": "a benchmark is measured in a process that has loaded nothing else",
}


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(file: Path) -> str:
    return module_of(file) if file.stem == "__init__" else module_of(file).rpartition(".")[0]


def imports(tree: ast.AST, file: Path) -> Iterator[tuple[str, list[str]]]:
    """Modules of this repository that a tree imports, absolute, with the names taken from each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pairs = [(alias.name, list[str]()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package_of(file).split(".")[: 1 - node.level or None] if node.level else []
            pairs = [(".".join([*parents, *filter(None, [node.module])]), [alias.name for alias in node.names])]
        else:
            continue
        yield from (pair for pair in pairs if pair[0].split(".")[0] in {"neurobridge", "analyses"})


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("neurobridge", "analyses", cache_dir=None)


def test_every_room_has_a_layer():
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert entries - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(graph, room):
    (height,) = (index for index, layer in enumerate(LAYERS) if room in layer)
    allowed = {room, *(below for layer in LAYERS[height + 1 :] for below in layer)}
    name = f"neurobridge.{room}"
    imported = {
        (importer, target)
        for importer in {name, *graph.find_descendants(name)}
        for target in graph.find_modules_directly_imported_by(importer)
    }
    # Stubs of lazy packages are imports, too, and in no graph.
    for stub in [*(PACKAGE / room).rglob("*.pyi")]:
        imported |= {(module_of(stub), target) for target, _ in imports(parse(stub), stub)}
    wrong = [pair for pair in imported if pair[1].partition(".")[2].split(".")[0] not in allowed]
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_acyclic_and_does_not_import_its_own_face(graph, room):
    name = f"neurobridge.{room}"
    members = {name, *graph.find_descendants(name)}
    packages = [member for member in members if graph.find_children(member)]
    assert [breaker for package in packages for breaker in graph.nominate_cycle_breakers(package)] == []
    # A lazy package hides what it imports: a module that asks its own package for a name may close a circle unseen.
    inward = {
        (importer, target)
        for importer in members
        for target in graph.find_modules_directly_imported_by(importer)
        if importer != target and importer.startswith(f"{target}.") and target in packages
    }
    assert inward == set()


def test_a_room_has_the_layout_of_the_tests():
    """Each room is tested in the folder of its name."""
    untested = {room for room in ROOMS if (PACKAGE / room).is_dir() and not (ROOT / "tests" / room).is_dir()}
    assert untested == set()


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_takes_no_private_name_of_another(file):
    private = [
        f"{module}.{name}"
        for module, names in imports(parse(file), file)
        for name in [*module.split("."), *names]
        if name.startswith("_") and name not in {"_version", "__version__"}
    ]
    assert private == []


@pytest.mark.parametrize(
    "file", [f for f in SOURCES if f.suffix == ".py"], ids=lambda file: str(file.relative_to(ROOT))
)
def test_a_function_imports_nothing_of_neurobridge_without_a_reason(file):
    if any(fnmatch(str(file.relative_to(ROOT)), pattern) for pattern in LATE_IMPORTS):
        return
    functions = [node for node in ast.walk(parse(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [module for function in functions for module, _ in imports(function, file)] == []


def test_the_reasons_for_late_imports_are_needed():
    for pattern in LATE_IMPORTS:
        files = ROOT.glob(pattern)
        functions = [(n, f) for f in files for n in ast.walk(parse(f)) if isinstance(n, ast.FunctionDef)]
        assert any(list(imports(function, file)) for function, file in functions), pattern


@pytest.mark.parametrize("folder", sorted({file.parent for file in PACKAGE.rglob("*.py")}), ids=lambda path: path.name)
def test_a_folder_is_not_full(folder):
    name = str(folder.relative_to(PACKAGE))
    limit, _ = FULL_FOLDERS.get(name, (MODULES_IN_A_FOLDER, ""))
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= limit
    if name in FULL_FOLDERS:
        assert len(modules) > MODULES_IN_A_FOLDER, "needs no exception any more"


def test_a_function_that_imports_late_is_noticed(tmp_path):
    """The rules above see what they are meant to see."""
    file = PACKAGE / "bridge" / "cost" / "made_up.py"
    tree = ast.parse("def f():\n    from ..maps import _hidden\n    import neurobridge.flow.ode\n    import numpy\n")
    assert list(imports(tree, file)) == [("neurobridge.bridge.maps", ["_hidden"]), ("neurobridge.flow.ode", [])]
