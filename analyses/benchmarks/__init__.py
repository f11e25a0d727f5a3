"""Benchmarks beside peers: time, memory and quality."""
