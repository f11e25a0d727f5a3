"""Manifests: what is known of a dataset before it is fetched. Each is a TOML file, shipped with the package or the user's own."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from neurobridge.datasets.experiment import Kind
from neurobridge.datasets.files.manifest_lines import Location, ManifestError, line_of, lines_of
from neurobridge.datasets.files.members import GIT_BLOB
from neurobridge.points.display import html_repr, short_repr

_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, GIT_BLOB: 40}


class UnknownDatasetError(ValueError):
    """No dataset has this name; the message gives the nearest ones."""


def _known_algorithm(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if len(value) != _LENGTHS.get(algorithm, -1) or not re.fullmatch(r"[0-9a-f]+", value):
        raise ValueError(f"found digest {digest!r}; expected one of {[*_LENGTHS]}, a colon and its hexadecimal digits")
    return digest


Digest = Annotated[str, AfterValidator(_known_algorithm)]


class File(BaseModel):
    """A file of a dataset.

    Attributes
    ----------
    name : str
        File name, in the cache and in a mirror.
    url : str or None
        Public address; None for files that have to be supplied.
    size : int or None
        Bytes. Left out where it is not known, or where the accepted versions differ in it.
    digests : tuple of str
        Accepted versions, each ``algorithm:hex`` with md5, sha1, sha256 or git-blob-sha1: what the publisher gives. A file is
        accepted when it matches ONE of them.
    members : pathlib.Path or None
        Of an archive of a git tree: a table beside the manifest with the path, size and git blob digest of every file. Any
        archive with these files is accepted, and any folder with them is packed into one.
    origin : str
        Where the file comes from, if it is not what lies at the address.
    post_processing : str
        What was done to the file at its origin to get this one, e.g. another format.

    Examples
    --------
    >>> File(name="rates.csv", origin="my rig", digests=["md5:" + "0" * 32])
    File('rates.csv', 1 digest, url=None)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[^/\\]+$")
    url: str | None = Field(default=None, pattern=r"^https?://")
    size: int | None = Field(default=None, gt=0)
    digests: tuple[Digest, ...] = Field(min_length=1)
    members: Path | None = None
    origin: str = ""
    post_processing: str = ""

    def __repr__(self) -> str:
        digests = f"{len(self.digests)} digest{'s' * (len(self.digests) != 1)}"
        size = [] if self.size is None else [f"{self.size} bytes"]
        return short_repr("File", repr(self.name), *size, digests, url=self.url)

    __str__ = __repr__

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        # Names with a leading dot are those of partial, damaged and lock files.
        if name.startswith("."):
            raise ValueError(f"found {name!r}; expected a name without a leading dot")
        return name

    @field_validator("members")
    @classmethod
    def _beside_the_manifest(cls, members: Path | None, info: ValidationInfo) -> Path | None:
        if members is None or info.context is None:
            return members
        path = Path(info.context["folder"], members)
        if not path.is_file():
            raise ValueError(f"found no file at {path}; expected a table of members beside the manifest")
        return path


