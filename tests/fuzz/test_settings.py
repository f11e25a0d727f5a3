"""Settings, names and texts of every kind: refused, or kept as given."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge import bridge, datasets, features, flow
from tests.fuzz.campaign import Campaign, Refused, attempt
from tests.fuzz.strategies import NAMES

#: What people write where a number, a share, a word or a sequence is expected.
VALUES = st.one_of(
    st.integers(-2, 9),
    st.floats(0, 1),
    st.floats(),
    st.sampled_from(
        [None, True, "auto", "", "mean", "euclidean", "3", 10**30, np.int64(3), np.float32(0.5), np.nan, 1e300]
    ),
    st.lists(st.integers(0, 9) | st.floats(0, 1), max_size=3),
    st.lists(st.floats(0.1, 1), min_size=3, max_size=3).map(tuple),
    st.sampled_from([(), "abc", b"x", {}, np.arange(2), np.array([0.5]), object]),
)


CLOUD = np.random.default_rng(0).normal(size=(8, 2))


def _used_preprocess(settings: features.Preprocess) -> None:
    if settings.size is not None and max(settings.size) > 64:
        return
    with attempt():
        images = settings(torch.zeros(2, 6, 5, dtype=torch.uint8))
    assert torch.isfinite(images).all()
    assert settings.size is None or tuple(images.shape[-2:]) == settings.size


def _used_ode(settings: flow.ODE) -> None:
    if settings.n_steps is not None and settings.n_steps < 100 and settings.method != "dopri5":
        moved = flow.integrate(lambda t, x: 0 * x, torch.ones(2, 1), method=settings.method, n_steps=settings.n_steps)
        assert torch.equal(moved.x, torch.ones(2, 1))


def _used_candidate(settings: bridge.Candidate) -> None:
    # Its fields are checked where they are used.
    if isinstance(settings.n_rounds, int) and settings.n_rounds > 20:
        return
    with attempt():
        fused = bridge.fuse(CLOUD, CLOUD, (range(6), range(6)), metric="euclidean", candidate=settings)
    assert np.isfinite(fused.map(CLOUD)).all()


def _used_geometry(settings: bridge.Geometry) -> None:
    options = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    with attempt():
        cost = bridge.bridge_cost(CLOUD, CLOUD, (range(6), range(6)), **options)
    assert np.isfinite(cost.at(0.1).dense()).all()


def _kept(settings: Any) -> None:
    if dataclasses.is_dataclass(settings):
        repr(settings)


SETTINGS: dict[str, Callable[[Any], None]] = {
    "flow.Training": _kept,
    "flow.ODE": _used_ode,
    "bridge.Candidate": _used_candidate,
    "bridge.Geometry": _used_geometry,
    "evaluate.CurveSettings": _kept,
    "features.Preprocess": _used_preprocess,
    "features.RandomProjection": _kept,
}


def _class(name: str) -> Any:
    room, _, cls = name.partition(".")
    return getattr(getattr(nb, room), cls)


@st.composite
def _keywords(draw: st.DrawFn, cls: Any) -> dict[str, Any]:
    """Keywords of a class: all that must be given, and one or two others."""
    parameters = inspect.signature(cls).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    others = draw(st.lists(st.sampled_from(sorted(set(parameters) - set(needed)) or needed), max_size=2))
    own = [parameters[name].default for name in others if name not in needed]
    return {name: draw(VALUES | st.sampled_from(own or [1])) for name in [*needed, *others]}


@pytest.mark.parametrize("entrance", list(SETTINGS))
def test_settings(campaign: Campaign, entrance: str) -> None:
    cls, use = _class(entrance), SETTINGS[entrance]

    def check(given: dict[str, Any]) -> None:
        with attempt():
            settings = cls(**given)
        use(settings)
        numbers = [value for value in dataclasses.asdict(settings).values() if isinstance(value, float)]
        assert not np.isnan(numbers).any(), "a setting is NaN"

    campaign.run(entrance, _keywords(cls), check)


def _options(draw: st.DrawFn) -> dict[str, Any]:
    return draw(st.fixed_dictionaries({}, optional={"n_repetitions": VALUES, "image_size": VALUES, "seed": VALUES}))


@st.composite
def simulations(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    levels = st.dictionaries(
        st.sampled_from([0, 3, 6, 1, "3", None]), st.sampled_from([0, 1, 2, -1, 1.5, "1"]), max_size=2
    )
    return draw(levels | st.just({3: 1}) | VALUES), {"n_repetitions": 2, "image_size": 32, **_options(draw)}


def test_simulate_hvm(campaign: Campaign) -> None:
    def check(drawn: tuple[Any, dict[str, Any]]) -> None:
        images, options = drawn
        if images is None or any(isinstance(value, int) and value > 64 for value in options.values()):
            raise Refused("too large to be tried")
        with attempt():
            experiment = nb.simulate_hvm(images, **options)
        assert np.isfinite(experiment.recordings.values).all()
        assert len(experiment.recordings) == options["n_repetitions"] * len(experiment.images)

    campaign.run("datasets.simulate_hvm", simulations(), check)


DATASETS = [manifest.name for manifest in datasets.list_datasets()]
#: Takes a name and an empty mirror.
NAMED: dict[str, Callable[[str, Path], Any]] = {
    "datasets.find_manifest": lambda name, mirror: datasets.find_manifest(name),
    "datasets.has_loader": lambda name, mirror: datasets.has_loader(name),
    "datasets.path_of": lambda name, mirror: datasets.path_of(name),
    "datasets.locate": lambda name, mirror: datasets.locate(name, mirror=mirror),
    "datasets.verify": lambda name, mirror: datasets.verify(name, mirror=mirror),
    "datasets.mirrored": lambda name, mirror: datasets.mirrored(mirror / name),
    "datasets.fetch": lambda name, mirror: datasets.fetch(name, mirror=mirror, progress=False),
    "datasets.load": lambda name, mirror: datasets.load(name, mirror=mirror, quiet=True, seed=0),
    "datasets.copy_to_mirror": lambda name, mirror: datasets.copy_to_mirror(mirror / "new", [name], progress=False),
    "features.load_model": lambda name, mirror: features.load_model(name, pretrained=False),
    "features.load_reference": lambda name, mirror: features.load_reference(mirror / name),
    "features.match_layers": lambda name, mirror: features.match_layers(NETWORK, [name]),
    "features.open_features": lambda name, mirror: features.open_features(mirror / name),
    "assemblies.open_assembly a name": lambda name, mirror: nb.open_assembly(mirror / name),
    "assemblies.read_table": lambda name, mirror: _table(name, mirror),
}
NETWORK = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten())
WORDS = st.one_of(
    st.sampled_from([*DATASETS, "simulated-hvm"]),
    st.sampled_from(
        ["python:torch.nn:Identity", "python:torch.nn", "python:", "python:os:getcwd", "timm:x", "torchvision:x"]
    ),
    st.sampled_from(["0", "1", "*", "[", "0.1", "../x", "/", "~", "\x00", ".", "a" * 300, "hf:x"]),
    NAMES,
)


def _table(text: str, folder: Path) -> Any:
    path = folder / "table.csv"
    path.write_text(f"stimulus_id,file\n{text},a\n", encoding="utf-8", errors="replace")
    return nb.assemblies.read_table(path, required=("stimulus_id",))


@pytest.mark.parametrize("entrance", list(NAMED))
def test_names(campaign: Campaign, entrance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No address answers: a download is refused at once.
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)

    def check(name: str) -> None:
        if entrance == "datasets.load" and name == "simulated-hvm":
            raise Refused("too large to be tried")
        with tempfile.TemporaryDirectory() as folder:
            monkeypatch.setenv("NEUROBRIDGE_HOME", str(Path(folder) / "home"))
            mirror = Path(folder) / "mirror"
            mirror.mkdir()
            with attempt():
                answer = NAMED[entrance](name, mirror)
        assert answer is not None

    campaign.run(entrance, WORDS, check)


#: Names of what is tried here, for the test of all entrances.
ENTRANCES = (*SETTINGS, *NAMED, "datasets.simulate_hvm")
