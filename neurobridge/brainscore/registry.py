"""Metrics and benchmarks in Brain-Score's registries of this process, without a link on disk."""

from __future__ import annotations

import importlib

from neurobridge.brainscore.links import PLUGINS, library_folder


def register() -> None:
    """Put our metrics into ``metric_registry`` and our benchmarks into ``benchmark_registry``.

    ``metric_registry["bridge"]()`` and ``benchmark_registry["MajajHong2015public.IT-bridge"]()`` then work in this process;
    ``load_metric`` and ``load_benchmark`` look on disk and need `link`.

    Raises
    ------
    ImportError
        Brain-Score is not installed.

    Examples
    --------
    >>> import neurobridge as nb
    >>> nb.brainscore.register()  # doctest: +SKIP
    >>> from brainscore_vision import metric_registry  # doctest: +SKIP
    >>> metric = metric_registry["bridge"]()  # doctest: +SKIP
    """
    library_folder()
    for kind in PLUGINS:
        importlib.import_module(f"neurobridge.brainscore.plugins.{kind}")
