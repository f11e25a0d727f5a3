"""Write the sources of the API reference: a page for each namespace, made from the names that it exports.

An object that stands in several namespaces is documented once, at the top level where it is there, and
linked from the others.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

#: Namespace -> one line for the table of the reference.
TITLES = {
    "": "What is used most",
    "assemblies": "Labelled arrays: making, reading, saving, matching",
    "datasets": "Real and simulated data, with licence and digests",
    "features": "Activations of networks, captions and sounds",
    "aligners": "Alignment of labelled arrays, and its baselines",
    "evaluate": "Scores, ceilings, comparisons",
    "splits": "Held-out stimuli, animals and conditions",
    "decoding": "Readouts, within and across spaces, in time",
    "similarity": "RDMs, RSA, CKA and other measures of geometry",
    "figures": "Figures and their captions",
    "brainscore": "Brain-Score's interfaces",
    "study": "Experiments, demo and reports",
    "bridge": "Plain arrays: cost, transport, fused bridge, diagnosis",
    "flow": "Plain arrays: conditional flow matching",
}
GROUPS = ("Functions", "Classes", "Constants", "Errors and warnings")


def _group(thing: Any) -> str:
    if inspect.isclass(thing):
        return GROUPS[3] if issubclass(thing, BaseException) else GROUPS[1]
    return GROUPS[0] if inspect.isroutine(thing) else GROUPS[2]


def _names(module: Any) -> list[str]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return sorted((name for name in names if not name.startswith("_")), key=str.lower)


def namespaces() -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Return namespace -> group -> (name, full name of where it is documented)."""
    documented: dict[int, str] = {}
    pages: dict[str, dict[str, list[tuple[str, str]]]] = {}
    # The short namespaces by task come before `evaluate`, which has their names, too.
    order = ["", "splits", "decoding", "similarity", *(name for name in TITLES if name)]
    for namespace in dict.fromkeys(order):
        dotted = f"neurobridge.{namespace}".rstrip(".")
        module = importlib.import_module(dotted)
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for name in _names(module):
            thing = getattr(module, name)
            if inspect.ismodule(thing) or name == "NAMESPACES":
                continue
            full = documented.setdefault(id(thing), f"{dotted}.{name}")
            groups[_group(thing)].append((name, full))
        pages[namespace] = groups
    return {name: pages[name] for name in TITLES}


def aliases(sites: dict[str, Any]) -> dict[str, str]:
    """Return word of a type -> what it links to: our classes, and the objects of the kept inventories."""
    from numpydoc.xref import DEFAULT_LINKS

    links = {word: word for word in DEFAULT_LINKS}
    links |= {name: f":py:obj:`{name} <{full}>`" for page in namespaces().values() for name, full in page["Classes"]}
    for entry in sites.values():
        for page in entry["pages"]:
            links |= {name: f":{page['role'].replace('exception', 'exc').replace('function', 'func')}:`{name}`"
                      for name in page["names"] if page["role"] != "py:function"}  # fmt: skip
    arrays, tensors = ":py:class:`{} <numpy.ndarray>`", ":py:class:`{} <torch.Tensor>`"
    links |= {word: arrays.format(word) for word in ("array", "arrays")}
    links |= {word: tensors.format(word) for word in ("tensor", "tensors")}
    return links | {"path": ":py:class:`path <pathlib.Path>`", "Path": ":py:class:`path <pathlib.Path>`"}


def constant(full: str) -> list[str]:
    """Return the `#:` comment above the line that assigns a constant, with the keys of a table of choices."""
    module, _, name = full.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    lines = _comment(name, value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        lines += ["", "Keys: " + ", ".join(f"``{key}``" for key in value) + "."]
    return lines


def _comment(name: str, value: Any) -> list[str]:
    import sys

    for dotted, module in list(sys.modules.items()):
        if not dotted.startswith("neurobridge.") or vars(module).get(name) is not value:
            continue
        file = getattr(module, "__file__", None)
        if file is None:
            continue
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        for k, line in enumerate(lines):
            if line.startswith((f"{name}:", f"{name} =")):
                start = k
                while start and lines[start - 1].startswith("#:"):
                    start -= 1
                if start < k:
                    return [text.removeprefix("#:").strip() for text in lines[start:k]]
    return []


def _table(title: str, names: list[tuple[str, str]], dotted: str) -> list[str]:
    here = [name for name, full in names if full == f"{dotted}.{name}"]
    elsewhere = [(name, full) for name, full in names if full != f"{dotted}.{name}"]
    lines = [title, "-" * len(title), ""]
    if here and title == "Constants":
        for name in here:
            lines += [f".. py:data:: {name}", "", *(f"   {line}".rstrip() for line in constant(f"{dotted}.{name}")), ""]
    elif here:
        lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", "", *(f"   {n}" for n in here), ""]
    if elsewhere:
        links = ", ".join(f":py:obj:`{name} <{full}>`" for name, full in elsewhere)
        lines += [f"Also here: {links}.", ""]
    return lines


def write(folder: Path) -> None:
    """Write the pages of the reference below `folder`, and touch none that did not change."""
    folder.mkdir(parents=True, exist_ok=True)
    index = ["API", "===", "", INTRODUCTION, "", ".. list-table::", "   :widths: 25 75", ""]
    tree = [".. toctree::", "   :hidden:", ""]
    for namespace, groups in namespaces().items():
        dotted = f"neurobridge.{namespace}".rstrip(".")
        short, file = f"nb.{namespace}".rstrip("."), namespace or "top"
        title = f"{short}: {TITLES[namespace][0].lower()}{TITLES[namespace][1:]}"
        if namespace == "similarity":
            title = f"{short}: {TITLES[namespace]}"
        page = [title, "=" * len(title), "", f".. currentmodule:: {dotted}", ""]
        module = importlib.import_module(dotted)
        page += [inspect.getdoc(module) or "", ""]
        for group, names in groups.items():
            page += _table(group, names, dotted) if names else []
        _write(folder / f"{file}.rst", "\n".join(page) + "\n")
        index += [f"   * - :doc:`{short} <{file}>`", f"     - {TITLES[namespace]}"]
        tree += [f"   {short} <{file}>"]
    index += ["", *tree]
    _write(folder / "index.rst", "\n".join(index) + "\n")


INTRODUCTION = """For everyone who writes Python with neurobridge. Every public function and class has a page with its
parameters, shapes, units, errors and an example that the tests run. ``import neurobridge as nb`` loads nothing until it
is used. ``bridge`` and ``flow`` take plain arrays; the other namespaces take labelled ones."""


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
