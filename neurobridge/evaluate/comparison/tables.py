"""Tables of a comparison, for a page, a file or the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr


def comparison_tables(comparison: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Return the tables of a comparison: a row a metric and model, and a row a metric and pair of models.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `compare_models`.

    Returns
    -------
    dict of str to pandas.DataFrame
        "models": metric, model, rank and its bounds, value and its bounds, ceiling, normalized and its bounds, and the layers that
        the folds chose, with their counts; the best model first. "pairs": metric, model, other, difference and its bounds,
        p_value, p_corrected and share_of_sites.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> from neurobridge.evaluate import comparison_tables
    >>> rng = np.random.default_rng(0)  # simulated
    >>> def labelled(values):
    ...     columns = {"neuroid_id": range(values.shape[1])}
    ...     return nb.make_assembly(values, presentation={"stimulus_id": range(40)}, neuroid=columns)
    >>> X = rng.normal(size=(40, 4))
    >>> models = {"first": labelled(X), "second": labelled(rng.normal(size=(40, 4)))}
    >>> tables = comparison_tables(nb.compare_models(models, labelled(X @ X[:4]), ("ridge",), n_bootstrap=50))
    >>> tables["models"]["model"].tolist(), len(tables["pairs"])
    (['first', 'second'], 1)
    """
    numbers = ("rank", "rank_low", "rank_high", "value", "value_low", "value_high", "ceiling", "normalized",
               "normalized_low", "normalized_high")  # fmt: skip
    models, pairs = [], []
    names = comparison["model"].values.tolist()
    for metric in comparison["metric"].values.tolist():
        of_metric = comparison.sel(metric=metric)
        rows = []
        for name in names:
            of_model = of_metric.sel(model=name)
            rows.append({
                "metric": metric, "model": name, **{key: float(of_model[key]) for key in numbers},
                "layers": _layers(of_model["layer"].values),
            })  # fmt: skip
        models += sorted(rows, key=lambda row: float(row["rank"]))
        for k, first in enumerate(names):
            for second in names[k + 1 :]:
                pair = of_metric.sel(model=first, other=second)
                columns = (
                    "difference",
                    "difference_low",
                    "difference_high",
                    "p_value",
                    "p_corrected",
                    "share_of_sites",
                )
                pairs.append(
                    {"metric": metric, "model": first, "other": second, **{key: float(pair[key]) for key in columns}}
                )
    return {"models": pd.DataFrame(models), "pairs": pd.DataFrame(pairs)}


def _layers(chosen: Any) -> str:
    """Return the layers that folds chose, the most frequent first: "conv3 (4), conv2 (1)"."""
    names, counts = np.unique(chosen, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{names[k]} ({counts[k]})" for k in order)
