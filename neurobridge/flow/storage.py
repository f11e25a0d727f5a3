"""Reading and writing of a fitted flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from neurobridge._version import __version__
from neurobridge.flow.bases import MAPS, PointMap, StandardisedMap, VelocityField
from neurobridge.flow.errors import FlowFileError
from neurobridge.flow.fitting import empty_field, with_small_network
from neurobridge.flow.moved import MOVED
from neurobridge.flow.networks import NetworkFactory, SpreadVelocity
from neurobridge.flow.ode import ODE
from neurobridge.flow.settings import Training
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import Support
from neurobridge.store.errors import StateFileError
from neurobridge.store.kinds import NAMES_0_1, build, kind_of, name_of, state_of
from neurobridge.store.state import check_shapes, named_damage, read_state, write_state

KIND = "neurobridge flow"
NAME = "flow"
# Settings on disk, by their flat names of version 0.1: those that are plain values. Code (network, minibatch_cost) and places
# (device, checkpoint) stay out; of a base of maps the name alone is kept.
SAVED = (
    "base", "width", "depth", "n_steps", "batch_size", "learning_rate", "weight_decay", "sigma", "ema", "clip", "validation",
    "patience", "validate_every", "minibatch_ot", "mixed_precision", "method", "ode_steps", "rtol", "atol", "chunk_size",
    "support_quantile", "seed",
)  # fmt: skip


DIRECTIONS = ("forward", "backward")
# Kinds of base maps that are kept on disk; any other must be given again.
KEPT = ("linear-map", "kernel-map")
UNKEPT = "given"


class Fitted(NamedTuple):
    """Fitted parts of a flow: scales, clouds, fields."""

    source_scale: Standardiser
    target_scale: Standardiser
    support: dict[str, Support]
    forward: VelocityField
    backward: VelocityField | None
    losses: np.ndarray


def write_flow(folder: Path, fitted: Fitted, params: dict[str, Any]) -> Path:
    """Write a fitted flow and its parameters, the base by its name, into a folder; returns the path of its JSON."""
    tensors, header = pack_flow(fitted, params)
    return write_state(folder, NAME, tensors, header, kind=KIND)


def read_flow(
    folder: Path,
    *,
    network: NetworkFactory | None,
    maps: tuple[PointMap, PointMap | None] | None,
    device: torch.device,
) -> tuple[Fitted, dict[str, Any]]:
    """Read a flow that `write_flow` wrote: the fitted parts and the parameters, without the device.

    Raises
    ------
    FlowFileError
        Missing or damaged files, another format version, shapes that do not fit, or a network or maps of the user's not given.
    """
    tensors, header = read_state(folder, NAME, kind=KIND, error=FlowFileError)
    where = str(folder / f"{NAME}.json")
    with named_damage(where, FlowFileError):
        return unpack_flow(tensors, header, where, network=network, maps=maps, device=device)


def pack_flow(fitted: Fitted, params: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a fitted flow and its parameters, the base by its name, as tensors and plain data."""
    network = params["training"].network
    arrays = {
        "source_scale.mean": fitted.source_scale.mean,
        "source_scale.std": fitted.source_scale.std,
        "target_scale.mean": fitted.target_scale.mean,
        "target_scale.std": fitted.target_scale.std,
        "losses": fitted.losses,
    }
    for direction, support in fitted.support.items():
        arrays[f"support.{direction}"] = support.points
    tensors = {key: torch.as_tensor(value) for key, value in arrays.items()}
    images: dict[str, dict[str, Any]] = {}
    for name, trained in _fields(fitted).items():
        tensors |= {f"{name}.velocity.{key}": value for key, value in trained.velocity.state_dict().items()}
        base_map = trained.base_map.point_map if isinstance(trained.base_map, StandardisedMap) else trained.base_map
        kind = name_of(type(base_map))
        if kind in KEPT:
            images[name] = {"kind": kind, "version": kind_of(kind).version}
            map_state = state_of(base_map)
            tensors |= {f"{name}.image.{key}": torch.from_numpy(np.array(v)) for key, v in map_state.items()}
        elif base_map is not None:
            images[name] = {"kind": UNKEPT, "version": 1}
    header = {
        "package_version": __version__,
        "settings": _flat(params),
        "network": None if network is None else getattr(network, "__qualname__", type(network).__qualname__),
        "images": images,
        "n_source_dims": len(fitted.source_scale.mean),
        "n_target_dims": len(fitted.target_scale.mean),
        "support": {
            direction: {"quantile": s.quantile, "radius": s.radius, "extent": s.extent, "n_reference": len(s.points)}
            for direction, s in fitted.support.items()
        },
    }
    return tensors, header


