"""Decoding of responses without noise, estimated from repetitions."""
