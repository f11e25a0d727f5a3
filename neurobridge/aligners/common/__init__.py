"""More than two spaces: one common space, and maps from any of them to any other."""
