"""Sections of a page: each kind of result with its finding, figures and tables."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr

from neurobridge import figures
from neurobridge.aligners import AssemblyAligner, BridgeAligner
from neurobridge.bridge import diagnose
from neurobridge.evaluate import aggregate
from neurobridge.evaluate.score.schema import is_score
from neurobridge.figures.analyses import all_are, routes_of
from neurobridge.figures.curves import is_learning_curve
from neurobridge.figures.dispatch import is_ceiling, is_comparison, is_decoding, kind_of
from neurobridge.figures.telling.sentences import score_in_words, write_comparison
from neurobridge.figures.telling.words import words_of
from neurobridge.study.pages.parts import DPI, Picture, Section, Table
from neurobridge.study.tables import format_value

# Points of a plan up to which it is examined for the page.
_MOST_EXAMINED = 2000


def section_of(name: str, thing: Any) -> Section:
    """Make the section of a result.

    Raises
    ------
    ValueError
        Nothing that a page can show.
    """
    section = Section(name)
    if isinstance(thing, pd.DataFrame):
        section.tables.append(_frame(name, thing))
        return section
    if not _is_drawn(thing) and callable(getattr(thing, "summary", None)):
        # Diagnostics and other results that tell themselves in lines.
        lines = [line.strip() for line in str(thing.summary()).splitlines() if line.strip()]
        section.findings = lines[:1]
        section.tables.append(_lines("What was found", lines[1:]))
        return section
    words = words_of(thing)
    section.findings.append(words.finding)
    section.pictures.append(Picture(_png(figures.plot(thing)), words.caption, words.alt))
    if is_decoding(thing):
        chance = figures.null_distribution(thing)
        s = aggregate(thing, n_bootstrap=0)
        section.pictures.append(
            Picture(
                _png(chance), f"Accuracy beside {thing['null'].size} permutations; n = {s['n_stimuli']} stimuli, seed {s['seed']}.",
                f"Score {s['raw']:.3f} beside a histogram of permutations whose 95 % quantile is {format_value(s['null_95'])}.",
            )
        )  # fmt: skip
    if is_comparison(thing) and thing.sizes["metric"] > 1:
        for metric in map(str, thing["metric"].values):
            text = f"Models under {metric} with intervals; a line joins those that do not differ (corrected p); dotted: ceiling."
            ranked = write_comparison(thing.sel(metric=[metric]))
            section.pictures.append(Picture(_png(figures.compared_models(thing, metric)), text, ranked.alt))
    if isinstance(thing, Mapping) and kind_of(thing).name == "two methods":
        sites = figures.sites(cast("Mapping[str, xr.Dataset]", thing))
        section.findings += [f"{method}: {score_in_words(score)}" for method, score in thing.items()]
        section.pictures.append(
            Picture(_png(sites), "Both methods, every site against its ceiling or its rank.", words.alt)
        )
    if isinstance(thing, AssemblyAligner) and getattr(thing, "coupling_", None) is not None:
        spread = figures.shrinkage(thing)
        section.pictures.append(
            Picture(_png(spread), "How far the images spread, in standard deviations of the target.", words.finding)
        )
    section.tables += tables_of(thing)
    return section


def _lines(title: str, lines: list[str]) -> Table:
    """Return lines of the form "question    answer" as a table."""
    rows = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.strip()]
    return Table(title, ["question", "answer"], [[row[0], row[1] if len(row) > 1 else ""] for row in rows])


def _is_drawn(thing: Any) -> bool:
    try:
        kind_of(thing)
    except ValueError:
        return False
    return True


def _png(ax: Any) -> bytes:
    """Return the figure of axes as PNG, and close it."""
    # Imported here: pyplot picks a display backend, which importing the package must not do.
    import matplotlib.pyplot as plt

    figure = ax.figure
    out = io.BytesIO()
    tight = "tight" if figure.get_layout_engine() is None else None
    figure.savefig(out, format="png", dpi=DPI, bbox_inches=tight, facecolor="white")
    plt.close(figure)
    return out.getvalue()


def tables_of(thing: Any) -> list[Table]:
    """Return the tables of a result: a row a method, a site, a cell or an option."""
    if is_learning_curve(thing):
        return _curve_tables(thing)
    if is_comparison(thing):
        return _comparison_tables(thing)
    if _is_drawn(thing) and kind_of(thing).name in _ANALYSIS_COLUMNS:
        columns = _ANALYSIS_COLUMNS[kind_of(thing).name]
        if not columns:
            return [_frame("Routes between spaces", routes_of(thing))]
        shown = thing[[name for name in columns if name in thing]].reset_coords(drop=True)
        return [_frame("Numbers", shown.to_dataframe().reset_index())]
    if all_are(thing, is_score):
        return [_summaries(thing)]
    if is_ceiling(thing):
        return [_sites(thing, ["ceiling", *[name for name in ("ceiling_low", "ceiling_high") if name in thing]])]
    if is_score(thing):
        summary = aggregate(thing, n_bootstrap=200)
        if isinstance(summary, xr.Dataset):
            frame = summary.reset_coords(drop=True).to_dataframe().reset_index()
            return [_frame("Cells", frame.dropna(axis=1, how="all"))]
        tables = [
            Table(
                "Summary",
                ["what", "value"],
                [[key, _cell(value)] for key, value in summary.items() if value is not None],
            )
        ]
        return [*tables, _sites(thing, ["ceiling", "normalized"])] if "neuroid" in thing["raw"].dims else tables
    if isinstance(thing, AssemblyAligner):
        return _aligner_tables(thing)
    return []


#: Variables that the table of an analysis shows, by its kind; a common space has its routes.
_ANALYSIS_COLUMNS: dict[str, tuple[str, ...]] = {
    "retrieval": ("raw", "raw_low", "raw_high", "chance", "p_value"),
    "parts of variance": (
        "median",
        "median_low",
        "median_high",
        "normalized_median",
        "normalized_low",
        "normalized_high",
    ),
    "models by their RDMs": ("raw", "sem", "raw_low", "raw_high", "p_value_fdr", "p_ceiling_fdr"),
    "ceiling of decoding": ("accuracy",),
    "common space": (),
}


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "n/a" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def _frame(title: str, frame: pd.DataFrame) -> Table:
    named = frame.reset_index() if frame.index.name is not None or isinstance(frame.index, pd.MultiIndex) else frame
    rows = [[_cell(value) for value in row] for row in named.itertuples(index=False)]
    return Table(title, [str(column) for column in named.columns], rows)


def _curve_tables(curve: xr.Dataset) -> list[Table]:
    counts = [int(n) for n in curve["n_pairs"].values]
    rows = []
    for method in curve["aligner"].values:
        cells = curve.sel(aligner=method)
        text = [
            f"{mean:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
            for mean, low, high in zip(cells["mean"].values, cells["low"].values, cells["high"].values, strict=True)
        ]
        rows.append([str(method), *text, f"{float(cells['auc_mean']):.3f}"])
    table = aggregate(curve, n_bootstrap=0)
    if bool(table["null_95"].notnull().any()):
        rows.append(["chance (95 %)", *(f"{float(table['null_95'].sel(n_pairs=n).max()):.3f}" for n in counts), ""])
    title = f"Median r by number of pairs, mean over {curve.sizes['seed']} seed(s) [95 % t interval]"
    return [Table(title, ["method", *map(str, counts), "area under the curve"], rows)]


def _comparison_tables(comparison: xr.Dataset) -> list[Table]:
    """Return the ranked models under every metric, and the corrected p of every pair."""
    models = [str(name) for name in comparison["model"].values]
    tables = []
    for metric in comparison["metric"].values:
        cell = comparison.sel(metric=metric)
        keys = [key for key in ("rank", "value", "value_low", "value_high") if key in cell]
        order = np.argsort(-cell["value"].values if "rank" not in cell else cell["rank"].values, kind="stable")
        p = cell["p_corrected"].values
        rows = [
            [
                models[k],
                *(_cell(float(cell[key].values[k])) for key in keys),
                *(_number(float(p[k, other])) for other in order),
            ]
            for k in order
        ]
        columns = ["model", *keys, *(f"p against {models[other]}" for other in order)]
        tables.append(Table(f"Models under {metric}, the best first; p is corrected", columns, rows))
    return tables


def _summaries(scores: Mapping[str, xr.Dataset]) -> Table:
    rows = []
    for name, score in scores.items():
        summary = aggregate(score, n_bootstrap=200)
        if isinstance(summary, xr.Dataset):
            for cell in summary.reset_coords(drop=True).to_dataframe().reset_index().to_dict("records"):
                place = ", ".join(str(cell[dim]) for dim in map(str, summary["raw"].dims))
                rows.append([f"{name}: {place}", *(_number(cell[key]) for key in _COLUMNS)])
        else:
            rows.append([str(name), *(_number(summary[key]) for key in _COLUMNS)])
    return Table("All scores", ["method", "raw", "low", "high", "chance (95 %)", "p", "ceiling", "normalised"], rows)


_COLUMNS = ("raw", "raw_low", "raw_high", "null_95", "p_value", "ceiling", "normalized")


def _number(value: Any) -> str:
    return "n/a" if value is None or np.isnan(value) else f"{value:.3f}"


def _sites(score: xr.Dataset, names: list[str]) -> Table:
    r = score["raw"].mean("split").values
    ids = score["neuroid_id"].values if "neuroid_id" in score.coords else np.arange(len(r))
    columns = {"r": r, **{name: np.broadcast_to(score[name].values, r.shape) for name in names}}
    rows = [[str(ids[k]), *(_number(float(values[k])) for values in columns.values())] for k in range(len(r))]
    return Table("Sites", ["site", *columns], rows)


def _aligner_tables(aligner: AssemblyAligner) -> list[Table]:
    defaults = type(aligner)().get_params()
    rows = [
        [name, _short(value), "default" if _same(value, defaults[name]) else "chosen"]
        for name, value in sorted(aligner.get_params().items())
    ]
    tables = [Table("Parameters", ["parameter", "value", ""], rows)]
    # Baselines keep a pair of maps under the same name.
    maps = getattr(aligner, "maps_", None)
    for direction, made in sorted(maps.items()) if isinstance(maps, dict) else []:
        errors = getattr(getattr(made, "bridge", None), "errors", None)
        if errors:
            ranked = sorted(errors.items(), key=lambda item: item[1])[:20]
            losses = [[str(candidate), f"{loss:.4f}"] for candidate, loss in ranked]
            text = f"Candidates, {direction}: held-out loss of the pairs (the lowest 20)"
            tables.append(Table(text, ["candidate", "loss"], losses))
            break
    coupling: Any = getattr(aligner, "coupling_", None)
    has_cost = isinstance(aligner, BridgeAligner) and coupling is not None and coupling.cost is not None
    if has_cost and max(coupling.shape) <= _MOST_EXAMINED:
        tables.append(_lines("Diagnosis of the bridge", diagnose(aligner, warn=False).summary().splitlines()[1:]))
    return tables


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and not isinstance(value, np.ndarray) and bool(value == default)


def section_of_results(results: Mapping[str, Any], folder: Path | None, drawn: set[str]) -> list[Section]:
    """Make the sections of a demo, an experiment or a curve: its claims, its tables, and the figures that lie beside them.

    Parameters
    ----------
    drawn : set of str
        Stems of figures that the page draws itself.
    """
    main = Section("Results", findings=[str(results["note"])] if results["note"] else [])
    if results.get("answer"):
        main.findings.insert(0, str(results["answer"]))
    claims = [claim for claim in results.get("claims", []) if isinstance(claim, dict)]
    if claims:
        rows = [[claim.get(name, "") for name in ("claim", "verdict", "evidence")] for claim in claims]
        main.tables.append(Table("Claims", ["claim", "verdict", "evidence"], rows))
    main.tables += [Table(table["title"], [*map(str, table["columns"])], table["rows"]) for table in results["tables"]]
    if folder is not None:
        captions = {
            str(entry["file"]): str(entry.get("caption", ""))
            for entry in results.get("figures", [])
            if isinstance(entry, dict) and "file" in entry
        }
        for file in sorted(folder.glob("*.png")):
            if file.stem not in drawn:
                text = captions.get(file.name) or f"{file.stem.replace('_', ' ')} of: {results['title']}"
                main.pictures.append(Picture(file.read_bytes(), text, f"{text} {_numbers_beside(main.tables)}".strip()))
    return [main]


def _numbers_beside(tables: list[Table]) -> str:
    """Tell the first rows of the first table of numbers, for readers who do not see the figure that was drawn from it."""
    for table in tables:
        if table.title != "Claims" and table.rows:
            rows = "; ".join(
                ", ".join(f"{column} {cell}" for column, cell in zip(table.columns, row, strict=False))
                for row in table.rows[:4]
            )
            return f"Numbers of the table {table.title!r}: {rows}."
    return ""


def quietly(make: Any, *arguments: Any) -> tuple[Any, list[str]]:
    """Call with matplotlib's own settings, and return the result and the warnings."""
    with warnings.catch_warnings(record=True) as caught, mpl.rc_context():
        warnings.simplefilter("always")
        made = make(*arguments)
    return made, list(dict.fromkeys(f"{type(w.message).__name__}: {w.message}" for w in caught))
