"""The compared methods, every one an aligner with a single setting for all experiments, and what every table needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr

from neurobridge import figures
from neurobridge.aligners import BASELINES, AssemblyAligner, BridgeAligner
from neurobridge.assemblies.schema import NEUROID
from neurobridge.evaluate.curves import interval
from neurobridge.study.harness import Record, Run

mpl.use("Agg")

#: Ours: name -> aligner of a seed.
BRIDGES: dict[str, Callable[[int], AssemblyAligner]] = {
    "fused": lambda seed: BridgeAligner(coupling="fused", map="barycentric", seed=seed),
    "fused-flow": lambda seed: BridgeAligner(coupling="fused", map="flow", seed=seed),
    "bridge": lambda seed: BridgeAligner(coupling="factored", map="barycentric", seed=seed),
    "bridge-flow": lambda seed: BridgeAligner(coupling="factored", map="flow", seed=seed),
    "unbalanced": lambda seed: BridgeAligner(coupling="factored", map="barycentric", unbalanced=1.0, seed=seed),
    "pairs-flow": lambda seed: BridgeAligner(coupling="pairs", map="flow", seed=seed),
}
#: Those that train a flow.
FLOWS = ("fused-flow", "bridge-flow", "pairs-flow")
METHODS: dict[str, Callable[[int], AssemblyAligner]] = {
    **BRIDGES,
    **{name: (lambda seed, kind=kind: kind(seed=seed)) for name, kind in BASELINES.items()},  # type: ignore[misc]
}


def names(run: Run, quick: Sequence[str] = ("fused", "ridge")) -> list[str]:
    """Methods of a run: all, or a few in the quick mode."""
    return list(quick) if run.quick else list(METHODS)


def chosen(records: Sequence[Record], **wanted: Any) -> list[Record]:
    """Records whose fields have the wanted values."""
    return [record for record in records if all(record[key] == value for key, value in wanted.items())]


def mean_ci(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % Student interval (NaN for a single value)."""
    array = np.asarray(values, dtype=float)
    return float(array.mean()), float(interval(array))


def bars(series: Sequence[Sequence[float]]) -> np.ndarray:
    """Below and above the mean, (2, n): 95 % Student interval from five values on, the range of fewer."""
    out = []
    for values in series:
        mean, half = mean_ci(values)
        out.append((half, half) if len(values) >= 5 else (mean - min(values), max(values) - mean))
    return np.array(out).T


#: What `bars` draws, for captions.
BARS = "mean; bars: 95 % CI over five seeds, the range of fewer"


def over_seeds(run: Run) -> str:
    """What a table's cells are."""
    return f"mean ± 95 % CI over seeds {run.seeds.start} to {run.seeds.stop - 1}"


def verdict(right: int, of: int, part: float = 0.5) -> str:
    """All hold; some, at least this share of them, hold in part."""
    if of and right == of:
        return "holds"
    return "holds in part" if right and right >= part * of else "does not hold here"


def p_text(p: float) -> str:
    """A p of three digits, or that it is smaller."""
    return "p < .001" if p < 0.0005 else f"p = {p:.3f}"


def shuffled(named: np.ndarray, truth: np.ndarray, rng: np.random.Generator, n: int = 200) -> list[float]:
    """Accuracies of the same names where the truth is permuted."""
    return [float((named == rng.permutation(truth)).mean()) for _ in range(n)]


def cosines(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Cosine of every row of A (n, d) with every row of B (m, d)."""
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (A, B)]
    return unit[0] @ unit[1].T


def site_halves(recordings: xr.DataArray) -> list[xr.DataArray]:
    """The sites in two halves, always the same."""
    order = np.random.default_rng(0).permutation(recordings.sizes[NEUROID])
    return [recordings.isel({NEUROID: np.sort(part)}) for part in np.array_split(order, 2)]


def cell(values: Sequence[float], digits: int = 3) -> str:
    """``mean +- half interval`` for a table."""
    if not len(values):
        return "n/a"
    mean, half = mean_ci(values)
    return f"{mean:.{digits}f}" if np.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def table(
    title: str,
    records: Sequence[Record],
    value: str,
    *,
    rows: str = "method",
    columns: str = "n_pairs",
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A table of means with intervals: a row a method, a column a number of pairs; ``extra`` gives whole rows by name."""
    across = sorted({record[columns] for record in records})
    body = [
        [name, *[cell([r[value] for r in chosen(records, **{rows: name, columns: key})]) for key in across]]
        for name in dict.fromkeys(record[rows] for record in records)
    ]
    for name, values in (extra or {}).items():
        body.append([name, *(values if isinstance(values, list) else [values] * len(across))])
    return {"title": title, "columns": [rows, *map(str, across)], "rows": body}


def curves(records: Sequence[Record], value: str, *, columns: str = "n_pairs") -> Mapping[str, Any]:
    """What `neurobridge.figures.learning_curve` draws: method -> (counts, values of every seed)."""
    out = {}
    for name in dict.fromkeys(record["method"] for record in records):
        own = chosen(records, method=name)
        across = sorted({record[columns] for record in own})
        out[name] = across, [[r[value] for r in chosen(own, **{columns: key})] for key in across]
    return out


def panels(n: int, width: float = 5.0, height: float = 3.8, *, columns: int | None = None) -> tuple[Any, Any]:
    """Axes of one size, in one row or in rows of a number of columns."""
    from matplotlib import pyplot as plt

    across = min(n, columns or n)
    down = -(-n // across)
    figure, axes = plt.subplots(
        down, across, figsize=(width * across, height * down), layout="constrained", squeeze=False
    )
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return figure, axes.flat[:n]


def count_ticks(ax: Any, counts: Sequence[int]) -> None:
    """A tick a number of pairs, and no other."""
    ax.set_xticks(counts, labels=[str(n) for n in counts])
    ax.minorticks_off()


def caption(figure: Any, text: str) -> None:
    """What it is, n and the seeds, under the panels."""
    figure.supxlabel(text, fontsize="x-small")


def save(figure: Any, run: Run, name: str) -> None:
    """PNG and SVG into the results folder."""
    figures.save_figure(figure, run.out, name)


def finished(figure: Any, run: Run, name: str, text: str) -> dict[str, str]:
    """Caption and save a figure; what ``figures`` of the results says of it."""
    caption(figure, text)
    save(figure, run, name)
    return {"file": f"{name}.png", "caption": text}
