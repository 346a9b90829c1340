"""The supervisor: what `maquette serve` is. It starts the process that serves, and another when that one dies or no
longer answers (G4).

Rule 1: it does nothing else, so that it does not fail with what it watches: no bytes of clients, no log, no event loop.
Rule 2: the listening socket stays open here, so that over a restart clients wait in its backlog.
Rule 3: what a process was busy with when it ended is on disk before the next one starts (`incidents`).
Rule 4: whatever ends before it has ever served is not started again: its message and its exit code are the answer. A
        process that ends by itself with exit code 0 was told to, and its supervisor ends too.
Rule 5: silence counts only while both get their turns: a machine that sleeps, or has no time for one of them, is not a
        server that hangs. One that was stopped (SIGSTOP) is replaced, and nobody is blamed.
Rule 6: deaths over the same thing, or over nothing that can be blamed, come with growing pauses, and at last end it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from maquette.engine.pulse import Busy, Pulse, Work, shared_memory
from maquette.server.incidents import report
from maquette.server.scheduling import Turns, turns_of

SUPERVISED = "MAQUETTE_SUPERVISED"
"""The environment variable that makes `maquette serve` the process that serves: file descriptors of the pulse, the
channel and the listening socket (-1 when there is none yet), and how many processes served before."""

POLL_SECONDS = 0.2
SECONDS_PER_MIB = (
    5.0  # more than the limit, for an update or document so large: judging a scene of 2 MiB takes 3 to 6 s
)
SHORT_LIFE = 10.0  # seconds: who serves longer has started well
MOST_FAILURES = 10  # in a row: about two minutes with their pauses
LONGEST_PAUSE = 30.0
MOST_TIMES = 3  # that the same incident is answered by a new start at once
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})
"""Signals by which a process ends because of what it does. SIGKILL may be the kernel's, out of memory, or a person's:
it blames what was being done only when it comes over the same a second time."""


def supervise(command: Sequence[str]) -> int:
    """Run `command` under supervision until it ends for good; its exit code."""
    with _signals() as wake:
        return _Supervisor(command, wake).run()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the process that serves was told by its options: where the data are, and how long it may be silent.

    0 seconds are no limit.
    """

    data: Path
    answer: float
    opening: float

    def limit(self, busy: Busy | None) -> float:
        """Seconds that it may be silent over `busy`."""
        if self.answer == 0:
            return float("inf")
        if busy is None:
            return self.answer
        if busy.work is Work.LOADING:
            return max(self.opening, self.answer) if self.opening else float("inf")
        return self.answer + SECONDS_PER_MIB * busy.size / (1 << 20)


