"""The side of the process that serves: what its supervisor gave it, and what it tells back (G4, `supervisor`).

Rule 1: a process that serves ends with its supervisor, at once: nobody would watch it, and it would hold the log.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path

from maquette.engine.pulse import Pulse
from maquette.server.supervisor import SUPERVISED

BEAT_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1  # prctl(2), Linux: a signal when the parent ends, also for who hangs and reads no channel
_ORPHANED = 137  # as a shell tells SIGKILL


class Supervised:
    """The pulse, the channel to the supervisor, and the listening socket when an earlier process has opened it."""

    def __init__(self, pulse: Pulse, channel: socket.socket, listener: socket.socket | None, restarts: int) -> None:
        self.pulse = pulse
        self.listener = listener
        self.restarts = restarts
        """How many processes served before this one."""
        self._channel = channel

    def introduce(self, data: Path, answer: float, opening: float, listener: socket.socket) -> None:
        """Tell where the data are and how many seconds this process may be silent; give the socket to be kept."""
        said = {"data": str(data.absolute()), "answer": answer, "opening": opening}
        socket.send_fds(self._channel, [_line(said)], [] if self.listener is not None else [listener.fileno()])

    def served(self) -> None:
        """Tell that this process serves from now on."""
        self._channel.sendall(_line({"served": True}))

    def begin(self) -> None:
        """Let the event loop beat, and end with the supervisor (rule 1)."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, _end_alone)  # it never says anything: what can be read is its end
        self._beat(loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pulse.beat()
        loop.call_later(BEAT_SECONDS, self._beat, loop)


def supervised() -> Supervised | None:
    """What the supervisor of this process gave it; None when it has none. To be asked once."""
    told = os.environ.pop(SUPERVISED, None)
    if told is None:
        return None
    memory, channel, listener, restarts = map(int, told.split(":"))
    _end_with_parent()
    pulse = Pulse(memory)
    os.close(memory)
    for file in (channel, listener):
        if file >= 0:
            os.set_inheritable(file, False)
    return Supervised(
        pulse, socket.socket(fileno=channel), socket.socket(fileno=listener) if listener >= 0 else None, restarts
    )


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_alone() -> None:
    os._exit(_ORPHANED)


def _line(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode() + b"\n"
