"""Small convolutional networks that two cores train in a minute: a classifier, a VAE and a contrastive encoder."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

_GRID = 7


class ConvNet(nn.Module):
    """Classifier of small images: two convolutions, a hidden layer, a linear head.

    Named layers: ``conv1``, ``conv2`` (each convolved, rectified, max-pooled by 2), ``features`` (`n_features`
    rectified units), ``head`` (class scores).

    Parameters
    ----------
    n_classes : int
        Outputs of the head.
    channels : int
        1 (grey) or 3 (RGB).
    n_features : int
        Units before the head.

    Examples
    --------
    >>> import torch
    >>> ConvNet(n_classes=10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int, *, channels: int = 1, n_features: int = 128) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.conv2 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.features = nn.Sequential(
            nn.AdaptiveAvgPool2d(_GRID), nn.Flatten(), nn.Linear(32 * _GRID**2, n_features), nn.ReLU()
        )
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute class scores (n, n_classes) of images (n, channels, height, width) in [0, 1]."""
        return self.head(self.features(self.conv2(self.conv1(images))))

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the cross-entropy of the batch in nats."""
        return F.cross_entropy(self(images), labels)


class GaussianEncoder(nn.Module):
    """Encoder of an image to the mean of its latents; ``moments`` gives the logarithm of the variance too."""

    def __init__(self, channels: int, size: int, n_latents: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(64 * (size // 4) ** 2, 256), nn.ReLU(),
        )  # fmt: skip
        self.mean = nn.Linear(256, n_latents)
        self.log_variance = nn.Linear(256, n_latents)

    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute mean and log variance, each (n, n_latents)."""
        hidden = self.body(images)
        return self.mean(hidden), self.log_variance(hidden)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the mean latents (n, n_latents)."""
        return self.mean(self.body(images))


class ConvDecoder(nn.Module):
    """Decoder of latents (n, n_latents) to pixels in [0, 1], (n, channels, size, size); ``logits`` before the sigmoid."""

    def __init__(self, channels: int, size: int, n_latents: int) -> None:
        super().__init__()
        side = size // 4
        self.logits = nn.Sequential(
            nn.Linear(n_latents, 256), nn.ReLU(), nn.Linear(256, 32 * side**2), nn.ReLU(),
            nn.Unflatten(1, (32, side, side)), nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, channels, 4, 2, 1),
        )  # fmt: skip

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Compute the pixels of latents."""
        return torch.sigmoid(self.logits(latents))


class ConvVAE(nn.Module):
    """Variational autoencoder with a convolutional encoder and decoder, each a module of its own.

    The loss is ``-E_q[log p(x | z)] + beta KL(q(z | x) || N(0, I))`` in nats an image, p Bernoulli pixel by pixel
    (Kingma & Welling 2014; beta: Higgins et al. 2017). ``forward`` reconstructs from the mean latents, without noise.

    Named layers: ``encoder.body``, ``encoder.mean`` (the latents; also ``encoder``), ``decoder``.

    Parameters
    ----------
    channels : int
        1 (grey) or 3 (RGB).
    size : int
        Side of the square images in pixels, a multiple of 4.
    n_latents : int
        Dimension of the latent space.
    beta : float
        Weight of the divergence.

    Raises
    ------
    ValueError
        A size that is not a multiple of 4, or a beta below zero.

    Examples
    --------
    >>> import torch
    >>> ConvVAE(n_latents=8)(torch.zeros(2, 1, 28, 28)).shape  # reconstructions
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, *, channels: int = 1, size: int = 28, n_latents: int = 32, beta: float = 1.0) -> None:
        super().__init__()
        if size < 4 or size % 4:
            raise ValueError(
                f"ConvVAE: found size={size}; expected a multiple of 4 pixels. Mend: preprocess=Preprocess(size=32)."
            )
        if not beta >= 0:
            raise ValueError(f"ConvVAE: found beta={beta}; expected zero or more. Mend: e.g. beta=1.")
        self.beta = beta
        self.encoder = GaussianEncoder(channels, size, n_latents)
        self.decoder = ConvDecoder(channels, size, n_latents)

    def extra_repr(self) -> str:
        """Print beta, so that models which differ in it print differently."""
        return f"beta={self.beta}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct pixels, in the shape of `images`."""
        return self.decoder(self.encoder(images))

    def loss(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch in [0, 1], with standard normal `noise` of shape (n, n_latents)."""
        mean, log_variance = self.encoder.moments(images)
        logits = self.decoder.logits(mean + noise * (log_variance / 2).exp())
        error = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return (error + self.beta * divergence) / len(images)


class ConvContrastive(nn.Module):
    """Encoder that gives two distorted views of an image the same place, trained without labels.

    The loss is NT-Xent (SimCLR, Chen et al. 2020): with unit projections z and temperature tau, each view has to find its
    partner among all views of the batch, ``-log exp(z_i . z_j / tau) / sum_{k != i} exp(z_i . z_k / tau)``.

    Named layers: ``encoder.conv1``, ``encoder.conv2``, ``encoder.conv3``, ``encoder.latents`` (also
    ``encoder``: `n_latents` units, before the projection).

    Parameters
    ----------
    channels : int
        1 (grey) or 3 (RGB).
    n_latents : int
        Dimension of the representation.
    width : int
        Maps of the first convolution; the second and third have twice and four times as many.
    temperature : float
        Of the loss.

    Raises
    ------
    ValueError
        A temperature that is not positive.

    Examples
    --------
    >>> import torch
    >>> ConvContrastive(n_latents=8).encoder(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 8])
    """

    def __init__(self, *, channels: int = 1, n_latents: int = 64, width: int = 16, temperature: float = 0.2) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(
                f"ConvContrastive: found temperature={temperature}; expected a positive value. Mend: e.g. 0.2."
            )
        self.temperature = temperature
        self.encoder = nn.Sequential()
        for k, (before, after) in enumerate(pairwise([channels, width, 2 * width, 4 * width]), start=1):
            layers = [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            self.encoder.add_module(f"conv{k}", nn.Sequential(*layers))
        self.encoder.add_module("pool", nn.AdaptiveAvgPool2d(4))
        self.encoder.add_module("flat", nn.Flatten())
        self.encoder.add_module("latents", nn.Linear(4 * width * 16, n_latents))
        self.projection = nn.Sequential(
            nn.BatchNorm1d(n_latents), nn.ReLU(), nn.Linear(n_latents, 128), nn.ReLU(), nn.Linear(128, 64)
        )

    def extra_repr(self) -> str:
        """Print the temperature, so that models which differ in it print differently."""
        return f"temperature={self.temperature}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the latents (n, n_latents) of images (n, channels, height, width)."""
        return self.encoder(images)

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Compute NT-Xent of two views of the same images, in nats."""
        z = F.normalize(self.projection(self.encoder(torch.cat([first, second]))), dim=1)
        similarity = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
        n = len(first)
        partner = torch.arange(2 * n, device=z.device).roll(n)
        return F.cross_entropy(similarity, partner)


def random_views(
    images: torch.Tensor,
    generator: torch.Generator,
    *,
    rotation: float = 20.0,
    scale: float = 0.25,
    shear: float = 0.3,
    shift: float = 0.15,
    elastic: float = 0.06,
    contrast: float = 0.2,
) -> torch.Tensor:
    """Distort each image by its own random affine and elastic map, and its own contrast.

    Parameters
    ----------
    images : tensor of shape (n, channels, height, width)
        Pixels in [0, 1].
    generator : torch.Generator
        Source of every draw.
    rotation : float
        Largest turn in degrees.
    scale, shear : float
        Largest change of size and largest slant, as fractions.
    shift, elastic : float
        Largest shift, and standard deviation of the smooth local displacement, in halves of the image's side.
    contrast : float
        Largest relative loss of contrast.

    Returns
    -------
    tensor of shape (n, channels, height, width)
    """
    n = len(images)

    def uniform(limit: float, *shape: int) -> torch.Tensor:
        return (torch.rand((n, *shape), generator=generator) * 2 - 1) * limit

    angle, slant = uniform(torch.pi * rotation / 180), uniform(shear)
    zoom = 1 + uniform(scale, 2)
    cos, sin = angle.cos(), angle.sin()
    rows = [zoom[:, 0] * cos, zoom[:, 0] * (slant * cos - sin), zoom[:, 1] * sin, zoom[:, 1] * (slant * sin + cos)]
    matrix = torch.stack(rows, dim=1).view(n, 2, 2)
    theta = torch.cat([matrix, uniform(shift, 2, 1)], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    coarse = elastic * torch.randn((n, 2, 4, 4), generator=generator)
    bend = F.interpolate(coarse, size=images.shape[-2:], mode="bicubic", align_corners=True)
    moved = F.grid_sample(images, grid + bend.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    return moved * (1 - contrast * torch.rand((n, 1, 1, 1), generator=generator))
