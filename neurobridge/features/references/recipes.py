"""How each small reference model is built and trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from neurobridge.features.references.conv import ConvContrastive, ConvNet, ConvVAE, random_views
from neurobridge.features.references.gabor import GaborEnergy

# loss(model, batch, labels, generator); labels are zeros where none are used.
Loss = Callable[[Any, torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]


def _loss_net(model: ConvNet, batch: torch.Tensor, labels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return model.loss(batch, labels)


def _loss_vae(model: ConvVAE, batch: torch.Tensor, labels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return model.loss(batch, torch.randn((len(batch), model.encoder.mean.out_features), generator=rng))


def _loss_contrastive(
    model: ConvContrastive, batch: torch.Tensor, labels: torch.Tensor, rng: torch.Generator
) -> torch.Tensor:
    return model.loss(random_views(batch, rng), random_views(batch, rng))


@dataclass(frozen=True)
class Recipe:
    """How a reference is built and trained.

    Attributes
    ----------
    build : callable
        Constructor; its keyword arguments are kept in the card.
    layers : tuple of str
        Names worth extracting, in order of depth.
    epochs, batch_size, learning_rate
        Of Adam with a one-cycle schedule; no epochs where nothing is trained.
    loss : callable, optional
        ``loss(model, batch, labels, generator)``.
    supervised : bool
        True where labels are used.
    inferred : tuple of str
        Arguments that follow from the data: ``channels``, ``size``, ``n_classes``.
    """

    build: Callable[..., torch.nn.Module]
    layers: tuple[str, ...]
    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 1e-3
    loss: Loss | None = None
    supervised: bool = False
    inferred: tuple[str, ...] = ()


#: How each reference is built and trained, by name.
REFERENCES: dict[str, Recipe] = {
    "conv_net": Recipe(
        ConvNet, ("conv1", "conv2", "features", "head"), 2, 128, 3e-3, _loss_net, True, ("channels", "n_classes")
    ),
    "conv_vae": Recipe(ConvVAE, ("encoder.body", "encoder.mean"), 3, 128, 3e-3, _loss_vae, False, ("channels", "size")),
    "conv_contrastive": Recipe(
        ConvContrastive,
        ("encoder.conv1", "encoder.conv2", "encoder.conv3", "encoder.latents"),
        3,
        256,
        4e-3,
        _loss_contrastive,
        False,
        ("channels",),
    ),
    "gabor_energy": Recipe(GaborEnergy, ("colour", "v1", "v2")),
}
