"""ImageNet as the user has it: a folder of images, or of feature files; read a chunk at a time."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import dask.array
import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from neurobridge.assemblies import make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import lazy_rows
from neurobridge.datasets.files.feature_files import FeatureFileError, find_feature_files, open_features
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment

NAME = "imagenet"
_SUFFIXES = (".jpeg", ".jpg", ".png")
# Tables of class names that are found in copies of ImageNet.
_CLASS_TABLES = ("LOC_synset_mapping.txt", "imagenet_class_index.json", "words.txt")


def load(
    *,
    folder: str | os.PathLike[str] | None = None,
    mirror: str | os.PathLike[str] | None = None,
    read: Literal["images", "features"] | None = None,
    class_names: str | os.PathLike[str] | None = None,
    resize: int = 256,
    size: int = 224,
    chunk: int = 64,
) -> Experiment:
    """Read a folder of ImageNet images, or of features of them, lazily: a chunk is in memory at a time, never all.

    Images lie at ``<folder>/<class>/<image>``, the class a WordNet id such as n01440764. Features are described in
    `neurobridge.datasets.files.feature_files`.

    Parameters
    ----------
    folder : path
        Default: ``<mirror>/imagenet``, the mirror being NEUROBRIDGE_MIRROR if none is given.
    mirror : path, optional
        Used where no folder is given.
    read : {"images", "features"}, optional
        What to read; needed only in a folder that has both.
    class_names : path, optional
        Table of class names: ``n01440764 tench, Tinca tinca`` a line, or JSON, ``{"0": ["n01440764", "tench"]}``. Default: a
        file in the folder that is called as in the usual copies; without one, the WordNet id is the name.
    resize : int
        Pixels of the shorter side, bilinear.
    size : int
        Pixels of the square that is cut from the centre, at most ``resize``.
    chunk : int
        Images, or rows of features, a chunk (for features at least 1024).

    Returns
    -------
    Experiment
        ``stimuli`` (``stimulus_id``, ``wnid``, ``category_name``, ``file``), and ``images`` (presentation, row, column,
        channel 3), uint8, or ``activations`` (presentation, neuroid): both dask-backed.

    Raises
    ------
    FileNotFoundError
        There is no folder, or nothing to read in it.
    ValueError
        The folder has both images and features and ``read`` does not say which; sizes out of range; an id twice.
    FeatureFileError
        A feature file is not as described.
    """
    place = _folder(folder, mirror)
    check_sizes(NAME, resize, size, chunk)
    names = _class_names(place, class_names)
    features = find_feature_files(place) if read != "images" else []
    images = _list_images(place) if read != "features" else []
    if bool(features) == bool(images):
        contents = "both images and feature files" if features else f"no {read or 'images or feature files'}"
        mend = (
            "read='images' or read='features'"
            if features
            else "check the folder: <folder>/<class>/<image>, or feature files"
        )
        error = ValueError if features else FileNotFoundError
        raise error(f"{place}: found {contents}; expected one of them. Mend: {mend}.")
    manifest = find_manifest(NAME)
    about = {**describe(manifest), "folder": str(place)}
    if features:
        return _load_features(features, names, about, max(chunk, 1024))
    ids = [Path(file).stem for file in images]
    stimuli = _table(ids, [Path(file).parts[0] for file in images], names).assign(file=images)
    pixels = lazy_rows(
        lambda rows: np.stack([_pixels(place / images[k], resize, size) for k in rows]),
        len(images),
        (size, size, 3),
        chunk,
    )
    array = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={name: ("presentation", _text(stimuli[name])) for name in ("stimulus_id", "wnid", "category_name")},
        attrs=assembly_attrs(manifest, about),
    )
    return make_experiment(manifest, about, stimuli, images=array)


def _folder(folder: str | os.PathLike[str] | None, mirror: str | os.PathLike[str] | None) -> Path:
    given = mirror if mirror is not None else os.environ.get("NEUROBRIDGE_MIRROR")
    if folder is None and not given:
        raise FileNotFoundError(
            "imagenet: found no folder; expected yours, since ImageNet may not be redistributed. Mend: load('imagenet', "
            "folder=...), or put "
            "it at <mirror>/imagenet."
        )
    place = Path(folder if folder is not None else Path(given or "") / NAME).expanduser()
    if not place.is_dir():
        raise FileNotFoundError(
            f"imagenet: found no folder at {place}; expected one. Mend: load('imagenet', folder=...)."
        )
    return place


def _list_images(place: Path) -> list[str]:
    """Return the paths of the images below the folder, ``<class>/<image>``, sorted."""
    images = []
    with os.scandir(place) as classes:
        folders = sorted(entry.name for entry in classes if entry.is_dir() and not entry.name.endswith(".zarr"))
    for name in folders:
        with os.scandir(place / name) as entries:
            images += sorted(f"{name}/{e.name}" for e in entries if e.name.lower().endswith(_SUFFIXES) and e.is_file())
    return images


def _pixels(path: Path, resize: int, size: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return central_square(image, resize, size)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: found a file that cannot be decoded ({type(error).__name__}: {error}); expected an image. "
            "Mend: replace or remove it."
        ) from error


def central_square(image: Image.Image, resize: int, size: int) -> np.ndarray:
    """Return the central square of an image whose shorter side was brought to ``resize`` pixels (bilinear).

    Parameters
    ----------
    image : PIL.Image.Image
    resize, size : int
        Pixels of the shorter side, and of the square.

    Returns
    -------
    uint8 array of shape (size, size, 3)
    """
    width, height = image.size
    scale = resize / min(width, height)
    shape = (max(resize, round(width * scale)), max(resize, round(height * scale)))
    scaled = image.convert("RGB").resize(shape, Image.Resampling.BILINEAR)
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def check_sizes(name: str, resize: int, size: int, chunk: int) -> None:
    """Refuse a square that is larger than the resized image, and chunks without an image.

    Raises
    ------
    ValueError
        ``size`` is not between 1 and ``resize``, or ``chunk`` is below 1.
    """
    if not 1 <= size <= resize or chunk < 1:
        raise ValueError(
            f"{name}: found resize={resize}, size={size}, chunk={chunk}; expected 1 <= size <= resize and chunk >= 1. "
            "Mend: resize=256, size=224."
        )


def _class_names(place: Path, given: str | os.PathLike[str] | None) -> dict[str, str]:
    path = Path(given) if given is not None else next((place / f for f in _CLASS_TABLES if (place / f).exists()), None)
    return {} if path is None else read_class_names(path)


def read_class_names(path: Path) -> dict[str, str]:
    """Read a table of class names: WordNet id -> name.

    Raises
    ------
    ValueError
        Neither lines of id and name, nor JSON of them.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            table = json.loads(text)
            pairs = list(table.values()) if all(isinstance(v, list) for v in table.values()) else list(table.items())
        else:
            pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
        return {str(wnid): str(name).strip() for wnid, name in pairs}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: found a table that cannot be read ({error}); expected a WordNet id and a name a line, or JSON of them. "
            f"Mend: use "
            "LOC_synset_mapping.txt or imagenet_class_index.json."
        ) from error


