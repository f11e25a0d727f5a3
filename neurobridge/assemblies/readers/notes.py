"""Notes of a reading: what was read, what was guessed, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Notes:
    """Sentences about one reading, which the assembly carries in its attributes and the command line prints.

    Attributes
    ----------
    guessed : list of str
        Choices that the caller did not make, each with the option that makes another.
    left_out : list of str
        Parts of the files that are not in the assembly.
    mapped : set of str
        Names of ``columns`` that were used.

    Examples
    --------
    >>> notes = Notes()
    >>> notes.guess("the column 'image' holds the stimulus ids")
    >>> notes.attrs()
    {'guessed': ["the column 'image' holds the stimulus ids"]}
    """

    guessed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    mapped: set[str] = field(default_factory=set)

    def guess(self, sentence: str) -> None:
        """Note a guess, once."""
        if sentence not in self.guessed:
            self.guessed.append(sentence)

    def leave_out(self, sentence: str) -> None:
        """Note what is left out, once."""
        if sentence not in self.left_out:
            self.left_out.append(sentence)

    def attrs(self) -> dict[str, Any]:
        """Return the notes as attributes of an assembly."""
        lists = {"guessed": self.guessed, "left_out": self.left_out}
        return {name: list(sentences) for name, sentences in lists.items() if sentences}


def some(names: Any, most: int = 6) -> str:
    """Return names with commas, the first of many.

    Examples
    --------
    >>> some(range(9), 3)
    '0, 1, 2 and 6 more'
    """
    listed = [str(name) for name in names]
    if len(listed) <= most + 1:
        return ", ".join(listed)
    return f"{', '.join(listed[:most])} and {len(listed) - most} more"
