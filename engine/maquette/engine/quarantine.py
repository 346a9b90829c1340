"""Updates that ended the process that judged them (G4): the same bytes are denied when they come again, unread.

Rule 1: what is held is a digest. The bytes themselves are somebody's words, and the log never had them.
Rule 2: an actor whose updates did it twice in one document writes there no more, whatever the bytes: the same content
        can be encoded in many ways, and each way would cost everybody another restart.
Rule 3: when two people's updates did it, the document is suspected and not they: something in it may harm whoever
        judges an edit of it, and it has to be frozen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from maquette.engine.pulse import digest_of

MOST_TIMES = 2
_LIFT = "whoever operates the server lifts that with `maquette thaw`"


@dataclass(slots=True)
class Quarantine:
    """What is quarantined in one epoch of a document."""

    sizes: set[int] = field(default_factory=set)
    actors: dict[str, str] = field(default_factory=dict)
    """Digest → the actor's id."""

    def take(self, digest: str, size: int, actor: str) -> None:
        """Fold one `update.quarantined`."""
        self.sizes.add(size)
        self.actors[digest] = actor

    def why(self, actor: str, update: bytes) -> str | None:
        """The reason for which `update` by `actor` is denied; None when it may be judged."""
        if len(update) in self.sizes and digest_of(update) in self.actors:
            return f"expected an edit that can be judged, got one that stopped the server before; {_LIFT}"
        if Counter(self.actors.values())[actor] >= MOST_TIMES:
            return f"expected somebody whose edits can be judged, {MOST_TIMES} of yours stopped the server; {_LIFT}"
        return None

    @property
    def suspects_document(self) -> bool:
        """Whether it is rather the document than those who edit it (rule 3)."""
        return len(set(self.actors.values())) >= MOST_TIMES
