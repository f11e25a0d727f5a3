"""Log-mel spectrograms: a plain, fixed representation of sounds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import scipy.fft
import scipy.signal
import xarray as xr

from neurobridge.assemblies import AssemblyError, coords_of, make_assembly
from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array
from neurobridge.points.options import require_count

#: Energy below which the logarithm is not taken further, for samples in [-1, 1].
FLOOR = 1e-10
_BLOCK = 256


def log_mel_spectrogram(
    samples: np.ndarray,
    rate: float,
    *,
    n_mels: int = 40,
    window_s: float = 0.025,
    hop_s: float = 0.010,
    f_min: float = 0.0,
    f_max: float | None = None,
) -> np.ndarray:
    r"""Compute the logarithm of the energy in mel bands, frame by frame.

    .. math:: S_{tm} = \ln \max(\sum_k F_{mk} |\sum_n w_n x_{tH + n} e^{-2 \pi i k n / N}|^2, 10^{-10})

    Frame t starts at sample t H (no padding at the ends), w is the periodic Hann window of L samples,
    N the next power of two from L on. F are the triangles of `mel_filters`.

    Parameters
    ----------
    samples : array of shape (n_samples,)
        Integers are divided by the largest value of their type; floating numbers are taken as they are.
        A sound shorter than a window is followed by zeros.
    rate : float
        Samples a second.
    n_mels : int
        Bands.
    window_s, hop_s : float
        Length L of a frame and distance H of frames in seconds, rounded to samples.
    f_min, f_max : float
        Lowest and highest frequency in Hz; by default 0 and half of `rate`.

    Returns
    -------
    float32 array of shape (n_frames, n_mels)
        With n_frames = 1 + floor((n_samples - L) / H), at least 1.

    Raises
    ------
    ValueError
        No samples, not finite ones, or settings out of range.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)  # 1 kHz, a second
    >>> spectrogram = log_mel_spectrogram(tone, 8000)
    >>> spectrogram.shape, int(spectrogram.mean(axis=0).argmax())
    ((98, 40), 18)
    """
    samples = real_array(samples, name="samples")
    rate = _positive(rate, "rate")
    window, hop = round(window_s * rate), round(hop_s * rate)
    if samples.ndim != 1 or not samples.size or window < 2 or hop < 1:
        raise ValueError(
            f"samples: found shape {samples.shape}, a window of {window} and a hop of {hop} samples; expected one axis, at "
            "least one sample, a window of 2 and a hop of 1. Mend: window_s=0.025, hop_s=0.01 at the rate in Hz."
        )
    scale = np.iinfo(samples.dtype).max + 1 if np.issubdtype(samples.dtype, np.integer) else 1
    signal = samples.astype(np.float64) / scale
    if not np.isfinite(signal).all():
        raise ValueError("samples: found NaN or infinite ones; expected finite numbers. Mend: leave the sound out.")
    n_fft = 1 << (window - 1).bit_length()
    filters = mel_filters(rate, n_fft, n_mels=n_mels, f_min=f_min, f_max=f_max)
    signal = np.pad(signal, (0, max(0, window - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]
    spectrum = scipy.fft.rfft(frames * scipy.signal.get_window("hann", window), n_fft)
    energy = (spectrum.real**2 + spectrum.imag**2) @ filters.T
    return np.log(np.maximum(energy, FLOOR)).astype(np.float32)


def mel_filters(
    rate: float, n_fft: int, *, n_mels: int = 40, f_min: float = 0.0, f_max: float | None = None
) -> np.ndarray:
    r"""Return triangular filters of height 1, equally spaced on the mel scale of O'Shaughnessy (1987).

    .. math:: m(f) = 2595 \log_{10}(1 + f / 700)

    Parameters
    ----------
    rate : float
        Samples a second.
    n_fft : int
        Length of the Fourier transform.
    n_mels, f_min, f_max
        As of `log_mel_spectrogram`.

    Returns
    -------
    array of shape (n_mels, n_fft // 2 + 1)
        Filter m rises from edge m to edge m + 1 and falls to edge m + 2, of n_mels + 2 edges.

    Raises
    ------
    ValueError
        Frequencies out of order or above half of the rate, or a filter between two frequencies of the
        transform, which would be zero.

    Examples
    --------
    >>> mel_filters(8000, 256).shape
    (40, 129)
    """
    rate, n_fft = _positive(rate, "rate"), require_count(n_fft, name="n_fft")
    n_mels = require_count(n_mels, name="n_mels")
    f_max = rate / 2 if f_max is None else f_max
    if not (n_mels >= 1 and 0 <= f_min < f_max <= rate / 2):
        raise ValueError(
            f"mel: found {n_mels} bands from {f_min} to {f_max} Hz at {rate} samples a second; expected one or more, "
            f"0 <= f_min < f_max <= {rate / 2}. Mend: leave f_min and f_max out."
        )
    edges = _mel_edges(n_mels, f_min, f_max)[:, None]
    frequencies = np.arange(n_fft // 2 + 1) * rate / n_fft
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(~filters.any(axis=1))
    if empty.size:
        raise ValueError(
            f"mel: found {empty.size} of {n_mels} bands without a frequency of the transform of {n_fft} samples, the first "
            f"{int(empty[0])}; expected one in each. Mend: n_mels={max(1, n_mels // 2)}, or a longer window_s."
        )
    return filters


def log_mel(sounds: xr.DataArray, *, n_parts: int = 16, **settings: Any) -> xr.DataArray:
    r"""Represent each sound by its log-mel spectrogram, averaged in equal parts of its own duration.

    .. math:: z_{pm} = \sum_t W_{pt} S_{tm}, \quad
        W_{pt} = P \, |[p/P, (p+1)/P) \cap [t/T, (t+1)/T)|

    for the T frames of a sound and P = `n_parts`: sounds of any length have the same units, and a word
    spoken slowly those of the same word spoken fast.

    Parameters
    ----------
    sounds : xarray.DataArray
        Dims ``(presentation, sample)``, with the coordinates ``stimulus_id`` and ``n_samples`` and the
        attribute ``sampling_rate_hz``, as ``load("fsdd").sounds``; read in blocks of 256 sounds.
    n_parts : int
        Parts of the duration.
    **settings
        ``n_mels``, ``window_s``, ``hop_s``, ``f_min`` and ``f_max`` of `log_mel_spectrogram`.

    Returns
    -------
    xarray.DataArray
        Assembly, dims ``(presentation, neuroid)``, with the presentation coordinates of `sounds` and the
        neuroid coordinates ``neuroid_id`` (``log_mel.channel.part``), ``layer``, ``channel`` (band),
        ``part`` and ``frequency_hz`` (centre of the band). Attributes: those of `sounds`, ``model`` and
        ``log_mel``, the settings as JSON.

    Raises
    ------
    AssemblyError
        The sounds lack dims, coordinates or the sampling rate.
    ValueError
        A setting is out of range.

    Examples
    --------
    >>> import neurobridge as nb
    >>> samples = np.random.default_rng(0).normal(size=(3, 4000)) / 10
    >>> labels = {"stimulus_id": ("presentation", ["a", "b", "c"]), "n_samples": ("presentation", [4000, 3000, 900])}
    >>> attrs = {"sampling_rate_hz": 8000}
    >>> noise = xr.DataArray(samples, dims=("presentation", "sample"), coords=labels, attrs=attrs)
    >>> nb.features.log_mel(noise, n_parts=4).shape
    (3, 160)
    """
    lacking = [name for name in ("stimulus_id", "n_samples") if name not in sounds.coords]
    rate = sounds.attrs.get("sampling_rate_hz")
    if tuple(sounds.dims) != ("presentation", "sample") or lacking or rate is None:
        raise AssemblyError(
            f"sounds: found dims {tuple(map(str, sounds.dims))}, no {lacking}, sampling_rate_hz {rate}; expected (presentation, "
            "sample), with stimulus_id and n_samples, and attrs['sampling_rate_hz']. Mend: pass load('fsdd').sounds, or "
            "sounds.assign_coords(...).assign_attrs(sampling_rate_hz=...)."
        )
    if n_parts < 1:
        raise ValueError(f"n_parts: found {n_parts}; expected at least 1. Mend: n_parts=16.")
    lengths = sounds["n_samples"].values
    values: list[np.ndarray] = []
    for rows in row_blocks(len(lengths), 1, budget=_BLOCK):
        block = sounds.isel(presentation=rows).values
        for samples, length in zip(block, lengths[rows], strict=True):
            spectrogram = log_mel_spectrogram(samples[: int(length)], rate, **settings)
            values.append((_parts(n_parts, len(spectrogram)) @ spectrogram).T.ravel())
    stated = dict(log_mel_spectrogram.__kwdefaults__ or {}) | settings
    stated |= {"f_max": stated["f_max"] or rate / 2, "floor": FLOOR, "n_parts": n_parts}
    channel, part = (grid.ravel() for grid in np.indices((stated["n_mels"], n_parts)))
    centres = _mel_edges(stated["n_mels"], stated["f_min"], stated["f_max"])[1:-1]
    return make_assembly(
        np.array(values, dtype=np.float32),
        presentation={name: column for name, (_, column) in coords_of(sounds, "presentation").items()},
        neuroid={
            "neuroid_id": [f"log_mel.{m}.{p}" for m, p in zip(channel, part, strict=True)],
            "layer": np.full(len(channel), "log_mel"),
            "channel": channel,
            "part": part,
            "frequency_hz": centres[channel],
        },
        attrs={**sounds.attrs, "model": "log-mel spectrogram", "log_mel": json.dumps(stated, sort_keys=True)},
    )


def _positive(value: float, name: str) -> float:
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not 0 < value < np.inf:
        raise ValueError(f"{name}: found {value!r}; expected a positive finite number in Hz. Mend: {name}=8000.")
    return float(value)


def _mel_edges(n_mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Return n_mels + 2 frequencies in Hz, equally spaced on the mel scale."""
    lowest, highest = 2595 * np.log10(1 + np.array([f_min, f_max]) / 700)
    return 700 * (10 ** (np.linspace(lowest, highest, n_mels + 2) / 2595) - 1)


def _parts(n_parts: int, n_frames: int) -> np.ndarray:
    """Return the weight of each frame in each part of the duration, shape (n_parts, n_frames); rows sum to 1."""
    starts, ends = (np.arange(n_parts)[:, None] + shift for shift in (0, 1))
    first, last = (np.arange(n_frames) + shift for shift in (0, 1))
    # In units of 1 / (n_parts n_frames), in which all edges are whole numbers.
    overlap = np.minimum(ends * n_frames, last * n_parts) - np.maximum(starts * n_frames, first * n_parts)
    return np.maximum(overlap, 0) / n_frames
