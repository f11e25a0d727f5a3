"""Memory of the process, and facts of the machine it runs on."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def peak_rss() -> int:
    """Return the largest resident memory of this process so far.

    Returns
    -------
    int
        Bytes.

    Examples
    --------
    >>> from neurobridge.study import peak_rss
    >>> peak_rss() > 1e7
    True
    """
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss starts at the peak of the process that started this one.
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine_facts() -> dict[str, Any]:
    """Return the versions, processor and thread count that numbers may depend on.

    Returns
    -------
    dict
        ``python``, ``torch``, ``numpy``, ``xarray``, ``processor`` and ``threads`` (those of torch; None where nothing used it).

    Examples
    --------
    >>> from neurobridge.study import machine_facts
    >>> sorted(machine_facts())
    ['numpy', 'processor', 'python', 'threads', 'torch', 'xarray']
    """
    # A run without torch need not wait for it.
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "xarray": version("xarray"),
        "processor": platform.machine(),
        "threads": None if torch is None else torch.get_num_threads(),
    }
