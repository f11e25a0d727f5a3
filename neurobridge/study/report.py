"""One self-contained HTML page from a results folder."""

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
    results: dict[str, Any] = json.loads(scores.read_text())
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


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
