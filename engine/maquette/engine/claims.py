"""Who owns which Yjs client id in one document (rule D4).

Rule 1: a client id belongs to one actor until the epoch ends; structs under somebody else's id are not taken from us.
Rule 2: an actor who *announces* an id (its presence, or its own connection's ops) owns it for good.
Rule 3: an actor who only *brings* structs of an unclaimed id (an earlier session's edits out of a browser's storage, or
        another tab's over BroadcastChannel) holds it until its owner announces it: otherwise the tab that reconnects
        first would take the other tab's id and shut it out for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """`announced` tells rule 2's claims from rule 3's."""

    actor: str
    announced: bool


class Claims:
    """The claims of one document. Rebuilt from its events; announcements by presence live until the replica goes."""

    def __init__(self) -> None:
        self._claims: dict[int, Claim] = {}

    def owner(self, client: int) -> str | None:
        """The id of the actor who owns `client`, None when nobody has come with it."""
        claim = self._claims.get(client)
        return claim.actor if claim else None

    def announce(self, client: int, actor: str) -> bool:
        """`actor` says that `client` is its own. False when it is another's."""
        claim = self._claims.get(client)
        if claim is None or not claim.announced or claim.actor == actor:
            self._claims[client] = Claim(actor, announced=True)
            return True
        return False

    def admits(self, client: int, actor: str, own: int | None = None) -> bool:
        """May structs under `client` come from `actor`, over a connection with the client id `own`?"""
        claim = self._claims.get(client)
        return claim is None or claim.actor == actor or (client == own and not claim.announced)

    def foreign(self, clients: Iterable[int], actor: str, own: int | None) -> set[int]:
        """Those of `clients` whose structs may not come (`admits`)."""
        claims, lost = self._claims, set()
        for client in clients:
            claim = claims.get(client)
            if claim is not None and claim.actor != actor and not self.admits(client, actor, own):
                lost.add(client)
        return lost

    def is_announced(self, client: int) -> bool:
        """Whether somebody owns `client` for good (rule 2)."""
        claim = self._claims.get(client)
        return claim is not None and claim.announced

    def bring(self, clients: Iterable[int], actor: str, own: int | None) -> None:
        """`actor` brought structs of `clients`, `own` being its connection's id. Called after `admits`."""
        for client in clients:
            claim = self._claims.get(client)
            if client == own:
                if claim is None or not claim.announced or claim.actor != actor:
                    self._claims[client] = Claim(actor, announced=True)
            elif claim is None:
                self._claims[client] = Claim(actor, announced=False)

    def to_plain(self) -> list[list[object]]:
        """As msgpack values, for a snapshot."""
        return [[client, claim.actor, claim.announced] for client, claim in self._claims.items()]

    @classmethod
    def from_plain(cls, rows: Iterable[tuple[int, str, bool]]) -> Claims:
        """The inverse of `to_plain`."""
        claims = cls()
        claims._claims = {client: Claim(actor, announced) for client, actor, announced in rows}
        return claims
