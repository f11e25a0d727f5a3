"""The error of a manifest that cannot be used, and the lines of a TOML document that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

Location = tuple[int | str, ...]


class ManifestError(ValueError):
    """A manifest, or its table of members, that cannot be used; the message names the file, the line and the field."""


def lines_of(text: str) -> dict[Location, tuple[int, list[str]]]:
    """Return the first line (from 1) and the text of every table and key of a TOML document, by its path.

    Each statement is the shortest run of lines that is TOML by itself, so that the parser, not a pattern, says where it ends.
    """
    statements: dict[Location, tuple[int, list[str]]] = {}
    table: Location = ()
    counts: dict[Location, int] = {}
    statement: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement.append(line)
        try:
            parsed = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        start, whole, statement = number - len(statement) + 1, statement, []
        if whole[0].lstrip().startswith("["):
            table = ()
            while parsed:
                ((key, inner),) = parsed.items()
                table = (*table, key)
                if isinstance(inner, list):
                    counts[table] = counts.get(table, -1) + 1
                    table, inner = (*table, counts[table]), inner[0]
                elif table in counts:
                    table = (*table, counts[table])
                parsed = inner
            statements[table] = (start, whole)
        else:
            for path in _paths(parsed):
                statements[(*table, *path)] = (start, whole)
    return statements


def _paths(value: Mapping[str, Any]) -> list[Location]:
    paths: list[Location] = []
    for key, inner in value.items():
        paths += [(key,), *((key, *path) for path in (_paths(inner) if isinstance(inner, Mapping) else []))]
    return paths


def line_of(lines: Mapping[Location, tuple[int, list[str]]], location: Location, value: Any) -> int:
    """Return the line of a field, or of its table where the field is missing, or 1 where both are."""
    for n in range(len(location), 0, -1):
        if location[:n] in lines:
            start, whole = lines[location[:n]]
            # In an array over several lines, the element that is wrong.
            inside = [k for k, line in enumerate(whole) if isinstance(value, str) and value and value in line]
            return start + (inside[0] if inside else 0)
    return 1
