"""Collections of garbage stop everybody; a server keeps them short."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

SERVER = """
import atexit, gc, sys
from maquette.server.commandline import run  # what the supervisor starts
atexit.register(lambda: print(gc.get_freeze_count(), file=sys.stderr))
run()
"""


async def test_what_is_loaded_at_the_start_is_left_out_of_collections(tmp_path: Path) -> None:
    arguments = ("serve", "--data", str(tmp_path), "--port", "0", "--dev")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, *arguments, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    while not (line := await process.stdout.readline()).startswith(b"Listening"):
        assert line, "the server ended before it listened"
    process.terminate()
    _, errors = await process.communicate()
    assert int(errors.splitlines()[-1]) > 50_000
