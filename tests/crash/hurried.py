"""The server itself, in a hurry: `python -m tests.crash.hurried serve …` is what `maquette serve …` supervises, with
smaller numbers.

Documents are evicted, and so snapshots written, as soon as nobody watches; pages turn and the WAL is folded often; so
a second of load has all of it. What failed is tried again soon. MAQUETTE_DIES_AT=`module:name:n:before` (or `after`)
makes the process kill itself with SIGKILL around the nth call of that function: at a point of the code, where no signal
from outside would hit. The disk's and the clock's faults are in `faults.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.crash import faults

from maquette.engine import engine, keeping
from maquette.engine.engine import Engine
from maquette.engine.kinds.chat import PageLimits
from maquette.engine.logs import writer
from maquette.engine.workers import Worker, Workers
from maquette.projections.runner import Runner
from maquette.server.commandline import run

VARIABLE = "MAQUETTE_DIES_AT"

OFTEN = (
    "maquette.engine.logs.writer:insert_events",
    "maquette.engine.logs.writer:put_streams",
    "maquette.engine.logs.writer:Writer._testify",
    "maquette.engine.logs.sqlite:SqliteLog._settle",
    "maquette.engine.document:Document._committed",
    "maquette.projections.store:Store._transact",
)
"""Points that every second of load passes many times."""

SELDOM = (
    "maquette.engine.logs.sqlite:checked_head",
    "maquette.engine.logs.writer:Writer._fold",
    "maquette.engine.folds:Folds._run",
    "maquette.engine.snapshots:SnapshotStore.accept",
    "maquette.engine.snapshots:SnapshotStore.read",
    "maquette.engine.space:_epoch_opened",
    "maquette.engine.assets:AssetStore._settle",
    "maquette.projections.builds:Builds.swap",
    "maquette.projections.builds:Builds.clean",
    "pathlib:Path.replace",
)
"""Points that are passed a few times: openings, foldings, snapshots, page turns, imports, rebuilds, renames."""


class _ReadyWorkers(Workers):
    """Has a worker from the start on: starting one beside the load takes longer than most of these lives."""

    def __init__(self) -> None:
        super().__init__()
        self._idle.append(Worker())


def hurry() -> None:
    """Make the numbers small."""
    setattr(engine, "Workers", _ReadyWorkers)  # noqa: B010  (it is a class to mypy)
    engine.IDLE_SECONDS = 0.1
    keeping.AFTER, keeping.EVERY = 10, 40
    writer.FOLD_PAGES = 60
    writer.PROBE_SECONDS = 0.1
    _defaults(Engine.__init__)["page"] = PageLimits(messages=50)
    _defaults(Runner.open.__func__)["retry_after"] = 0.2  # type: ignore[attr-defined]  # of a classmethod


def _defaults(function: Any) -> dict[str, Any]:
    found = function.__kwdefaults__
    assert isinstance(found, dict)
    return found


def die_at(point: str) -> None:
    """Put SIGKILL around a function: `module:name:n:before` or `:after` its nth call."""
    name, number, when = point.rsplit(":", 2)
    owner, attribute = find(name)
    setattr(owner, attribute, _fatal(getattr(owner, attribute), int(number), when == "before"))


def find(point: str) -> tuple[Any, str]:
    """The module or class, and the name in it, that `module:name` stands for."""
    module, name = point.split(":")
    *owners, attribute = name.split(".")
    owner: Any = import_module(module)
    for one in owners:
        owner = getattr(owner, one)
    return owner, attribute


def _fatal(function: Callable[..., Any], number: int, before: bool) -> Callable[..., Any]:
    calls = 0

    def fatal(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **options)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return fatal


if __name__ == "__main__":
    hurry()
    faults.install(os.environ.get(faults.FAULTS, ""), os.environ.get(faults.CLOCK, ""))
    if point := os.environ.get(VARIABLE):
        die_at(point)
    run()  # without a supervisor: who kills this process kills the one that serves
