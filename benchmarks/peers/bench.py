"""One benchmark run: servers that start over fresh folders, and the load generator beside them.

Rule 1: server and load generator are pinned to different cores.
Rule 2: the servers of a row take turns, so that what else the machine does meets all of them.
Rule 3: what a server loses or closes is a figure of its own, never left out of a median.
Rule 4: however a run ends, by an error or by Ctrl-C too, nothing that it started stays behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer
from types import TracebackType
from typing import Any

from benchmarks.peers import servers
from benchmarks.peers.servers import HERE, MAQUETTE, Server

LOAD_SECONDS = 180.0
"""A load that takes longer has failed."""
FULL = 0.9  # of a core: whoever needs more is what limits the row
Told = dict[str, Any]
Task = dict[str, Any]


class LoadFailed(RuntimeError):
    """The load generator did not come to its end, mostly because the server closed its connections."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a load had come to: seconds on the monotonic clock, and of the server's processor until then."""

    at: float
    cpu: float


class Load:
    """A load generator that runs; ended with its `with` block, whatever it was doing."""

    def __init__(self, program: Path, server: Server, core: int, task: Task) -> None:
        self._server = server
        self._marks: dict[str, Mark] = {}
        self._errors = TemporaryFile("w+")  # noqa: SIM115  (closed in __exit__)
        self._folder = TemporaryDirectory(prefix="maquette-load-")
        path = Path(self._folder.name) / "task.json"
        path.write_text(json.dumps(task))
        self._process = subprocess.Popen(
            ["taskset", "-c", str(core), "node", str(program), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C comes to us alone
        )
        self._timer = Timer(LOAD_SECONDS, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file is not None
            file.close()
        self._folder.cleanup()

    def until(self, mark: str) -> None:
        """Return when the load has come to `mark`. Raises LoadFailed when it ends before."""
        while mark not in self._marks:
            self._next()

    def go_on(self) -> None:
        """Tell a load that waits to go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> Told:
        """What the load tells at its end, and what part of its core the `server` used meanwhile. Raises LoadFailed."""
        while (told := self._next()) is None:
            pass
        if {"measuring", "measured"} <= self._marks.keys():
            first, last = self._marks["measuring"], self._marks["measured"]
            told["server"] = (last.cpu - first.cpu) / (last.at - first.at)
        return told

    def _next(self) -> Told | None:
        """Take in a line: a mark, or what the load tells at its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(self._why())
        told: Told = json.loads(line)
        if "mark" not in told:
            return told
        self._marks[told["mark"]] = Mark(time.monotonic(), self._server.cpu())
        return None

    def _why(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if "Error: " in line]
        return said[0].removeprefix("Error: ") if said else f"the load ended with {code}"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things run. `seconds` is how long a load lasts, `repeats` how often each is tried, `among` the servers.

    `program` is the load generator, `tell` gets a line whenever something begins.
    """

    seconds: float = 5.0
    repeats: int = 3
    among: Sequence[str] = tuple(servers.SERVERS)
    program: Path = HERE / "load/index.mjs"
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
    cores: Sequence[int] = field(default_factory=lambda: sorted(os.sched_getaffinity(0)))

    def of(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that take part."""
        return [name for name in names if name in self.among]

    @contextmanager
    def server(self, name: str, folder: Path | None = None) -> Iterator[Server]:
        """The server `name` over `folder`, or over a fresh one; ended with the block."""
        self.tell(f"    {time.strftime('%H:%M:%S')} {name}")
        with TemporaryDirectory(prefix="maquette-bench-") as fresh:
            running = servers.start(name, folder or Path(fresh), self.cores[0])
            try:
                yield running
            finally:
                running.stop()

    def turns(self, names: Sequence[str], measure: Callable[[Server], None]) -> None:
        """Let the servers take turns, each over a fresh folder."""
        for _ in range(self.repeats):
            for name in self.of(names):
                with self.server(name) as server:
                    measure(server)

    def begin(self, server: Server, row: str, kind: str = "text", **task: Any) -> Load:
        """Drive `server` with the row `row` of the load generator, for a `with` block."""
        where = {"dialect": server.dialect, "url": server.url, "path": server.paths[kind]}
        whole = {"row": row, **where, "queries": list(server.queries), "run": "run", **task}
        return Load(self.program, server, self.cores[-1], whole)

    def load(self, server: Server, row: str, kind: str = "text", **task: Any) -> Told:
        """The same to its end; what it tells. Raises LoadFailed."""
        with self.begin(server, row, kind, **task) as load:
            return load.end()


@dataclass(slots=True)
class Row:
    """One table: server → what each repeat measured. `unit` is of `figures`; `notes` by server."""

    title: str
    unit: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, server: str, figure: float | None, *notes: str) -> None:
        """Take in one repeat; None for one that brought nothing."""
        found = self.figures.setdefault(server, [])
        if figure is not None:
            found.append(figure)
        known = self.notes.setdefault(server, [])
        known += [note for note in notes if note not in known]

    def median(self, server: str = MAQUETTE) -> float | None:
        """The median of what was measured; None when nothing was."""
        values = self.figures.get(server)
        return median(values) if values else None


def notes_of(told: Told) -> list[str]:
    """What limits the word of a figure: what did not arrive, who was closed, who was at the end of its core."""
    notes = []
    missing = told.get("expected", 0) - told.get("delivered", 0)
    if missing > 0:
        notes.append(f"{missing / told['expected']:.1%} of the deliveries did not arrive in time")
    if told.get("closed"):
        notes.append(f"{told['closed']} connections were closed")
    if told.get("kept", 1) < 0.95:
        notes.append("the load generator did not keep its pace")
    elif told.get("load", 0) > FULL:
        notes.append("the load generator was at its own limit")
    return notes
