"""The attributes that every loader gives its data, and the citation."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import digests_of
from neurobridge.datasets.files.manifests import Manifest

_cited: set[str] = set()


def describe(
    manifest: Manifest, files: Sequence[str] | None = None, *, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Collect the attributes of an experiment: citation, licence, note and digests.

    Parameters
    ----------
    manifest : Manifest
    files : sequence of str, optional
        Files that were read; all of the manifest's by default.
    more : mapping of file to digest, optional
        Files of other datasets that were read.
    """
    digests = digests_of(manifest.name)
    read = digests if files is None else {file: digests[file] for file in files}
    return {
        "citation": manifest.citation,
        "licence": manifest.licence,
        "note": manifest.statement,
        "digests": {**read, **(more or {})},
    }


def assembly_attrs(
    manifest: Manifest, about: Mapping[str, Any], *, identifier: str | None = None, **others: Any
) -> dict[str, Any]:
    """Collect the attributes of an array: identifier, kind, citation, digests, and ``others`` such as units."""
    return {
        "identifier": identifier or manifest.name,
        "kind": manifest.kind,
        "citation": about["citation"],
        "digests": about["digests"],
        **others,
    }


def make_experiment(manifest: Manifest, about: Mapping[str, Any], stimuli: pd.DataFrame, **parts: Any) -> Experiment:
    """Put an experiment together; the citation goes to the stimulus table too."""
    stimuli.attrs["citation"] = about["citation"]
    return Experiment(manifest.name, manifest.kind, stimuli, **parts, attrs=dict(about))


def cite(name: str, citation: str, note: str) -> None:
    """Print on stderr whom to cite, once a process and dataset; nothing where NEUROBRIDGE_QUIET is set.

    Parameters
    ----------
    name : str
        Dataset.
    citation : str
        BibTeX.
    note : str
        What the data is, and what it is not.
    """
    if name in _cited or os.environ.get("NEUROBRIDGE_QUIET"):
        return
    _cited.add(name)
    sys.stderr.write(f"{name}: {note}\nPlease cite (NEUROBRIDGE_QUIET=1 hides this):\n{citation.strip()}\n")
