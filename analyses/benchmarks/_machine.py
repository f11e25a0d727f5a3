"""What a benchmark says of the process it ran in."""

from __future__ import annotations

from pathlib import Path


def peak_rss_gb() -> float:
    """Peak of this process. Not ru_maxrss, which starts at the peak of the process that started this one."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in status if line.startswith("VmHWM"))
