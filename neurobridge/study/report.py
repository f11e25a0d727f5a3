"""A self-contained HTML page from a results folder."""

from __future__ import annotations

import base64
import html
import json
import os
from pathlib import Path
from typing import Any

from neurobridge.store.atomic import write_text

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "img{max-width:100%}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border-bottom:1px solid #ccc;padding:.2rem .8rem;text-align:right}td:first-child,th:first-child{text-align:left}"
)
_FIELDS: dict[str, type] = {"title": str, "note": str, "tables": list, "run": dict}
_TABLE: dict[str, type] = {"title": str, "columns": list, "rows": list}


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a results folder: its tables, its figures, and how they were made.

    Parameters
    ----------
    folder : path
        Holds ``scores.json``, as `neurobridge demo` writes it, and PNG figures.

    Returns
    -------
    pathlib.Path
        The page; it needs no other file.

    Raises
    ------
    FileNotFoundError
        The folder has no ``scores.json``.
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
    folder = Path(folder)
    scores = folder / "scores.json"
    if not scores.exists():
        raise FileNotFoundError(
            f"found no scores.json in {folder}; expected a results folder. Mend: neurobridge demo --out {folder}"
        )
    results = _read_results(scores)
    parts = [f"<h1>{html.escape(results['title'])}</h1>", f"<p>{html.escape(results['note'])}</p>"]
    for table in results["tables"]:
        parts.append(f"<h2>{html.escape(table['title'])}</h2>{_table(table['columns'], table['rows'])}")
    for figure in sorted(folder.glob("*.png")):
        encoded = base64.b64encode(figure.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(figure.stem)}" src="data:image/png;base64,{encoded}">')
    parts.append(f"<h2>How it was made</h2><pre>{html.escape(json.dumps(results['run'], indent=2))}</pre>")
    page = folder / "report.html"
    head = f'<meta charset="utf-8"><title>{html.escape(results["title"])}</title><style>{_STYLE}</style>'
    return write_text(page, f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>")


def _read_results(path: Path) -> dict[str, Any]:
    """Read scores.json, and refuse what is not a page's title, note, tables and run."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _no_results(path, f"text that is not JSON ({type(error).__name__}: {error})") from error
    if not isinstance(results, dict):
        raise _no_results(path, f"a JSON {type(results).__name__}")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(results.get(name), kind)]
    if wrong:
        raise _no_results(path, f"fields {sorted(results)}, of which {', '.join(wrong)} cannot be used")
    for number, table in enumerate(results["tables"]):
        if not (isinstance(table, dict) and all(isinstance(table.get(name), kind) for name, kind in _TABLE.items())):
            raise _no_results(path, f"table {number} without {', '.join(_TABLE)}")
        if not all(isinstance(row, list) for row in table["rows"]):
            raise _no_results(path, f"table {number} with rows that are no lists")
    return results


def _no_results(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: found {what}; expected {', '.join(_FIELDS)}, as neurobridge demo and neurobridge run write them. "
        f"Mend: neurobridge demo --out FOLDER, then neurobridge report FOLDER."
    )


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
