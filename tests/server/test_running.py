"""`server.json`: where commands find the server."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maquette.server.running import Running, announced, find


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_l7_a_server_that_finds_no_room_for_its_name_serves_without(tmp_path: Path) -> None:
    served = []
    with no_room(), announced(tmp_path, Running("http://127.0.0.1:8000", os.getpid(), "operator")):
        served.append(find(tmp_path))
    assert served == [None]
    assert list(tmp_path.iterdir()) == []
