"""Hangs over a projection (V4, G4): each fold is marked for the supervisor, and what hung is not folded again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from maquette.engine.events import Event
from maquette.engine.pulse import Pulse, Work


@dataclass(frozen=True, slots=True)
class Hung:
    """A fold that never ended: of so many `events`, the first of them `stream`'s `revision`."""

    projection: str
    stream: str
    revision: int
    events: int


@dataclass(frozen=True, slots=True)
class Guard:
    """Of one projection. Without a pulse nothing is marked."""

    projection: str
    pulse: Pulse | None = None
    hung: tuple[Hung, ...] = ()

    @property
    def is_careful(self) -> bool:
        """Whether events are to be folded one by one, because one of several hung and nobody knows which."""
        return any(hung.events > 1 for hung in self.hung)

    def refuses(self, event: Event) -> bool:
        """Whether `event` is known to hang."""
        return any((hung.stream, hung.revision, hung.events) == (event.stream, event.revision, 1) for hung in self.hung)

    def folding(self, events: Sequence[Event]) -> AbstractContextManager[None]:
        """Around a fold of `events`, one or more."""
        if self.pulse is None:
            return nullcontext()
        first = events[0]
        return self.pulse.beside(Work.FOLDING, first.stream, first.revision, len(events), self.projection)
