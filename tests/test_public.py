"""The public face: what it exports, what that costs, how it is documented, and that the README's example runs as printed."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

import neurobridge
from neurobridge.deprecations import MODULES, NAMES

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = [
    "BridgeAligner", "METRICS", "Pairs", "aggregate", "average_repetitions", "correlate", "decode", "extract",
    "internal_consistency", "learning_curve", "list_datasets", "load", "load_model", "make_assembly", "match_stimuli",
    "open_assembly", "predictivity", "save_assembly", "simulate_hvm",
]  # fmt: skip
#: Types that stand for a choice of values; what they mean is said where they are used.
ALIASES = {"aligners.Map", "flow.Base", "flow.Direction"}


def rooms() -> list[str]:
    """Packages of neurobridge, dotted; plugin folders are left to Brain-Score, which alone imports them."""
    packages = [info.name for info in pkgutil.walk_packages(neurobridge.__path__, "neurobridge.") if info.ispkg]
    return ["neurobridge", *(name for name in packages if not name.startswith("neurobridge.brainscore.plugins"))]


def exported(module) -> list[str]:
    names = getattr(module, "__all__", None)
    return list(names) if names is not None else [name for name in vars(module) if not name.startswith("_")]


def public() -> dict[str, object]:
    """What a user can reach through the face, once each: ``"bridge.couple"`` for `neurobridge.bridge.couple`."""
    reached: dict[int, tuple[str, object]] = {}
    for namespace in neurobridge.NAMESPACES:
        module = importlib.import_module(f"neurobridge.{namespace}")
        for name in exported(module):
            thing = getattr(module, name)
            if not inspect.ismodule(thing):
                reached.setdefault(id(thing), (f"{namespace}.{name}", thing))
    return dict(sorted(reached.values()))


PUBLIC = public()
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if inspect.isroutine(thing)}
ERRORS = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing) and issubclass(thing, BaseException)}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing) and name not in ERRORS}
CONSTANTS = {name: thing for name, thing in PUBLIC.items() if name not in {*FUNCTIONS, *ERRORS, *CLASSES, *ALIASES}}


def fresh(code: str, *options: str) -> str:
    """Run code in a process of its own, where nothing has been imported yet."""
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def heavy_after(code: str) -> set[str]:
    packages = {"torch", "xarray", "pandas", "numpy", "scipy", "sklearn", "matplotlib", "dask", "pydantic", "typer"}
    return packages & set(json.loads(fresh(f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))")))


# -- Names ------------------------------------------------------------------------------------------------------------


def test_the_face_is_small_and_keeps_the_contract():
    assert len(neurobridge.__all__) <= 30
    assert set(CONTRACT) <= set(neurobridge.__all__)
    assert set(NAMES).isdisjoint(neurobridge.__all__)
    assert set(dir(neurobridge)) >= set(neurobridge.NAMESPACES) | set(CONTRACT)


@pytest.mark.parametrize("room", rooms())
def test_every_exported_name_resolves(room):
    module = importlib.import_module(room)
    names = exported(module)
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(module, name) is not None
    star: dict[str, object] = {}
    exec(f"from {room} import *", star)
    assert set(names) <= set(star)


def test_namespaces_resolve_after_a_plain_import():
    code = "import neurobridge as nb\nfor name in nb.NAMESPACES: print(getattr(nb, name).__name__)"
    assert fresh(code).split() == [f"neurobridge.{name}" for name in neurobridge.NAMESPACES]


@pytest.mark.parametrize("room", rooms())
def test_no_module_bears_the_name_of_something_public_in_its_package(room):
    """Importing such a module would put it in the place of the function, whichever came last."""
    package = importlib.import_module(room)
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
    collisions = {name for name in modules & set(exported(package)) if not inspect.ismodule(getattr(package, name))}
    assert collisions == set()


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        neurobridge.no_such_name  # noqa: B018
    with pytest.raises(AttributeError, match="no_such_name"):
        neurobridge.bridge.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_version_0_1_warns_where_it_is_now(name):
    place = f"neurobridge.{NAMES[name]}.{name}"
    with pytest.warns(DeprecationWarning, match=re.escape(place)) as caught:
        old = getattr(neurobridge, name)
    assert caught[0].filename == __file__
    assert old is getattr(importlib.import_module(f"neurobridge.{NAMES[name]}"), name)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_version_0_1_warns_where_it_is_now(name):
    sys.modules.pop(f"neurobridge.{name}", None)
    with pytest.warns(DeprecationWarning, match=re.escape(MODULES[name])):
        old = importlib.import_module(f"neurobridge.{name}")
    new = importlib.import_module(MODULES[name])
    for attribute in exported(new):
        assert getattr(old, attribute) is getattr(new, attribute)
    with pytest.raises(AttributeError):
        old.no_such_name  # noqa: B018


# -- What importing costs ----------------------------------------------------------------------------------------------


def test_importing_the_face_imports_no_array_package():
    assert heavy_after("import neurobridge") == set()
    assert (
        heavy_after("import neurobridge as nb\n[getattr(nb, n) for n in ('bridge', 'brainscore', 'figures')]") == set()
    )


def test_assemblies_and_datasets_know_no_torch():
    modules = [
        info.name
        for room in (neurobridge.assemblies, neurobridge.datasets)
        for info in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
    ]
    loaded = heavy_after("\n".join(f"import {name}" for name in modules))
    assert {"xarray", "pandas"} <= loaded
    assert loaded.isdisjoint({"torch", "matplotlib", "typer"})


# -- Documentation -----------------------------------------------------------------------------------------------------


def sections(thing: object) -> dict[str, str]:
    """The sections of a numpydoc docstring; the text before the first one under the empty name."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(text: str) -> set[str]:
    """Names that head an entry of a Parameters or Attributes section."""
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: ?: .*)?$", text, flags=re.MULTILINE)
    return {name.strip("* ") for head in heads for name in head.split(",")}


