"""The server without its reader: `python -m tests.support.careless serve …` is `maquette serve …`, except that pycrdt
gets the bytes of clients before anything has judged them, and what came is read back.

So updates that G1 keeps out really hang and really crash the process that serves, in native code.
"""

from __future__ import annotations

from typing import Any

import pycrdt

from maquette.engine import document
from maquette.engine.update import Limits, Update, read_update
from maquette.server.cli import main

ROOT = "m"  # of the known attacks
NAME = "read_update"  # as documents call it


def trust() -> None:
    """Switch the reader off."""

    def trusting(data: bytes, limits: Limits) -> Update:
        scratch: pycrdt.Doc[Any] = pycrdt.Doc()
        scratch.apply_update(data)
        if ROOT in scratch.keys():  # noqa: SIM118  (not a dict)
            scratch.get(ROOT, type=pycrdt.Map).to_py()
        return read_update(data, limits)

    setattr(document, NAME, trusting)


if __name__ == "__main__":
    trust()
    main()
