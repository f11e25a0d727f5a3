"""Models by name or from disk. Weights are data; a program is code, and is read only where the user trusts it."""

from __future__ import annotations

import importlib
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neurobridge.features.models.frozen import describe_module
from neurobridge.features.models.packaged import build_packaged
from neurobridge.features.models.weights import ModelError, load_weights, wants_code
from neurobridge.features.references.files import load_reference
from neurobridge.features.references.recipes import REFERENCES
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.options import require_options
from neurobridge.store.archives import Archive, ArchiveError

_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class LoadedModel:
    """A model, its name, and the preprocessing of its images where that is known.

    Attributes
    ----------
    model : torch.nn.Module
    identifier : str
        Name of the model, and of its weights if they were given.
    preprocess : Preprocess or None
        Published with the weights, or used in training; None where it is not known.

    Examples
    --------
    >>> load_model("python:neurobridge.features:GaborEnergy")
    LoadedModel('python:neurobridge.features:GaborEnergy', GaborEnergy, 0 parameters)
    """

    model: torch.nn.Module
    identifier: str
    preprocess: Preprocess | None = None

    def __repr__(self) -> str:
        facts = {} if self.preprocess is None else {"size": self.preprocess.size}
        return short_repr("LoadedModel", repr(self.identifier), *describe_module(self.model), **facts)

    def _repr_html_(self) -> str:
        kind, size = describe_module(self.model)
        return html_repr(f"LoadedModel {self.identifier}", {"model": kind, "size": size, "preprocess": self.preprocess})


