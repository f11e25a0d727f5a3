"""The readers of datasets, one module each: files in, assemblies out."""