@dataclass(slots=True)
class _Life:
    """One process that serves."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    pulse: Pulse
    served: float | None = None
    """When it began to serve, on the monotonic clock."""
    silent: float = 0.0
    """For how many seconds its count has not risen, though it had a processor or wanted none."""
    hung_over: Busy | None = None
    """What it was busy with when it hung."""
    was_stopped: bool = False
    """Whether somebody stopped it in that time."""
    _count: int = -1
    _turns: Turns = field(default_factory=Turns)
    _looked: float = field(default_factory=time.monotonic)
    _said: bytes = b""

    def listen(self) -> list[tuple[dict[str, object], int | None]] | None:
        """What it said since the last time: messages, and the file descriptor that came with one; None at its end."""
        said, files, _, _ = socket.recv_fds(self.channel, 4096, 1)
        if not said:
            return None
        *lines, self._said = (self._said + said).split(b"\n")
        return [(json.loads(line), files.pop() if files else None) for line in lines]

    def look(self) -> None:
        """See whether it gets on (rule 5)."""
        now, count = time.monotonic(), self.pulse.count
        passed = min(now - self._looked, 2 * POLL_SECONDS)
        turns = turns_of(self.process.pid, self.process.pid)
        if count != self._count or self.served is None:
            self.silent, self.was_stopped = 0.0, False
        else:
            self.silent += passed - turns.waited_since(self._turns, passed)
            self.was_stopped |= turns.is_stopped
        self._count, self._looked, self._turns = count, now, turns

    def end(self) -> None:
        """End it, because it hangs; what ran until now is what it hangs over, and that of the event loop else."""
        self.hung_over = self.pulse.busy()
        beside = dict(self.pulse.busy_beside())
        if beside:
            pid = self.process.pid
            before = {thread: turns_of(pid, thread).ran for thread in (pid, *beside)}
            time.sleep(POLL_SECONDS)
            ran = {thread: turns_of(pid, thread).ran - start for thread, start in before.items()}
            most = max(ran, key=lambda thread: (ran[thread], thread == pid))
            self.hung_over = beside.get(most, self.hung_over)
        self.process.kill()

    def forget(self) -> None:
        """Let go of what it shared with us."""
        self.channel.close()
        self.pulse.close()


class _Supervisor:
    def __init__(self, command: Sequence[str], wake: _Wake) -> None:
        self._command = command
        self._wake = wake
        self._listener: int | None = None
        self._terms: _Terms | None = None
        self._started = 0
        self._has_served = False
        self._failures = 0
        self._seen = Counter[tuple[Work, str, int, str]]()

    def run(self) -> int:
        while True:
            life = self._start()
            hung = self._watch(life)
            code = life.process.wait()
            busy = life.hung_over if hung else life.pulse.busy()
            while self._hear(life):
                pass  # it may have served for a moment only
            life.forget()
            if self._wake.ending and -code == signal.SIGTERM:
                return 0  # it had nothing to store yet: who serves catches the signal
            if self._wake.ending or code == 0 or not self._has_served:
                return code if code >= 0 else 128 - code
            self._account(life, code, busy, hung=hung)
            if self._failures >= MOST_FAILURES:
                _tell(f"it ended {self._failures} times in a row, and is not started again")
                return code if code > 0 else 1
            if self._told_to_end_in_pause():
                return 0

    # --- one life ----------------------------------------------------------------------------------------------------

    def _start(self) -> _Life:
        ours, theirs = socket.socketpair()
        memory = shared_memory()
        files = [memory, theirs.fileno(), *([] if self._listener is None else [self._listener])]
        told = f"{memory}:{theirs.fileno()}:{-1 if self._listener is None else self._listener}:{self._started}"
        # a group of its own: Ctrl-C comes to us, and to it by us, once
        process = subprocess.Popen(self._command, env=os.environ | {SUPERVISED: told}, pass_fds=files, process_group=0)
        self._started += 1
        self._wake.watch(process)
        pulse = Pulse(memory)
        os.close(memory)
        theirs.close()
        return _Life(process, ours, pulse)

    def _watch(self, life: _Life) -> bool:
        """Return when the process has ended; whether it was ended here, because it was silent for too long."""
        heard: list[int | socket.socket] = [self._wake.file, life.channel]
        while life.process.poll() is None:
            readable, _, _ = select.select(heard, [], [], POLL_SECONDS)
            if life.channel in readable and not self._hear(life):
                heard.remove(life.channel)
            if self._wake.file in readable:
                self._wake.clear()
            life.look()
            if self._terms is not None and life.silent > self._limit(life):
                life.end()
                return True
        return False

    def _limit(self, life: _Life) -> float:
        assert self._terms is not None
        limit = self._terms.limit(life.pulse.busy())
        # at its end it stores what everybody sent
        return max(limit, self._terms.opening or float("inf")) if self._wake.ending else limit

    def _hear(self, life: _Life) -> bool:
        """Take in what the process says; False when it will say no more."""
        messages = life.listen()
        if messages is None:
            return False
        for message, file in messages:
            if "data" in message:
                data, answer, opening = (str(message[name]) for name in ("data", "answer", "opening"))
                self._terms = _Terms(Path(data), float(answer), float(opening))
            if file is not None:
                self._listener = file
            if "served" in message:
                life.served = time.monotonic()
                if self._has_served:
                    _tell("it serves again")
                self._has_served = True
        return True

    # --- after a death -----------------------------------------------------------------------------------------------

    def _account(self, life: _Life, code: int, busy: Busy | None, *, hung: bool) -> None:
        """Say how a process ended, write down what may be blamed, and count failures (rule 6)."""
        cause = f"it did not answer for {life.silent:.1f} s" if hung else _ending(code)
        if hung and life.was_stopped:
            cause, busy = f"{cause}, having been stopped", None
        times = 0
        if busy is not None:
            key = (busy.work, busy.stream, busy.revision, busy.digest + busy.by)
            self._seen[key] += 1
            times = self._seen[key]
        blamed = busy is not None and (hung or -code in CRASHES or (code == -signal.SIGKILL and times > 1))
        _tell(f"{cause}{f' while {_doing(busy)}' if busy is not None else ''}; another process is started")
        if busy is not None and blamed and self._terms is not None:
            _write(self._terms.data, cause, times, busy)
        if not (blamed and times <= MOST_TIMES):
            lived = 0.0 if life.served is None else time.monotonic() - life.served
            self._failures = self._failures + 1 if lived < SHORT_LIFE else 1

    def _told_to_end_in_pause(self) -> bool:
        """Wait: not after the first failure, then longer and longer."""
        pause = min(0.25 * 2 ** (self._failures - 2), LONGEST_PAUSE) if self._failures > 1 else 0.0
        until = time.monotonic() + pause
        while not self._wake.ending and (left := until - time.monotonic()) > 0:
            select.select([self._wake.file], [], [], left)
            self._wake.clear()
        return self._wake.ending


# --- signals ---------------------------------------------------------------------------------------------------------


class _Wake:
    """Passes on to the process that serves that it shall end, and wakes the supervisor at each signal."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.ending = False
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """`process` serves from now on, and is told what came while it was started."""
        self._process = process
        if self.ending:
            process.send_signal(signal.SIGTERM)

    def end(self, number: int, _: object) -> None:
        self.ending = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    def note(self, number: int, _: object) -> None:
        """Only a signal with a handler wakes."""

    def clear(self) -> None:
        try:
            while os.read(self.file, 1024):
                pass
        except BlockingIOError:
            pass


