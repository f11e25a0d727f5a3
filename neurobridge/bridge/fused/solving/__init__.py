"""Rounds of the fused bridge: clouds in principal coordinates, their plans, and the maps refitted on the images."""
