"""Tokens: JWTs (RFC 7519) signed with HS256 by one key of a key ring, which the header names by `kid`.

Rule 1: only HS256 is accepted, whatever the header says; `none` and asymmetric algorithms never reach a key.
Rule 2: every key of the ring verifies, the first signs: to rotate, put a new key first and take the old one out when
        the last token signed with it has expired.
Rule 3: no message and no log holds a token.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import jwt

from maquette.engine.errors import InvalidInput
from maquette.engine.events import SERVER, Actor, ActorKind
from maquette.engine.files import sync_folder
from maquette.engine.ids import is_id, mint
from maquette.engine.roles import Role
from maquette.engine.spaces import check_tenant
from maquette.server.errors import KeysDamaged, Unauthenticated
from maquette.server.sessions import Session

ALGORITHM = "HS256"
AUDIENCE = "maquette"
FILE = "keys.json"
SECRET_BYTES = 32  # RFC 7518, 3.2: a key at least as long as the hash
MAX_TOKEN = 8_192  # characters: roles in some hundred spaces, and within the line that every proxy takes
MAX_NAME = 256
LEEWAY = 60.0  # seconds that the clock of whoever signs may be ahead of ours
LIFETIME = 30 * 24 * 3600.0  # seconds
KINDS: tuple[ActorKind, ...] = ("person", "bot", "ai")  # never "server": that is the engine itself

_REQUIRED = ("sub", "name", "tenant", "roles", "exp", "iat", "aud")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A secret and the id by which tokens name it."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not is_id(self.id):
            raise InvalidInput(f"key id: expected 1 to 64 characters of [A-Za-z0-9_-], got {self.id!r:.80}")
        if len(self.secret) < SECRET_BYTES:
            raise InvalidInput(f"key {self.id!r}: expected {SECRET_BYTES} bytes or more, got {len(self.secret)}")


class Keyring:
    """The keys that sign and verify tokens (rule 2). `clock` gives seconds since 1970."""

    def __init__(self, keys: Sequence[Key], *, clock: Callable[[], float] = time.time) -> None:
        if not keys:
            raise InvalidInput("key ring: expected at least one key, got none")
        self._keys = {key.id: key for key in keys}
        self._signer = keys[0]
        self._clock = clock

    @classmethod
    def fresh(cls, *, clock: Callable[[], float] = time.time) -> Self:
        """A ring with one random key, for tests and for servers that keep nothing."""
        return cls([_random_key()], clock=clock)

    @classmethod
    def load(cls, folder: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """The ring in `folder`/keys.json, made with one random key and readable by its owner only when it is not there.

        Raises KeysDamaged for a file that is no key ring.
        """
        path = folder / FILE
        if not path.exists():
            _create(path, [_random_key()])
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            _logger.warning("%s: expected mode 0600, others may read the keys: chmod 600 it", path)
        return cls(_read(path), clock=clock)

    def sign(
        self,
        sub: str,
        name: str,
        tenant: str,
        roles: Mapping[str, str],
        *,
        kind: ActorKind = "person",
        lifetime: float = LIFETIME,
    ) -> str:
        """A token for the actor `sub`, called `name`, with `roles` by space, valid for `lifetime` seconds from now.

        Raises InvalidInput for claims that `verify` would not take.
        """
        now = int(self._clock())
        claims: dict[str, Any] = {
            "sub": sub, "name": name, "tenant": tenant, "roles": dict(roles), "kind": kind,
            "aud": AUDIENCE, "iat": now, "exp": now + int(lifetime),
        }  # fmt: skip
        try:
            _session(claims, now)
        except Unauthenticated as error:
            raise InvalidInput(str(error)) from error
        token = jwt.encode(claims, self._signer.secret, ALGORITHM, headers={"kid": self._signer.id})
        if len(token) > MAX_TOKEN:
            raise InvalidInput(f"token: expected at most {MAX_TOKEN} characters, got {len(token)}")
        return token

    def verify(self, token: str) -> Session:
        """The session that `token` stands for. Raises Unauthenticated."""
        if len(token) > MAX_TOKEN:
            raise Unauthenticated(f"token: expected at most {MAX_TOKEN} characters, got {len(token)}")
        return _session(_verified_claims(token, self._key_of(token)), self._clock())

    def _key_of(self, token: str) -> Key:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("token: expected a JWT, got something else") from error
        if header.get("alg") != ALGORITHM:
            raise Unauthenticated(f"token, alg: expected {ALGORITHM!r}, got {header.get('alg')!r:.20}")
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise Unauthenticated(f"token, kid: expected the id of a key of this server, got {kid!r:.80}")
        return key


def _verified_claims(token: str, key: Key) -> dict[str, Any]:
    """The claims, signature checked. Times and audience are judged in `_session`, which says what came."""
    checks = {"verify_signature": True} | dict.fromkeys(
        ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False
    )
    try:
        claims: dict[str, Any] = jwt.decode(token, key.secret, [ALGORITHM], options=checks)  # type: ignore[arg-type]  # built from names
    except jwt.InvalidSignatureError as error:
        raise Unauthenticated(f"token: expected a signature by key {key.id!r}, got another") from error
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise Unauthenticated("token: expected a JWT with a map of claims, got something else") from error
    return claims


def _session(claims: Mapping[str, Any], now: float) -> Session:
    missing = [name for name in _REQUIRED if name not in claims]
    if missing:
        raise Unauthenticated(f"token: expected the claims {', '.join(_REQUIRED)}, got none of {', '.join(missing)}")
    _check_audience(claims["aud"])
    _check_times(claims, now)
    actor = Actor(_checked_sub(claims["sub"]), _checked_kind(claims.get("kind", "person")))
    name = claims["name"]
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise Unauthenticated(f"token, name: expected 1 to {MAX_NAME} printable characters, got {name!r:.80}")
    tenant = _checked_tenant(claims["tenant"])
    return Session(tenant, actor, name, _checked_roles(claims["roles"]), expires=float(claims["exp"]))


def _check_audience(audience: Any) -> None:
    if audience != AUDIENCE and not (isinstance(audience, list) and AUDIENCE in audience):
        raise Unauthenticated(f"token, aud: expected {AUDIENCE!r}, got {audience!r:.80}")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    times = {name: claims[name] for name in ("iat", "nbf", "exp") if name in claims}
    for name, value in times.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) <= 1e12:  # not `>`: NaN would be valid for ever
            raise Unauthenticated(f"token, {name}: expected seconds since 1970, got {value!r:.40}")
    if times["exp"] <= now:
        raise Unauthenticated(f"token: expected one that is valid now, got one that expired at {_utc(times['exp'])}")
    begin = max(times["iat"], times.get("nbf", 0))
    if begin > now + LEEWAY:
        raise Unauthenticated(f"token: expected one that is valid now, got one that begins at {_utc(begin)}")


def _utc(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since 1970"


def _checked_sub(sub: Any) -> str:
    if not is_id(sub) or sub == SERVER.id:
        raise Unauthenticated(
            f"token, sub: expected 1 to 64 characters of [A-Za-z0-9_-] other than {SERVER.id!r}, got {sub!r:.80}"
        )
    return sub


def _checked_kind(kind: Any) -> ActorKind:
    if kind not in KINDS:
        raise Unauthenticated(f"token, kind: expected one of {', '.join(KINDS)}, got {kind!r:.80}")
    return next(known for known in KINDS if known == kind)


def _checked_tenant(tenant: Any) -> str:
    try:
        return check_tenant(tenant)
    except (InvalidInput, TypeError) as error:
        raise Unauthenticated(
            f"token, tenant: expected 1 to 64 characters of [A-Za-z0-9_-], got {tenant!r:.80}"
        ) from error


def _checked_roles(roles: Any) -> Mapping[str, Role]:
    if not isinstance(roles, Mapping):
        raise Unauthenticated(f"token, roles: expected a map of space to role, got {type(roles).__name__}")
    try:
        return MappingProxyType({str(space): Role.parse(role) for space, role in roles.items()})
    except InvalidInput as error:
        raise Unauthenticated(f"token, roles: {error}") from error


# --- the file ------------------------------------------------------------------------------------------------------


def _random_key() -> Key:
    return Key(mint(), os.urandom(SECRET_BYTES))


def _create(path: Path, keys: Sequence[Key]) -> None:
    """Write `keys` under another name, then link it: whole or not at all, and of two first starts one wins."""
    rows = [{"id": key.id, "secret": urlsafe_b64encode(key.secret).decode()} for key in keys]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{FILE}.{os.getpid()}.{mint()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"keys": rows}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    sync_folder(path.parent)  # also when another start was faster: a token must not outlive the key that signed it


def _read(path: Path) -> list[Key]:
    try:
        rows = json.loads(path.read_text())["keys"]
        keys = [Key(row["id"], urlsafe_b64decode(row["secret"])) for row in rows]
    except (ValueError, KeyError, TypeError, InvalidInput) as error:
        said = str(error) if isinstance(error, InvalidInput) else type(error).__name__  # others may quote the file
        raise KeysDamaged(path, '{"keys": [{"id": …, "secret": base64url of 32 bytes or more}, …]}', said) from error
    if not keys or len({key.id for key in keys}) != len(keys):
        raise KeysDamaged(path, "one key or more, each with an id of its own", f"{[key.id for key in keys]!r:.200}")
    return keys
