"""Distances to the anchors, and the costs made of them."""
