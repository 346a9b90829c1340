"""Workers: child processes for what is too large, or too little known, for the process that serves.

Rule 1: a worker does one job at a time, under limits on processor time and memory that it sets itself (`worker`), and
        on time by the clock, which is kept here. Where the system has no such limits, the clock alone ends a job.
Rule 2: a worker that dies or breaks a limit is gone; its job fails with what happened and how far it came, and the
        next job gets another worker.
Rule 3: workers start with the first job, are few and of low priority, and go after a while without work. They end by
        themselves when the process that started them is gone.
Rule 4: waiting for a worker takes a thread, not the event loop, so that any application can embed this.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import msgpack

from maquette.engine.errors import MaquetteError
from maquette.engine.lanes import Lanes

T = TypeVar("T")

MAX_WORKERS = 2  # one more than the serving process has; a third would only take turns with the two
IDLE_SECONDS = 60.0  # a worker takes 40 MB and a third of a second to start
PROGRESS = struct.Struct("<Q")
STOPPED, UNWANTED = "was stopped", "was not wanted any more"
_STOPPED = (STOPPED, UNWANTED)
HEADER = struct.Struct("<I")


class JobFailed(MaquetteError):
    """A job ended without an answer: its worker died, broke a limit, or raised. `reached` is how far it had come;
    `is_fatal` when what it worked on is to blame, and would be again."""

    def __init__(self, job: str, what: str, reached: int, *, is_fatal: bool) -> None:
        super().__init__(f"{job}: expected an answer, the worker {what}, having come to {reached}")
        self.job = job
        self.what = what
        self.reached = reached
        self.is_fatal = is_fatal


class NoWorker(MaquetteError):
    """No worker can be started on this machine, or the workers were closed."""


class WorkersClosed(NoWorker):
    """The workers were closed before the job had one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may take: seconds of processor time, bytes above what an idle worker has, seconds by the clock."""

    cpu: float
    memory: int
    wall: float

    @classmethod
    def sized(cls, size: int) -> Budget:
        """For work on `size` bytes of updates: reading, applying and comparing a megabyte takes 2 s and 60 MB."""
        megabytes = size / (1 << 20)
        cpu = 5 + 4 * megabytes
        return cls(cpu, (512 << 20) + 100 * size, 3 * cpu)


class Workers:
    """A pool of at most `most` workers. Use it on one event loop; `close` it."""

    def __init__(self, most: int = MAX_WORKERS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="worker")
        self._lanes = Lanes(most)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._idle_seconds = idle_seconds
        self._closed = False
        self.started = 0
        """How many were ever started."""

    async def run(
        self,
        job: str,
        given: Mapping[str, Any],
        budget: Budget,
        *,
        stream: str = "",
        actor: str = "",
        begin: Callable[[], bool] = lambda: True,
    ) -> Any:
        """The answer of the job called `job` in `worker.JOBS` to `given`, both msgpack values.

        Tenants, as `stream` names them, take turns, and within them actors, of whom the server itself is "".
        `begin` is called when it is this job's turn, and answers whether it is wanted still.
        Raises JobFailed and NoWorker. When the caller is cancelled, the worker is killed, and nothing is begun.
        """
        async with self._lanes.place(stream.partition("/")[0], actor):
            if not begin():
                raise JobFailed(job, UNWANTED, 0, is_fatal=False)
            worker = self._idle.pop() if self._idle else await self._started()
            self._busy.add(worker)
            try:
                return await self._in_thread(worker.work, job, given, budget)
            except asyncio.CancelledError:
                worker.kill(UNWANTED)
                raise
            finally:
                self._busy.discard(worker)
                self._put_back(worker)

    async def _started(self) -> Worker:
        self._require_open()
        worker = await self._in_thread(Worker)
        self.started += 1
        try:
            self._require_open()
        except NoWorker:
            worker.end()
            raise
        return worker

    def _require_open(self) -> None:
        if self._closed:
            raise WorkersClosed("workers: expected to be open, they are closed")

    def _in_thread(self, function: Callable[..., T], *given: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *given)

    def _put_back(self, worker: Worker) -> None:
        if worker.is_working:  # killed: its thread sees to the rest
            return
        if self._closed or not worker.is_usable:
            worker.end()
            return
        self._idle.append(worker)
        asyncio.get_running_loop().call_later(self._idle_seconds, self._retire, worker, worker.jobs)

    def _retire(self, worker: Worker, jobs: int) -> None:
        if worker in self._idle and worker.jobs == jobs:
            self._idle.remove(worker)
            worker.end()

    async def close(self) -> None:
        """End all workers, also in the middle of a job."""
        self._closed = True
        for busy in self._busy:
            busy.kill(STOPPED)
        idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()
        await asyncio.to_thread(self._threads.shutdown)


class Worker:
    """One child process, seen from here. Making one and `work` block: call them in a thread. Raises NoWorker."""

    def __init__(self) -> None:
        self.jobs = 0
        self.is_usable = True
        self.is_working = False
        self._why: str | None = None
        self._progress = Progress()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "maquette.engine.worker", self._progress.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,  # Ctrl-C is for the server, which ends its workers itself
            )
        except OSError as error:
            self._progress.close()
            raise NoWorker(f"worker: expected {sys.executable} to start one, got {error!r}") from error
        try:
            read(self._out)
        except EOFError as error:
            self.end()
            raise NoWorker(f"worker: expected {sys.executable} to run one, it ended at once") from error
        finally:
            Path(self._progress.path).unlink()

    @property
    def _in(self) -> BinaryIO:
        assert self._process.stdin is not None
        return cast(BinaryIO, self._process.stdin)

    @property
    def _out(self) -> BinaryIO:
        assert self._process.stdout is not None
        return cast(BinaryIO, self._process.stdout)

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def work(self, job: str, given: Mapping[str, Any], budget: Budget) -> Any:
        """Do one job. Raises JobFailed."""
        self.jobs += 1
        self.is_working = True
        self._progress.set(0)
        clock = threading.Timer(budget.wall, self.kill, [f"took longer than {budget.wall:.0f} s"])
        clock.daemon = True
        clock.start()
        try:
            write(self._in, [job, given, budget.cpu, budget.memory])
            answer = read(self._out)
        except (OSError, EOFError) as error:
            what = self._ended(budget)
            raise JobFailed(job, what, self._progress.get(), is_fatal=what not in _STOPPED) from error
        finally:
            clock.cancel()
            if self._why is not None:
                self.end()
            self.is_working = False
        if "failed" in answer:
            raise JobFailed(job, answer["failed"], self._progress.get(), is_fatal=answer["fatal"])
        return answer["done"]

    def _ended(self, budget: Budget) -> str:
        """How it ended, in words."""
        self.end()
        code = self._process.returncode
        if self._why is not None:
            return self._why
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"used up {budget.cpu:.0f} s of processor time"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def kill(self, why: str) -> None:
        """Stop it in the middle of its job; whoever waits in `work` is told why."""
        if self._process.poll() is None:
            self._why, self.is_usable = why, False
            self._process.kill()

    def end(self) -> None:
        """End it, and let go of what it had. Not while somebody is in `work`."""
        self.is_usable = False
        self._process.kill()
        self._process.wait()
        for pipe in (self._in, self._out):
            try:
                pipe.close()
            except OSError:  # what it did not read any more
                pass


class Progress:
    """A number in a file that both sides map: it costs the writer nothing, and outlives it."""

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            handle, self.path = tempfile.mkstemp(prefix="maquette-worker-")
            os.write(handle, PROGRESS.pack(0))
        else:
            self.path = path
            handle = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(handle, PROGRESS.size)
        finally:
            os.close(handle)

    def set(self, number: int) -> None:
        """Say how far the work is."""
        PROGRESS.pack_into(self._map, 0, number)

    def get(self) -> int:
        """How far it came."""
        found: int = PROGRESS.unpack_from(self._map)[0]
        return found

    def close(self) -> None:
        """Nobody reads it any more."""
        self._map.close()
        Path(self.path).unlink(missing_ok=True)


def write(pipe: BinaryIO, message: Any) -> None:
    """One message, its length before it."""
    body = msgpack.packb(message)
    pipe.write(HEADER.pack(len(body)))
    pipe.write(body)
    pipe.flush()


def read(pipe: BinaryIO) -> Any:
    """The next message. Raises EOFError when there is none."""
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError("expected a message, the other side is gone")
    (length,) = HEADER.unpack(header)
    body = pipe.read(length)
    if len(body) < length:
        raise EOFError(f"expected a message of {length} bytes, got {len(body)}")
    return msgpack.unpackb(body, strict_map_key=False)
