"""How much of an actor's refused ops a document bears (G5), over all its connections. Pure: the moment is passed in.

Rule 1: an actor has one level in a document. Each refused op raises it by one, and it falls by one in LEAK_SECONDS.
Rule 2: below a first part of `most` nothing is felt: people meet a rule now and then, and so do scripts that learn.
Rule 3: above it the sender is read later and later. Above `most` nothing of a refused op is logged (G5 a): the log
        grows by `most` refusals at once, and by one in LEAK_SECONDS from then on, whatever comes.
Rule 4: far above it the door is shut: the actor only reads for SHUT_SECONDS.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAK_SECONDS = 10.0  # who is refused less often than that is never held
FREE = 0.4  # of `most`, before the first pause: with 20, eight drags of a node that somebody locked
FIRST_PAUSE = 0.05  # seconds: nobody sees it
LONGEST_PAUSE = 4.0  # seconds: longer than a refusal is interesting to a script, shorter than what a proxy waits
DOOR = 1.5  # times `most`: ten denials that cost the log nothing, over two connections each at least
SHUT_SECONDS = 60.0  # as long as an idle document stays open; who reads on loses nothing by it
MAX_KNOWN = 1_000  # levels; above it, those that have fallen to nothing are forgotten


@dataclass(slots=True)
class _Level:
    """`height` as it was at the moment `at`."""

    height: float
    at: float
    shut_until: float

    def now(self, now: float) -> float:
        return max(0.0, self.height - (now - self.at) / LEAK_SECONDS)


class Patience:
    """The levels of actors, each in one document. Times are in seconds, of any clock that only goes forward."""

    def __init__(self) -> None:
        self._levels: dict[tuple[str, str], _Level] = {}

    def knows(self, document: str, actor: str) -> bool:
        """Whether anything of the actor was refused lately: of most nothing is, and nothing else need be asked."""
        return (document, actor) in self._levels

    def count(self, document: str, actor: str, most: int, now: float) -> None:
        """An op of `actor` was refused, as a whole or in parts."""
        if len(self._levels) > MAX_KNOWN:
            self._forget(now)
        level = self._levels.setdefault((document, actor), _Level(0.0, now, now))
        level.height, level.at = level.now(now) + 1, now
        if level.height > DOOR * most and now >= level.shut_until:
            level.shut_until = now + SHUT_SECONDS

    def logs(self, document: str, actor: str, most: int, now: float) -> bool:
        """Whether one more refusal may be logged (rule 3)."""
        level = self._levels.get((document, actor))
        return level is None or level.now(now) <= most - 1

    def pause(self, document: str, actor: str, most: int, now: float) -> float:
        """For how long a connection that was just refused is not read."""
        level = self._levels.get((document, actor))
        above = 0.0 if level is None else level.now(now) - FREE * most
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(above - 1, 32)) if above > 0 else 0.0

    def shut(self, document: str, actor: str, now: float) -> float:
        """For how many seconds the actor only reads; 0.0 when it may write."""
        level = self._levels.get((document, actor))
        return 0.0 if level is None else max(0.0, level.shut_until - now)

    def _forget(self, now: float) -> None:
        self._levels = {
            key: level for key, level in self._levels.items() if level.now(now) > 0 or level.shut_until > now
        }
