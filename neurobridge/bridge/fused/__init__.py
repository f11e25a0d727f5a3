"""The fused bridge: bridge cost and maps of the pairs together."""
