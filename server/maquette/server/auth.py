"""The door: from a request or a WebSocket to a session, and from a session into a space.

Rule 1: a token comes as `Authorization: Bearer …`, or as `?token=…` where a client cannot set headers (WebSockets).
Rule 2: a token that is given must hold; a bad one is never passed over, not by --dev either.
Rule 3: a space that is not there, another tenant's and one without a role are the same to who asks: NotFound. Who was
        removed from one, or banned, is told so.
Rule 4: --dev opens the door without a token to this machine alone. A page of another site in a browser on this machine
        is not this machine: its Origin (or, by DNS rebinding, its Host) gives it away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from maquette.engine.engine import Engine
from maquette.engine.errors import NotFound
from maquette.engine.events import Actor
from maquette.engine.ids import MINTED_LENGTH, base62
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.server.errors import Forbidden, Unauthenticated
from maquette.server.sessions import ALL_SPACES, Session
from maquette.server.tokens import Keyring

__all__ = ["Authenticator", "Keyring", "Session", "Unauthenticated", "enter", "introduce", "is_loopback", "kept_out"]

DEV_TENANT = "dev"
DEFAULT_NAME = "Visitor"
MAX_VISITOR_NAME = 100


class Authenticator:
    """Tells who asks. `node` is the engine's secret, from which visitors' ids come; `dev` opens the door of rule 4."""

    def __init__(self, keyring: Keyring, node: bytes, *, dev: bool = False) -> None:
        self.dev = dev
        self._keyring = keyring
        self._node = node

    def authenticate_connection(self, connection: HTTPConnection) -> Session:
        """The session of a request or a WebSocket. Raises Unauthenticated."""
        headers = connection.headers
        return self.authenticate(
            headers.get("authorization"),
            connection.query_params,
            connection.client.host if connection.client else None,
            origin=headers.get("origin"),
            host=headers.get("host"),
        )

    def authenticate(
        self,
        authorization: str | None,
        query: Mapping[str, str],
        client_host: str | None,
        *,
        origin: str | None = None,
        host: str | None = None,
    ) -> Session:
        """The session that the header `authorization`, or `query`, stands for. Raises Unauthenticated."""
        token = _bearer(authorization) if authorization else query.get("token")
        if token:
            return self._keyring.verify(token)
        if not self.dev:
            raise Unauthenticated("expected a token, as 'Authorization: Bearer TOKEN' or '?token=TOKEN', got none")
        _require_local(client_host, origin, host)
        return self.visitor(query.get("name") or DEFAULT_NAME)

    def visitor(self, name: str) -> Session:
        """Somebody without a token, known by `name`: the same name is the same actor on this server."""
        name = name.strip()
        if not 0 < len(name) <= MAX_VISITOR_NAME or not name.isprintable():
            raise Unauthenticated(f"name: expected 1 to {MAX_VISITOR_NAME} printable characters, got {name!r:.80}")
        digest = hashlib.blake2b(name.encode(), key=self._node, person=b"visitor", digest_size=8).digest()
        actor = Actor(base62(int.from_bytes(digest), MINTED_LENGTH))
        return Session(DEV_TENANT, actor, name, MappingProxyType({ALL_SPACES: Role.EDITOR}), visitor=True)


async def enter(engine: Engine, session: Session, name: str, *, join: bool = False) -> tuple[Space, Role]:
    """The space called `name`, a slug or an id, and the session's role in it. Raises NotFound (rule 3), and
    Forbidden to who was removed or banned.

    `join`: a visitor's first step into a space makes it. Raises InvalidInput for a slug that cannot be.
    """
    try:
        space = await engine.space(session.tenant, name)
    except NotFound:
        if not (join and session.visitor):
            raise
        space = await engine.create_space(session.tenant, name, session.actor)
    role = session.role(space)
    if role is None:
        raise kept_out(session, space) or NotFound("space", name)
    return space, role


def kept_out(session: Session, space: Space) -> Forbidden | None:
    """Why the session has no role in the space, when it may know: somebody removed or banned it there."""
    if space.record.tenant != session.tenant:
        return None
    why = space.record.members.why_not(session.actor.id, session.given(space), space.engine.clock())
    return None if why is None else Forbidden(why)


async def introduce(space: Space, session: Session, role: Role, actor: Actor | None = None) -> None:
    """Let the space know the display name of a participant who may write there, `actor` being its way in.

    Raises LogError.
    """
    if role >= Role.COMMENTER:
        await space.name_profile(actor or session.actor, session.actor.id, session.name)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():  # not told what came: it may be a token without its scheme
        raise Unauthenticated("Authorization: expected 'Bearer TOKEN', got something else")
    return token.strip()


def _require_local(client_host: str | None, origin: str | None, host: str | None) -> None:
    if not is_loopback(client_host):
        raise Unauthenticated(f"expected a token, or a visitor on this machine, got none from {client_host!r}")
    if origin is not None and not is_loopback(_host_of(origin)):
        raise Unauthenticated(f"expected a token, or a page of this machine, got none from {origin!r:.200}")
    if host is not None and not is_loopback(_host_of(f"//{host}")):
        raise Unauthenticated(f"expected a token, or 'localhost' as the server's name, got none at {host!r:.200}")


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def is_loopback(host: str | None) -> bool:
    """Whether `host`, an address or a name, is this machine; None is not."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
