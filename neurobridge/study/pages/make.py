"""Any result, set of results or folder as one self-contained HTML page."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import xarray as xr

from neurobridge.figures.dispatch import kind_of
from neurobridge.store.atomic import write_text
from neurobridge.study.pages import sections, sources
from neurobridge.study.pages.parts import Page
from neurobridge.study.pages.reading import RESULTS, is_results, read_result, results_in

_LOG = logging.getLogger(__name__)
_TEMPLATE = Path(__file__).with_name("page.html.j2")


def report(results: Any, out: str | os.PathLike[str] = "report.html", *, title: str = "") -> Path:
    """Write one self-contained HTML page on any result of the package.

    The page says in words what was found, and holds the figures with captions and alternative texts, tables that can be sorted and
    saved as csv, the files with their digests and licences, a paragraph of methods with its references in BibTeX, warnings and
    versions. It asks for nothing outside itself, and reads on a phone, in the dark and on paper.

    Parameters
    ----------
    results : object, or path
        A Score; a mapping of methods to Scores or a sequence of them; what `neurobridge.learning_curve`, `select_layer`,
        `internal_consistency` or a comparison of models returned; a Coupling, an aligner, a diagnosis, a table. Or a file, a
        folder, or a sequence of these: netCDF files, saved aligners, ``scores.json`` and the figures beside it.
    out : path
        Page to write; a folder gets ``report.html``.
    title : str
        By default what the result says itself.

    Returns
    -------
    pathlib.Path
        The page; it needs no other file.

    Raises
    ------
    FileNotFoundError
        A folder without results, or no file.
    ValueError
        Nothing that a page can show; ``scores.json`` that is not what a demo, a curve or an experiment writes.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> X = np.random.default_rng(0).normal(size=(40, 3))  # simulated
    >>> nb.report(nb.aligners.RidgeAligner().fit(X, 2 * X), out="ridge.html").name
    'ridge.html'
    """
    out = Path(out)
    if out.is_dir() or (not out.suffix and not out.is_file()):
        out = out / "report.html"
    page = write_text(out, render(page_of(results, title)))
    _LOG.info("wrote %s", page)
    return page


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a results folder: its tables, its figures, and how they were made.

    Parameters
    ----------
    folder : path
        Holds ``scores.json``, as `neurobridge demo` writes it, netCDF files of Scores, or a saved aligner; and PNG figures.

    Returns
    -------
    pathlib.Path
        The page; it needs no other file.

    Raises
    ------
    FileNotFoundError
        The folder has no results.
    ValueError
        ``scores.json`` is not what a demo or an experiment writes.

    Examples
    --------
    >>> import json, pathlib
    >>> pathlib.Path("results").mkdir()
    >>> scores = {"title": "Nothing yet", "note": "", "tables": [], "run": {}}
    >>> _ = pathlib.Path("results/scores.json").write_text(json.dumps(scores))
    >>> write_report("results").name
    'report.html'
    """
    return report(Path(folder), Path(folder) / "report.html")


def page_of(results: Any, title: str = "") -> Page:
    """Gather the page of a result.

    Raises
    ------
    FileNotFoundError, ValueError
        As `report`.
    """
    folders: dict[str, Path] = {}
    unread: list[str] = []
    paths = [results] if isinstance(results, str | os.PathLike) else results
    if _are_paths(paths):
        things, folders, unread = _read(list(map(Path, paths)))
    else:
        things = _named(results)
    page = Page("")
    for name, thing in things.items():
        if is_results(thing):
            page.title, page.run = page.title or str(thing["title"]), json.dumps(thing["run"], indent=2, default=str)
            page.warnings += [str(line) for line in thing.get("warnings", [])]
            drawn = {other.removeprefix(name.removesuffix(RESULTS)) for other in things}
            page.sections += sections.section_of_results(thing, folders.get(name), drawn)
            citation = thing["run"].get("citation")
            page.references += [str(citation).strip()] if citation else []
        else:
            section, caught = sections.quietly(sections.section_of, name, thing)
            page.sections.append(section)
            page.warnings += caught
    flat = [inner for thing in things.values() for inner in (thing.values() if _is_set(thing) else [thing])]
    page.title = title or page.title or _title(things)
    page.provenance, citations = sources.provenance(sources.digests_of(flat))
    page.methods, references = sources.methods(flat)
    page.references = list(dict.fromkeys([*page.references, *citations, *references]))
    page.warnings = list(dict.fromkeys([*unread, *sources.notes_on(flat), *page.warnings]))
    page.versions = sources.versions(flat)
    return page


def _are_paths(things: Any) -> bool:
    return (
        isinstance(things, Sequence)
        and not isinstance(things, str)
        and len(things) > 0
        and all(isinstance(path, str | os.PathLike) for path in things)
    )


def _read(paths: list[Path]) -> tuple[dict[str, Any], dict[str, Path], list[str]]:
    """Read files and folders: results by name, folders of the figures beside ``scores.json``, and what could not be read."""
    things: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    unread: list[str] = []
    for path in paths:
        several = len(paths) > 1
        if path.is_dir() and path.suffix != ".zarr":
            inside, lines = results_in(path)
            unread += lines
            things |= {f"{path}/{name}" if several else name: thing for name, thing in inside.items()}
            folders[f"{path}/{RESULTS}" if several else RESULTS] = path
            continue
        name = str(path) if several else RESULTS if path.suffix == ".json" else path.stem
        things[name] = read_result(path)
        if path.name == RESULTS:
            folders[name] = path.parent
    return things, folders, unread


def _is_set(thing: Any) -> bool:
    return isinstance(thing, Mapping) and not isinstance(thing, xr.Dataset) and not is_results(thing)


def _named(results: Any) -> dict[str, Any]:
    """Return the results of a page by their names: one figure for methods that belong together, else a section each."""
    if is_results(results):
        return {RESULTS: results}
    if isinstance(results, Sequence) and not isinstance(results, str):
        names = [
            str(getattr(score, "attrs", {}).get("metric", f"result {k}")) for k, score in enumerate(results, start=1)
        ]
        repeated = {name for name in names if names.count(name) > 1}
        results = {
            f"{name} ({k})" if name in repeated else name: results[k - 1] for k, name in enumerate(names, start=1)
        }
    if not _is_set(results):
        # A comparison of models holds its Scores and its table.
        parts = {name: getattr(results, name, None) for name in ("scores", "table")}
        if isinstance(parts["scores"], Mapping) or isinstance(parts["table"], pd.DataFrame):
            return {
                **(_named(parts["scores"]) if isinstance(parts["scores"], Mapping) else {}),
                **({"Comparison": parts["table"]} if isinstance(parts["table"], pd.DataFrame) else {}),
            }
        return {_name_of(results): results}
    if not results:
        raise ValueError(
            "report: found no results; expected at least one. Mend: report(nb.predictivity(source, target))."
        )
    try:
        kind_of(results)
    except ValueError:
        return {str(name): thing for name, thing in results.items()}
    return {" and ".join(map(str, results)) if len(results) < 4 else f"{len(results)} methods": results}


def _name_of(thing: Any) -> str:
    if isinstance(thing, xr.Dataset | xr.DataArray):
        return str(thing.attrs.get("metric") or getattr(thing, "name", None) or "Result")
    return type(thing).__name__


def _title(things: Mapping[str, Any]) -> str:
    names = [name for name in things if name != RESULTS]
    return f"Report: {'; '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def render(page: Page) -> str:
    """Write a page as HTML; all text is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(page=page)
