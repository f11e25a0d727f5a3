"""Parts of geodesic distances: cells of points, lists of neighbours, and shortest paths, compiled where numba is there."""
