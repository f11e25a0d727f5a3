"""Modules that experiments share."""
