"""Real data one command away, and the simulated HvM experiment."""

from neurobridge.datasets.catalogue import LOADERS, load
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files import DigestError, DownloadError, cache_folder, fetch, verify
from neurobridge.datasets.manifests import (
    File,
    Manifest,
    ManifestError,
    UnknownDatasetError,
    find_manifest,
    list_datasets,
    read_manifest,
)
from neurobridge.datasets.simulated_hvm import simulate_hvm

__all__ = [
    "LOADERS",
    "DigestError",
    "DownloadError",
    "Experiment",
    "File",
    "Manifest",
    "ManifestError",
    "UnknownDatasetError",
    "cache_folder",
    "fetch",
    "find_manifest",
    "list_datasets",
    "load",
    "read_manifest",
    "simulate_hvm",
    "verify",
]
