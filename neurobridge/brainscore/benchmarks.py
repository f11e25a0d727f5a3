"""Benchmarks on Brain-Score's public recordings, made of its own `NeuralBenchmark`, data and ceiling, and our metrics."""

from __future__ import annotations

from typing import Any

from neurobridge.assemblies import AssemblyError
from neurobridge.brainscore.environment import prepare_environment
from neurobridge.brainscore.metrics import SITE_METRICS, BrainScoreMetric
from neurobridge.points.options import is_choice

VERSION = 1
REGIONS = ("V4", "IT")
BIBTEX_BRIDGE = """@article{gholamzadeh2025model,
  title={Model alignment using inter-modal bridges},
  author={Gholamzadeh, Ali and Sajid, Noor},
  journal={arXiv preprint arXiv:2505.12322},
  year={2025}
}"""


def majajhong2015_public(region: str, metric: str = "bridge", **options: Any) -> Any:
    """Make the benchmark ``MajajHong2015public.<region>-<metric>``.

    Data, averaging over repetitions, stimulus size, ceiling and its use (``r^2 / ceiling``) are Brain-Score's own; the similarity
    is a metric of neurobridge in Brain-Score's cross-validation.

    Parameters
    ----------
    region : {"V4", "IT"}
    metric : {"bridge", "pls", "ridge", "linear", "neuron_to_neuron"}
        One of `neurobridge.brainscore.metrics.SITE_METRICS`: the benchmark divides r^2 by the reliability of sites, which
        normalises no other metric.
    **options
        Of the metric: see `BrainScoreMetric`.

    Returns
    -------
    brainscore_vision.benchmark_helpers.neural_common.NeuralBenchmark

    Raises
    ------
    AssemblyError
        Unknown region or metric, or a metric that the reliability of sites does not bound.
    ImportError
        Brain-Score is not installed.

    Examples
    --------
    >>> import neurobridge as nb
    >>> benchmark = nb.brainscore.majajhong2015_public("IT", "ridge")  # doctest: +SKIP
    >>> benchmark(model)  # doctest: +SKIP
    """
    if not is_choice(region, REGIONS):
        raise AssemblyError(f"found region {region!r}; expected one of {list(REGIONS)}. Mend: choose one of them.")
    if not is_choice(metric, SITE_METRICS):
        raise AssemblyError(
            f"found metric {metric!r}; expected one of {sorted(SITE_METRICS)}, since the benchmark gives r^2 / ceiling and the "
            "reliability of single sites bounds no other. Mend: choose one of them, or use BrainScoreMetric, without a ceiling."
        )
    similarity = BrainScoreMetric(metric, **options)
    prepare_environment()
    try:
        from brainscore_vision import load_ceiling
        from brainscore_vision.benchmark_helpers.neural_common import NeuralBenchmark
        from brainscore_vision.benchmarks.majajhong2015 import benchmark as theirs
    except ImportError as error:
        raise ImportError(
            f"found no usable brainscore_vision ({error}); expected the Brain-Score packages. "
            "Mend: pip install -c constraints-brainscore.txt 'neurobridge[brainscore]'."
        ) from error
    trials = theirs.load_assembly(average_repetitions=False, region=region, access="public")
    return NeuralBenchmark(
        identifier=f"MajajHong2015public.{region}-{metric}",
        version=VERSION,
        assembly=theirs.average_repetition(trials),
        similarity_metric=similarity,
        visual_degrees=theirs.VISUAL_DEGREES,
        number_of_trials=theirs.NUMBER_OF_TRIALS,
        ceiling_func=lambda: load_ceiling("internal_consistency")(trials),
        parent=region,
        bibtex=f"{theirs.BIBTEX}\n{BIBTEX_BRIDGE}",
    )
