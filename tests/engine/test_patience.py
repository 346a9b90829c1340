"""What a document bears of those whose ops are refused: given refusals at certain moments."""

from __future__ import annotations

from tests.support.live import Peer, events_of, node, open_document

from maquette.engine.document import Document
from maquette.engine.kinds.scene import NODES, SCENE
from maquette.engine.patience import (
    FIRST_PAUSE,
    FREE,
    LEAK_SECONDS,
    LONGEST_PAUSE,
    MAX_KNOWN,
    SHUT_SECONDS,
    Patience,
)
from maquette.engine.roles import Role

MOST = 20
WHERE = ("document", "eve", MOST)


def after(refusals: int, *, every: float = 0.0) -> tuple[Patience, float]:
    """The patience after so many refusals, and the moment of the last."""
    patience = Patience()
    for number in range(refusals):
        patience.count(*WHERE, number * every)
    return patience, max(0, refusals - 1) * every


def test_g5_who_is_refused_now_and_then_never_notices() -> None:
    patience, now = after(1_000, every=LEAK_SECONDS)
    assert (patience.pause(*WHERE, now), patience.logs(*WHERE, now), patience.shut("document", "eve", now)) == (
        0,
        True,
        0,
    )


def test_g5_the_first_refusals_cost_nothing_and_then_each_doubles_the_pause() -> None:
    pauses = [after(number)[0].pause(*WHERE, 0.0) for number in range(MOST + 1)]
    free = int(FREE * MOST)
    assert pauses[: free + 1] == [0.0] * (free + 1)
    assert pauses[free + 1 : free + 5] == [FIRST_PAUSE * 2**step for step in range(4)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


def test_g5_good_behaviour_brings_the_pause_down_again() -> None:
    patience, _ = after(12)
    pauses = [patience.pause(*WHERE, now) for now in (0.0, LEAK_SECONDS, 2 * LEAK_SECONDS, 4 * LEAK_SECONDS)]
    assert pauses == [0.4, 0.2, 0.1, 0.0]


def test_g5_refusals_are_logged_at_a_bounded_rate_whatever_comes() -> None:
    patience, logged, hour = Patience(), 0, 3_600
    for tenth in range(hour * 10):
        now = tenth / 10
        if patience.shut("document", "eve", now):
            continue
        logged += patience.logs(*WHERE, now)
        patience.count(*WHERE, now)
    assert MOST <= logged <= MOST + hour / LEAK_SECONDS


def test_g5_the_door_shuts_for_a_time_and_then_opens() -> None:
    patience, now = after(30)
    assert patience.shut("document", "eve", now) == 0.0
    patience.count(*WHERE, now)
    assert patience.shut("document", "eve", now) == SHUT_SECONDS
    assert patience.shut("document", "eve", now + SHUT_SECONDS) == 0.0
    assert patience.shut("document", "ann", now) == patience.shut("other", "eve", now) == 0.0
    assert patience.logs("document", "ann", MOST, now)


def test_g5_what_is_forgotten_is_what_has_fallen_to_nothing() -> None:
    patience, _ = after(31)
    for number in range(2 * MAX_KNOWN):
        patience.count("document", f"actor{number}", MOST, 1.0 if number < MAX_KNOWN else 100.0)
    assert not patience.knows("document", "actor0")
    assert patience.knows("document", f"actor{2 * MAX_KNOWN - 1}")
    assert patience.knows("document", "eve")


# --- in a document ---------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def scene() -> tuple[Document, Clock]:
    clock = Clock()
    document = open_document(SCENE, timer=clock)
    ann = Peer("ann", 7).join(document)
    ann.map(NODES)["a"] = node()
    await ann.send(document).wait()
    return document, clock


async def trip(document: Document, client: int) -> tuple[bool, bool]:
    """Let eve send one op that is refused, over another connection; whether it was logged, and the door is shut."""
    eve = Peer("eve", client).join(document)
    document.subscribers.discard(eve)
    before = document.replica.revision
    eve.map(NODES)["a"]["colour"] = "red"
    done = await eve.send(document).wait()
    assert done.denied or done.refused
    return document.replica.revision > before, document.shut("eve") is not None


async def test_g5_many_connections_of_one_actor_share_one_budget_and_others_do_not_notice() -> None:
    document, _ = await scene()
    seen = [await trip(document, 100 + number) for number in range(100)]
    assert [logged for logged, _ in seen] == [True] * MOST + [False] * 80
    assert [shut for _, shut in seen] == [False] * 30 + [True] * 70
    refused = [event for event in await events_of(document) if event.type == "document.refused"]
    assert {event.actor.id for event in refused} == {"eve"}
    assert len(refused) == MOST
    ann = Peer("ann", 8).join(document)
    ann.map(NODES)["a"]["colour"] = "red"
    assert len((await ann.send(document).wait()).refused) == 1
    assert document.pause("ann") == 0.0


async def test_g5_a_denied_op_says_which_rule_it_met_once_nothing_is_logged_any_more() -> None:
    document, _ = await scene()
    for number in range(MOST):
        await trip(document, 100 + number)
    eve = Peer("eve", 300).join(document)
    eve.map(NODES)["a"]["colour"] = "red"
    denied = (await eve.send(document).wait()).denied or ""
    assert denied.startswith("expected edits that are not refused again and again, got one more: ")
    assert "colour" in denied


async def test_g5_behind_a_shut_door_good_ops_are_denied_known_ones_are_not_and_later_all_is_as_before() -> None:
    document, clock = await scene()
    for number in range(31):
        await trip(document, 100 + number)
    eve = Peer("eve", 300).join(document)
    assert (await eve.send(document).wait()).denied is None  # nothing new
    eve.map(NODES)["a"]["name"] = "good"
    assert "this actor only reads here for 60 s" in ((await eve.send(document).wait()).denied or "")
    clock.now += SHUT_SECONDS
    done = await eve.send(document).wait()
    assert (done.denied, done.refused) == (None, ())


async def test_g5_a_viewer_who_writes_on_is_shut_out_too_and_costs_the_log_nothing() -> None:
    document, _ = await scene()
    before = document.replica.revision
    for number in range(40):
        eve = Peer("eve", 100 + number, Role.VIEWER).join(document)
        eve.map(NODES)["a"]["name"] = "x"
        await eve.send(document).wait()
    assert document.replica.revision == before
    assert document.shut("eve") is not None