@contextmanager
def _signals() -> Iterator[_Wake]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    wake = _Wake(read)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    handlers = {signal.SIGCHLD: wake.note, signal.SIGTERM: wake.end, signal.SIGINT: wake.end}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: it shall outlive its terminal
        handlers[signal.SIGHUP] = wake.end
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(read)
        os.close(write)


# --- words -----------------------------------------------------------------------------------------------------------


def _ending(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


def _doing(busy: Busy) -> str:
    match busy.work:
        case Work.JUDGING:
            return f"it judged an update of {busy.size} bytes by {busy.actor} for {busy.stream}"
        case Work.REPLAYING:
            return f"it replayed revision {busy.revision} of {busy.stream}"
        case Work.LOADING:
            return f"it loaded a snapshot of {busy.stream}"
        case Work.FOLDING:
            return f"{busy.by} folded {busy.size} events from revision {busy.revision} of {busy.stream} on"
        case Work.CONVERTING:
            return f"it read or wrote a file ({busy.by}) for {busy.stream}"
        case _:
            return f"it read {busy.stream} at revision {busy.revision}"


def _write(data: Path, cause: str, times: int, busy: Busy) -> None:
    try:
        report(data, cause, times, busy)
    except OSError as error:  # a full disk: without it the same may happen again, and then once more
        _tell(f"what it was busy with could not be written down: {error}")


def _tell(what: str) -> None:
    with suppress(OSError):  # a full disk, or nobody who reads: that must not end the server
        print(f"maquette: the process that serves: {what}", file=sys.stderr, flush=True)  # noqa: T201  (no typer here)
