"""Atomic files, fitted state with digests, and a stable name on disk for every class."""
