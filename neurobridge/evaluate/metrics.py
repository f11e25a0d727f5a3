"""Metrics that compare two assemblies, each ``metric(source, target, splits=None, ...) -> Score``, in one public dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xarray as xr

from neurobridge.evaluate.predict import GivenSplits, predictivity
from neurobridge.evaluate.similarity.canonical import cca, svcca
from neurobridge.evaluate.similarity.measures import cka, cka_biased, procrustes, rdm_similarity, rsa

Metric = Callable[..., xr.Dataset]


def _regression_metric(regression: str, description: str) -> Metric:
    def metric(source: xr.DataArray, target: xr.DataArray, splits: GivenSplits = None, **options: Any) -> xr.Dataset:
        return predictivity(source, target, regression, splits=splits, **options)

    metric.__name__ = metric.__qualname__ = regression
    metric.__doc__ = f"{description}: ``predictivity(source, target, {regression!r}, splits=splits, **options)``."
    return metric


pls = _regression_metric("pls", "Predict by partial least squares with 25 components")
ridge = _regression_metric("ridge", "Predict by ridge regression with a penalty for each neuroid")
linear = _regression_metric("linear", "Predict by ordinary least squares")
neuron_to_neuron = _regression_metric(
    "neuron_to_neuron", "Predict each neuroid by the feature that correlates most with it"
)


#: Metrics by name; each takes ``(source, target, splits=None, ...)`` and returns a Score.
METRICS: dict[str, Metric] = {
    "pls": pls,
    "ridge": ridge,
    "linear": linear,
    "neuron_to_neuron": neuron_to_neuron,
    "cka": cka,
    "cka_biased": cka_biased,
    "rdm": rdm_similarity,
    "rsa": rsa,
    "cca": cca,
    "svcca": svcca,
    "procrustes": procrustes,
}
