"""Modules of one experiment."""