class Program(torch.nn.Module):
    """A TorchScript program with one layer to record: ``output``.

    TorchScript runs in an interpreter of its own, which calls no hooks, so that nothing inside it can be recorded.

    Parameters
    ----------
    program : torch.nn.Module
        What ``torch.jit.load`` returned.

    Examples
    --------
    >>> import torch
    >>> Program(torch.nn.Flatten())(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 12])
    """

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self.program = program
        self.output = torch.nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the program."""
        return self.output(self.program(images))


def load_model(
    spec: str, *, weights: str | os.PathLike[str] | None = None, pretrained: bool = True, trust: bool = False
) -> LoadedModel:
    """Load a model from a name or a file.

    Parameters
    ----------
    spec : str
        ``timm:NAME`` or ``torchvision:NAME`` (extra ``vision``); ``weights:efficientnet-lite0``, with
        ImageNet weights from a package of the Python index (extra ``weights``; for
        ``efficientnet-lite1`` and ``efficientnet-lite2`` a package each) and the layers ``stem``,
        ``blocks.0`` to ``blocks.15``, ``head``, ``pool`` and ``classifier``; ``python:MODULE:NAME``, a
        callable without arguments that builds a module; ``gabor_energy``, the reference that needs no
        training; a folder that `save_reference` wrote; or a
        file, with `trust`: a program of ``torch.export.save`` (``.pt2``), whose layers keep their
        names, or TorchScript, of which only ``output`` can be recorded.
    weights : path, optional
        For a named model, in place of its published weights: see `load_weights`. Never executed, so that they need no trust.
    pretrained : bool
        Without `weights`: published weights, downloaded by timm and torchvision; False leaves the model untrained.
    trust : bool
        Read a program file. Programs are code: a ``.pt2`` file can run any command of the shell while it is read, and
        TorchScript can overwrite files when it runs. Say True only where you know who made the file.

    Returns
    -------
    LoadedModel
        With the preprocessing that was published for the weights, or that a reference was trained with.

    Raises
    ------
    ModelError
        The name or the file is not a model, a program is not trusted, the weights do not fit the model or want code executed,
        or timm crops its images in a way that `Preprocess` cannot.
    ImportError
        A timm or torchvision name without the extra ``vision``, a packaged one without the extra ``weights``.

    Examples
    --------
    >>> import neurobridge as nb
    >>> loaded = nb.load_model("python:neurobridge.features:GaborEnergy")
    >>> type(loaded.model).__name__, loaded.preprocess
    ('GaborEnergy', None)
    >>> resnet = nb.load_model("timm:resnet50")  # doctest: +SKIP
    >>> lite = nb.load_model("weights:efficientnet-lite0")  # doctest: +SKIP
    """
    require_options(pretrained=pretrained, trust=trust, error=ModelError)
    kind, _, name = spec.partition(":")
    if kind in ("timm", "torchvision"):
        loaded = (_timm if kind == "timm" else _torchvision)(name, pretrained and weights is None)
    elif kind == "weights":
        # Its weights have the names of the package, so that they are loaded before the modules get ours.
        path = None if weights is None else Path(weights)
        model, preprocess = build_packaged(name, weights=path, pretrained=pretrained)
        return LoadedModel(model, spec if path is None else f"{spec} + {path.name}", preprocess)
    elif kind == "python":
        loaded = LoadedModel(_built(name), spec)
    elif spec in REFERENCES and not os.path.exists(spec):
        loaded = LoadedModel(_untrained_reference(spec), spec)
    elif weights is not None:
        raise ModelError(
            f"weights: found {weights} beside the program {spec}; expected weights only for a named model. Mend: leave them out."
        )
    else:
        return _from_file(Path(spec), trust)
    if weights is not None:
        load_weights(loaded.model, weights)
        loaded = LoadedModel(loaded.model, f"{spec} + {Path(weights).name}", loaded.preprocess)
    return loaded


@contextmanager
def _weights_only() -> Iterator[None]:
    """Make every torch.load inside refuse code, also those of other packages and of torch.export."""
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _extra(package: str) -> Any:
    try:
        return importlib.import_module(package)
    # A torchvision built for another torch fails with RuntimeError or AttributeError.
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ImportError(
            f"found no usable package {package} ({error}); expected it for models named {package}:... . "
            "Mend: pip install 'neurobridge[vision]', with the torchvision that belongs to your torch."
        ) from error


def _timm(name: str, pretrained: bool) -> LoadedModel:
    timm = _extra("timm")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0]}*")[:3]
        raise ModelError(
            f"found no timm model {name!r}; expected one of timm.list_models(). Mend: {near or 'check the name'}."
        )
    with _weights_only():
        model = timm.create_model(name, pretrained=pretrained)
    data = timm.data.resolve_model_data_config(model)
    mode, share = data.get("crop_mode") or "center", data["crop_pct"]
    if mode != "center" and (mode, share) != ("squash", 1):
        raise ModelError(
            f"timm:{name}: found crop_mode {mode!r} with crop_pct {share}; expected 'center', or 'squash' of the whole image "
            "(crop_pct 1), as Preprocess can do no other. Mend: build it with timm.create_model, and choose a Preprocess yourself."
        )
    preprocess = Preprocess(
        size=tuple(data["input_size"][1:]),
        mean=data["mean"],
        std=data["std"],
        grayscale=False if data["input_size"][0] == 3 else None,
        crop=share if mode == "center" else None,
        interpolation=data["interpolation"],
    )
    return LoadedModel(model, f"timm:{name}", preprocess)


def _torchvision(name: str, pretrained: bool) -> LoadedModel:
    models = _extra("torchvision").models
    # Classifiers alone: detectors and video models take other inputs.
    known = models.list_models(module=models)
    if name not in known:
        near = [other for other in known if name[:4].lower() in other][:3]
        raise ModelError(
            f"found no torchvision model {name!r}; expected one of its classifiers. Mend: {near or 'check the name'}."
        )
    published = models.get_model_weights(name).DEFAULT
    with _weights_only():
        model = models.get_model(name, weights=published if pretrained else None)
    shown = published.transforms()
    size, resized = shown.crop_size[0], shown.resize_size[0]
    preprocess = Preprocess(
        size=size,
        mean=shown.mean,
        std=shown.std,
        grayscale=False,
        crop=min(1.0, size / resized),
        interpolation=shown.interpolation.value,
    )
    return LoadedModel(model, f"torchvision:{name}", preprocess)


def _untrained_reference(name: str) -> torch.nn.Module:
    """Build a reference model that has nothing to train; the others have no weights before they are trained."""
    recipe = REFERENCES[name]
    if recipe.epochs:
        raise ModelError(
            f"found the reference {name!r}, which has to be trained; expected a folder with its weights, or 'gabor_energy'. Mend: "
            f"neurobridge features train --help, or neurobridge.features.train_reference({name!r}, images), then name its folder."
        )
    return recipe.build()


def _built(name: str) -> torch.nn.Module:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"python:{name}: found no such object ({error}); expected python:MODULE:NAME that can be imported. Mend: check the "
            "spelling; for a MODULE.py in this folder, PYTHONPATH=. before the command, or sys.path.append('.') in Python."
        ) from error
    try:
        model = factory()
    except Exception as error:
        raise ModelError(
            f"python:{name}: found {type(error).__name__} when it was called ({error}); expected a callable without arguments "
            "that builds a torch.nn.Module. Mend: write a function that calls it with its arguments, and name that."
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise ModelError(
            f"python:{name}: found {type(model).__name__}; expected a callable that builds a torch.nn.Module. Mend: return one."
        )
    return model


def _from_file(path: Path, trust: bool) -> LoadedModel:
    # Unlike that of pathlib, it answers for names that no file can have.
    if not os.path.exists(path):
        raise ModelError(
            f"found no model {str(path)!r}; expected timm:NAME, torchvision:NAME, weights:NAME, "
            "python:MODULE:NAME, a folder or a file. Mend: check the spelling."
        )
    if path.is_dir():
        reference = load_reference(path)
        return LoadedModel(reference.model, str(reference.card["name"]), reference.preprocess)
    entries = _entries(path)
    if any(entry.endswith("archive_format") for entry in entries):
        _require_trust(path, trust, "a torch.export program, which can run any command of the shell while it is read")
        return LoadedModel(_exported(path, entries), path.name)
    if any("/code/" in entry for entry in entries):
        _require_trust(path, trust, "a TorchScript program, which can overwrite any file when it runs")
        return LoadedModel(Program(_scripted(path)), path.name)
    raise _neither(path, "neither is among its entries")


def _entries(path: Path) -> list[str]:
    try:
        with Archive(path) as archive:
            return archive.names
    except ArchiveError as error:
        raise _neither(path, str(error).partition(": ")[2].partition(";")[0]) from error


def _neither(path: Path, reason: str) -> ModelError:
    if path.suffix == ".py":
        return ModelError(
            f"{path}: found Python code; expected the name of a function without arguments that builds the model. Mend: "
            f"python:{path.stem}:NAME, with PYTHONPATH={path.parent} before the command."
        )
    return ModelError(
        f"{path}: found no program of torch.export or TorchScript ({reason}); expected one of them. Mend: weights alone need the "
        "model they belong to, e.g. load_model('timm:resnet50', weights=...)."
    )


def _require_trust(path: Path, trust: bool, what: str) -> None:
    """Refuse a program of unknown origin before anything of it is read but the names in the archive."""
    if not trust:
        raise ModelError(
            f"{path}: found {what}; expected to be told that it is trusted. Mend: load_model({str(path)!r}, trust=True), "
            "or --trust, if you know who made it; else its weights as safetensors, with the code of the model: "
            "load_model('python:MODULE:NAME', weights=...)."
        )


def _scripted(path: Path) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return torch.jit.load(path, map_location="cpu")
        except (RuntimeError, ValueError) as error:
            raise _no_program(path, error) from error


def _no_program(path: Path, error: Exception) -> ModelError:
    lines = str(error).strip().splitlines() or [""]
    return ModelError(
        f"{path}: found a program that cannot be read ({type(error).__name__}: {lines[0]}); expected what torch.export.save or "
        "torch.jit.save wrote, with a torch like this one. Mend: fetch the file again, or export the model again."
    )


def _exported(path: Path, entries: list[str]) -> torch.nn.Module:
    foreign = [entry for entry in entries if "opaque_obj" in entry or "/aotinductor/" in entry]
    if foreign:
        raise ModelError(
            f"{path}: found {foreign[0]!r}, pickled objects or machine code; expected a graph and its tensors. Mend: export the "
            "model without custom objects."
        )
    with _weights_only(), warnings.catch_warnings():
        # torch warns about its own tree format.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            program = torch.export.load(path)
        except pickle.UnpicklingError as error:
            raise wants_code(path, error) from error
        # A damaged graph ends in almost any exception of the reader.
        except Exception as error:
            raise _no_program(path, error) from error
        inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
        shape: tuple[Any, ...] = tuple(inputs[0].meta["val"].shape) if inputs else ()
        if len(inputs) != 1 or len(shape) != 4 or isinstance(shape[0], int):
            raise ModelError(
                f"{path}: found {len(inputs)} input(s), the first of shape {shape}; expected one batch of images (n, "
                "channels, height, width) with a free n. Mend: export with "
                "dynamic_shapes=({0: Dim('n')},)."
            )
        # A program calls no hooks; unflattened, its modules are modules again, under their old names.
        return torch.export.unflatten(program)
