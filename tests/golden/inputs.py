"""Simulated inputs of the golden values: the same numbers on every stack."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurobridge.assemblies import average_repetitions, make_assembly

N_STIMULI, N_FEATURES, N_SITES, N_REPETITIONS, N_OBJECTS, SEED = 320, 60, 24, 8, 16, 20150930


def spaces() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Model activations, recordings averaged over repetitions, and the recordings themselves."""
    rng = np.random.default_rng(SEED)
    latents = rng.normal(size=(N_STIMULI, 12))
    features = latents @ rng.normal(size=(12, N_FEATURES)) + rng.normal(size=(N_STIMULI, N_FEATURES))
    signal = latents @ rng.normal(size=(12, N_SITES)) / np.sqrt(12)
    noise = np.linspace(0.5, 4, N_SITES)
    trials = signal + noise * rng.normal(size=(N_REPETITIONS, N_STIMULI, N_SITES))
    ids = np.array([f"image{k:04d}" for k in range(N_STIMULI)])
    objects = np.array([f"object{k % N_OBJECTS:02d}" for k in range(N_STIMULI)])
    source = make_assembly(
        features,
        presentation={"stimulus_id": ids, "object_name": objects},
        neuroid={"neuroid_id": [f"f{k:02d}" for k in range(N_FEATURES)], "layer": ["layer"] * N_FEATURES},
    )
    recordings = make_assembly(
        trials.reshape(-1, N_SITES),
        presentation={
            "stimulus_id": np.tile(ids, N_REPETITIONS),
            "object_name": np.tile(objects, N_REPETITIONS),
            "repetition": np.repeat(np.arange(N_REPETITIONS), N_STIMULI),
        },
        neuroid={
            "neuroid_id": [f"site{k:02d}" for k in range(N_SITES)],
            "animal": ["Chabo", "Tito", "Bento"] * (N_SITES // 3),
            "region": ["IT"] * N_SITES,
        },
    )
    return source, average_repetitions(recordings), recordings
