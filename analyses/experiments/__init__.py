"""The experiments: one script each, run by `neurobridge run NAME`; shipped in the wheel as `neurobridge.experiments`."""
