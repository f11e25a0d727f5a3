"""Log-mel spectrograms: the formula, sum by sum, pure tones, silence, and the same units for sounds of any length."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import AssemblyError, open_assembly, save_assembly
from neurobridge.datasets import load
from neurobridge.features import log_mel, log_mel_spectrogram, mel_filters
from tests.refusals import refused

RATE = 8000


def as_formula(x, n_mels, window, hop, n_fft):
    """The docstring's double sum, term by term."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), n_mels + 2) / 2595) - 1)
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * n / window) for n in range(window)]
    rows = []
    for start in range(0, len(x) - window + 1, hop):
        power = []
        for k in range(n_fft // 2 + 1):
            terms = [hann[n] * x[start + n] * np.exp(-2j * np.pi * k * n / n_fft) for n in range(window)]
            power.append(abs(sum(terms)) ** 2)
        bands = []
        for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False):
            f = np.arange(n_fft // 2 + 1) * RATE / n_fft
            triangle = np.interp(f, [low, mid, high], [0, 1, 0])
            bands.append(np.log(max(triangle @ power, 1e-10)))
        rows.append(bands)
    return np.array(rows)


def test_the_spectrogram_is_the_formula():
    x = np.random.default_rng(0).normal(size=150) / 4
    ours = log_mel_spectrogram(x, RATE, n_mels=6, window_s=50 / RATE, hop_s=20 / RATE)
    assert ours.shape == (1 + (150 - 50) // 20, 6)
    np.testing.assert_allclose(ours, as_formula(x, 6, 50, 20, 64), rtol=1e-5)


@pytest.mark.parametrize("frequency", [300, 1000, 2500])
def test_a_pure_tone_is_loudest_in_its_band(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    band = int(log_mel_spectrogram(tone, RATE).mean(axis=0).argmax())
    filters = mel_filters(RATE, 256)
    nearest = round(frequency / RATE * 256)
    assert filters[band, nearest] == filters[:, nearest].max()


def test_integers_are_shares_of_their_range_and_silence_is_the_floor():
    x = np.random.default_rng(0).integers(-3000, 3000, 900).astype(np.int16)
    np.testing.assert_allclose(log_mel_spectrogram(x, RATE), log_mel_spectrogram(x / 32768, RATE), rtol=1e-6)
    np.testing.assert_allclose(log_mel_spectrogram(np.zeros(900), RATE), np.log(1e-10), rtol=1e-6)
    # Twice as loud: the logarithm of four is added.
    np.testing.assert_allclose(
        log_mel_spectrogram(2.0 * x, RATE), log_mel_spectrogram(x / 1.0, RATE) + np.log(4), rtol=1e-5
    )


def test_filters_are_triangles_of_height_one_that_share_their_edges():
    filters = mel_filters(RATE, 2**14, n_mels=12)
    assert filters.max(axis=1) == pytest.approx(np.ones(12), abs=0.02)
    inside = slice(filters[0].argmax() + 1, filters[-1].argmax())
    np.testing.assert_allclose(filters[:, inside].sum(axis=0), 1, atol=1e-9)


def sounds(lengths, seed=0):
    values = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths))) / 10
    labels = {"stimulus_id": [f"s{k}" for k in range(len(lengths))], "n_samples": lengths}
    coords = {name: ("presentation", column) for name, column in labels.items()}
    return xr.DataArray(values, dims=("presentation", "sample"), coords=coords, attrs={"sampling_rate_hz": RATE})


def test_parts_average_frames_in_equal_shares_of_the_duration():
    given_sounds = sounds([200 + 80 * 9, 200 + 80 * 3])
    spectrograms = [
        log_mel_spectrogram(given_sounds.values[k, :length], RATE, n_mels=5) for k, length in enumerate([920, 440])
    ]
    values = log_mel(given_sounds, n_mels=5, n_parts=5).values.reshape(2, 5, 5)
    # Ten frames in five parts: two each.
    np.testing.assert_allclose(values[0], spectrograms[0].reshape(5, 2, 5).mean(axis=1).T, rtol=1e-5)
    # Four frames in five parts: 4/5 of a frame each.
    np.testing.assert_allclose(values[1][:, 0], spectrograms[1][0], rtol=1e-5)
    np.testing.assert_allclose(values[1][:, 1], (spectrograms[1][0] + 3 * spectrograms[1][1]) / 4, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 3000), n_parts=st.integers(1, 40))
