"""Tables of records: selection, means with intervals, cells as text, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurobridge.evaluate.curves.learning import interval
from neurobridge.study.harness import Record


def select_records(records: Sequence[Record], **wanted: Any) -> list[Record]:
    """Keep the records whose fields have the wanted values.

    Parameters
    ----------
    records : sequence of dict
    **wanted
        Field names and their values.

    Returns
    -------
    list of dict

    Raises
    ------
    KeyError
        A record lacks one of the fields.

    Examples
    --------
    >>> from neurobridge.study import select_records
    >>> select_records([{"seed": 0, "r": 0.1}, {"seed": 1, "r": 0.2}], seed=1)
    [{'seed': 1, 'r': 0.2}]
    """
    return [record for record in records if all(record[key] == value for key, value in wanted.items())]


def mean_ci(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % Student interval.

    Parameters
    ----------
    values : sequence of float, length n

    Returns
    -------
    mean : float
    half : float
        NaN for a single value.

    Examples
    --------
    >>> from neurobridge.study import mean_ci
    >>> mean, half = mean_ci([1.0, 2.0, 3.0])
    >>> f"{mean:.2f} {half:.2f}"
    '2.00 2.48'
    """
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(interval(array))


def format_value(value: float | None, digits: int = 3) -> str:
    """Format a number for a table cell; ``n/a`` for None and NaN.

    Parameters
    ----------
    value : float or None
    digits : int
        After the point.

    Examples
    --------
    >>> from neurobridge.study import format_value
    >>> format_value(0.12345), format_value(None)
    ('0.123', 'n/a')
    """
    return "n/a" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def format_mean(values: Sequence[float], digits: int = 3) -> str:
    """Format the mean of values and its 95 % Student interval for a table cell; ``n/a`` without values.

    Parameters
    ----------
    values : sequence of float
    digits : int
        After the point.

    Examples
    --------
    >>> from neurobridge.study import format_mean
    >>> format_mean([1.0, 2.0, 3.0], digits=2), format_mean([0.5]), format_mean([])
    ('2.00 ± 2.48', '0.500', 'n/a')
    """
    if not len(values):
        return "n/a"
    mean, half = mean_ci(values)
    return format_value(mean, digits) if np.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def format_p(p_value: float) -> str:
    """Format a p value with three digits, or state that it is smaller; NaN, the p of what has no null, as ``n/a``.

    Parameters
    ----------
    p_value : float

    Examples
    --------
    >>> from neurobridge.study import format_p
    >>> format_p(0.0312), format_p(0.0001), format_p(float("nan"))
    ('p = 0.031', 'p < .001', 'p n/a')
    """
    if np.isnan(p_value):
        return "p n/a"
    return "p < .001" if p_value < 0.0005 else f"p = {p_value:.3f}"


def over_seeds(seeds: range) -> str:
    """Describe the cells of a table of means over seeds.

    Parameters
    ----------
    seeds : range

    Examples
    --------
    >>> from neurobridge.study import over_seeds
    >>> over_seeds(range(5))
    'mean ± 95 % CI over seeds 0 to 4'
    """
    return f"mean ± 95 % CI over seeds {seeds.start} to {seeds.stop - 1}"


def verdict(n_met: int, n_cases: int, part: float = 0.5) -> str:
    """Give the verdict on a claim from the number of cases that meet it.

    Parameters
    ----------
    n_met, n_cases : int
    part : float
        Least share of the cases for which a claim holds in part.

    Returns
    -------
    {"holds", "holds in part", "does not hold here"}

    Examples
    --------
    >>> from neurobridge.study import verdict
    >>> verdict(3, 3), verdict(2, 3), verdict(1, 3)
    ('holds', 'holds in part', 'does not hold here')
    """
    if n_cases and n_met == n_cases:
        return "holds"
    return "holds in part" if n_met and n_met >= part * n_cases else "does not hold here"


def table_of_means(
    title: str,
    records: Sequence[Record],
    value: str,
    *,
    rows: str = "method",
    columns: str = "n_pairs",
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Tabulate means with intervals: by default a row a method, a column a number of pairs.

    Parameters
    ----------
    title : str
    records : sequence of dict
    value : str
        Field that is averaged.
    rows, columns : str
        Fields that name the rows and the columns.
    extra : mapping of str to list or str, optional
        Further rows by name; a single cell is repeated in every column.

    Returns
    -------
    dict
        ``title``, ``columns`` and ``rows`` of text.

    Examples
    --------
    >>> from neurobridge.study import table_of_means
    >>> records = [{"method": "ridge", "n_pairs": n, "r": r} for n, r in ((5, 0.1), (5, 0.3), (50, 0.5))]
    >>> table_of_means("r", records, "r", extra={"chance": "0.02"})["rows"]
    [['ridge', '0.200 ± 1.271', '0.500'], ['chance', '0.02', '0.02']]
    """
    across = sorted({record[columns] for record in records})
    body = [
        [
            name,
            *[format_mean([r[value] for r in select_records(records, **{rows: name, columns: key})]) for key in across],
        ]
        for name in dict.fromkeys(record[rows] for record in records)
    ]
    for name, cells in (extra or {}).items():
        body.append([name, *(cells if isinstance(cells, list) else [cells] * len(across))])
    return {"title": title, "columns": [rows, *map(str, across)], "rows": body}
