"""Assemblies on disk: one encoding for netCDF and zarr, checked when it is written."""