def _table(ids: list[str] | np.ndarray, wnids: list[str] | np.ndarray, names: Mapping[str, str]) -> pd.DataFrame:
    stimuli = pd.DataFrame({"stimulus_id": ids, "wnid": wnids})
    twice = stimuli["stimulus_id"].duplicated()
    if twice.any():
        raise ValueError(
            f"imagenet: found {int(twice.sum())} stimulus ids twice, e.g. {str(stimuli['stimulus_id'][twice].iloc[0])!r}; "
            f"expected each "
            "once. Mend: give the files different names."
        )
    return stimuli.assign(category_name=[names.get(wnid, wnid) for wnid in stimuli["wnid"]])


def _text(column: pd.Series) -> np.ndarray:
    return column.to_numpy().astype(str)


def _load_features(files: list[Path], names: Mapping[str, str], about: Mapping[str, object], rows: int) -> Experiment:
    parts = [open_features(path, rows) for path in files]
    widths = sorted({part.values.shape[1] for part in parts})
    if len(widths) > 1:
        raise FeatureFileError(
            f"{files[0].parent}: found features of {widths} dimensions; expected one number. Mend: one model and layer a folder."
        )
    manifest = find_manifest(NAME)
    ids, wnids = (np.concatenate(column) for column in zip(*((p.stimulus_id, p.wnid) for p in parts), strict=True))
    source = np.repeat([path.name for path in files], [len(part.stimulus_id) for part in parts])
    stimuli = _table(ids, wnids, names).assign(file=source)
    activations = make_assembly(
        dask.array.concatenate([part.values for part in parts]),
        presentation={name: _text(stimuli[name]) for name in ("stimulus_id", "wnid", "category_name")},
        neuroid={"neuroid_id": np.arange(widths[0]), "layer": np.full(widths[0], "features")},
        attrs=assembly_attrs(manifest, about),
    )
    return make_experiment(manifest, about, stimuli, activations=activations)