def parameters(thing: typing.Any) -> set[str]:
    names = inspect.signature(thing).parameters
    return {name for name in names if name != "self" and not name.startswith("_")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_documents_its_parameters_and_has_an_example(name):
    parts = sections(FUNCTIONS[name])
    assert documented(parts.get("Parameters", "")) == parameters(FUNCTIONS[name])
    assert ">>> " in parts.get("Examples", "")


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_documents_its_parameters_and_has_an_example(name):
    parts = sections(CLASSES[name])
    # A typed dict and a protocol are never built by their constructor.
    unbuilt = typing.is_typeddict(CLASSES[name]) or getattr(CLASSES[name], "_is_protocol", False)
    expected = set() if unbuilt else parameters(CLASSES[name])
    assert expected <= documented(parts.get("Parameters", "") + parts.get("Attributes", ""))
    # A result may leave the example to the function that returns it.
    maker = re.match(r"See `(\w+)`", parts.get("Examples", ""))
    makers = [thing for other, thing in FUNCTIONS.items() if maker and other.endswith(f".{maker[1]}")]
    assert any(">>> " in sections(thing).get("Examples", "") for thing in [CLASSES[name], *makers])


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *ERRORS])
def test_a_docstring_opens_with_a_sentence(name):
    """A verb for a function, a noun for a class, and an end."""
    thing = PUBLIC[name]
    assert thing.__doc__, "no docstring of its own"
    opening = " ".join(sections(thing)[""].split("\n\n")[0].split())
    assert re.match(r"[A-Z`0-9d]", opening)
    assert opening.endswith((".", ":"))
    assert opening.split()[0] not in {"What", "Whether", "Some", "How", "Where", "Which"}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_public_constant_is_documented_where_it_stands(name):
    """A comment `#:` above it or a string below it: a dict has no docstring but that of dict."""
    constant = name.rpartition(".")[2]
    room = importlib.import_module(f"neurobridge.{name.partition('.')[0]}")
    for module in [room, *(sys.modules[m] for m in list(sys.modules) if m.startswith("neurobridge."))]:
        if getattr(module, "__file__", None) is None or vars(module).get(constant) is not PUBLIC[name]:
            continue
        lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(lines)).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
                assert lines[node.lineno - 2].startswith("#:"), f"{module.__name__}, line {node.lineno}"
                return
    pytest.fail(f"no module assigns {constant}")


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("bridge.bridge_cost", ["X", "Y", "pairs", "metric", "scale", "reduce", "nearest"]),
        ("bridge.couple", ["cost", "method", "epsilon", "tol", "max_iter", "a", "b", "unbalanced"]),
        ("flow.ConditionalFlow", ["base", "seed", "device"]),
        ("aligners.BridgeAligner", ["metric", "map", "seed", "device"]),
        ("evaluate.predictivity", ["source", "target", "regression", "splits"]),
        ("datasets.load", ["name", "mirror"]),
    ],
)
def test_the_contracts_keywords_stand_in_its_order(call, names):
    signature = list(inspect.signature(PUBLIC[call]).parameters)
    assert [name for name in signature if name in names] == names


# -- Pages -------------------------------------------------------------------------------------------------------------


def test_the_readme_example_has_ten_lines_and_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(example.strip().splitlines()) == 10
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    aligned, recordings, test = names["aligned"], names["recordings"], names["test"]
    assert aligned.dims == ("presentation", "neuroid")
    assert list(aligned["neuroid_id"].values) == list(recordings["neuroid_id"].values)
    assert list(aligned["stimulus_id"].values) == list(names["model"]["stimulus_id"].values[test])
    score = names["score"]
    assert float(score["p_value"].max()) <= 0.01
    for name in ("raw", "ceiling", "normalized", "null"):
        assert np.isfinite(score[name].values).any()
    # Aligned activations predict held-out responses better than nine in ten shuffles would.
    assert float(score["raw"].median()) > float(np.nanquantile(score["null"], 0.9))


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def source_of(file: Path) -> Path:
    """Return the script or header from which the site makes a page; any other file as it is."""
    name = re.sub(r"/[a-z]+/\.\.(?=/)", "", file.as_posix())
    for made, folder in (("docs/auto_tutorials/", "tutorials"), ("docs/auto_gallery/", "examples")):
        if made in name:
            rest = name.partition(made)[2].replace("index.rst", "GALLERY_HEADER.rst")
            return ROOT / "analyses" / folder / (rest if "HEADER" in rest else rest.removesuffix(".rst") + ".py")
    return file


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))])
def test_the_files_and_headings_that_a_page_links_to_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = source_of(((ROOT / page).parent / path) if path else ROOT / page)
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in map(slug, headings), target
