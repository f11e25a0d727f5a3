"""Joining of recordings of several sessions, animals or days of the same stimuli."""
