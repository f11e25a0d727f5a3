"""Similarity of two spaces: RDMs, CKA, Procrustes distance, distributions."""
