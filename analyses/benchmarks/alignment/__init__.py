"""The table of alignment: protocols, methods, runner and tables of `alignment_quality.py`."""