def unpack_flow(
    tensors: dict[str, torch.Tensor],
    header: dict[str, Any],
    where: str,
    *,
    network: NetworkFactory | None,
    maps: tuple[PointMap, PointMap | None] | None,
    device: torch.device,
) -> tuple[Fitted, dict[str, Any]]:
    """Undo `pack_flow`; ``where`` names the file in errors.

    Raises
    ------
    FlowFileError
        Shapes that do not fit, or a network or maps of the user's not given.
    """
    if header.get("network") is not None and network is None:
        raise FlowFileError(
            f"{where}: found a flow with a network of its own ({header['network']}); expected that to be given, as code is not "
            "kept on disk. Mend: load(folder, network=...)."
        )
    try:
        params = _params({name: header["settings"][name] for name in SAVED}, network)
        n_source, n_target = int(header["n_source_dims"]), int(header["n_target_dims"])
        clouds = {direction: dict(header["support"][direction]) for direction in ("forward", "backward")}
        sizes = {direction: int(cloud.pop("n_reference")) for direction, cloud in clouds.items()}
        kinds = {str(name): _kind(image) for name, image in header["images"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FlowFileError(
            f"{where}: found no usable entry ({type(error).__name__}: {error}); expected a complete flow. Mend: save it again."
        ) from error
    point_maps = {
        name: _point_map(
            name, kind, tensors, None if maps is None else dict(zip(DIRECTIONS, maps, strict=True))[name], where
        )
        for name, kind in kinds.items()
    }
    scales = [
        Standardiser(*(_vector(tensors, f"{side}_scale.{key}", n, where) for key in ("mean", "std")))
        for side, n in (("source", n_source), ("target", n_target))
    ]
    # Earlier versions had the network alone, and a larger one.
    has_spread = "forward.velocity.stretch" in tensors
    training = with_small_network(params["training"]) if has_spread else params["training"]
    trained_fields = _empty_fields(params | {"training": training}, point_maps, scales, device)
    for name, trained in trained_fields.items():
        if has_spread:
            velocity = SpreadVelocity(trained.velocity, trained.n_state).to(device)
            trained_fields[name] = replace(trained, velocity=velocity)
            # Earlier ones added the whole network.
            tensors.setdefault(f"{name}.velocity.share", torch.tensor(1.0))
    expected: dict[str, tuple[int, ...]] = {
        "source_scale.mean": (n_source,),
        "source_scale.std": (n_source,),
        "target_scale.mean": (n_target,),
        "target_scale.std": (n_target,),
        "support.forward": (sizes["forward"], n_target),
        "support.backward": (sizes["backward"], n_source),
        "losses": tuple(tensors["losses"].shape) if "losses" in tensors else (0,),
    }
    for name, trained in trained_fields.items():
        expected |= {f"{name}.velocity.{key}": tuple(v.shape) for key, v in trained.velocity.state_dict().items()}
        _require_fitting(trained, where)
    expected |= {key: tuple(value.shape) for key, value in tensors.items() if key.split(".")[1:2] == ["image"]}
    check_shapes(tensors, expected, where, FlowFileError)
    for name, trained in trained_fields.items():
        prefix = f"{name}.velocity."
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        trained.velocity.load_state_dict(weights)
        trained.velocity.eval().requires_grad_(False)
    support = {
        direction: Support(tensors[f"support.{direction}"].numpy(), **cloud) for direction, cloud in clouds.items()
    }
    forward, backward, losses = trained_fields["forward"], trained_fields.get("backward"), tensors["losses"].numpy()
    return Fitted(scales[0], scales[1], support, forward, backward, losses), params


def network_of(options: Mapping[str, Any]) -> NetworkFactory | None:
    """Return the network among the options of a flow, which version 0.1 took beside those of training."""
    return options["training"].network if "training" in options else options.get("network")


def _flat(params: dict[str, Any]) -> dict[str, Any]:
    """Return the saved settings by their flat names."""
    flat = {}
    for name in SAVED:
        holder, setting = MOVED.get(name, (None, name))
        value = params[name] if holder is None else getattr(params[holder], setting)
        flat[name] = value.item() if isinstance(value, np.generic) else value
    # Version 0.1 reads a number here.
    return flat | {"validation": flat["validation"] or 0.0}


def _params(flat: dict[str, Any], network: NetworkFactory | None) -> dict[str, Any]:
    """Undo `_flat`."""
    params: dict[str, Any] = {name: value for name, value in flat.items() if name not in MOVED}
    settings: dict[str, dict[str, Any]] = {"training": {"network": network}, "ode": {}}
    for name in flat.keys() & MOVED.keys():
        holder, setting = MOVED[name]
        settings[holder][setting] = flat[name]
    return params | {"training": Training(**settings["training"]), "ode": ODE(**settings["ode"])}


def _fields(fitted: Fitted) -> dict[str, VelocityField]:
    return {"forward": fitted.forward} | ({} if fitted.backward is None else {"backward": fitted.backward})


def _kind(image: dict[str, Any] | str) -> tuple[str, int]:
    """Return kind and version of a base map; version 0.1 wrote the name of the class alone."""
    return (NAMES_0_1.get(image, image), 1) if isinstance(image, str) else (image["kind"], image["version"])


def _point_map(
    name: str, kind: tuple[str, int], tensors: dict[str, torch.Tensor], given: PointMap | None, where: str
) -> PointMap:
    """Read a kept map, or take the one that is given where code was not kept."""
    if kind[0] not in KEPT:
        if given is None:
            raise FlowFileError(
                f"{where}: found a flow whose {name} base is a map of its own; expected that to be given, as code is not kept on "
                "disk. Mend: load(folder, base=(forward map, backward map)), or train with a LinearMap or KernelMap as the base."
            )
        return given
    prefix = f"{name}.image."
    arrays = {key.removeprefix(prefix): value.numpy() for key, value in tensors.items() if key.startswith(prefix)}
    try:
        return build(*kind, {key: value if value.ndim else float(value) for key, value in arrays.items()}, {})
    except StateFileError as error:
        raise FlowFileError(f"{where}: {error}") from error


def _vector(tensors: dict[str, torch.Tensor], key: str, n: int, where: str) -> np.ndarray:
    check_shapes({k: v for k, v in tensors.items() if k == key}, {key: (n,)}, where, FlowFileError)
    return tensors[key].numpy()


def _empty_fields(
    params: dict[str, Any], point_maps: dict[str, PointMap], scales: list[Standardiser], device: torch.device
) -> dict[str, VelocityField]:
    base = params["base"]
    both = base in ("affine", "noise") or "backward" in point_maps
    out = {}
    for name, (start, end) in zip(DIRECTIONS if both else DIRECTIONS[:1], (scales, scales[::-1]), strict=False):
        base_map = StandardisedMap(point_maps[name], start, end) if base == MAPS else point_maps.get(name)
        out[name] = empty_field(base, len(start.mean), len(end.mean), base_map, params["training"], 0, device)
    return out


def _require_fitting(trained: VelocityField, where: str) -> None:
    """Try the base map on one point: it must fit the two spaces."""
    if trained.base_map is None:
        return
    try:
        shape = tuple(trained.start(np.zeros((1, trained.n_start))).shape)
    except ValueError as error:
        raise FlowFileError(
            f"{where}: found a base map that does not fit the spaces ({error}). Mend: fit again."
        ) from error
    if shape != (1, trained.n_end):
        raise FlowFileError(
            f"{where}: found a base map that gives shape {shape}; expected {(1, trained.n_end)}. Mend: fit again."
        )
