"""Maps of the pairs under the names of this room; they live in `neurobridge.maps`, which stands below it."""

from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.maps.linear import LinearMap, ridge_map

__all__ = ["KernelMap", "LinearMap", "kernel_map", "ridge_map"]
