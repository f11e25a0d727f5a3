"""CLIP ViT-B/32: image embeddings of Flickr8k with captions, and text embeddings of LVIS class names, in one space."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.store.npy import read_npy

FLICKR, CLASSES = "clip-flickr8k", "clip-class-text"


def load_flickr8k(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load embeddings of 1000 images, ``activations`` (presentation 1000, neuroid 512), unit norm; ``stimuli`` has their
    ``caption``.

    Raises
    ------
    AssemblyError
        Embeddings and captions differ in number.
    """
    paths = fetch(FLICKR, mirror=mirror)
    captions = _json(paths["captions.json"])
    ids = [f"flickr8k-{k:04d}" for k in range(len(captions))]
    stimuli = pd.DataFrame({"stimulus_id": ids, "caption": [str(caption) for caption in captions]})
    return _embedded(FLICKR, read_npy(paths["clip_embeddings.npy"]), stimuli)


def load_class_text(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load embeddings of the texts "a {class name}" of 1203 LVIS classes, ``activations`` (presentation 1203, neuroid 512).

    ``stimuli``: ``stimulus_id`` (lvis-0001 is category 1), ``category_name``, ``definition``, ``synonyms`` (joined by "; "),
    ``synset`` and ``frequency`` (r, c or f: rare, common, frequent in LVIS).

    Raises
    ------
    AssemblyError
        Embeddings and classes differ in number, or the ids of the classes are not 1, 2, 3, ...
    """
    paths = fetch(CLASSES, mirror=mirror)
    classes = sorted(_json(paths["lvis_v1_train_cat_info.json"]), key=lambda entry: entry["id"])
    if [entry["id"] for entry in classes] != list(range(1, len(classes) + 1)):
        raise AssemblyError(
            f"{CLASSES}: found category ids that are not 1 to {len(classes)}; expected row = id - 1. Mend: fetch the files again."
        )
    names = [entry["name"] for entry in classes]
    stimuli = pd.DataFrame(
        {
            "stimulus_id": [f"lvis-{entry['id']:04d}" for entry in classes],
            "category_name": names,
            "definition": [entry["def"] for entry in classes],
            "synonyms": ["; ".join(entry["synonyms"]) for entry in classes],
            "synset": [entry["synset"] for entry in classes],
            "frequency": [entry["frequency"] for entry in classes],
        }
    )
    return _embedded(CLASSES, read_npy(paths["lvis_v1_clip_a+cname.npy"]), stimuli)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _embedded(name: str, values: np.ndarray, stimuli: pd.DataFrame) -> Experiment:
    if values.ndim != 2 or len(values) != len(stimuli):
        raise AssemblyError(
            f"{name}: found embeddings of shape {values.shape} for {len(stimuli)} labels; expected a row each. Mend: fetch "
            f"the files "
            "again."
        )
    manifest = find_manifest(name)
    about = describe(manifest)
    activations = make_assembly(
        # netCDF has no half precision; every float16 is a float32.
        values.astype(np.float32),
        presentation={str(column): stimuli[column].to_numpy() for column in stimuli},
        neuroid={
            "neuroid_id": [f"clip-{k:03d}" for k in range(values.shape[1])],
            "layer": ["projection"] * values.shape[1],
        },
        attrs=assembly_attrs(manifest, about, model="CLIP ViT-B/32"),
    )
    return make_experiment(manifest, about, stimuli, activations=activations)
