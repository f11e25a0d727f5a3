"""A fitted flow on disk, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from neurobridge._version import __version__
from neurobridge.bridge.linear import LinearMap
from neurobridge.flow.bases import Way
from neurobridge.flow.checkpoint import FlowFileError, check_shapes, read_state, write_state
from neurobridge.flow.networks import NetworkFactory, build_network
from neurobridge.flow.scale import Standardiser
from neurobridge.flow.support import Support

KIND = "neurobridge flow"
NAME = "flow"
# Settings of a flow that are plain values; code (network, minibatch_cost), places (device, checkpoint) stay out.
SAVED = (
    "base", "width", "depth", "n_steps", "batch_size", "learning_rate", "weight_decay", "sigma", "ema", "clip", "validation",
    "patience", "validate_every", "minibatch_ot", "mixed_precision", "method", "ode_steps", "rtol", "atol", "chunk_size",
    "support_quantile", "seed",
)  # fmt: skip


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
    for name, way in _ways(fitted).items():
        tensors |= {f"{name}.velocity.{key}": value for key, value in way.velocity.state_dict().items()}
        if way.linear is not None:
            tensors |= {
                f"{name}.linear.{key}": torch.as_tensor(getattr(way.linear, key)) for key in _linear_shapes(1, 1)
            }
    header = {
        "package_version": __version__,
        "settings": settings,
        "network": None if network is None else getattr(network, "__qualname__", type(network).__qualname__),
        "n_source_dims": len(fitted.source_scale.mean),
        "n_target_dims": len(fitted.target_scale.mean),
        "support": {
            direction: {"quantile": s.quantile, "radius": s.radius, "extent": s.extent, "n_reference": len(s.points)}
            for direction, s in fitted.support.items()
        },
    }
    return write_state(folder, NAME, tensors, header, kind=KIND)


def read_flow(folder: Path, *, network: NetworkFactory | None, device: torch.device) -> tuple[Fitted, dict[str, Any]]:
    """Read what `write_flow` wrote: the fitted parts and the settings.

    Raises
    ------
    FlowFileError
        Missing or damaged files, another format version, shapes that do not fit, or a network of the user's not given.
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
    except (KeyError, TypeError, ValueError) as error:
        raise FlowFileError(
            f"{where}: found no usable entry ({type(error).__name__}: {error}); expected a complete flow. Mend: save it again."
        ) from error
    ways = _empty_ways(settings, n_source, n_target, network, device)
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
        if way.base == "affine":
            expected |= {f"{name}.linear.{k}": s for k, s in _linear_shapes(way.n_start, way.n_end).items()}
    check_shapes(tensors, expected, where)
    arrays = {key: value.numpy() for key, value in tensors.items() if ".velocity." not in key}
    filled = {name: _fill(name, way, tensors, arrays) for name, way in ways.items()}
    return (
        Fitted(
            Standardiser(arrays["source_scale.mean"], arrays["source_scale.std"]),
            Standardiser(arrays["target_scale.mean"], arrays["target_scale.std"]),
            {direction: Support(arrays[f"support.{direction}"], **cloud) for direction, cloud in clouds.items()},
            filled["forward"],
            filled.get("backward"),
            arrays["losses"],
        ),
        settings,
    )


def _ways(fitted: Fitted) -> dict[str, Way]:
    return {"forward": fitted.forward} | ({} if fitted.backward is None else {"backward": fitted.backward})


def _linear_shapes(n_start: int, n_end: int) -> dict[str, tuple[int, ...]]:
    return {"coef": (n_start, n_end), "x_mean": (n_start,), "y_mean": (n_end,), "alpha": (n_end,)}


def _empty_ways(
    settings: dict[str, Any], n_source: int, n_target: int, network: NetworkFactory | None, device: torch.device
) -> dict[str, Way]:
    ends = {"forward": (n_source, n_target)}
    if settings["base"] != "pad":
        ends["backward"] = (n_target, n_source)
    out = {}
    for name, (n_start, n_end) in ends.items():
        size = Way(torch.nn.Identity(), settings["base"], n_start, n_end, None)
        velocity = build_network(
            network, size.n_state, size.n_condition,
            width=settings["width"], depth=settings["depth"], seed=0, device=device,
        )  # fmt: skip
        out[name] = Way(velocity, settings["base"], n_start, n_end, None)
    return out


def _fill(name: str, way: Way, tensors: dict[str, torch.Tensor], arrays: dict[str, np.ndarray]) -> Way:
    prefix = f"{name}.velocity."
    way.velocity.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    way.velocity.eval().requires_grad_(False)
    linear = None
    if way.base == "affine":
        linear = LinearMap(**{key: arrays[f"{name}.linear.{key}"] for key in _linear_shapes(1, 1)})
    return Way(way.velocity, way.base, way.n_start, way.n_end, linear)
