"""What is known of a dataset before it is fetched: one TOML file each, shipped with the package."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from neurobridge.datasets.experiment import Kind

_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}


class UnknownDatasetError(ValueError):
    """No dataset has this name; the message gives the nearest ones."""


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file and the field."""


class File(BaseModel):
    """One file of a dataset.

    Attributes
    ----------
    name : str
        File name, in the cache and in a mirror.
    url : str or None
        Public address; None for files that have to be supplied.
    size : int or None
        Bytes.
    digests : tuple of str
        ``algorithm:hex``, md5, sha1 or sha256: what the publisher gives. All that are listed must match.
    origin : str
        Where the file comes from, if it is not what lies at the address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[^/\\]+$")
    url: str | None = Field(default=None, pattern=r"^https?://")
    size: int | None = Field(default=None, gt=0)
    digests: tuple[str, ...] = Field(min_length=1)
    origin: str = ""

    @field_validator("digests")
    @classmethod
    def _known_algorithms(cls, digests: tuple[str, ...]) -> tuple[str, ...]:
        for digest in digests:
            algorithm, _, value = digest.partition(":")
            if len(value) != _LENGTHS.get(algorithm, -1) or not re.fullmatch(r"[0-9a-f]+", value):
                raise ValueError(f"found digest {digest!r}; expected md5:, sha1: or sha256: and its hexadecimal digits")
        return digests


class Manifest(BaseModel):
    """One dataset: what it is, what it is not, whom to cite, and its files.

    Attributes
    ----------
    name, version, title : str
    kind : {"recorded", "simulated", "stimuli", "embeddings"}
    access : {"public", "user-supplied", "embedded"}
        "embedded" data is made by the package itself and has no files.
    licence : str
        Or "none stated".
    citation : str
        BibTeX.
    note : str
        What the data is, and what it is not.
    requires : mapping of dataset to file names
        Files of other datasets without which this one cannot be read.
    files : tuple of File
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    version: str
    title: str
    kind: Kind
    access: Literal["public", "user-supplied", "embedded"]
    licence: str
    citation: str
    note: str
    requires: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    files: tuple[File, ...] = ()

    def file(self, name: str) -> File:
        """Return one file's entry.

        Raises
        ------
        ValueError
            The dataset has no such file.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise ValueError(
            f"{self.name}: found a request for {name!r}; expected one of {[entry.name for entry in self.files]}. "
            f"Mend: neurobridge data show {self.name}."
        )


def read_manifest(path: Path) -> Manifest:
    """Read one manifest.

    Raises
    ------
    ManifestError
        Not TOML, a field is missing or wrong, or the file is not named after the dataset.
    """
    try:
        manifest = Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(
            f"{path}: found text that is not TOML ({error}); expected a manifest. Mend: correct it."
        ) from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r})" for e in error.errors())
        raise ManifestError(f"{path}: {wrong}. Mend: correct the named field(s).") from error
    if path.stem != manifest.name:
        raise ManifestError(
            f"{path}: found name {manifest.name!r}; expected {path.stem!r}, as the file is called. Mend: rename one of them."
        )
    return manifest


def manifest_folder() -> Path:
    """Folder of the manifests: inside the installed package, or beside it in a source tree.

    Raises
    ------
    ManifestError
        Neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "data_manifests", package.parent / "data_manifests"):
        if folder.is_dir():
            return folder
    raise ManifestError(
        f"found no data_manifests in {package} or beside it; expected the folder that is shipped with the package. "
        "Mend: install neurobridge again."
    )


def list_datasets() -> list[Manifest]:
    """Return the manifests of all datasets, by name.

    Raises
    ------
    ManifestError
        One of them cannot be used.
    """
    return [read_manifest(path) for path in sorted(manifest_folder().glob("*.toml"))]


def find_manifest(name: str) -> Manifest:
    """Return the manifest of one dataset.

    Raises
    ------
    UnknownDatasetError
        No dataset has this name; suggests the nearest.
    """
    names = [path.stem for path in sorted(manifest_folder().glob("*.toml"))]
    if name not in names:
        raise unknown_dataset(name, names)
    return read_manifest(manifest_folder() / f"{name}.toml")


def unknown_dataset(name: str, names: list[str]) -> UnknownDatasetError:
    """Make the error for a name that is not among ``names``."""
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else "neurobridge data list."
    return UnknownDatasetError(f"found dataset {name!r}; expected one of {names}. Mend: {hint}")
