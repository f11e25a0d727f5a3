"""Checks of the anchors."""
