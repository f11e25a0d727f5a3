"""Connect pages, tutorials and gallery to the build: what is run, what can be downloaded, and where links lead."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import reference

import neurobridge as nb

#: Page of the site -> the file at the top of the repository that it shows.
COPIES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
#: Themes of the gallery, in the order in which they are shown; others follow.
THEMES = (
    "aligning", "unpaired", "flow", "scale", "features", "comparing", "ceilings", "decoding", "figures",
)  # fmt: skip


def by_theme(folder: str) -> tuple[int, str]:
    """Sort the folders of the gallery by THEMES."""
    name = Path(folder).name
    return (THEMES.index(name) if name in THEMES else len(THEMES), name)


def runnable_scripts(folders: list[Path]) -> list[Path]:
    """Return the scripts whose data are at hand; the others are shown without being run, and named.

    NEUROBRIDGE_DOCS_DOWNLOAD=1 runs all of them: data that are not at hand are downloaded.
    """
    scripts = sorted(path for folder in folders for path in folder.rglob("plot_*.py"))
    if os.environ.get("NEUROBRIDGE_DOCS_DOWNLOAD") == "1":
        return scripts
    runnable = []
    for script in scripts:
        names = re.findall(r"nb\.load\(\s*\"([^\"]+)\"", script.read_text(encoding="utf-8"))
        missing = sorted({name for name in names if not _at_hand(name)})
        if missing:
            print(f"not run: {script.name}, which reads {', '.join(missing)}. Mend: make docs MIRROR=DIR")
        else:
            runnable.append(script)
    return runnable


def _at_hand(name: str) -> bool:
    return any(path is not None for path in nb.datasets.locate(name).values())


def reset_figures(gallery_conf: dict[str, Any], file: str) -> None:
    """Give every script the same settings of figures."""
    mpl.rcdefaults()
    mpl.use("Agg")
    mpl.rcParams.update({"figure.dpi": 100, "savefig.dpi": 100})


# -- Pages as notebooks ------------------------------------------------------------------------------------------------


def cells(text: str) -> Iterator[tuple[str, str]]:
    """Divide a page into cells: ("markdown" | "code", source)."""
    rest = 0
    for block in re.finditer(r"^```(python|console)\n(.*?)^```\n?", text, flags=re.DOTALL | re.MULTILINE):
        if prose := text[rest : block.start()].strip():
            yield "markdown", prose
        if block[1] == "python":
            yield "code", block[2].strip()
        else:
            commands = [line[2:] for line in block[2].splitlines() if line.startswith("$ ")]
            yield "code", "\n".join(f"!{command}" for command in commands)
        rest = block.end()
    if prose := text[rest:].strip():
        yield "markdown", prose


def notebook(text: str) -> dict[str, Any]:
    """Return a page as a Jupyter notebook (format 4.5): commands become cells with an exclamation mark."""
    content = []
    for number, (kind, source) in enumerate(cells(text)):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source}
        content.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": content, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def write_notebooks(app: Any) -> None:
    """Write the tutorials that are pages as notebooks, which they link to."""
    folder = Path(app.srcdir) / "auto_notebooks"
    folder.mkdir(exist_ok=True)
    for page in (Path(app.srcdir) / "tutorials").glob("*.md"):
        if page.stem != "index":
            text = json.dumps(notebook(page.read_text(encoding="utf-8")), indent=1) + "\n"
            (folder / f"{page.stem}.ipynb").write_text(text, encoding="utf-8")


# -- Links to files of the repository ----------------------------------------------------------------------------------


def link_sources(app: Any, docname: str, source: list[str]) -> None:
    """Name files outside docs/ instead of linking to them, and offer tutorials as notebooks."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    docs = Path(app.srcdir)
    if docname in COPIES:
        copied = docs.parent / COPIES[docname]
        app.env.note_dependency(str(copied))
        source[0] = copied.read_text(encoding="utf-8").replace("](docs/", "](") + source[0]
        # Links of a file at the top lead to its neighbours.
        source[0] = re.sub(r"\]\((?!https?:|#|mailto:)([A-Za-z_.][^)#\s]*)\)", _above(docs), source[0])
    if docname == "howto":
        source[0] = source[0].replace("migration\nhowto/*", "migration\n" + "\n".join(_unlisted(docs)) + "\nhowto/*")

    def named(match: re.Match[str]) -> str:
        file = (path.parent / match[2]).resolve()
        if docs in file.parents or file == docs or not file.is_relative_to(docs.parent):
            return match[0]
        name = file.relative_to(docs.parent).as_posix()
        return match[1] if match[1].strip("`") == name else f"{match[1]} (`{name}`)"

    source[0] = re.sub(r"\[([^\]]*)\]\((\.\./[^)#\s]+)\)", named, source[0])
    source[0] = re.sub(r"^([a-z]*/?)\*$", functools.partial(_matched, path), source[0], flags=re.MULTILINE)
    source[0] = link_names(source[0], docname)
    if path.parent.name == "tutorials" and path.stem != "index":
        link = f"{{download}}`Download as a notebook <../auto_notebooks/{path.stem}.ipynb>`"
        source[0] = re.sub(r"\A(# .*\n)", rf"\1\n{link}\n", source[0])


