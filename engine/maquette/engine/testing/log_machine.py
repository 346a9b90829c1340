"""An `EventLog` against a list: Hypothesis tries sequences of calls that nobody would think of.

TestMyLog = log_machine(my_log).TestCase      # my_log() -> an async context manager around a fresh, empty log
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from maquette.engine.errors import WrongRevision
from maquette.engine.events import START, Event, NewEvent, Position
from maquette.engine.log import Appended, EventLog
from maquette.engine.testing.log_contract import collected, note

T = TypeVar("T")

STREAMS = st.sampled_from(["a", "b", "tenant/space/chat@1"])
COUNTS = st.integers(1, 4)


class Follower:
    """A subscription and what it has brought so far."""

    def __init__(self, pages: AsyncGenerator[Sequence[Event], None], after: Position) -> None:
        self.pages = pages
        self.after = after
        self.events: list[Event] = []

    async def follow(self, until: Position) -> None:
        """Read until `until` has come."""
        while (self.events[-1].position if self.events else self.after) < until:
            self.events.extend(await anext(self.pages))


class LogMachine(RuleBasedStateMachine):
    """The model is `self.model`: all events in the order of their commits, as the first read gave them."""

    opened: Callable[[], AbstractAsyncContextManager[EventLog]]
    stored = Bundle("stored")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.context = type(self).opened()
        self.log = self.run(self.context.__aenter__())
        self.model: list[Event] = []
        self.followers: list[Follower] = []

    def run(self, awaitable: Awaitable[T]) -> T:
        """The result of `awaitable` on this machine's event loop."""

        async def result() -> T:
            return await awaitable

        return self.runner.run(result())

    def of(self, stream: str) -> list[Event]:
        """The model of one stream."""
        return [event for event in self.model if event.stream == stream]

    async def append(self, stream: str, events: Sequence[NewEvent], expected: int | None) -> Appended:
        """Append, and take what it stored into the model, after checking that it is what it should be."""
        appended = await self.log.append(stream, events, expected)
        known = {event.id for event in self.of(stream)}
        fresh = [event for event in events if event.id not in known]
        last = self.model[-1].position if self.model else START
        new = await collected(self.log.read_all(after=last))
        first = len(self.of(stream)) + 1
        assert [(event.stream, event.revision, event.id) for event in new] == [
            (stream, revision, event.id) for revision, event in enumerate(fresh, first)
        ]
        for earlier, later in pairwise([*self.model[-1:], *new]):
            assert earlier.position < later.position
            assert earlier.time <= later.time
        self.model.extend(new)
        return appended

    @rule(target=stored, stream=STREAMS, count=COUNTS, right=st.booleans())
    def append_new(self, stream: str, count: int, right: bool) -> Any:
        """Without an expectation, or with the right one."""
        events = [note(str(n)) for n in range(count)]
        appended = self.run(self.append(stream, events, len(self.of(stream)) if right else None))
        assert appended.last - appended.first + 1 == count
        assert appended.last == len(self.of(stream))
        return multiple(*((stream, event) for event in events))

    @rule(stream=STREAMS, off=st.sampled_from([-2, -1, 1, 2, 100]))
    def append_wrong(self, stream: str, off: int) -> None:
        """With a wrong expectation."""
        with pytest.raises(WrongRevision) as caught:
            self.run(self.append(stream, [note()], len(self.of(stream)) + off))
        assert caught.value.actual == len(self.of(stream))

    @rule(target=stored, old=stored, count=st.integers(0, 2), expected=st.none() | st.integers(0, 3))
    def append_again(self, old: tuple[str, NewEvent], count: int, expected: int | None) -> Any:
        """An event that is stored, alone or with new ones behind it."""
        stream, event = old
        fresh = [note(str(n)) for n in range(count)]
        if fresh and expected is not None:
            expected = len(self.of(stream))
        appended = self.run(self.append(stream, [event, *fresh], expected))
        first = next(found for found in self.of(stream) if found.id == event.id)
        assert appended.first == first.revision
        assert appended.last == (len(self.of(stream)) if fresh else first.revision)
        return multiple(*((stream, new) for new in fresh))

    @rule(stream=STREAMS, after=st.integers(0, 12), until=st.none() | st.integers(0, 12), backwards=st.booleans())
    def read(self, stream: str, after: int, until: int | None, backwards: bool) -> None:
        """Any range of a stream, in both directions."""
        model = self.of(stream)[after:until] if until is None or until > after else []
        found = self.run(collected(self.log.read(stream, after=after, until=until, backwards=backwards)))
        assert found == (model[::-1] if backwards else model)

    @rule(place=st.floats(0, 1), shift=st.sampled_from([-1, 0, 1]))
    def read_all(self, place: float, shift: int) -> None:
        """The log behind any position, also one that no event has."""
        after = self._position(place, shift)
        model = [event for event in self.model if event.position > after]
        assert self.run(collected(self.log.read_all(after=after))) == model

    @rule(place=st.floats(0, 1))
    def subscribe(self, place: float) -> None:
        """In the middle of the log."""
        if len(self.followers) < 5:
            after = self._position(place, 0)
            self.followers.append(Follower(self.log.subscribe(after=after), after))

    @rule()
    def follow(self) -> None:
        """Every subscription reaches the head, and has brought what lies behind its beginning, once and in order."""
        head = self.run(self.log.head())
        for follower in self.followers:
            self.run(follower.follow(head))
            assert follower.events == [event for event in self.model if event.position > follower.after]

    @invariant()
    def ends_where_the_model_ends(self) -> None:
        """Head and revisions agree with the model after every step."""
        assert self.run(self.log.head()) == (self.model[-1].position if self.model else START)
        for stream in ("a", "b"):
            assert self.run(self.log.revision(stream)) == len(self.of(stream))

    def teardown(self) -> None:
        """Close everything, whatever came before."""
        try:
            for follower in self.followers:
                self.run(follower.pages.aclose())
            self.run(self.context.__aexit__(None, None, None))
        finally:
            self.runner.close()

    def _position(self, place: float, shift: int) -> Position:
        index = round(place * len(self.model))
        return Position(max(0, self.model[index - 1].position + shift)) if index else START


def log_machine(opened: Callable[[], AbstractAsyncContextManager[EventLog]]) -> type[LogMachine]:
    """A state machine for the logs that `opened` makes; its `TestCase` is a unittest class that pytest runs."""
    return type("LogMachine", (LogMachine,), {"opened": staticmethod(opened)})
