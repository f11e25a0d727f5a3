"""Reference models: Gabor energy, and small networks trained from a seed."""
