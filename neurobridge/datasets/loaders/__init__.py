"""One module a dataset: files in, assemblies out."""
