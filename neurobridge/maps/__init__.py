"""Linear, kernel, orthogonal and whitened maps between two point clouds."""
