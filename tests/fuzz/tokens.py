"""Tokens that nobody signed, or that the server's own key signed over claims that make no sense.

A token is a session with what was signed, or it is refused with a reason; over HTTP it is never a fault of ours.
"""

from __future__ import annotations

import hmac
import json
import tempfile
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.became import Became
from tests.support.api import Api, serving
from tests.support.values import mutated

from maquette.engine.events import SERVER
from maquette.engine.ids import is_id
from maquette.engine.roles import Role
from maquette.server.errors import Unauthenticated
from maquette.server.sessions import Session
from maquette.server.tokens import AUDIENCE, Keyring

OVER_HTTP = 0.05
"""The part that also goes through a request, which costs a millisecond."""
HEADERS: tuple[dict[str, Any], ...] = (
    {"alg": "none"}, {"alg": "HS512"}, {"alg": "RS256"}, {"alg": None}, {"alg": ["HS256"]}, {"kid": None},
    {"kid": "../keys"}, {"kid": ["a"]}, {"kid": {"a": 1}}, {"kid": 0}, {"typ": 5}, {"crit": ["exp"]}, {"b64": False},
    {"jku": "http://127.0.0.1:1/"}, {"jwk": {"kty": "oct", "k": ""}}, {"zip": "DEF"},
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (float("nan"), float("inf"), -float("inf"), 10**400, -1, 0, 2**63, 1e308, True, "9999999999")
CLAIMS: tuple[tuple[str, Any], ...] = (
    *((name, number) for name in ("iat", "nbf", "exp") for number in NUMBERS),
    ("sub", "server"), ("sub", ""), ("sub", "a/b"), ("sub", "x" * 65), ("sub", 5), ("sub", None),
    ("tenant", "a/b"), ("tenant", "\ud800"), ("tenant", "other@1"), ("tenant", ""), ("kind", "server"), ("kind", []),
    ("name", "\u202e"), ("name", "a\nb"), ("name", "x" * 5_000), ("name", "\ud800"), ("name", None),
    ("roles", []), ("roles", {"*": "god"}), ("roles", {"*": 5}), ("roles", {"*": ["owner"]}), ("roles", {"": "owner"}),
    ("aud", []), ("aud", ["maquette", 5]), ("aud", {"maquette": 1}),
)  # fmt: skip


class Forger:
    """Makes tokens by chance; knows which sessions the server really signed."""

    def __init__(self, keyring: Keyring, random: Random) -> None:
        self.random = random
        self.keyring = keyring
        [self.key, *_] = keyring._keys.values()
        self.tokens = [keyring.sign(f"a{n}", f"N{n}", f"t{n % 2}", {"*": "viewer"}, lifetime=3_600) for n in range(4)]
        self.genuine = [keyring.verify(token) for token in self.tokens]

    def tampered(self) -> str:
        """A token of ours with bytes or parts changed, or with another header and no valid signature."""
        parts = self.random.choice(self.tokens).split(".")
        other = self.random.choice(self.tokens).split(".")
        match self.random.randrange(5):
            case 0:
                at = self.random.randrange(3)
                parts[at] = other[at]
            case 1:
                at = self.random.randrange(3)
                parts[at] = _flipped(parts[at], self.random)
            case 2:
                parts[0] = _part({**_read(parts[0]), **self.random.choice(HEADERS)})
                parts[2] = self.random.choice((parts[2], "", "AAAA"))
            case 3:
                parts[1] = _part(self._claims())
            case _:
                return _flipped(".".join(parts), self.random)
        return self.random.choice((".".join(parts), ".".join(parts[:2]) + ".", "..".join(parts)))

    def senseless(self) -> str:
        """Claims that make no sense, signed by the server's key."""
        header: dict[str, Any] = {"alg": "HS256", "kid": self.key.id}
        header |= {} if self.random.random() < 0.9 else self.random.choice(HEADERS)
        signed = f"{_part(header)}.{_part(self._claims())}"
        return f"{signed}.{_encoded(hmac.digest(self.key.secret, signed.encode(), 'sha256'))}"

    def _claims(self) -> Any:
        now = int(time.time())
        claims: dict[str, Any] = {
            "sub": "ann", "name": "Ann", "tenant": "t1", "roles": {"*": "owner"}, "kind": "person", "aud": AUDIENCE,
            "iat": now, "exp": now + 600,
        }  # fmt: skip
        if self.random.random() < 0.5:
            claims.update([self.random.choice(CLAIMS)])
        else:
            claims = mutated(claims, self.random)
        return claims if self.random.random() < 0.97 else self.random.choice(([], None, 5, "x", [[]] * 50))


def _flipped(text: str, random: Random) -> str:
    at = random.randrange(len(text) or 1)
    return text[:at] + random.choice("Aa0-_=.+/ \u00e9\x00😀") * random.choice((1, 1, 1, 9_000)) + text[at + 1 :]


def _part(value: Any) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _read(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=="))
    return found


async def forge(random: Random, count: int, note: Callable[[bytes], None]) -> Became:
    """Try `count` tokens."""
    fates: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        async with serving("memory:", Path(folder)) as api:
            forger = Forger(api.keyring, random)
            for _ in range(count):
                tamper = random.random() < 0.5
                token = forger.tampered() if tamper else forger.senseless()
                note(token.encode("utf-8", "surrogatepass"))
                session = verified(api.keyring, token)
                fates["refused" if session is None else "taken"] += 1
                if session is not None:
                    _check(session, forger if tamper else None)
                if random.random() < OVER_HTTP:
                    await _ask(api, token, session, fates)
    return Became(fates)


def verified(keyring: Keyring, token: str) -> Session | None:
    """The session; None when the token is refused with a reason."""
    try:
        return keyring.verify(token)
    except Unauthenticated as error:
        refusal = str(error)
    assert "expected" in refusal
    assert len(token) < 40 or token not in refusal
    return None


def _check(session: Session, forger: Forger | None) -> None:
    """What was signed, when we signed it; sound, in any case."""
    assert forger is None or session in forger.genuine
    assert is_id(session.actor.id)
    assert session.actor.id != SERVER.id
    assert session.actor.kind != "server"
    assert is_id(session.tenant)
    assert session.expires is not None
    assert time.time() < session.expires <= 1e12
    assert all(isinstance(role, Role) for role in session.roles.values())


async def _ask(api: Api, token: str, session: Session | None, fates: Counter[str]) -> None:
    headers = {b"Authorization": b"Bearer " + token.encode("utf-8", "surrogatepass")}
    response = await api.http.get("/v1/spaces", headers=headers)
    fates["asked"] += 1
    expected = (401,) if session is None else (200, 403)
    assert response.status_code in expected, (response.status_code, response.text)
