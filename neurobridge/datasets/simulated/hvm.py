"""A simulated experiment after the design of HvM (Majaj & Hong 2015): rendered objects, V4 and IT sites, trials."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.loaders.hvm import pose_latents
from neurobridge.datasets.simulated.hierarchy import N_SITES, responses
from neurobridge.datasets.simulated.stimuli import RANGES, draw_stimuli, render_stimuli
from neurobridge.points.options import require_count, require_options

NAME = "simulated-hvm"
PUBLIC_DESIGN: Mapping[int, int] = {0: 10, 3: 40}
MEDIAN_CEILINGS = {"V4": 0.90, "IT": 0.82}
# Spread over sites of the logarithm of the noise variance.
_NOISE_SPREAD = 0.5


def simulate_hvm(
    images_per_object: Mapping[int, int] | None = None,
    *,
    n_repetitions: int = 46,
    image_size: int = 128,
    seed: int = 0,
    lazy: bool = False,
    progress: bool = False,
) -> Experiment:
    """Simulate the HvM experiment: images are rendered, sites respond to their pixels, trials are noisy.

    No animal was recorded. 64 objects of 8 categories are moved, scaled and rotated over 1/f backgrounds. 88 V4 and 168 IT sites of
    two simulated animals respond through a hierarchy that is the same for every seed
    (`neurobridge.datasets.simulated.hierarchy`). Noise is Gaussian and independent between trials; its variance is set from the
    signal variance over these stimuli such that the reliability of the average over all repetitions,
    ``1 / (1 + noise / (n_repetitions * signal))``, has the medians .90 (V4) and .82 (IT), near those published for the recordings.

    Parameters
    ----------
    images_per_object : mapping of int to int, optional
        Variation level (0, 3 or 6) to number of images of each object. Default: the public design ``{0: 10, 3: 40}``.
    n_repetitions : int
        Trials of each image, at least 1.
    image_size : int
        Pixels a side, at least 32.
    seed : int
        Of poses, backgrounds and noise. The same arguments give the same bytes.
    lazy : bool
        Make the recordings a dask array of one chunk a repetition, drawn when read: `save_assembly` then writes the file chunk
        by chunk. The values are the same.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Experiment
        ``recordings`` (presentation, neuroid 256, time_bin 1), float32, one row a trial, with the coordinates of the public
        recordings; ``images`` (presentation, row, column), uint8; ``latents``; ``stimuli``.

    Raises
    ------
    ValueError
        An unknown variation level, or a count or size out of range.

    Examples
    --------
    >>> import neurobridge as nb
    >>> experiment = nb.simulate_hvm({3: 1}, n_repetitions=2, image_size=32)
    >>> experiment
    Experiment('simulated-hvm', simulated, stimuli=64, recordings=(128, 256, 1), images=(64, 32, 32), latents=(64, 73))
    >>> sorted(set(experiment.recordings["region"].values.tolist()))
    ['IT', 'V4']
    """
    require_options(lazy=lazy, progress=progress)
    design = _checked(PUBLIC_DESIGN if images_per_object is None else images_per_object, n_repetitions, image_size)
    require_count(seed, name="seed", at_least=0)
    poses, scenes = (np.random.default_rng([seed, stream]) for stream in range(2))
    stimuli = draw_stimuli(design, poses)
    pixels = render_stimuli(stimuli, image_size, scenes, progress=progress)
    stimuli = stimuli.assign(
        stimulus_id=_ids(pixels), size=image_size, background_id=[f"bg-{seed}-{k:05d}" for k in range(len(pixels))]
    )
    manifest = find_manifest(NAME)
    attrs = {
        "identifier": NAME,
        "kind": "simulated",
        "citation": manifest.citation,
        "simulation": f"neurobridge {__version__} simulate_hvm, seed {seed}",
        "digests": {"images": "sha256:" + hashlib.sha256(pixels.tobytes()).hexdigest()},
    }
    stimuli.attrs["citation"] = manifest.citation
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column"),
        coords={str(name): ("presentation", _column(stimuli, str(name))) for name in stimuli},
        attrs=attrs,
    )
    return Experiment(
        NAME,
        "simulated",
        stimuli,
        recordings=_record(responses(pixels, progress=progress), stimuli, n_repetitions, attrs, seed=seed, lazy=lazy),
        images=images,
        latents=pose_latents(stimuli, attrs=attrs),
        attrs={
            "citation": manifest.citation,
            "licence": manifest.licence,
            "note": manifest.statement,
            "digests": attrs["digests"],
        },
    )


def _checked(given: Any, n_repetitions: int, image_size: int) -> dict[int, int]:
    if not isinstance(given, Mapping) or not given or set(given) - set(RANGES):
        raise ValueError(
            f"images_per_object: found {given!r:.60}; expected a number of images for some of the variation levels "
            f"{sorted(RANGES)}. Mend: e.g. {{0: 10, 3: 40}}."
        )
    design = {level: require_count(n, name=f"images_per_object[{level}]") for level, n in given.items()}
    require_count(n_repetitions, name="n_repetitions")
    require_count(image_size, name="image_size")
    if image_size < 32:
        raise ValueError(f"image_size: found {image_size}; expected at least 32 pixels. Mend: image_size=64.")
    return design


def _ids(pixels: np.ndarray) -> np.ndarray:
    """Name images by what is in them, as HvM's ids are digests; the running number keeps equal pictures apart."""
    return np.array(
        [hashlib.sha1(image.tobytes() + k.to_bytes(4, "big")).hexdigest() for k, image in enumerate(pixels)]
    )


