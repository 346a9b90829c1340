"""What every test shares: the event loop's backend and the way to the real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real models, chats and traces; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("MAQUETTE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set MAQUETTE_DATA to the folder that holds chat/, models/ and traces/")
    return folder
