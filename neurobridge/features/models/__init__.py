"""Loading of frozen torch models, and hooks into their layers."""
