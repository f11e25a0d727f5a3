"""Readers of a lab's files: arrays, tables, MATLAB, NWB, HDF5, zarr and netCDF become an assembly, and spikes become counts."""
