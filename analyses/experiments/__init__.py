"""The experiments: one script each, run by `neurobridge run NAME`.

They are shipped in the wheel as `neurobridge.experiments`.
"""
