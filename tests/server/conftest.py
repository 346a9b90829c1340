"""What the tests of the HTTP side share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.api import Api, serving


@pytest.fixture
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    """A server over a log in memory, or over the one that `on_each_log` names."""
    url = tmp_path / "data" if getattr(request, "param", "memory") == "sqlite" else "memory:"
    async with serving(url, tmp_path / "views") as api:
        yield api
