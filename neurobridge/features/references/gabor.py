"""Reference models with fixed weights: the classic energy model of early vision."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F  # noqa: N812

from neurobridge.assemblies import AssemblyError

_EPS = 1e-12


class GaborEnergy(torch.nn.Module):
    """Gabor energy network: local orientation energy over an octave pyramid, and texture energy on top of it.

    Nothing is trained; all filters follow from the arguments. Three named layers, each averaged over a coarse
    grid:

    - ``colour``: luminance and, for RGB, the opponent channels red-green and blue-yellow, shape (n, 3 or 1,
      grid, grid);
    - ``v1``: quadrature-pair energy sqrt(even^2 + odd^2) of the luminance, divided by ``semisaturation`` plus
      its mean over orientations and a neighbourhood, shape (n, n_scales * n_orientations, grid, grid);
    - ``v2``: the same energy taken once more, of every v1 map, at ``n_second`` orientations: combinations of
      orientations such as texture borders and curves, shape (n, n_scales * n_orientations * n_second,
      second_grid, second_grid).

    With the default arguments 112 x 112 RGB images give 48 + 384 + 864 features. ``forward`` returns them
    side by side.

    Parameters
    ----------
    wavelength : float
        Of the finest scale, in pixels; each further scale doubles it.
    n_scales, n_orientations : int
        Size of the first filter bank.
    n_second : int
        Orientations of the second filter bank, whose wavelength is ``wavelength`` pixels of the halved energy
        maps.
    grid, second_grid : int
        Side of the pooling grids of ``colour``/``v1`` and of ``v2``.
    semisaturation : float
        Energy at which normalisation halves the response, for pixels in [0, 1] and filters of unit norm.
    neighbourhood : int
        Odd width in pixels (of each scale) of the normalisation pool.

    Raises
    ------
    ValueError
        An argument is outside its range.

    References
    ----------
    Adelson & Bergen 1985 (energy), Heeger 1992 (normalisation), Freeman & Simoncelli 2011 (second-order
    statistics).

    Examples
    --------
    >>> import torch
    >>> GaborEnergy()(torch.rand(2, 3, 112, 112)).shape  # colour, v1 and v2 side by side
    torch.Size([2, 1296])
    """

    def __init__(
        self,
        *,
        wavelength: float = 4.0,
        n_scales: int = 4,
        n_orientations: int = 6,
        n_second: int = 4,
        grid: int = 4,
        second_grid: int = 3,
        semisaturation: float = 0.2,
        neighbourhood: int = 9,
    ) -> None:
        super().__init__()
        counts = {
            "n_scales": n_scales,
            "n_orientations": n_orientations,
            "n_second": n_second,
            "grid": grid,
            "second_grid": second_grid,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"GaborEnergy: found {name}={count}; expected at least 1. Mend: e.g. {name}=4.")
        if not wavelength >= 2:
            raise ValueError(
                f"GaborEnergy: found wavelength={wavelength}; expected at least 2 pixels, the finest that "
                "pixels can carry. Mend: e.g. wavelength=4."
            )
        if not semisaturation > 0:
            raise ValueError(
                f"GaborEnergy: found semisaturation={semisaturation}; expected a positive value. Mend: e.g. 0.2."
            )
        if neighbourhood < 1 or neighbourhood % 2 == 0:
            raise ValueError(
                f"GaborEnergy: found neighbourhood={neighbourhood}; expected an odd number of pixels. Mend: e.g. 9."
            )
        self.arguments = {
            "wavelength": wavelength,
            **counts,
            "semisaturation": semisaturation,
            "neighbourhood": neighbourhood,
        }
        self.colour = _GridMean(grid)
        self.v1 = _GridMean(grid)
        self.v2 = _GridMean(second_grid)
        self.register_buffer("first", gabor_bank(wavelength, n_orientations))
        self.register_buffer("second", gabor_bank(wavelength, n_second))
        self.register_buffer("binomial", torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16)

    first: torch.Tensor
    second: torch.Tensor
    binomial: torch.Tensor

    def extra_repr(self) -> str:
        """Print the arguments, so that models which differ in them print differently."""
        return ", ".join(f"{name}={value}" for name, value in self.arguments.items())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute all features.

        Parameters
        ----------
        images : tensor of shape (n, 1 or 3, height, width)
            Pixels in [0, 1].

        Returns
        -------
        tensor of shape (n, n_features)
            ``colour``, ``v1`` and ``v2``, flattened and side by side.

        Raises
        ------
        AssemblyError
            Another number of channels, or images too small for the pyramid and the grids.
        """
        self._check(images)
        opponent = _opponent(images)
        maps = self._energy_maps(opponent[:, :1])
        colour, v1 = self.colour([opponent]), self.v1(maps)
        v2 = self.v2([self._second_order(energy) for energy in maps])
        return torch.cat([colour.flatten(1), v1.flatten(1), v2.flatten(1)], dim=1)

    def _check(self, images: torch.Tensor) -> None:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise AssemblyError(
                f"GaborEnergy: found input of shape {tuple(images.shape)}; expected (n, 1 or 3, height, "
                "width). Mend: use neurobridge.features.Preprocess to prepare the images."
            )
        n_scales = int(self.arguments["n_scales"])
        smallest = 2 ** (n_scales - 1) * max(int(self.arguments["grid"]), 2 * int(self.arguments["second_grid"]))
        if min(images.shape[-2:]) < smallest:
            raise AssemblyError(
                f"GaborEnergy: found images of {images.shape[-2]} x {images.shape[-1]} pixels; expected at "
                f"least {smallest} for {n_scales} scales. Mend: Preprocess(size={smallest}) or --size "
                f"{smallest}, or fewer n_scales."
            )

    def _energy_maps(self, luminance: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        width = int(self.arguments["neighbourhood"])
        n_scales = int(self.arguments["n_scales"])
        for scale in range(n_scales):
            energy = _energy(luminance, self.first)
            pool = energy.mean(dim=1, keepdim=True)
            pool = F.avg_pool2d(pool, width, stride=1, padding=width // 2, count_include_pad=False)
            maps.append(energy / (float(self.arguments["semisaturation"]) + pool))
            if scale + 1 < n_scales:
                luminance = F.avg_pool2d(self._blur(luminance), 2)
        return maps

    def _second_order(self, energy: torch.Tensor) -> torch.Tensor:
        halved = F.avg_pool2d(energy, 2)
        n, channels, height, width = halved.shape
        second = _energy(halved.reshape(n * channels, 1, height, width), self.second)
        return second.reshape(n, -1, height, width)

    def _blur(self, image: torch.Tensor) -> torch.Tensor:
        padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
        return F.conv2d(F.conv2d(padded, self.binomial.view(1, 1, 1, -1)), self.binomial.view(1, 1, -1, 1))


class _GridMean(torch.nn.Module):
    """Mean of each map over the cells of a grid; maps of several sizes become channels of one tensor."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def extra_repr(self) -> str:
        return f"grid={self.grid}"

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([F.adaptive_avg_pool2d(scale, self.grid) for scale in maps], dim=1)


def gabor_bank(wavelength: float, n_orientations: int) -> torch.Tensor:
    """Build quadrature pairs of Gabor filters with one octave of bandwidth.

    Parameters
    ----------
    wavelength : float
        Of the carrier, in pixels.
    n_orientations : int
        Evenly spaced over half a turn, starting with the carrier along the rows' direction (vertical
        stripes).

    Returns
    -------
    tensor of shape (2 * n_orientations, 1, width, width)
        Even and odd filter of each orientation in turn; zero mean, unit norm.
    """
    sigma = 0.56 * wavelength
    half = math.ceil(2.5 * sigma)
    axis = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    envelope = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    filters = []
    for k in range(n_orientations):
        angle = math.pi * k / n_orientations
        phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength
        even = envelope * torch.cos(phase)
        even = even - envelope * (even.sum() / envelope.sum())
        odd = envelope * torch.sin(phase)
        filters += [even / even.norm(), odd / odd.norm()]
    return torch.stack(filters).unsqueeze(1).to(torch.float32)


def _energy(maps: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Compute the quadrature energy of one-channel maps, (n, 1, height, width) -> (n, n_orientations, height, width)."""
    half = bank.shape[-1] // 2
    pair = F.conv2d(F.pad(maps, (half, half, half, half), mode="replicate"), bank)
    return torch.sqrt(pair[:, 0::2] ** 2 + pair[:, 1::2] ** 2 + _EPS)


def _opponent(images: torch.Tensor) -> torch.Tensor:
    """Compute luminance and opponent channels; a one-channel image has luminance alone."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(dim=1)
    return torch.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], dim=1)
