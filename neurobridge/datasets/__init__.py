"""Real data one command away, and the simulated HvM experiment."""

from neurobridge.datasets.catalogue import LOADERS, has_loader, load
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import ArchiveError
from neurobridge.datasets.files.feature_files import FeatureFileError
from neurobridge.datasets.files.fetch import (
    DigestError,
    DownloadError,
    cache_folder,
    copy_to_mirror,
    fetch,
    locate,
    mirrored,
    path_of,
    verify,
)
from neurobridge.datasets.files.manifests import (
    File,
    Manifest,
    ManifestError,
    UnknownDatasetError,
    find_manifest,
    list_datasets,
    read_manifest,
)
from neurobridge.datasets.simulated.hvm import simulate_hvm

__all__ = [
    "LOADERS",
    "ArchiveError",
    "DigestError",
    "DownloadError",
    "Experiment",
    "FeatureFileError",
    "File",
    "Manifest",
    "ManifestError",
    "UnknownDatasetError",
    "cache_folder",
    "copy_to_mirror",
    "fetch",
    "find_manifest",
    "has_loader",
    "list_datasets",
    "load",
    "locate",
    "mirrored",
    "path_of",
    "read_manifest",
    "simulate_hvm",
    "verify",
]
