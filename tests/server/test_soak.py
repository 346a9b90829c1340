"""A server whose documents come and go keeps its memory (D7): a short soak. `benchmarks/soak.py` is the long one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.support.soak import growth, soak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_d7_documents_that_come_and_go_leave_the_memory_as_it_was(tmp_path: Path) -> None:
    found = [memory async for memory in soak(tmp_path, documents=60, cycles=5, edits=6)]
    rss, _ = growth(found)
    assert rss < 0.05, [str(one) for one in found]
