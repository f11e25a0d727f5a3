"""Write the intersphinx inventories from names.toml, in the format of Sphinx (version 2).

They hold the names that pages and docstrings use and no others, so that the site is built without a network:

    python docs/_inventories/write.py
"""

from __future__ import annotations

import tomllib
import zlib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def projects() -> dict[str, dict[str, Any]]:
    """Return project -> its site and its objects, as names.toml lists them."""
    return tomllib.loads((FOLDER / "names.toml").read_text(encoding="utf-8"))


def inventory(project: str, pages: list[dict[str, Any]]) -> bytes:
    """Return an inventory of version 2: four lines of text, then compressed lines, one an object."""
    lines = [
        f"{name} {page['role']} 1 {page['page'].format(name=name)} -\n"
        for page in pages
        for name in sorted(page["names"])
    ]
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: stable\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    return head.encode() + zlib.compress("".join(lines).encode(), 9)


if __name__ == "__main__":
    for project, entry in projects().items():
        (FOLDER / f"{project}.inv").write_bytes(inventory(project, entry["pages"]))
