"""Names on disk are stable, complete, and all that a file says of classes."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import neurobridge
from neurobridge.aligners import BASELINES, BridgeAligner, load
from neurobridge.assemblies import make_assembly
from neurobridge.flow import ConditionalFlow, Training
from neurobridge.store import kinds
from neurobridge.store.errors import StateFileError

PACKAGE = Path(neurobridge.__file__).parent
FAST = {"training": Training(n_steps=5, width=8, depth=1)}


@kinds.register("test-old-shape", version=3, upgrades={1: lambda s: {"b": s["a"]}, 2: lambda s: {"c": s["b"] + 1}})
@dataclasses.dataclass
class Changed:
    c: int
    later: str = "default"


@kinds.register("test-pair")
class Pair(NamedTuple):
    left: int
    right: int = 2


def test_a_state_of_any_older_version_is_read():
    assert kinds.build("test-old-shape", 1, {"a": 1}, {}) == Changed(2)
    assert kinds.build("test-old-shape", 2, {"b": 1}, {}) == Changed(2)
    assert kinds.build("test-old-shape", 3, {"c": 1, "later": "x"}, {}) == Changed(1, "x")
    assert kinds.build("test-pair", 1, {"left": 1}, {}) == Pair(1)


@pytest.mark.parametrize("version", [0, 4, "1", True, None])
def test_a_version_that_is_not_known_is_refused(version):
    with pytest.raises(StateFileError, match=rf"version {version!r} of test-old-shape.* 3\."):
        kinds.build("test-old-shape", version, {"c": 1}, {})


@pytest.mark.parametrize("state", [{}, {"left": 1, "middle": 2}])
def test_a_state_of_other_fields_is_refused(state):
    with pytest.raises(StateFileError, match=r"test-pair of .*\['left', 'right'\]"):
        kinds.build("test-pair", 1, state, {})


@pytest.mark.parametrize("name", ["os:system", "neurobridge.store.atomic:move", "", None, ["linear-map"], {}])
def test_a_name_that_is_no_kind_is_refused(name):
    with pytest.raises(StateFileError, match=rf"{re.escape(repr(name))};.*'linear-map'"):
        kinds.class_of(name)


def test_a_name_belongs_to_one_class_and_an_upgrade_to_every_version():
    with pytest.raises(ValueError, match=r"'test-pair'.*Changed.*Pair.*Mend"):
        kinds.register("test-pair")(Changed)
    with pytest.raises(ValueError, match=r"test-other.*\[2\].*\[1, 2\]"):
        kinds.register("test-other", version=3, upgrades={2: dict})
    assert kinds.name_of(type("Child", (Changed,), {})) is None


@pytest.mark.parametrize("name", sorted(kinds.HOMES))
def test_every_kind_is_found_without_importing_its_module_first(name):
    cls = kinds.class_of(name)
    assert cls.__module__ == kinds.HOMES[name]
    assert kinds.name_of(cls) == name
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)


def test_every_class_that_is_registered_has_a_home():
    registered = re.compile(r"@register\(\s*\"([\w-]+)\"")
    names = [name for file in PACKAGE.rglob("*.py") for name in registered.findall(file.read_text())]
    assert len(names) == len(set(names))
    assert set(names) - {"example-point", "bridge-cost"} == set(kinds.HOMES) - {"bridge-cost"}


def test_the_ground_floor_names_kinds_without_torch():
    code = "import sys, neurobridge.store.kinds, neurobridge.store.atomic; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- one way to write


def test_one_module_renames_files():
    offenders = [
        f"{file.relative_to(PACKAGE)}:{number}"
        for file in PACKAGE.rglob("*.py")
        if file != PACKAGE / "store" / "atomic.py"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(
            r"os\.(replace|rename|renames)\b|shutil\.move\b|\.(replace|rename)\((target|home|path|file)\)", line
        )
    ]
    assert offenders == []


def test_no_file_is_read_back_around_a_constructor():
    text = "".join((PACKAGE / room / "storage.py").read_text() for room in ("aligners", "flow"))
    text += "".join(file.read_text() for file in (PACKAGE / "store").glob("*.py"))
    assert "__setattr__" not in text
    assert "__new__" not in text


# ---- what is on disk


def _spaces():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 3))
    Y = X @ rng.normal(size=(3, 4)) + 0.1 * rng.normal(size=(24, 4))
    ids = {"stimulus_id": [f"s{k}" for k in range(24)]}
    return [
        make_assembly(points, presentation=ids, neuroid={"neuroid_id": [f"{name}{k}" for k in range(points.shape[1])]})
        for points, name in ((X, "v"), (Y, "m"))
    ]


def _kept():
    few = {"lams": (0.9,), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0, 1)}
    yield BridgeAligner(map="barycentric", fuse_options=few)
    yield BridgeAligner(map="barycentric", fuse_options={**few, "minibatch_size": 20})
    yield BridgeAligner(map="flow", fuse_options=few, flow_options=FAST)
    for nearest in (None, 3):
        for metric in ("geodesic", "euclidean"):
            yield BridgeAligner(metric, "factored", "barycentric", nearest=nearest, epsilon=0.3)
    for coupling in ("pairs", "exact", "sinkhorn"):
        yield BridgeAligner("euclidean", coupling, "barycentric", epsilon=0.3)
    yield BridgeAligner("euclidean", "factored", "flow", flow_options=FAST)
    yield BridgeAligner(map="linear")
    yield from (baseline() for baseline in BASELINES.values())


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
@pytest.mark.filterwarnings("ignore::neurobridge.bridge.transport.coupling.ConvergenceWarning")
@pytest.mark.parametrize("aligner", list(_kept()), ids=lambda aligner: re.sub(r"\s+", " ", repr(aligner))[:60])
def test_no_module_of_ours_is_named_in_the_files_of_an_aligner(aligner, tmp_path):
    source, target = _spaces()
    fitted = aligner.fit(source, target, 0.4)
    fitted.save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".lock"}
    for path in files:
        found = re.findall(rb"neurobridge\.[a-z_]|[a-z_]+\.[a-z_.]+:[A-Z]\w+", path.read_bytes())
        assert found == [], path
    np.testing.assert_array_equal(load(tmp_path).transform(source), fitted.transform(source))


def test_no_module_of_ours_is_named_in_the_files_of_a_flow(tmp_path):
    X, Y = (assembly.values for assembly in _spaces())

    class Matching:
        anchors = np.arange(8), np.arange(8)

        def sample(self, n, rng):
            rows = rng.integers(0, 24, n)
            return rows, rows

    from neurobridge.bridge import kernel_map

    for base in ("affine", kernel_map(X[:8], Y[:8])):
        training = FAST["training"].replace(checkpoint=str(tmp_path / "checkpoint"), resume=False)
        ConditionalFlow(base, training=training).fit(X, Y, Matching()).save(tmp_path)
        for path in tmp_path.rglob("*"):
            assert path.is_dir() or not re.search(rb"neurobridge\.[a-z_]", path.read_bytes()), path


def test_a_class_of_the_users_own_is_kept_by_its_name(tmp_path):
    from neurobridge.aligners import RidgeAligner

    class MyAligner(RidgeAligner):
        pass

    source, target = _spaces()
    MyAligner().fit(source, target, 0.4).save(tmp_path)
    assert json.loads((tmp_path / "aligner.json").read_text())["class"] == "MyAligner"
    assert type(load(tmp_path)) is MyAligner
