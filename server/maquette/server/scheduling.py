"""What the system tells of a process that does not answer: whether it runs, waits for a processor, or was stopped.

Linux tells it of each thread; the main one is that of the event loop. Elsewhere nothing is told: silence is silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_STOPPED = "Tt"  # by a signal, or by a debugger: proc(5)
_RUNNABLE = "R"


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns that a thread had: nanoseconds in which it `ran`, and `waited` until it might; its `state`."""

    ran: int = 0
    waited: int = 0
    state: str = ""

    @property
    def is_stopped(self) -> bool:
        """Whether it goes on only when somebody lets it."""
        return self.state != "" and self.state in _STOPPED

    def waited_since(self, before: Turns, passed: float) -> float:
        """For how many of the `passed` seconds since `before` it was ready and had no processor."""
        if self.state == _RUNNABLE and (self.ran, self.waited) == (before.ran, before.waited):
            return passed  # what it waits for now is counted when it gets it
        return min(passed, max(0, self.waited - before.waited) / 1e9)


def turns_of(process: int, thread: int) -> Turns:
    """Those of a thread of the process so far, by their ids, which are equal for the main thread.

    No turns where nothing is told.
    """
    folder = Path(f"/proc/{process}/task/{thread}")
    try:
        ran, waited, _ = (folder / "schedstat").read_text().split()
        state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        return Turns(int(ran), int(waited), state)
    except (OSError, ValueError, IndexError):
        return Turns()