def _matched(path: Path, match: re.Match[str]) -> str:
    """Leave out a pattern of a table of contents that no further page matches: Sphinx warns of those."""
    listed = path.read_text(encoding="utf-8").splitlines()
    pages = (path.parent / match[1]).glob("*.md")
    return match[0] if any(page != path and page.stem not in listed for page in pages) else ""


def link_names(text: str, docname: str) -> str:
    """Link inline code that names a public object (`nb.predictivity`) to its page; code blocks and headings stay."""
    if docname == "changelog":
        return text
    full = _full_names()

    def role(match: re.Match[str]) -> str:
        return f"{{py:obj}}`{match[1]} <{full[match[1]]}>`" if match[1] in full else match[0]

    lines, fenced = [], False
    for line in text.splitlines(keepends=True):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if fenced or line.startswith("#") or ("](" in line and re.search(r"\[[^\]]*`nb\.", line)):
            lines.append(line)
        else:
            lines.append(re.sub(r"(?<![`{}])`(nb\.[A-Za-z_.]+)`(?!`)", role, line))
    return "".join(lines)


@functools.cache
def _full_names() -> dict[str, str]:
    names = {}
    for namespace, groups in reference.namespaces().items():
        for name, full in (entry for group in groups.values() for entry in group):
            names[f"nb.{namespace}.{name}".replace("..", ".")] = full
    return names


def _above(docs: Path) -> Any:
    def link(match: re.Match[str]) -> str:
        return match[0] if (docs / match[1]).exists() else f"](../{match[1]})"

    return link


def _unlisted(docs: Path) -> list[str]:
    """Return the pages that no section lists yet: they stand under How-to until somebody places them."""
    listed = "\n".join(
        path.read_text(encoding="utf-8") for path in docs.glob("*.md") if "{toctree}" in path.read_text()
    )
    names = set(re.findall(r"^(?:[^<\n]*<)?([\w/]+)>?$", listed, flags=re.MULTILINE))
    return sorted(path.stem for path in docs.glob("*.md") if path.stem not in names | {"index"})


def skip_inherited(app: Any, kind: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn, pydantic, torch and Python document themselves."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    module = getattr(getattr(thing, "fget", thing), "__module__", None) or ""
    return True if module and not module.startswith("neurobridge") else None


def connect(app: Any) -> None:
    """Connect the steps above to Sphinx."""
    app.connect("builder-inited", write_notebooks, priority=100)
    app.connect("source-read", link_sources)
    app.connect("autodoc-skip-member", skip_inherited)
