"""Which frames with updates of one connection are settled: what `stored` tells clients that asked `?acks=1`.

Rule 1: frames count in the order in which they came; a frame counts when it and all before it are settled.
Rule 2: frames whose commit failed are carried: they count with the client's answer to the sync step 1 that follows,
        because that answer brings again whatever of them is not in the log (D1).
"""

from __future__ import annotations

from collections import deque

from maquette.engine.events import START, Position
from maquette.engine.receipts import Receipt

MAX_WAITING = 4_096  # frames behind one that waits for somebody else's edits


class Acks:
    """Counts the frames of one connection. `settled` is how many count, `position` where the newest of them is."""

    def __init__(self) -> None:
        self.settled = 0
        self.position: Position = START
        self._waiting: deque[tuple[Receipt, int]] = deque()
        self._carried = 0

    @property
    def is_full(self) -> bool:
        """Whether more frames wait than should be remembered."""
        return len(self._waiting) > MAX_WAITING

    def take(self, receipt: Receipt, *, answer: bool) -> None:
        """A frame came; `answer` when it is a sync step 2."""
        if receipt.error is not None or (self._carried and not answer):
            self._carried += 1
        else:
            self._waiting.append((receipt, 1 + self._carried))
            self._carried = 0

    def lose(self) -> None:
        """The document was lost: what waits is carried (rule 2)."""
        self._carried += sum(frames for _, frames in self._waiting)
        self._waiting.clear()

    def advance(self) -> bool:
        """Count what is settled now; whether anything was added."""
        before = self.settled
        while self._waiting and self._waiting[0][0].settled and self._waiting[0][0].error is None:
            receipt, frames = self._waiting.popleft()
            self.settled += frames
            self.position = max(self.position, receipt.position)
        return self.settled > before
