"""Tokens, the key ring, and the visitor's door of --dev."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, NotFound
from maquette.engine.events import Actor
from maquette.engine.roles import Role
from maquette.server.auth import Authenticator, enter, is_loopback
from maquette.server.errors import KeysDamaged, Unauthenticated
from maquette.server.tokens import MAX_TOKEN, Key, Keyring

NOW = 1_800_000_000
SECRET = b"s" * 32
NODE = b"n" * 16


@pytest.fixture
def ring() -> Keyring:
    return Keyring([Key("k1", SECRET)], clock=lambda: NOW)


def token(
    claims: dict[str, Any] | None = None,
    *,
    without: str = "",
    secret: bytes = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
) -> str:
    whole = {
        "sub": "ann", "name": "Ann", "tenant": "t1", "roles": {"demo": "editor"},
        "aud": "maquette", "iat": NOW - 10, "exp": NOW + 10,
    }  # fmt: skip
    whole |= claims or {}
    whole.pop(without, None)
    return jwt.encode(whole, secret, algorithm, headers={"kid": "k1"} if headers is None else headers)


def refusal(ring: Keyring, bad: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        ring.verify(bad)
    said = str(caught.value)
    assert "expected" in said
    assert "got" in said
    for part in bad.split("."):
        assert len(part) < 10 or part not in said  # never the token, nor a part of it
    return said


# --- tokens --------------------------------------------------------------------------------------------------------


def test_a_signed_token_is_verified_as_the_session_that_it_was_signed_for(ring: Keyring) -> None:
    session = ring.verify(ring.sign("ann", "Ann Ö.", "t1", {"demo": "editor", "*": "viewer"}, kind="ai"))
    assert session.tenant == "t1"
    assert session.actor == Actor("ann", "ai")
    assert session.name == "Ann Ö."
    assert session.roles == {"demo": Role.EDITOR, "*": Role.VIEWER}
    assert not session.visitor


def test_a_token_is_good_until_the_second_that_it_names(ring: Keyring) -> None:
    clock = [float(NOW)]
    later = Keyring([Key("k1", SECRET)], clock=lambda: clock[0])
    signed = ring.sign("ann", "Ann", "t1", {}, lifetime=60)
    clock[0] = NOW + 59.9
    assert later.verify(signed).expires == NOW + 60
    clock[0] = NOW + 60
    assert "expired at 2027-01-15T08:01:00Z" in refusal(later, signed)


def test_a_token_of_tomorrow_is_refused(ring: Keyring) -> None:
    assert "begins at" in refusal(ring, token({"iat": NOW + 86_400, "exp": NOW + 90_000}))
    assert "begins at" in refusal(ring, token({"nbf": NOW + 86_400, "exp": NOW + 90_000}))


def test_a_clock_that_is_some_seconds_ahead_is_forgiven(ring: Keyring) -> None:
    assert ring.verify(token({"iat": NOW + 30, "exp": NOW + 90})).name == "Ann"


def test_a_foreign_signature_is_refused(ring: Keyring) -> None:
    assert "signature by key 'k1'" in refusal(ring, token(secret=b"x" * 32))


def test_a_changed_claim_is_refused(ring: Keyring) -> None:
    head, _, signature = token().split(".")
    _, other, _ = token({"roles": {"*": "owner"}}).split(".")
    assert "signature" in refusal(ring, f"{head}.{other}.{signature}")


def test_an_unknown_key_is_refused(ring: Keyring) -> None:
    assert "kid: expected the id of a key of this server, got 'k2'" in refusal(ring, token(headers={"kid": "k2"}))
    assert "kid" in refusal(ring, token(headers={}))


def test_no_algorithm_but_hs256_is_taken(ring: Keyring) -> None:
    unsigned = jwt.encode({"sub": "ann"}, None, "none", headers={"kid": "k1"})
    assert "alg: expected 'HS256', got 'none'" in refusal(ring, unsigned)
    assert "got 'HS512'" in refusal(ring, token(algorithm="HS512", secret=b"s" * 64))


@pytest.mark.parametrize("claim", ["sub", "name", "tenant", "roles", "exp", "iat", "aud"])
def test_a_missing_claim_is_named(ring: Keyring, claim: str) -> None:
    assert refusal(ring, token(without=claim)).endswith(f"got none of {claim}")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "other"}, "aud: expected 'maquette', got 'other'"),
        ({"sub": "a/b"}, "sub: expected 1 to 64 characters"),
        ({"sub": "server"}, "other than 'server', got 'server'"),
        ({"kind": "server"}, "kind: expected one of person, bot, ai, got 'server'"),
        ({"kind": ["ai"]}, "kind: expected one of"),
        ({"tenant": "a/b"}, "tenant: expected 1 to 64 characters"),
        ({"tenant": 7}, "tenant: expected 1 to 64 characters"),
        ({"name": ""}, "name: expected 1 to 256 printable characters"),
        ({"name": "a\nb"}, "name: expected 1 to 256 printable characters"),
        ({"roles": "editor"}, "roles: expected a map"),
        ({"roles": {"demo": "king"}}, "expected one of viewer, commenter, editor, moderator, owner, got 'king'"),
        ({"exp": "soon"}, "exp: expected seconds since 1970, got 'soon'"),
        ({"exp": float("nan")}, "exp: expected seconds since 1970, got nan"),
        ({"exp": float("inf")}, "exp: expected seconds since 1970, got inf"),
        ({"exp": True}, "exp: expected seconds since 1970, got True"),
    ],
)
def test_a_wrong_claim_is_named_with_what_came(ring: Keyring, claims: dict[str, Any], said: str) -> None:
    assert said in refusal(ring, token(claims))


@pytest.mark.parametrize("claim", ["iat", "nbf", "exp"])
def test_a_time_of_hundreds_of_digits_is_refused(ring: Keyring, claim: str) -> None:
    assert f"{claim}: expected seconds since 1970, got 1000" in refusal(ring, token({claim: 10**400}))


@pytest.mark.parametrize("bad", ["x", "a.b.c", "....", "ä", "\x00", "eyJhbGciOiJIUzI1NiJ9"])
def test_what_is_no_token_is_refused(ring: Keyring, bad: str) -> None:
    assert refusal(ring, bad) == "token: expected a JWT, got something else"


def test_a_token_that_is_too_long_is_refused_unread(ring: Keyring) -> None:
    assert (
        refusal(ring, "e" * (MAX_TOKEN + 1)) == f"token: expected at most {MAX_TOKEN} characters, got {MAX_TOKEN + 1}"
    )


def test_claims_that_are_no_map_are_refused(ring: Keyring) -> None:
    signed = jwt.PyJWS().encode(b"[1]", SECRET, "HS256", headers={"kid": "k1"})
    assert "expected a JWT with a map of claims" in refusal(ring, signed)


def test_signing_refuses_what_could_not_be_verified(ring: Keyring) -> None:
    with pytest.raises(InvalidInput, match="sub: expected"):
        ring.sign("no spaces", "Ann", "t1", {})
    with pytest.raises(InvalidInput, match="expected one of viewer"):
        ring.sign("ann", "Ann", "t1", {"*": "king"})
    with pytest.raises(InvalidInput, match="expected at most"):
        ring.sign("ann", "Ann", "t1", {f"space-{number}": "owner" for number in range(1000)})


# --- the ring ------------------------------------------------------------------------------------------------------


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    first = Keyring.load(tmp_path)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]
    assert Keyring.load(tmp_path).verify(first.sign("ann", "Ann", "t1", {})).actor.id == "ann"


def test_two_servers_do_not_share_their_first_key(tmp_path: Path) -> None:
    one, other = Keyring.load(tmp_path / "1"), Keyring.load(tmp_path / "2")
    with pytest.raises(Unauthenticated):
        other.verify(one.sign("ann", "Ann", "t1", {}))


def test_of_two_keys_the_first_signs_and_both_verify() -> None:
    old, new = Key("old", b"o" * 32), Key("new", b"n" * 32)
    signed = Keyring([old]).sign("ann", "Ann", "t1", {})
    rotated = Keyring([new, old])
    assert rotated.verify(signed).actor.id == "ann"
    assert jwt.get_unverified_header(rotated.sign("ann", "Ann", "t1", {}))["kid"] == "new"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"keys": []}', '{"keys": [{"id": "a"}]}', '{"keys": [{"id": "a", "secret": "c2hvcnQ="}]}'],
)
def test_a_damaged_file_of_keys_is_an_error_without_their_secrets(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(KeysDamaged, match=r"keys.json: expected .* got") as caught:
        Keyring.load(tmp_path)
    assert "c2hvcnQ" not in str(caught.value)
    assert "c2hvcnQ" not in repr(Key("k", b"c2hvcnQ" * 8))


def test_two_keys_of_one_id_are_an_error(tmp_path: Path) -> None:
    Keyring.load(tmp_path)
    keys = json.loads((tmp_path / "keys.json").read_text())["keys"]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys * 2}))
    with pytest.raises(KeysDamaged, match="each with an id of its own"):
        Keyring.load(tmp_path)


def test_keys_that_others_may_read_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Keyring.load(tmp_path)
    (tmp_path / "keys.json").chmod(0o644)
    Keyring.load(tmp_path)
    assert "expected mode 0600" in caplog.text


# --- the door ------------------------------------------------------------------------------------------------------


def test_a_token_comes_in_the_header_or_in_the_query(ring: Keyring) -> None:
    door = Authenticator(ring, NODE)
    assert door.authenticate(f"Bearer {token()}", {}, None).actor.id == "ann"
    assert door.authenticate(f"bearer  {token()}", {}, None).actor.id == "ann"
    assert door.authenticate(None, {"token": token()}, None).actor.id == "ann"


def test_without_a_token_nobody_is_let_in(ring: Keyring) -> None:
    with pytest.raises(Unauthenticated, match=r"expected a token, .* got none"):
        Authenticator(ring, NODE).authenticate(None, {"name": "Ann"}, "127.0.0.1")


def test_a_header_of_another_scheme_is_not_repeated(ring: Keyring) -> None:
    for header in ("Basic YW5uOnNlY3JldA==", token(), "Bearer", "Bearer  "):
        with pytest.raises(Unauthenticated) as caught:
            Authenticator(ring, NODE).authenticate(header, {}, None)
        assert str(caught.value) == "Authorization: expected 'Bearer TOKEN', got something else"


@pytest.fixture
def dev(ring: Keyring) -> Authenticator:
    return Authenticator(ring, NODE, dev=True)


def test_dev_lets_a_visitor_of_this_machine_in_as_editor(dev: Authenticator) -> None:
    session = dev.authenticate(None, {"name": "Ann Ö."}, "127.0.0.1")
    assert (session.tenant, session.name, session.roles["*"]) == ("dev", "Ann Ö.", Role.EDITOR)
    assert session.visitor
    assert dev.authenticate(None, {}, "::1").name == "Visitor"
    assert dev.authenticate(None, {"token": ""}, "::ffff:127.0.0.1").name == "Visitor"


def test_a_visitors_id_is_that_of_the_name_and_does_not_show_it(dev: Authenticator, ring: Keyring) -> None:
    def id_of(door: Authenticator, name: str) -> str:
        return door.authenticate(None, {"name": name}, "127.0.0.1").actor.id

    assert id_of(dev, "ann") == id_of(dev, " ann ") != id_of(dev, "bob")
    assert id_of(dev, "ann") != id_of(Authenticator(ring, b"m" * 16, dev=True), "ann")
    assert len(id_of(dev, "ann")) == 11
    assert id_of(dev, "ann").isalnum()
    assert "ann" not in id_of(dev, "ann").lower()


@pytest.mark.parametrize("host", ["192.168.1.7", "10.0.0.1", "::2", None, "", "localhost.evil.example", "testclient"])
def test_dev_refuses_visitors_from_elsewhere(dev: Authenticator, host: str | None) -> None:
    with pytest.raises(Unauthenticated, match="expected a token, or a visitor on this machine, got none from"):
        dev.authenticate(None, {}, host)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://["])
def test_dev_refuses_pages_of_other_sites_in_a_browser_here(dev: Authenticator, origin: str) -> None:
    with pytest.raises(Unauthenticated, match="or a page of this machine"):
        dev.authenticate(None, {}, "127.0.0.1", origin=origin)


def test_dev_refuses_a_name_that_was_bent_to_this_machine(dev: Authenticator) -> None:
    with pytest.raises(Unauthenticated, match="'localhost' as the server's name"):
        dev.authenticate(None, {}, "127.0.0.1", host="rebound.example:8000")
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "demo.localhost"):
        assert dev.authenticate(None, {}, "127.0.0.1", host=host, origin=f"http://{host}").visitor


def test_dev_does_not_pass_over_a_bad_token(dev: Authenticator) -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        dev.authenticate(None, {"token": token({"exp": NOW - 1})}, "127.0.0.1")


@pytest.mark.parametrize("name", [" ", "a" * 101, "a\x00b", "line\nbreak"])
def test_a_visitors_name_is_printable_and_short(dev: Authenticator, name: str) -> None:
    with pytest.raises(Unauthenticated, match="name: expected 1 to 100 printable characters"):
        dev.authenticate(None, {"name": name}, "127.0.0.1")


def test_only_loopback_is_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost", "a.localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "128.0.0.1", "example.com", None)))


# --- spaces --------------------------------------------------------------------------------------------------------


async def test_what_names_a_space_counts_before_all_spaces(ring: Keyring) -> None:
    async with await Engine.open() as engine:
        demo = await engine.create_space("t1", "demo", Actor("ann"))
        other = await engine.create_space("t1", "other", Actor("ann"))
        by_slug = ring.verify(token({"roles": {"*": "owner", "demo": "viewer"}}))
        assert (by_slug.role(demo), by_slug.role(other)) == (Role.VIEWER, Role.OWNER)
        by_id = ring.verify(token({"roles": {demo.id: "editor"}}))
        assert (by_id.role(demo), by_id.role(other)) == (Role.EDITOR, None)


async def test_a_role_ends_at_the_tenant(ring: Keyring) -> None:
    async with await Engine.open() as engine:
        demo = await engine.create_space("t2", "demo", Actor("bob"))
        everything = ring.verify(token({"roles": {"*": "owner", "demo": "owner", demo.id: "owner"}}))
        assert everything.role(demo) is None


async def test_a_space_without_a_role_is_as_unknown_as_one_that_is_not_there(ring: Keyring) -> None:
    async with await Engine.open() as engine:
        await engine.create_space("t1", "secret", Actor("bob"))
        session = ring.verify(token())
        said = []
        for name in ("secret", "nowhere"):
            with pytest.raises(NotFound) as caught:
                await enter(engine, session, name, join=True)
            said.append(str(caught.value).replace(name, "X"))
        assert said[0] == said[1]


async def test_a_visitor_makes_a_space_by_joining_it(dev: Authenticator) -> None:
    async with await Engine.open() as engine:
        visitor = dev.visitor("Ann")
        with pytest.raises(NotFound):
            await enter(engine, visitor, "demo")
        space, role = await enter(engine, visitor, "demo", join=True)
        assert (space.slug, role) == ("demo", Role.EDITOR)
        with pytest.raises(InvalidInput, match="space: expected 1 to 63"):
            await enter(engine, visitor, "No Slug", join=True)
