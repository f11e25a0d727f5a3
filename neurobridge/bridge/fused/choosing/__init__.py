"""The choice of a candidate by cross-validation over the pairs."""
