"""Write docs/datasets.md from the manifests.

python analyses/datasets_page.py
"""

from __future__ import annotations

from pathlib import Path

from neurobridge.datasets import LOADERS, Manifest, list_datasets

PAGE = Path(__file__).resolve().parents[1] / "docs" / "datasets.md"
HEAD = """# Datasets

Made from `data_manifests/` by `python analyses/datasets_page.py`. Nothing here is redistributed: files are fetched from their public
addresses with verification, or taken from a mirror folder laid out `<dataset>/<file>` (`--mirror DIR` or `NEUROBRIDGE_MIRROR`).
"""


def _size(n_bytes: int | None) -> str:
    return "not stated" if n_bytes is None else f"{n_bytes / 1e6:.2f} MB"


def _section(manifest: Manifest) -> str:
    loader = f"`nb.load({manifest.name!r})`" if manifest.name in {*LOADERS, "simulated-hvm"} else "none, files only"
    rows = [
        f"| kind | {manifest.kind} |",
        f"| access | {manifest.access} |",
        f"| licence | {manifest.licence} |",
        f"| loader | {loader} |",
    ]
    rows += [f"| needs | {', '.join(files)} of {name} |" for name, files in manifest.requires.items()]
    parts = [f"## {manifest.name}", f"**{manifest.title}.** {manifest.note}", "| | |\n| :-- | :-- |\n" + "\n".join(rows)]
    if manifest.files:
        lines = []
        for entry in manifest.files:
            where = f"[public]({entry.url})" if entry.url else f"to be supplied: {entry.origin}"
            lines.append(f"| `{entry.name}` | {_size(entry.size)} | {'<br>'.join(f'`{d}`' for d in entry.digests)} | {where} |")
        parts.append("| file | size | digest | address |\n| :-- | --: | :-- | :-- |\n" + "\n".join(lines))
    parts.append(f"```bibtex\n{manifest.citation.strip()}\n```")
    return "\n\n".join(parts)


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.strip(), *map(_section, list_datasets())]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
