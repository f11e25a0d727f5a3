"""Progress bars: one switch for all of them, and one function that makes them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

#: Where this variable of the environment is set to 1, no bar is shown, whatever a call asks for.
NO_PROGRESS = "NEUROBRIDGE_NO_PROGRESS"

_inner: ContextVar[bool] = ContextVar("inner progress", default=False)


def progress_bar(iterable: Iterable[Any] | None = None, *, progress: bool | None, **options: Any) -> Any:
    """Make a progress bar on stderr; it is shown on a terminal only, unless the environment forbids it.

    Parameters
    ----------
    iterable : iterable, optional
        As `tqdm.tqdm` takes it.
    progress : bool or None
        The switch of the caller: show the bar. None, of steps inside a fit, shows it where `showing` says so.
    **options
        Of `tqdm.tqdm`: ``desc``, ``total``, ``unit``, ``leave``, ...

    Returns
    -------
    tqdm.tqdm

    Examples
    --------
    >>> from neurobridge.points.progress import progress_bar
    >>> list(progress_bar([1, 2], progress=False))
    [1, 2]
    """
    shown = _inner.get() if progress is None else progress
    # tqdm takes None for "on a terminal only".
    disable = True if not shown or os.environ.get(NO_PROGRESS) == "1" else None
    return tqdm(iterable, disable=disable, **options)


def write_above(text: str, *, progress: bool) -> None:
    """Write a line to stderr above the bars that are shown there, unless the environment forbids bars.

    Parameters
    ----------
    text : str
    progress : bool
        The switch of the caller.

    Examples
    --------
    >>> from neurobridge.points.progress import write_above
    >>> write_above("waiting", progress=False)
    """
    if progress and os.environ.get(NO_PROGRESS) != "1":
        tqdm.write(text, file=sys.stderr)


@contextmanager
def showing(progress: bool) -> Iterator[None]:
    """Show, or hide, the bars of the steps of whatever is fitted inside.

    Parameters
    ----------
    progress : bool

    Examples
    --------
    >>> from neurobridge.points.progress import showing
    >>> with showing(True):
    ...     pass
    """
    token = _inner.set(bool(progress))
    try:
        yield
    finally:
        _inner.reset(token)
