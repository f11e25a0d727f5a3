"""Manifests, verified downloads, archives."""
