"""Everything public that takes a user's data is an entrance of the fuzz campaign, or has a reason not to be."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import neurobridge

CAMPAIGNS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("test_*.py")
    if path.stem not in ("test_campaign", "test_entrances")
)
#: Public callables that no campaign calls, and why.
NOT_TRIED = {
    "a result, or a part of one: the package makes it and users read it": [
        "assemblies.Matched", "bridge.AnchorDistances", "bridge.BridgeCost", "bridge.CostEstimate", "bridge.Coverage",
        "bridge.Diagnostics",
        "bridge.FusedBridge", "bridge.FusedCost", "bridge.KernelMap", "bridge.LinearMap", "bridge.SelfTrainedMap", "bridge.Trust",
        "bridge.UnpairedStart", "bridge.WrongPairs",
        "datasets.Experiment", "decoding.PseudoPopulation",
        "decoding.Readout", "evaluate.CurveFold", "evaluate.LayerChoice", "evaluate.PairsPlan", "features.LayerPCA",
        "features.LoadedModel", "features.Reference", "flow.Integrated", "flow.PathSample", "flow.Spread",
    ],
    "a protocol or a base class: nothing is built of it": [
        "aligners.AssemblyAligner", "bridge.Cost", "flow.PairSampler",
    ],
    "a network: torch checks what is fed to it": [
        "features.ConvContrastive", "features.ConvNet", "features.ConvVAE", "features.GaborEnergy", "features.Program",
        "flow.VelocityMLP", "flow.default_size",
    ],
    "an entry of a manifest, which pydantic checks when the manifest is read": ["datasets.File", "datasets.Manifest"],
    "draws or tabulates a comparison, which the package makes": ["evaluate.comparison_tables"],
    "takes sizes, which its own tests draw": ["bridge.estimate_cost"],
    "takes nothing": [
        "datasets.cache_folder", "datasets.list_datasets", "study.machine_facts", "study.peak_rss",
    ],
    "changes or inspects the installed Brain-Score": [
        "brainscore.link", "brainscore.unlink", "brainscore.status", "brainscore.register", "brainscore.prepare_environment",
    ],
    "needs the recordings of Majaj & Hong 2015": ["brainscore.majajhong2015_public"],
    "draws a result": [
        "figures.accuracies", "figures.alt_text", "figures.caption", "figures.cells", "figures.confusion",
        "figures.dissimilarities", "figures.journal", "figures.layer_profile", "figures.learning_curve", "figures.legend_beside",
        "figures.null_distribution", "figures.paired", "figures.panel_letters", "figures.partners", "figures.plan",
        "figures.plot", "figures.rdms", "figures.rsa_models", "figures.reliability", "figures.save_figure", "figures.shared_legend",
        "figures.shrinkage", "figures.sites", "figures.styles_of", "figures.trajectories",
        "figures.accuracy_by_trials", "figures.common_space", "figures.retrieval",
        "figures.accuracy_by_sites", "figures.time_courses", "figures.time_generalisation",
        "figures.variance_parts", "figures.compared_models",
        "study.count_ticks", "study.make_panels", "study.save_panels",
    ],
    "runs, tabulates or writes the records of this package's own experiments": [
        "study.Run", "study.Study", "study.curves_of", "study.error_bars", "study.format_mean", "study.format_p",
        "study.format_value", "study.main", "study.make_aligner", "study.mean_ci", "study.over_seeds", "study.run_study",
        "study.select_records", "study.table_of_means", "study.verdict", "study.write_json", "study.report", "study.write_report",
    ],
}  # fmt: skip


def resolve(name: str) -> object:
    """Return `neurobridge.bridge.couple` for ``"bridge.couple"``."""
    room, _, attribute = name.partition(".")
    return getattr(importlib.import_module(f"neurobridge.{room}"), attribute)


def public() -> dict[str, object]:
    """Return every public callable but errors and warnings, once, under its name in a namespace."""
    things: dict[int, tuple[str, object]] = {}
    for namespace in neurobridge.NAMESPACES:
        room = importlib.import_module(f"neurobridge.{namespace}")
        for name in getattr(room, "__all__", None) or [name for name in vars(room) if not name.startswith("_")]:
            thing = getattr(room, name)
            is_error = inspect.isclass(thing) and issubclass(thing, BaseException)
            if (inspect.isroutine(thing) or inspect.isclass(thing)) and not is_error:
                things.setdefault(id(thing), (f"{namespace}.{name}", thing))
    return dict(sorted(things.values()))


def tried() -> dict[int, str]:
    """Return the name of each thing that an entrance of a campaign is named after, by its identity."""
    names = {name.split()[0] for stem in CAMPAIGNS for name in importlib.import_module(f"tests.fuzz.{stem}").ENTRANCES}
    return {id(resolve(name)): name for name in names if name != "cli"}


PUBLIC = public()


def test_every_name_of_the_face_stands_in_a_namespace():
    callables = [getattr(neurobridge, name) for name in neurobridge.__all__]
    assert {id(thing) for thing in callables if inspect.isroutine(thing) or inspect.isclass(thing)} <= set(
        map(id, PUBLIC.values())
    )


def test_everything_public_is_tried_or_has_a_reason():
    excused = {id(resolve(name)) for names in NOT_TRIED.values() for name in names}
    assert [name for name, thing in PUBLIC.items() if id(thing) not in tried() and id(thing) not in excused] == []


@pytest.mark.parametrize("reason", NOT_TRIED)
def test_no_reason_is_given_for_what_is_tried_or_not_public(reason):
    identities = {id(thing) for thing in PUBLIC.values()} - set(tried())
    assert [name for name in NOT_TRIED[reason] if id(resolve(name)) not in identities] == []


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_an_entrance_calls_what_it_is_named_after(campaign):
    """The last part of its name stands in the source of the campaign, outside the name itself."""
    module = importlib.import_module(f"tests.fuzz.{campaign}")
    text = inspect.getsource(module)
    # Members of a registry, and settings, are called by a name that is looked up.
    looked_up = {cls.__name__ for cls in neurobridge.aligners.BASELINES.values()} | {
        name.rpartition(".")[2] for name in getattr(module, "SETTINGS", ())
    }
    names = {name.split()[0] for name in module.ENTRANCES} - {"cli"}
    parts = {name: name.rpartition(".")[2] for name in names}
    uncalled = [name for name, part in parts.items() if part not in text.replace(f'"{name}', "")]
    assert [name for name in uncalled if parts[name] not in looked_up] == []
