"""Modules that scripts share."""