def _column(stimuli: pd.DataFrame, name: str) -> np.ndarray:
    column = stimuli[name].to_numpy()
    return column if column.dtype.kind in "iuf" else column.astype(str)


def _record(
    signal: np.ndarray,
    stimuli: pd.DataFrame,
    n_repetitions: int,
    attrs: Mapping[str, object],
    *,
    seed: int,
    lazy: bool,
) -> xr.DataArray:
    regions = np.repeat(list(N_SITES), list(N_SITES.values()))
    ratio = np.empty(len(regions))
    for region, n_sites in N_SITES.items():
        # The same quantiles for every seed: the median over sites does not depend on a draw.
        spread = np.exp(_NOISE_SPREAD * np.linspace(-1.5, 1.5, n_sites))
        ceiling = MEDIAN_CEILINGS[region]
        ratio[regions == region] = n_repetitions * (1 / ceiling - 1) * np.random.default_rng(7).permutation(spread)
    scale = (np.sqrt(ratio) * signal.std(axis=0)).astype(np.float32)
    n_images, n_sites = signal.shape

    def trials(repetition: int) -> np.ndarray:
        # Each repetition has its own stream, so that any of them can be drawn alone.
        noise = np.random.default_rng([seed, 2, repetition]).standard_normal(signal.shape, dtype=np.float32)
        return (signal + scale * noise)[:, :, None]

    values: Any
    if lazy:
        parts = [
            dask.array.from_delayed(dask.delayed(trials)(k), shape=(n_images, n_sites, 1), dtype=np.float32)
            for k in range(n_repetitions)
        ]
        values = dask.array.concatenate(parts)
    else:
        values = np.empty((n_repetitions, n_images, n_sites, 1), dtype=np.float32)
        for repetition in range(n_repetitions):
            values[repetition] = trials(repetition)
        values = values.reshape(-1, n_sites, 1)
    presentation = {str(name): np.tile(_column(stimuli, str(name)), n_repetitions) for name in stimuli}
    presentation["image_id"] = presentation["stimulus_id"]
    presentation["repetition"] = np.repeat(np.arange(n_repetitions), n_images)
    return make_assembly(
        values,
        presentation=presentation,
        neuroid=_sites(regions),
        time_bin={"time_bin_start": [70], "time_bin_end": [170]},
        attrs={**attrs, "n_repetitions": n_repetitions, "units": "simulated, in standard deviations over other images"},
    )


def _sites(regions: np.ndarray) -> dict[str, np.ndarray]:
    """Make the coordinates of the sites, named as those of the public recordings; array positions are made up."""
    n = len(regions)
    number = np.arange(n)
    within = np.concatenate([np.arange((regions == region).sum()) for region in N_SITES])
    animal = np.where(number % 2 == 0, "simulated-1", "simulated-2")
    array = np.where(regions == "V4", "V4", np.where(within % 3 == 0, "P", "M"))
    row, col = within // 10 % 10, within % 10
    return {
        "neuroid_id": np.array([f"{a}_{r}_{k:03d}" for a, r, k in zip(animal, regions, within, strict=True)]),
        "region": regions.astype(str),
        "animal": animal,
        "arr": array,
        "subregion": np.where(regions == "V4", "V4", np.where(within % 3 == 0, "pIT", "cIT")),
        "hemisphere": np.full(n, "L"),
        "row": row,
        "col": col,
        "x": 0.4 * col,
        "y": 0.4 * row,
    }
