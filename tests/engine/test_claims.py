"""Who owns which client id (D4)."""

from __future__ import annotations

from maquette.engine.claims import Claims


def test_d4_who_announces_first_owns_an_id() -> None:
    claims = Claims()
    assert claims.announce(1, "ada")
    assert not claims.announce(1, "ben")
    assert claims.announce(1, "ada")
    assert (claims.owner(1), claims.admits(1, "ben"), claims.admits(1, "ben", 1)) == ("ada", False, False)


def test_d4_an_id_that_was_only_brought_goes_to_who_announces_it() -> None:
    claims = Claims()
    claims.bring([1], "ada", own=9)
    assert (claims.owner(1), claims.is_announced(1), claims.admits(1, "ben")) == ("ada", False, False)
    assert claims.admits(1, "ben", own=1)
    assert claims.announce(1, "ben")
    assert not claims.announce(1, "ada")
    claims.bring([1], "ada", own=9)
    assert claims.owner(1) == "ben"


def test_d4_bringing_ones_own_id_announces_it() -> None:
    claims = Claims()
    claims.bring([1, 2], "ada", own=1)
    assert [(client, claims.is_announced(client)) for client in (1, 2, 3)] == [(1, True), (2, False), (3, False)]
    assert claims.owner(3) is None


def test_claims_survive_a_snapshot() -> None:
    claims = Claims()
    claims.bring([1, 2], "ada", own=1)
    again = Claims.from_plain([(1, "ada", True), (2, "ada", False)])
    assert again.to_plain() == claims.to_plain()
