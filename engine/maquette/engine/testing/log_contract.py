"""The contract of `EventLog`: what every adapter passes (rules L1–L4 and the port's own rules).

    class TestMyLog(LogContract):
        def opened(self, clock):
            return my_log(clock)      # an async context manager around a fresh, empty, open log

The tests are coroutines: run them with any pytest plugin that runs those on asyncio. Nothing here relies on positions
being dense, on sizes of pages, or on how long anything takes. `log_machine.py` adds the same against a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest

from maquette.engine.errors import InvalidInput, LogClosed, WrongRevision
from maquette.engine.events import START, Actor, Event, NewEvent, Position, new_event_id
from maquette.engine.log import EventLog
from maquette.engine.logs.record import Clock, wall_clock

ADA = Actor("ada000000000")


def note(text: str = "", **fields: Any) -> NewEvent:
    """A small event to append."""
    return NewEvent("note.written", ADA, {"text": text, **fields})


async def collected(pages: AsyncIterator[Sequence[Event]]) -> list[Event]:
    """All events of `pages`, none of which may be empty."""
    events: list[Event] = []
    async for page in pages:
        assert page, "a page is never empty"
        events.extend(page)
    return events


async def taken(pages: AsyncIterator[Sequence[Event]], count: int) -> list[Event]:
    """The next events of `pages`, at least `count` of them."""
    events: list[Event] = []
    while len(events) < count:
        events.extend(await anext(pages))
    return events


def texts(events: Sequence[Event]) -> list[str]:
    """What `note` wrote."""
    return [event.data["text"] for event in events]


class StepClock:
    """A clock that shows what it is told."""

    def __init__(self, now: int = 1_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class LogContract:
    """Subclass, name it `Test…`, and give `opened`."""

    def opened(self, clock: Clock) -> AbstractAsyncContextManager[EventLog]:
        """An async context manager around a fresh, empty log that reads `clock`; leaving it closes the log."""
        raise NotImplementedError

    def fresh(self) -> AbstractAsyncContextManager[EventLog]:
        """A log with the machine's clock."""
        return self.opened(wall_clock)

    # --- L1: atomic ---------------------------------------------------------------------------------------------------

    async def test_l1_an_append_is_stored_whole_and_says_where(self) -> None:
        async with self.fresh() as log:
            appended = await log.append("a", [note("one"), note("two")])
            events = await collected(log.read("a"))
            assert texts(events) == ["one", "two"]
            assert (appended.first, appended.last) == (1, 2)
            assert (appended.position, appended.time) == (events[-1].position, events[-1].time)

    async def test_l1_everything_of_an_event_comes_back(self) -> None:
        data = {"bytes": b"\x00\xff", "none": None, "list": [1, -1, 2**64 - 1], "map": {"é": {"deep": 1.5}}, "": True}
        actor = Actor("bot000000001", "bot", on_behalf_of="ada000000000", via="import")
        event = NewEvent("thing.done", actor, data, schema=7, cause=new_event_id())
        async with self.fresh() as log:
            appended = await log.append("tenant/space/chat@1", [event])
            [stored] = await collected(log.read("tenant/space/chat@1"))
        place = (appended.position, "tenant/space/chat@1", 1, appended.time)
        assert stored == Event(*place, event.id, "thing.done", 7, actor, event.cause, data)

    async def test_l1_an_event_keeps_what_it_had_when_append_was_called(self) -> None:
        data = {"text": "before"}
        async with self.fresh() as log:
            waiting = log.append("a", [NewEvent("note.written", ADA, data)])
            data["text"] = "after"
            await waiting
            assert texts(await collected(log.read("a"))) == ["before"]

    async def test_l1_a_wrong_revision_writes_nothing_and_says_what_it_found(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note("one")])
            with pytest.raises(WrongRevision) as caught:
                await log.append("a", [note("two"), note("three")], expected=0)
            assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("a", 0, 1)
            assert texts(await collected(log.read_all())) == ["one"]

    async def test_l1_a_failing_append_fails_alone(self) -> None:
        async with self.fresh() as log:
            futures = [
                log.append("a", [note("good")]),
                log.append("b", [note("bad")], expected=5),
                log.append("a", [note("also good")]),
            ]
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert [type(result).__name__ for result in results] == ["Appended", "WrongRevision", "Appended"]
            assert texts(await collected(log.read_all())) == ["good", "also good"]

    async def test_l1_of_racing_writers_with_one_expectation_one_wins(self) -> None:
        async with self.fresh() as log:
            futures = [log.append("a", [note(str(n))], expected=0) for n in range(10)]
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert [isinstance(result, WrongRevision) for result in results] == [False] + [True] * 9
            assert texts(await collected(log.read("a"))) == ["0"]

    # --- the queue ----------------------------------------------------------------------------------------------------

    async def test_l2_appends_commit_in_the_order_of_their_calls(self) -> None:
        async with self.fresh() as log:
            futures = [log.append("ab"[n % 2], [note(str(n))], expected=n // 2) for n in range(100)]
            results = await asyncio.gather(*futures)
            assert [result.first for result in results] == [n // 2 + 1 for n in range(100)]
            assert texts(await collected(log.read_all())) == [str(n) for n in range(100)]

    async def test_an_append_built_on_one_that_fails_fails_too(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note("somebody else's")])
            first = log.append("a", [note("mine")], expected=0)
            second = log.append("a", [note("built on mine")], expected=1)  # the revision fits, what is there does not
            results = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(result) for result in results] == [WrongRevision, WrongRevision]
            assert texts(await collected(log.read("a"))) == ["somebody else's"]

    async def test_an_append_after_a_known_failure_stands_for_itself(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note("one")])
            with pytest.raises(WrongRevision):
                await log.append("a", [note("two")], expected=0)
            await log.append("a", [note("three")], expected=1)
            assert texts(await collected(log.read("a"))) == ["one", "three"]

    async def test_a_cancelled_caller_does_not_take_its_append_back(self) -> None:
        async with self.fresh() as log:
            log.append("a", [note("one")]).cancel()
            await log.append("a", [note("two")])
            assert texts(await collected(log.read("a"))) == ["one", "two"]

    @pytest.mark.parametrize(
        ("stream", "events"),
        [
            ("", [note()]),
            ("a", []),
            ("a\ud800", [note()]),
            ("a", [note(), note(wrong={1, 2})]),
            ("a", [note("\ud800")]),
            ("a", [note(wrong=2**64)]),
            ("a", [note(wrong={(1, 2): 3})]),
            ("a", [NewEvent("", ADA, {})]),
            ("a", [NewEvent("x", ADA, {}, schema=2**63)]),
            ("a", [NewEvent("x", Actor("\ud800"), {})]),
        ],
        ids=[
            "no stream",
            "no events",
            "stream not Unicode",
            "a set",
            "text not Unicode",
            "an integer past 64 bits",
            "a tuple as a key",
            "no type",
            "schema past 63 bits",
            "actor not Unicode",
        ],
    )
    async def test_input_that_cannot_be_stored_is_refused_at_once(self, stream: str, events: list[NewEvent]) -> None:
        async with self.fresh() as log:
            with pytest.raises(InvalidInput, match="expected"):
                log.append(stream, events)
            assert await log.head() == START

    # --- L2: revisions and positions ----------------------------------------------------------------------------------

    async def test_l2_revisions_are_gapless_in_each_stream(self) -> None:
        async with self.fresh() as log:
            for n in range(5):
                await asyncio.gather(log.append("a", [note()] * (n % 2 + 1)), log.append("b", [note(), note()]))
            for stream in "ab":
                events = await collected(log.read(stream))
                assert [event.revision for event in events] == list(range(1, len(events) + 1))
                assert await log.revision(stream) == len(events)

    async def test_l2_positions_rise_with_the_order_of_commits(self) -> None:
        async with self.fresh() as log:
            results = [await log.append("ab"[n % 2], [note(str(n))]) for n in range(6)]
            positions = [event.position for event in await collected(log.read_all())]
            assert positions == [result.position for result in results] == sorted(set(positions))
            assert positions[0] > START
            assert await log.head() == positions[-1]

    async def test_l2_an_empty_log_begins_at_the_start(self) -> None:
        async with self.fresh() as log:
            assert await log.head() == START
            assert await log.revision("a") == 0
            assert await collected(log.read("a")) == []
            assert await collected(log.read_all()) == []

    async def test_time_never_steps_back(self) -> None:
        clock = StepClock(5_000)
        async with self.opened(clock) as log:
            for now in (5_000, 9_000, 4_000, 9_500):
                clock.now = now
                await log.append("a", [note()])
            assert [event.time for event in await collected(log.read("a"))] == [5_000, 9_000, 9_000, 9_500]

    # --- L3: the same event once --------------------------------------------------------------------------------------

    async def test_l3_an_event_comes_once_and_its_first_place_is_answered(self) -> None:
        event = note("once")
        async with self.fresh() as log:
            first = await log.append("a", [event])
            await log.append("a", [note("later")])
            assert await log.append("a", [event]) == first
            assert texts(await collected(log.read("a"))) == ["once", "later"]

    async def test_l3_a_retry_succeeds_though_the_revision_it_expected_is_gone(self) -> None:
        events = [note("one"), note("two")]
        async with self.fresh() as log:
            first = await log.append("a", events, expected=0)
            assert await log.append("a", events, expected=0) == first

    async def test_l3_a_retry_that_brings_something_new_stores_only_that(self) -> None:
        one, two = note("one"), note("two")
        async with self.fresh() as log:
            await log.append("a", [one])
            appended = await log.append("a", [one, two], expected=1)
            assert (appended.first, appended.last) == (1, 2)
            assert texts(await collected(log.read("a"))) == ["one", "two"]

    async def test_l3_the_same_event_twice_in_one_moment_is_stored_once(self) -> None:
        event = note("once")
        async with self.fresh() as log:
            results = await asyncio.gather(log.append("a", [event, event]), log.append("a", [event]))
            assert results[0] == results[1]
            assert texts(await collected(log.read_all())) == ["once"]

    async def test_l3_streams_do_not_share_their_event_ids(self) -> None:
        event = note("both")
        async with self.fresh() as log:
            await asyncio.gather(log.append("a", [event]), log.append("b", [event]))
            assert [(found.stream, found.id) for found in await collected(log.read_all())] == [
                ("a", event.id),
                ("b", event.id),
            ]

    # --- reading ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("after", "until", "expected"),
        [
            (0, None, [1, 2, 3, 4, 5]),
            (2, None, [3, 4, 5]),
            (0, 3, [1, 2, 3]),
            (1, 4, [2, 3, 4]),
            (4, 4, []),
            (5, None, []),
            (9, None, []),
            (3, 2, []),
            (3, 99, [4, 5]),
            (0, 0, []),
        ],
    )
    async def test_read_gives_the_revisions_asked_for(self, after: int, until: int | None, expected: list[int]) -> None:
        async with self.fresh() as log:
            for stream in "aba":
                await log.append(stream, [note(), note()] if stream == "a" else [note()])
            await log.append("a", [note()])
            forwards = await collected(log.read("a", after=after, until=until))
            backwards = await collected(log.read("a", after=after, until=until, backwards=True))
            assert [event.revision for event in forwards] == expected
            assert backwards == forwards[::-1]

    async def test_l2_read_all_begins_behind_any_position(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note(str(n)) for n in range(5)])
            events = await collected(log.read_all())
            for index, event in enumerate(events):
                assert await collected(log.read_all(after=event.position)) == events[index + 1 :]
                assert await collected(log.read_all(after=Position(event.position - 1))) == events[index:]

    async def test_read_all_ends_at_the_head_of_its_call(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note("before")])
            async with aclosing(log.read_all()) as pages:
                events = list(await anext(pages))
                await log.append("a", [note("after")])
                events += await collected(pages)
            assert texts(events) == ["before"]

    async def test_long_reads_come_in_several_pages(self) -> None:
        async with self.fresh() as log:
            await asyncio.gather(
                *(log.append("a", [note(str(n)) for n in range(k, k + 500)]) for k in range(0, 5000, 500))
            )
            everything = [str(n) for n in range(5000)]
            assert texts(await collected(log.read("a"))) == everything
            assert texts(await collected(log.read("a", backwards=True))) == everything[::-1]
            pages = [list(page) async for page in log.read_all()]
            assert [text for page in pages for text in texts(page)] == everything
            assert len(pages) > 1

    async def test_large_events_make_short_pages(self) -> None:
        async with self.fresh() as log:
            for n in range(8):
                await log.append("a", [note(str(n), update=bytes(3_000_000))])
            pages = [list(page) async for page in log.read("a")]
            assert [text for page in pages for text in texts(page)] == [str(n) for n in range(8)]
            assert len(pages) > 1

    # --- L4: subscriptions --------------------------------------------------------------------------------------------

    async def test_l4_a_subscription_catches_up_and_goes_live(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note("before")])
            async with aclosing(log.subscribe()) as pages:
                assert texts(await taken(pages, 1)) == ["before"]
                waiting = asyncio.ensure_future(taken(pages, 2))
                await log.append("b", [note("live")])
                await log.append("a", [note("more")])
                assert texts(await waiting) == ["live", "more"]

    async def test_l4_a_subscription_begins_behind_its_position(self) -> None:
        async with self.fresh() as log:
            first = await log.append("a", [note("one")])
            await log.append("a", [note("two")])
            async with aclosing(log.subscribe(after=first.position)) as pages:
                assert texts(await taken(pages, 1)) == ["two"]

    async def test_l4_subscriptions_miss_nothing_while_others_write(self) -> None:
        async with self.fresh() as log:
            subscriptions = [log.subscribe() for _ in range(3)]
            readers = [asyncio.ensure_future(taken(pages, 200)) for pages in subscriptions]
            for n in range(0, 200, 4):
                await asyncio.gather(*(log.append(f"s{k}", [note(str(n + k))]) for k in range(4)))
            everything = await collected(log.read_all())
            for pages, reader in zip(subscriptions, readers, strict=True):
                assert await reader == everything
                await pages.aclose()

    async def test_l4_a_slow_subscriber_still_gets_everything_once(self) -> None:
        async with self.fresh() as log, aclosing(log.subscribe()) as pages:
            await log.append("a", [note("0")])
            events = list(await anext(pages))
            for start in range(1, 3001, 500):
                await log.append("a", [note(str(n)) for n in range(start, start + 500)])
            events += await taken(pages, 3000)
            assert texts(events) == [str(n) for n in range(3001)]

    async def test_l4_a_cancelled_subscriber_disturbs_nobody(self) -> None:
        async with self.fresh() as log:
            leaving = asyncio.ensure_future(taken(log.subscribe(), 1))
            staying = log.subscribe()
            reader = asyncio.ensure_future(taken(staying, 1))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await log.append("a", [note("on")])
            assert texts(await reader) == ["on"]
            await staying.aclose()

    async def test_l4_subscriptions_end_when_the_log_closes(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note("one")])
            reader = asyncio.ensure_future(collected(log.subscribe()))
            await log.append("a", [note("two")])
            await log.close()
            events = texts(await reader)
            assert events == ["one", "two"][: len(events)]

    # --- closing ------------------------------------------------------------------------------------------------------

    async def test_closing_commits_what_waits(self) -> None:
        async with self.fresh() as log:
            waiting = [log.append("a", [note(str(n))]) for n in range(5)]
            await log.close()
            assert [(await future).first for future in waiting] == [1, 2, 3, 4, 5]

    async def test_a_closed_log_says_so(self) -> None:
        async with self.fresh() as log:
            await log.append("a", [note()])
            await log.close()
            await log.close()
            with pytest.raises(LogClosed):
                await log.append("a", [note()])
            with pytest.raises(LogClosed):
                await collected(log.read("a"))
            with pytest.raises(LogClosed):
                await collected(log.read_all())
            with pytest.raises(LogClosed):
                await anext(log.subscribe())
            with pytest.raises(LogClosed):
                await log.head()
            with pytest.raises(LogClosed):
                await log.revision("a")
