"""Folders that `neurobridge brainscore link` links into Brain-Score; importing one registers what is in it."""
