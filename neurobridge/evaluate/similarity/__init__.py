"""Similarity of two spaces: CKA, RDMs, Procrustes distance, distances of distributions, overlap."""

from neurobridge.evaluate.similarity.arrays import linear_cka, procrustes_distance
from neurobridge.evaluate.similarity.distribution import frechet_distance, mmd, sliced_wasserstein
from neurobridge.evaluate.similarity.measures import cca, cka, cka_biased, procrustes, rdm_similarity, rsa, svcca
from neurobridge.evaluate.similarity.rdms import (
    COMPARATORS,
    DISTANCES,
    compare_rdms,
    crossvalidated_rdm,
    rdm,
    rdm_noise_ceiling,
)
from neurobridge.evaluate.similarity.relations import overlap

__all__ = [
    "COMPARATORS",
    "DISTANCES",
    "cca",
    "cka",
    "cka_biased",
    "compare_rdms",
    "crossvalidated_rdm",
    "frechet_distance",
    "linear_cka",
    "mmd",
    "overlap",
    "procrustes",
    "procrustes_distance",
    "rdm",
    "rdm_noise_ceiling",
    "rdm_similarity",
    "rsa",
    "sliced_wasserstein",
    "svcca",
]