class Manifest(BaseModel):
    """A dataset: what it is, what it is not, whom to cite, and its files.

    Attributes
    ----------
    name : str
        As in `load`, and of the manifest's file.
    version : str
    title : str
    kind : {"recorded", "simulated", "stimuli", "embeddings"}
    access : {"public", "user-supplied", "embedded"}
        "user-supplied" data has to be brought by the user, who has the right to it; "embedded" data is made by the package itself.
        Neither needs files here.
    licence : str
        Or "none stated".
    citation : str
        BibTeX.
    note : str
        What the data is.
    is_not : tuple of str
        What the data is not: one sentence for each mistake that is easily made with it.
    post_processing : str
        What was done between the recording and what the loader returns.
    requires : mapping of dataset to file names
        Files of other datasets without which this one cannot be read.
    files : tuple of File

    Examples
    --------
    >>> find_manifest("mnist")
    Manifest('mnist', version '1', stimuli, public, 4 files)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    version: str = Field(min_length=1)
    title: str = Field(min_length=1)
    kind: Kind
    access: Literal["public", "user-supplied", "embedded"]
    licence: str = Field(min_length=1)
    citation: str = Field(pattern=r"^\s*@")
    note: str = Field(min_length=1)
    is_not: tuple[str, ...] = ()
    post_processing: str = Field(min_length=1)
    requires: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    files: tuple[File, ...] = ()

    @model_validator(mode="after")
    def _files_fit_the_access(self) -> Manifest:
        names = [entry.name for entry in self.files]
        if len(set(names)) < len(names):
            raise ValueError(f"found files {names}; expected each name once")
        if self.access == "public" and not self.files:
            raise ValueError("found public access and no files; expected at least one [[files]]")
        for entry in self.files:
            if entry.url is None and not entry.origin:
                raise ValueError(f"found file {entry.name!r} without url or origin; expected one of them")
        return self

    def __repr__(self) -> str:
        files = f"{len(self.files)} file{'s' * (len(self.files) != 1)}"
        return short_repr("Manifest", repr(self.name), f"version {self.version!r}", self.kind, self.access, files)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        facts = {
            "title": self.title,
            "kind": self.kind,
            "access": self.access,
            "licence": self.licence,
            "files": [entry.name for entry in self.files],
            "what it is not": list(self.is_not),
        }
        return html_repr(f"Manifest {self.name}", facts)

    @property
    def statement(self) -> str:
        """The statement of what the data is and what it is not, in one text."""
        return " ".join([self.note, *self.is_not])

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

    Parameters
    ----------
    path : pathlib.Path
        TOML file, named ``<dataset>.toml``.

    Raises
    ------
    ManifestError
        Not TOML, a field is missing or wrong, or the file is not named after the dataset.

    Examples
    --------
    >>> read_manifest(manifest_folders()[0] / "mnist.toml").kind
    'stimuli'
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: found no file; expected a manifest. Mend: check the path.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: found text that is not UTF-8 ({error}); expected TOML. Mend: correct it."
        ) from error
    try:
        manifest = Manifest.model_validate(tomllib.loads(text), context={"folder": path.parent})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(
            f"{path}: found text that is not TOML ({error}); expected a manifest. Mend: correct it."
        ) from error
    except ValidationError as error:
        lines = lines_of(text)
        wrong = "; ".join(_describe_mistake(lines, mistake) for mistake in error.errors())
        raise ManifestError(f"{path}, {wrong}. Mend: correct the named field(s).") from error
    if path.stem != manifest.name:
        line = line_of(lines_of(text), ("name",), manifest.name)
        raise ManifestError(
            f"{path}, line {line}: found name {manifest.name!r}; expected {path.stem!r}, as the file is called. Mend: rename one "
            "of them."
        )
    return manifest


def _describe_mistake(lines: Mapping[Location, tuple[int, list[str]]], error: Any) -> str:
    # What concerns the manifest as a whole concerns its files.
    location = error["loc"] or ("files", 0)
    field = ".".join(map(str, error["loc"])) or "files"
    shown = "" if isinstance(error["input"], dict) else f" (found {error['input']!r})"
    return f"line {line_of(lines, location, error['input'])}: {field}: {error['msg']}{shown}"


def manifest_folders() -> list[Path]:
    """Return the folders of manifests: that of the package (in it, or beside it in a source tree), then those of the user.

    The environment variable NEUROBRIDGE_MANIFESTS names one or more folders, separated as in PATH, for the user's own datasets.

    Raises
    ------
    ManifestError
        One of them is not there.
    """
    package = Path(__file__).resolve().parents[2]
    shipped = next((f for f in (package / "data_manifests", package.parent / "data_manifests") if f.is_dir()), None)
    if shipped is None:
        raise ManifestError(
            f"found no data_manifests in {package} or beside it; expected the folder that is shipped with the package. "
            "Mend: install neurobridge again."
        )
    more = [Path(f).expanduser() for f in os.environ.get("NEUROBRIDGE_MANIFESTS", "").split(os.pathsep) if f]
    for folder in more:
        if not folder.is_dir():
            raise ManifestError(
                f"NEUROBRIDGE_MANIFESTS: found no folder at {folder}; expected one with <dataset>.toml files. Mend: make it, "
                f"or unset "
                "the variable."
            )
    return [shipped, *more]


def _manifest_paths() -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for folder in manifest_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem in paths:
                raise ManifestError(
                    f"{path}: found a second manifest of {path.stem!r} beside {paths[path.stem]}; expected each dataset once. "
                    "Mend: give yours another name."
                )
            paths[path.stem] = path
    return dict(sorted(paths.items()))


def list_datasets() -> list[Manifest]:
    """Return the manifests of all datasets, by name.

    Raises
    ------
    ManifestError
        One of them cannot be used.

    Examples
    --------
    >>> [manifest.name for manifest in list_datasets() if manifest.access == "embedded"]
    ['simulated-hvm']
    """
    return [read_manifest(path) for path in _manifest_paths().values()]


def find_manifest(name: str) -> Manifest:
    """Return the manifest of one dataset.

    Parameters
    ----------
    name : str
        Dataset, as `list_datasets` names it.

    Raises
    ------
    UnknownDatasetError
        No dataset has this name; suggests the nearest.

    Examples
    --------
    >>> find_manifest("simulated-hvm").statement
    'Simulated: no animal was recorded. ... No number obtained on it says anything about a brain.'
    """
    paths = _manifest_paths()
    if name not in paths:
        raise unknown_dataset(name, list(paths))
    return read_manifest(paths[name])


def unknown_dataset(name: str, names: list[str]) -> UnknownDatasetError:
    """Make the error for a name that is not among ``names``."""
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]!r}?" if near else "neurobridge data list."
    return UnknownDatasetError(f"found dataset {name!r}; expected one of {names}. Mend: {hint}")
