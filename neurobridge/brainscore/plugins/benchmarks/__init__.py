"""Benchmarks of neurobridge in Brain-Score's registry. Brain-Score finds them by reading these lines, so each is written out."""

from functools import partial

from brainscore_vision import benchmark_registry

from neurobridge.brainscore.benchmarks import majajhong2015_public

benchmark_registry["MajajHong2015public.V4-bridge"] = partial(majajhong2015_public, "V4")
benchmark_registry["MajajHong2015public.IT-bridge"] = partial(majajhong2015_public, "IT")
