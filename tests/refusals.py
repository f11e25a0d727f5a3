"""The way in which tests check an error or a warning: its class, the facts in its message, in any order, and a way out."""

from __future__ import annotations

import re
from typing import Any

import pytest


def refused(error: type[Exception], *facts: object) -> Any:
    """Return a context in which an error of a class is raised that names every fact and what mends it."""
    pattern = "".join(f"(?=.*{re.escape(str(fact))})" for fact in (*facts, "Mend:"))
    return pytest.raises(error, match=f"(?s){pattern}")


def warned(category: type[Warning], *facts: object) -> Any:
    """Return a context in which a warning of a class is given that names every fact."""
    return pytest.warns(category, match="(?s)" + "".join(f"(?=.*{re.escape(str(fact))})" for fact in facts))
