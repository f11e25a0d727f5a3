"""Refusal before allocation: what an operation would take, and what to use instead."""

from __future__ import annotations


def check_memory(
    needed: float, limit: float, what: str, *, mend: str = "use method='factored', which never builds it"
) -> None:
    """Refuse an allocation above a stated limit before making it."""
    if needed > limit:
        raise MemoryError(
            f"found {what}, which needs {needed / 1e9:.2f} GB; expected at most {limit / 1e9:.2f} GB. "
            f"Mend: {mend}, or raise memory_limit."
        )
