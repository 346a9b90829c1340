"""Limits that a process sets itself: what it takes beyond them, the system ends it for."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.platform != "win32":
    import resource


def limit_processor(seconds: float | None) -> None:
    """Allow so much more processor time from now on; None lifts the limit. Nothing on Windows, which has none."""
    if sys.platform == "win32":
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set(resource.RLIMIT_CPU, -1 if seconds is None else int(used.ru_utime + used.ru_stime + seconds) + 1)


def limit_memory(size: int | None) -> None:
    """Allow so many bytes more from now on; None lifts the limit. Nothing where nobody knows what is taken already."""
    if sys.platform == "win32":
        return
    statm = Path("/proc/self/statm")
    if statm.exists():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        _set(resource.RLIMIT_AS, -1 if size is None else taken + size)


def _set(limit: int, most: int) -> None:
    assert sys.platform != "win32"
    hard = resource.getrlimit(limit)[1]
    soft = hard if most < 0 else most if hard < 0 else min(most, hard)
    resource.setrlimit(limit, (soft, hard))
