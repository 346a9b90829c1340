"""Presence of one document (P1–P3), with members and ticks by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from maquette.engine.sync import AwarenessState, AwarenessUpdate, read_frame
from maquette.server.presence import MAX_CLOCK, MAX_STATE_BYTES, MAX_STATES, Presence


class Member:
    """A connection that keeps what it is sent, as a stock client would: the newest clock counts."""

    def __init__(self, name: str, client: int | None = None, claims: dict[int, str] | None = None) -> None:
        self.name = name
        self.client = client
        self.is_behind = False
        self.frames: list[bytes] = []
        self._claims = {} if claims is None else claims

    @property
    def identity(self) -> dict[str, str]:
        return {"id": f"actor-{self.name}", "name": self.name, "kind": "person"}

    def announce(self, client: int) -> bool:
        if self._claims.setdefault(client, self.name) != self.name:
            return False
        self.client = client
        return True

    def deliver(self, frames: tuple[bytes, ...]) -> None:
        self.frames.extend(frames)

    def heard(self) -> list[AwarenessState]:
        """The states of all frames since the last call."""
        frames, self.frames = self.frames, []
        messages = [read_frame(frame) for frame in frames]
        return [state for message in messages if isinstance(message, AwarenessUpdate) for state in message.states]


def say(presence: Presence, member: Member, client: int, clock: int, state: dict[str, Any] | None) -> None:
    presence.update(member, [AwarenessState(client, clock, state)])


@pytest.fixture
def presence() -> Presence:
    return Presence()


def joined(presence: Presence, *names: str) -> list[Member]:
    members = [Member(name) for name in names]
    for number, member in enumerate(members):
        presence.join(member)
        say(presence, member, number + 1, 0, {})
    while presence.is_dirty:
        presence.tick()
    for member in members:
        member.heard()
    return members


def test_p2_a_state_for_another_client_is_dropped(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 2, 9, {"cursor": 1})
    assert not presence.is_dirty
    say(presence, ben, 2, 1, {"cursor": 2})
    presence.tick()
    [state] = ann.heard()
    assert (state.client, state.state["cursor"], state.state["actor"]["id"]) == (2, 2, "actor-Ben")


def test_p2_a_client_id_that_is_anothers_cannot_be_announced(presence: Presence) -> None:
    claims: dict[int, str] = {}
    ann, eve = Member("Ann", claims=claims), Member("Eve", claims=claims)
    for member in (ann, eve):
        presence.join(member)
    say(presence, ann, 1, 0, {})
    say(presence, eve, 1, 5, {"cursor": 1})
    presence.tick()
    assert [(state.client, state.state["actor"]["name"]) for state in ann.heard()] == [(1, "Ann")]
    assert eve.client is None


def test_p2_the_server_says_who_it_is(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 1, {"actor": {"id": "root"}, "user": {"name": "Ben", "color": "#f00"}})
    presence.tick()
    [state] = ben.heard()
    assert state.state == {
        "actor": {"id": "actor-Ann", "name": "Ann", "kind": "person"},
        "user": {"name": "Ann", "color": "#f00"},
    }


def test_p3_of_many_states_within_a_tick_the_newest_is_sent(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    for clock in range(1, 100):
        say(presence, ann, 1, clock, {"cursor": clock})
    presence.tick()
    [state] = ben.heard()
    assert state.state["cursor"] == 99
    assert not presence.is_dirty


def test_p3_a_frame_holds_30_states_the_newest_and_a_few_of_the_oldest(presence: Presence) -> None:
    members = joined(presence, *(f"n{number}" for number in range(100)))
    for number, member in enumerate(members):
        say(presence, member, number + 1, 1, {"cursor": number})
    presence.tick()
    clients = [state.client for state in members[0].heard()]
    assert len(clients) == MAX_STATES
    assert clients == [*range(1, 6), *range(76, 101)]
    ticks = 1
    while presence.is_dirty:
        presence.tick()
        ticks += 1
    assert ticks == 4
    assert len(members[0].heard()) == 70


def test_p3_what_changed_once_is_sent_though_everybody_else_moves_on(presence: Presence) -> None:
    members = joined(presence, *(f"n{number}" for number in range(100)))
    presence.leave(members[0])
    for clock in range(1, 60):
        for number, member in enumerate(members[1:]):
            say(presence, member, number + 2, clock, {"cursor": clock})
        presence.tick()
    assert any(state.client == 1 and state.state is None for state in members[50].heard())


def test_p3_the_origin_hears_its_own_state(presence: Presence) -> None:
    [ann] = joined(presence, "Ann")
    say(presence, ann, 1, 5, {"cursor": 1})
    presence.tick()
    [state] = ann.heard()
    assert (state.client, state.clock) == (1, 6), "a stock client takes over what is newer than its own"
    assert state.state["actor"]["id"] == "actor-Ann"


def test_p3_what_a_client_repeats_of_itself_goes_to_nobody(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 5, {"cursor": 1})
    presence.tick()
    [heard] = ann.heard()
    ben.heard()
    say(presence, ann, 1, heard.clock, heard.state)
    assert not presence.is_dirty


def test_p3_a_heartbeat_is_passed_on_so_that_nobody_is_forgotten(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 5, {"cursor": 1})
    presence.tick()
    [heard] = ann.heard()
    [before] = ben.heard()
    say(presence, ann, 1, heard.clock, heard.state)
    say(presence, ann, 1, heard.clock + 1, heard.state)
    presence.tick()
    [after] = ben.heard()
    assert after.clock > before.clock
    assert after.state == before.state


def test_p3_a_state_is_never_shown_later_than_the_next_of_its_client(presence: Presence) -> None:
    """Else what the server sends back would undo what the client says meanwhile."""
    ann, ben = joined(presence, "Ann", "Ben")
    for clock in range(1, 20):
        say(presence, ann, 1, clock, {"cursor": clock})
        presence.tick()
        [state] = ben.heard()
        assert clock <= state.clock <= clock + 1


def test_p3_a_slow_reader_gets_the_newest_and_no_backlog(presence: Presence) -> None:
    ann, slow = joined(presence, "Ann", "Slow")
    slow.is_behind = True
    for clock in range(1, 200):
        say(presence, ann, 1, clock, {"cursor": clock})
        presence.tick()
    assert slow.frames == []
    slow.is_behind = False
    presence.catch_up(slow)
    [state] = slow.heard()
    assert state.state["cursor"] == 199
    presence.catch_up(slow)
    assert slow.frames == []


def test_p3_a_slow_reader_hears_who_left_meanwhile(presence: Presence) -> None:
    ann, slow, _ = joined(presence, "Ann", "Slow", "Cat")
    slow.is_behind = True
    say(presence, ann, 1, 1, {"cursor": 1})
    presence.leave(ann)
    presence.tick()
    presence.catch_up(slow)
    [state] = slow.heard()
    assert (state.client, state.state) == (1, None)


def test_who_joins_is_told_who_is_here(presence: Presence) -> None:
    joined(presence, *(f"n{number}" for number in range(70)))
    late = Member("Late")
    presence.join(late)
    assert [len(message.states) for frame in late.frames if isinstance(message := read_frame(frame), AwarenessUpdate)] \
        == [30, 30, 10]  # fmt: skip
    assert {state.client for state in late.heard()} == set(range(1, 71))


def test_who_leaves_is_taken_away_under_a_clock_that_counts(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 3, {"cursor": 1})
    presence.tick()
    [shown] = ben.heard()
    presence.leave(ann)
    presence.tick()
    [gone] = ben.heard()
    assert gone.state is None
    assert gone.clock >= shown.clock


def test_who_comes_back_at_the_same_clock_is_shown_at_once(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 3, {"cursor": 1})
    presence.tick()
    [mine] = ann.heard()
    presence.leave(ann)
    presence.tick()
    before = max(state.clock for state in ben.heard())
    again = Member("Ann")
    presence.join(again)
    say(presence, again, 1, mine.clock, mine.state)
    presence.tick()
    [state] = ben.heard()
    assert state.clock > before
    assert state.state["cursor"] == 1


def test_a_newer_connection_takes_over_and_the_end_of_the_old_one_takes_nothing_away(presence: Presence) -> None:
    old, ben = joined(presence, "Ann", "Ben")
    new = Member("Ann")
    presence.join(new)
    say(presence, new, 1, 0, {"cursor": 2})
    presence.leave(old)
    presence.tick()
    [state] = ben.heard()
    assert state.state["cursor"] == 2


def test_a_client_may_take_its_state_away_and_come_back(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 1, None)
    presence.tick()
    assert [state.state for state in ben.heard()] == [None]
    say(presence, ann, 1, 2, {"cursor": 1})
    presence.tick()
    assert [state.state["cursor"] for state in ben.heard()] == [1]


@pytest.mark.parametrize("state", [{"big": "x" * MAX_STATE_BYTES}, {"big": "é" * (MAX_STATE_BYTES // 5)}])
def test_a_state_of_more_than_16_kb_is_dropped(presence: Presence, state: dict[str, Any]) -> None:
    ann, _ = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 1, state)
    assert not presence.is_dirty
    say(presence, ann, 1, 2, {"cursor": 1})
    assert presence.is_dirty


def test_a_state_nested_beyond_what_can_be_said_again_is_dropped(presence: Presence) -> None:
    ann, _ = joined(presence, "Ann", "Ben")
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    say(presence, ann, 1, 1, deep)
    assert not presence.is_dirty


def test_a_clock_that_would_stop_stock_clients_is_dropped(presence: Presence) -> None:
    ann, _ = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, MAX_CLOCK, {"cursor": 1})
    assert not presence.is_dirty


def test_nothing_is_kept_of_those_who_left(presence: Presence) -> None:
    [stays] = joined(presence, "Stays")
    for number in range(2, 1_000):
        one = Member(f"n{number}")
        presence.join(one)
        say(presence, one, number, 0, {"cursor": "x" * 1_000})
        presence.leave(one)
    while presence.is_dirty:
        presence.tick()
    late = Member("Late")
    presence.join(late)
    assert [state.client for state in late.heard()] == [1]
    assert len(presence._states) == 1
    assert stays.heard()


def test_presence_calls_for_a_tick_when_there_is_something_to_send() -> None:
    calls: list[int] = []
    presence = Presence(lambda: calls.append(1))
    ann = Member("Ann")
    presence.join(ann)
    assert not calls
    say(presence, ann, 1, 0, {})
    assert calls == [1]


def test_frames_are_json_that_browsers_read(presence: Presence) -> None:
    ann, ben = joined(presence, "Ann", "Ben")
    say(presence, ann, 1, 1, {"text": "\ud800 ü \u2028", "big": 10**30})
    presence.tick()
    [state] = ben.heard()
    assert json.loads(json.dumps(state.state))["text"] == "\ud800 ü \u2028"
