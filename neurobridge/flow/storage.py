"""A fitted flow on disk, and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from neurobridge._version import __version__
from neurobridge.flow.bases import MAPS, Between, PointMap, Way
from neurobridge.flow.networks import NetworkFactory, build_network
from neurobridge.maps.kernel import KernelMap
from neurobridge.maps.linear import LinearMap
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import Support
from neurobridge.store.state import FlowFileError, check_shapes, read_state, write_state

KIND = "neurobridge flow"
NAME = "flow"
# Settings of a flow that are plain values; code (network, minibatch_cost), places (device, checkpoint) stay out. Of a base of
# maps the name alone is one.
SAVED = (
    "base", "width", "depth", "n_steps", "batch_size", "learning_rate", "weight_decay", "sigma", "ema", "clip", "validation",
    "patience", "validate_every", "minibatch_ot", "mixed_precision", "method", "ode_steps", "rtol", "atol", "chunk_size",
    "support_quantile", "seed",
)  # fmt: skip


WAYS = ("forward", "backward")
# Maps that are kept on disk; of any other the name says that it must be given again.
KEPT: dict[str, Any] = {"LinearMap": LinearMap, "KernelMap": KernelMap}
UNKEPT = "given"


class Fitted(NamedTuple):
    """What fitting found: scales, clouds, fields."""

    source_scale: Standardiser
    target_scale: Standardiser
    support: dict[str, Support]
    forward: Way
    backward: Way | None
    losses: np.ndarray


def write_flow(folder: Path, fitted: Fitted, settings: dict[str, Any], network: NetworkFactory | None) -> Path:
    """Write a fitted flow and its settings into a folder; gives the path of its JSON."""
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
    kinds: dict[str, str] = {}
    for name, way in _ways(fitted).items():
        tensors |= {f"{name}.velocity.{key}": value for key, value in way.velocity.state_dict().items()}
        image = way.image.image if isinstance(way.image, Between) else way.image
        if image is not None:
            kinds[name] = type(image).__qualname__ if type(image) in KEPT.values() else UNKEPT
            tensors |= {f"{name}.image.{key}": value for key, value in _tensors(image).items()}
    header = {
        "package_version": __version__,
        "settings": settings,
        "network": None if network is None else getattr(network, "__qualname__", type(network).__qualname__),
        "images": kinds,
        "n_source_dims": len(fitted.source_scale.mean),
        "n_target_dims": len(fitted.target_scale.mean),
        "support": {
            direction: {"quantile": s.quantile, "radius": s.radius, "extent": s.extent, "n_reference": len(s.points)}
            for direction, s in fitted.support.items()
        },
    }
    return write_state(folder, NAME, tensors, header, kind=KIND)


def read_flow(
    folder: Path,
    *,
    network: NetworkFactory | None,
    maps: tuple[PointMap, PointMap | None] | None,
    device: torch.device,
) -> tuple[Fitted, dict[str, Any]]:
    """Read what `write_flow` wrote: the fitted parts and the settings.

    Raises
    ------
    FlowFileError
        Missing or damaged files, another format version, shapes that do not fit, or a network or maps of the user's not given.
    """
    tensors, header = read_state(folder, NAME, kind=KIND)
    where = str(folder / f"{NAME}.json")
    if header.get("network") is not None and network is None:
        raise FlowFileError(
            f"{where}: found a flow with a network of its own ({header['network']}); expected that to be given, as code is not "
            "kept on disk. Mend: load(folder, network=...)."
        )
    try:
        settings = {name: header["settings"][name] for name in SAVED}
        n_source, n_target = int(header["n_source_dims"]), int(header["n_target_dims"])
        clouds = {direction: dict(header["support"][direction]) for direction in ("forward", "backward")}
        sizes = {direction: int(cloud.pop("n_reference")) for direction, cloud in clouds.items()}
        kinds = {str(name): str(kind) for name, kind in header["images"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FlowFileError(
            f"{where}: found no usable entry ({type(error).__name__}: {error}); expected a complete flow. Mend: save it again."
        ) from error
    images = {
        name: _image(name, kind, tensors, None if maps is None else dict(zip(WAYS, maps, strict=True))[name], where)
        for name, kind in kinds.items()
    }
    scales = [
        Standardiser(*(_vector(tensors, f"{side}_scale.{key}", n, where) for key in ("mean", "std")))
        for side, n in (("source", n_source), ("target", n_target))
    ]
    ways = _empty_ways(settings, images, scales, network, device)
    expected: dict[str, tuple[int, ...]] = {
        "source_scale.mean": (n_source,),
        "source_scale.std": (n_source,),
        "target_scale.mean": (n_target,),
        "target_scale.std": (n_target,),
        "support.forward": (sizes["forward"], n_target),
        "support.backward": (sizes["backward"], n_source),
        "losses": tuple(tensors["losses"].shape) if "losses" in tensors else (0,),
    }
    for name, way in ways.items():
        expected |= {f"{name}.velocity.{key}": tuple(v.shape) for key, v in way.velocity.state_dict().items()}
        _require_fitting(way, where)
    expected |= {key: tuple(value.shape) for key, value in tensors.items() if key.split(".")[1:2] == ["image"]}
    check_shapes(tensors, expected, where)
    for name, way in ways.items():
        prefix = f"{name}.velocity."
        way.velocity.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        way.velocity.eval().requires_grad_(False)
    support = {
        direction: Support(tensors[f"support.{direction}"].numpy(), **cloud) for direction, cloud in clouds.items()
    }
    forward, backward, losses = ways["forward"], ways.get("backward"), tensors["losses"].numpy()
    return Fitted(scales[0], scales[1], support, forward, backward, losses), settings


def _ways(fitted: Fitted) -> dict[str, Way]:
    return {"forward": fitted.forward} | ({} if fitted.backward is None else {"backward": fitted.backward})


def _tensors(image: PointMap) -> dict[str, torch.Tensor]:
    if type(image) not in KEPT.values() or not is_dataclass(image):
        return {}
    return {field.name: torch.from_numpy(np.array(getattr(image, field.name))) for field in fields(image)}


def _image(name: str, kind: str, tensors: dict[str, torch.Tensor], given: PointMap | None, where: str) -> PointMap:
    """Read a kept map, or take the one that is given where code was not kept."""
    if kind not in KEPT:
        if given is None:
            raise FlowFileError(
                f"{where}: found a flow whose {name} base is a map of its own; expected that to be given, as code is not kept on "
                "disk. Mend: load(folder, base=(forward map, backward map)), or train with a LinearMap or KernelMap as the base."
            )
        return given
    found = {
        field.name: tensors[key].numpy()
        for field in fields(KEPT[kind])
        if (key := f"{name}.image.{field.name}") in tensors
    }
    missing = [field.name for field in fields(KEPT[kind]) if field.name not in found]
    if missing:
        raise FlowFileError(
            f"{where}: found a {kind} without {missing}; expected a complete flow. Mend: save it again."
        )
    return KEPT[kind](**{key: value if value.ndim else float(value) for key, value in found.items()})


def _vector(tensors: dict[str, torch.Tensor], key: str, n: int, where: str) -> np.ndarray:
    check_shapes({k: v for k, v in tensors.items() if k == key}, {key: (n,)}, where)
    return tensors[key].numpy()


def _empty_ways(
    settings: dict[str, Any],
    images: dict[str, PointMap],
    scales: list[Standardiser],
    network: NetworkFactory | None,
    device: torch.device,
) -> dict[str, Way]:
    base = settings["base"]
    both = base in ("affine", "noise") or "backward" in images
    out = {}
    for name, (begin, end) in zip(WAYS if both else WAYS[:1], (scales, scales[::-1]), strict=False):
        image = Between(images[name], begin, end) if base == MAPS else images.get(name)
        size = Way(torch.nn.Identity(), base, len(begin.mean), len(end.mean), image)
        velocity = build_network(
            network, size.n_state, size.n_condition,
            width=settings["width"], depth=settings["depth"], seed=0, device=device,
        )  # fmt: skip
        out[name] = Way(velocity, base, size.n_start, size.n_end, image)
    return out


def _require_fitting(way: Way, where: str) -> None:
    """Try the map on one point: it must fit the two spaces."""
    if way.image is None:
        return
    try:
        found = tuple(way.start(np.zeros((1, way.n_start))).shape)
    except ValueError as error:
        raise FlowFileError(
            f"{where}: found a base map that does not fit the spaces ({error}). Mend: fit again."
        ) from error
    if found != (1, way.n_end):
        raise FlowFileError(
            f"{where}: found a base map that gives shape {found}; expected {(1, way.n_end)}. Mend: fit again."
        )
