"""The simulated HvM experiment."""
