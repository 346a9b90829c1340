"""Where an event belongs, read from its stream's name: `tenant`, `tenant/space` or `tenant/space/document@epoch`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant; with `space` a space in it; with `document` and `epoch` (>= 1) a document in that."""

    tenant: str
    space: str = ""
    document: str = ""
    epoch: int = 0


@lru_cache(maxsize=4096)
def place_of(stream: str) -> Place | None:
    """The place that `stream` names; None for a name of another form, which no projection of ours reads."""
    parts = stream.split("/")
    if not all(parts) or len(parts) > 3:
        return None
    if len(parts) < 3:
        return Place(parts[0], "".join(parts[1:]))
    document, _, epoch = parts[2].rpartition("@")
    if not document or not epoch.isdecimal() or int(epoch) < 1:
        return None
    return Place(parts[0], parts[1], document, int(epoch))
