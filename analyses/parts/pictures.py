"""Files of the figures that the pages show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurobridge import figures


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as PNG alone, which is what the pages show, and close it."""
    for file in figures.save_figure(figure, path.parent, path.stem)[1:]:
        file.unlink()
