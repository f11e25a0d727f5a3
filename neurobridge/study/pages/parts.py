"""Parts of a page: tables, pictures, sections, and the page itself."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

#: Dots an inch of the figures of a page.
DPI = 150


@dataclass(frozen=True)
class Table:
    """A table of a page; it can be sorted there and saved as csv."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def csv(self) -> str:
        """The table as a link to a csv file."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([self.columns, *self.rows])
        return "data:text/csv;charset=utf-8," + quote(text.getvalue())


@dataclass(frozen=True)
class Picture:
    """A figure of a page with its caption and the text for readers who do not see it."""

    png: bytes
    caption: str
    alt: str

    @property
    def source(self) -> str:
        """The picture as a data address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def width(self) -> int:
        """Width in pixels of a screen, 96 an inch; 576 where the file has no header of a PNG."""
        header = self.png[:24]
        return round(int.from_bytes(header[16:20], "big") * 96 / DPI) if header[12:16] == b"IHDR" else 576


@dataclass
class Section:
    """One result of a page."""

    title: str
    findings: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass
class Page:
    """A page: the results, and all that a reader needs to judge and to cite them."""

    title: str
    lead: str = ""
    sections: list[Section] = field(default_factory=list)
    provenance: list[Table] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    versions: list[tuple[str, str]] = field(default_factory=list)
    run: str = ""