def test_the_mean_over_parts_is_that_over_frames(length, n_parts):
    given_sounds = sounds([length])
    values = log_mel(given_sounds, n_mels=8, n_parts=n_parts).values.reshape(8, n_parts)
    spectrogram = log_mel_spectrogram(given_sounds.values[0], RATE, n_mels=8)
    np.testing.assert_allclose(values.mean(axis=1), spectrogram.mean(axis=0), rtol=1e-4)


def test_the_assembly_says_what_it_is(tmp_path):
    given_sounds = sounds([900, 400])
    made = log_mel(given_sounds, n_parts=3)
    assert made.shape == (2, 120)
    stated = {
        "n_mels": 40,
        "window_s": 0.025,
        "hop_s": 0.01,
        "f_min": 0.0,
        "f_max": 4000.0,
        "floor": 1e-10,
        "n_parts": 3,
    }
    assert json.loads(made.attrs["log_mel"]) == stated
    assert made["neuroid_id"].values[[0, 4]].tolist() == ["log_mel.0.0", "log_mel.1.1"]
    assert (np.diff(made["frequency_hz"].values[::3]) > 0).all()
    assert np.array_equal(open_assembly(save_assembly(made, tmp_path / "mel.nc")).values, made.values)
    # What lies after the end of a sound has no part in it.
    given_sounds.values[1, 400:] = 5
    assert np.array_equal(log_mel(given_sounds, n_parts=3).values, made.values)
    assert np.array_equal(log_mel(given_sounds.chunk(presentation=1), n_parts=3).values, made.values)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"n_mels": 0}, ["n_mels=0"]),
        ({"f_max": 5000.0}, [5000.0, 4000.0]),
        ({"f_min": 3000.0, "f_max": 2000.0}, [3000.0, 2000.0]),
        ({"n_mels": 200}, ["200 bands", "256 samples", "n_mels=100"]),
        ({"hop_s": 0.0}, ["hop of 0"]),
        ({"n_parts": 0}, ["found 0"]),
    ],
)
def test_settings_out_of_range_are_refused(arguments, facts):
    with refused(ValueError, *facts):
        log_mel(sounds([900]), **arguments)


def test_sounds_that_are_none_are_refused():
    with refused(AssemblyError, ["n_samples"], "sampling_rate_hz"):
        log_mel(sounds([900]).drop_vars("n_samples"))
    with refused(AssemblyError, "sampling_rate_hz None"):
        log_mel(sounds([900]).assign_attrs(sampling_rate_hz=None))
    with refused(ValueError, "NaN"):
        log_mel_spectrogram(np.array([0.1, np.nan]), RATE)
    with refused(ValueError, (0,)):
        log_mel_spectrogram(np.array([]), RATE)


@pytest.mark.realdata
def test_spoken_digits_are_told_apart_by_their_spectrograms(mirror):
    test, train = (
        log_mel(load("fsdd", part=part, mirror=mirror).sounds[::n]) for part, n in (("test", 2), ("train", 5))
    )
    means = train.values.mean(axis=0), train.values.std(axis=0)
    shown, known = ((each.values - means[0]) / means[1] for each in (test, train))
    nearest = (shown**2).sum(axis=1)[:, None] - 2 * shown @ known.T + (known**2).sum(axis=1)
    labels = train["digit"].values[nearest.argmin(axis=1)]
    # Chance is .1; n = 150 test and 540 training recordings of the same six speakers.
    assert (labels == test["digit"].values).mean() > 0.8
