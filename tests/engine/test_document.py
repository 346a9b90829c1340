"""Documents between their peers and the log: D1 to D5."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text
from tests.support.live import (
    SERVER_CLIENT,
    HeldLog,
    Peer,
    assert_nothing_pending,
    assert_same,
    events_of,
    message,
    node,
    open_document,
    replayed,
)

from maquette.engine.errors import LogError, LogUnwritable
from maquette.engine.kinds.chat import CHAT, MESSAGES
from maquette.engine.kinds.kind import plain
from maquette.engine.kinds.scene import NODES, SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.receipts import Receipt
from maquette.engine.roles import Role
from maquette.engine.update import Limits, read_update
from maquette.engine.waiting import MAX_WAITING


def writer(text: str, client: int = 7, actor: str = "ada") -> Peer:
    peer = Peer(actor, client)
    peer.doc.get("t", type=Text).insert(0, text)
    return peer


# --- D1 ----------------------------------------------------------------------------------------------------------


async def test_d1_nothing_is_shown_before_its_commit() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    ada, ben = writer("hello"), Peer("ben", 8)
    ben.join(document)
    ada.join(document)
    ran: list[str] = []
    receipt = ada.send(document)
    document.after_commit(lambda: ran.append("answer"))
    assert (ben.frames, ada.frames, receipt.settled, ran) == (0, 0, False, [])
    await log.commit()
    await document.drained()
    assert (ben.frames, ada.frames, receipt.settled, ran) == (1, 1, True, ["answer"])
    assert receipt.position == document.position > 0
    assert str(ben.doc.get("t", type=Text)) == "hello"


async def test_d1_each_commit_shows_its_own_ops_only() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    ada, ben = writer("a"), Peer("ben", 8)
    ben.join(document)
    first = ada.send(document)
    ada.doc.get("t", type=Text).insert(1, "b")
    second = ada.send(document)
    await log.commit(1)
    assert (first.settled, second.settled, str(ben.doc.get("t", type=Text))) == (True, False, "a")
    await log.commit()
    await document.drained()
    assert str(ben.doc.get("t", type=Text)) == "ab"


async def test_d1_an_update_known_already_is_acknowledged_after_the_commit_that_holds_it() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    ada = writer("a")
    update = ada.doc.get_update()
    ada.submit(document, update)
    again = ada.submit(document, update)
    assert not again.settled
    await log.commit()
    await document.drained()
    assert again.settled


async def test_d1_a_failed_commit_drops_the_replica_and_tells_everybody() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    lost: list[object] = []
    document.on_lost = lost.append
    ada, ben = writer("a"), Peer("ben", 8)
    ben.join(document)
    ran: list[str] = []
    receipt = ada.send(document)
    document.after_commit(lambda: ran.append("answer"))
    log.fail()
    await document.drained()
    assert lost == [document]
    assert [type(error) for error in ben.errors] == [LogUnwritable]
    assert (ben.frames, ran) == (0, [])
    with pytest.raises(LogUnwritable):
        await receipt.wait()


async def test_d1_a_lost_replica_answers_nobody() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    writer("a").send(document)
    log.fail()
    await document.drained()
    ran: list[str] = []
    document.after_commit(lambda: ran.append("what was never stored"))
    late = Receipt()
    document.settle_after_commit(late)
    assert ran == []
    assert isinstance(late.error, LogError)
    assert isinstance(writer("b", 9).send(document).error, LogError)


async def test_d1_what_waits_for_a_hole_is_lost_with_its_replica() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    ada, ben = Peer("ada", 7), writer("b", 8, "ben")
    text = ada.doc.get("t", type=Text)
    [_, second] = steps_of(ada, [lambda: text.insert(0, "a"), lambda: text.insert(1, "b")])
    waiting = ada.submit(document, second)
    ben.send(document)
    log.fail()
    await document.drained()
    assert isinstance(waiting.error, LogUnwritable)


async def test_d1_after_a_failed_commit_the_log_alone_counts() -> None:
    log = HeldLog()
    document = open_document(TEXT, log)
    ada = writer("a")
    ada.send(document)
    await log.commit()
    ada.doc.get("t", type=Text).insert(1, "b")
    ada.send(document)
    log.fail()
    again = await replayed(document)
    assert again.revision == 1
    assert again.doc.get("t", type=Text).to_py() == "a"


async def test_d1_a_subscriber_that_fails_keeps_nobody_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    document = open_document(TEXT)

    class Broken(Peer):
        def deliver(self, frames: tuple[bytes, ...]) -> None:
            raise OSError("gone")

    peers = [Broken("x", 1).join(document), Peer("ben", 8).join(document), Broken("y", 2).join(document)]
    receipt = writer("a").send(document)
    await receipt.wait()
    assert peers[1].frames == 1
    assert "telling somebody failed" in caplog.text


async def test_two_may_wait_for_one_receipt() -> None:
    document = open_document(TEXT)
    receipt = writer("a").send(document)
    heard: list[Receipt] = []
    receipt.on_settled = heard.append
    assert await receipt.wait() is receipt
    assert heard == [receipt]


# --- D2 ----------------------------------------------------------------------------------------------------------


async def test_d2_what_is_known_leaves_no_event() -> None:
    document = open_document(SCENE)
    ada = Peer("ada", 7).join(document)
    ada.map(NODES)["a"] = node()
    ada.map(NODES)["a"]["name"] = "chair"
    ada.send(document)
    for _ in range(3):
        assert (await ada.submit(document, ada.doc.get_update()).wait()).denied is None
    assert len(await events_of(document)) == 1


async def test_d2_deletions_that_only_a_race_made_are_known() -> None:
    """What lost a race is deleted on every replica, and no update ever said so."""
    document = open_document(SCENE)
    ada, ben = Peer("ada", 7).join(document), Peer("ben", 8).join(document)
    ada.map(NODES)["a"] = node()
    await ada.send(document).wait()
    ada.map(NODES)["a"]["name"] = "left"
    ben.map(NODES)["a"]["name"] = "right"
    ada.send(document)
    await ben.submit(document, ben.made[-1]).wait()
    before = len(await events_of(document))
    for peer in (ada, ben):
        await peer.submit(document, peer.doc.get_update()).wait()
    assert len(await events_of(document)) == before


async def test_d2_deletions_inside_a_deleted_type_are_known() -> None:
    document = open_document(TEXT)
    ada = Peer("ada", 7).join(document)
    ada.map("m")["a"] = node()
    await ada.send(document).wait()
    del ada.map("m")["a"]
    await ada.send(document).wait()
    ben = Peer("ben", 8).join(document)
    before = len(await events_of(document))
    await ben.submit(document, ben.doc.get_update()).wait()
    await ada.submit(document, ada.doc.get_update()).wait()
    assert len(await events_of(document)) == before


# --- D3 ----------------------------------------------------------------------------------------------------------


def steps_of(peer: Peer, steps: Any) -> list[bytes]:
    peer.made.clear()
    for step in steps:
        step()
    return peer.made[:]


async def test_d3_each_kind_of_hole_waits_and_goes_in_when_the_piece_comes() -> None:
    document = open_document(TEXT)
    ada, ben = Peer("ada", 7), Peer("ben", 8)
    text, other = ada.doc.get("t", type=Text), ben.doc.get("t", type=Text)
    [first, second] = steps_of(ada, [lambda: text.insert(0, "ac"), lambda: text.insert(2, "d")])
    ben.hear(first)
    [between, erased] = steps_of(ben, [lambda: other.insert(1, "b"), lambda: other.__delitem__(slice(0, 1))])
    receipts = [
        ada.submit(document, second),  # a clock
        ben.submit(document, erased),  # a clock, then a deletion
        ben.submit(document, between),  # an origin
    ]
    assert [receipt.hole is not None for receipt in receipts] == [True, True, True]
    assert document.replica.index.clients == []
    ada.submit(document, first)
    for receipt in receipts:
        assert (await receipt.wait()).hole is None
    assert_nothing_pending(document.replica)
    assert document.replica.doc.get("t", type=Text).to_py() == "bcd"
    assert [event.actor.id for event in await events_of(document)] == ["ada", "ada", "ben", "ben"]


async def test_d3_a_parent_or_a_deleted_range_that_is_unknown_waits() -> None:
    document = open_document(SCENE)
    ada, ben = Peer("ada", 7), Peer("ben", 8, Role.OWNER)
    [made] = steps_of(ada, [lambda: ada.map(NODES).__setitem__("a", node())])
    ben.hear(made)
    [inside] = steps_of(ben, [lambda: ben.map(NODES)["a"].__setitem__("matrix", [1.0] + [0.0] * 14 + [1.0])])
    [gone] = steps_of(ben, [lambda: ben.map(NODES).__delitem__("a")])
    parent, deletion = ben.submit(document, inside), ben.submit(document, gone)
    assert parent.hole is not None
    assert parent.hole.why == "parent"
    assert deletion.hole is not None
    assert deletion.hole.why == "deletion"
    await ada.submit(document, made).wait()
    await deletion.wait()
    assert_nothing_pending(document.replica)
    assert document.replica.shared(NODES).to_py() == {}


async def test_d3_a_long_chain_in_reverse_goes_in_at_once() -> None:
    document = open_document(TEXT)
    ada = Peer("ada", 7)
    text = ada.doc.get("t", type=Text)
    made = steps_of(ada, [lambda: text.insert(0, "x")] * MAX_WAITING)
    receipts = [ada.submit(document, update) for update in reversed(made)]
    for receipt in receipts:
        assert (await receipt.wait()).denied is None
    assert document.replica.doc.get("t", type=Text).to_py() == "x" * MAX_WAITING


async def test_d3_what_waits_is_bounded_and_the_greediest_pays() -> None:
    document = open_document(TEXT)
    ada, mallory = Peer("ada", 7), Peer("mallory", 9)
    text, junk = ada.doc.get("t", type=Text), mallory.doc.get("t", type=Text)
    [first, second] = steps_of(ada, [lambda: text.insert(0, "a"), lambda: text.insert(1, "b")])
    mine = ada.submit(document, second)
    made = steps_of(mallory, [lambda: junk.insert(0, "x")] * (MAX_WAITING + 40))
    theirs = [mallory.submit(document, update) for update in made[1:]]
    denied = [receipt.denied for receipt in theirs if receipt.settled]
    assert len(denied) == 40
    assert "expected what this update builds on" in str(denied[0])
    ada.submit(document, first)
    assert (await mine.wait()).denied is None


async def test_d3_permission_is_judged_again_when_the_piece_comes() -> None:
    document = open_document(TEXT)
    ada = Peer("ada", 7)
    text = ada.doc.get("t", type=Text)
    [first, second] = steps_of(ada, [lambda: text.insert(0, "a"), lambda: text.insert(1, "b")])
    waiting = ada.submit(document, second)
    ada.role = Role.VIEWER
    writer_of_first = Peer("ada", 7)
    await writer_of_first.submit(document, first).wait()
    assert "expected a role of editor" in str((await waiting.wait()).denied)


Turn = tuple[int, int, int]
"""Who, what, and where or from whom."""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=16),
    st.lists(st.integers(0, 30), max_size=4),
    st.integers(0, 2**32),
)
async def test_d3_any_order_with_duplicates_converges_and_the_log_replays_to_it(
    turns: list[Turn], duplicates: list[int], seed: int
) -> None:
    document = open_document(TEXT)
    peers = [Peer(name, client) for name, client in (("ada", 3), ("ben", 2**31), ("cy", 17))]
    sent: list[tuple[Peer, bytes]] = []
    for who, what, where in turns:
        peer = peers[who]
        text, inner = peer.doc.get("t", type=Text), peer.map("m")
        if what == 0 and sent:
            peer.hear(sent[where % len(sent)][1])
        elif what == 1:
            inner["ab"[where % 2]] = node(name="inner")
        elif what == 2 and len(inner):
            del inner[sorted(inner.keys())[0]]
        elif what == 3 and len(text):
            del text[0:1]
        else:
            text.insert(where % (len(text) + 1), ("x", "yz", "abc")[where % 3])
        sent += [(peer, update) for update in peer.made]
        peer.made.clear()
    order = [*sent, *(sent[number % len(sent)] for number in duplicates if sent)]
    Random(seed).shuffle(order)
    receipts = [peer.submit(document, update) for peer, update in order]
    await document.drained()
    assert all(receipt.settled for receipt in receipts)
    whole = Peer("all", 99)
    for _, update in sent:
        whole.hear(update)
    assert document.replica.doc.get_update() == whole.doc.get_update()
    assert_nothing_pending(document.replica)
    assert_same(document.replica, await replayed(document))
    for peer in peers:
        assert document.replica.claims.owner(peer.client) in (None, peer.actor.id)
    for event in await events_of(document):
        assert len(event.data["update"]) > 2


# --- D4 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", [TEXT, CHAT])
async def test_d4_two_tabs_that_share_their_edits_both_live_on_after_a_restart(first: int, kind: Any) -> None:
    document = open_document(kind)
    tabs = [Peer("ada", 7), Peer("ben", 8)]

    def write(tab: Peer, word: str) -> bytes:
        tab.made.clear()
        if kind is TEXT:
            tab.doc.get("t", type=Text).insert(0, word)
        else:
            tab.messages.append(message(f"{word}-{tab.actor.id}", tab.actor.id))
        return tab.made[-1]

    def write_and_share(word: str) -> list[bytes]:
        made = [write(tab, word) for tab in tabs]
        tabs[0].hear(made[1])
        tabs[1].hear(made[0])
        return made

    for tab, update in zip(tabs, write_and_share("a"), strict=True):
        await tab.submit(document, update).wait()
    # the server starts again while both type; each tab holds both edits, and sends all that the server lacks
    restarted = open_document(kind, document._log)
    restarted.replica = await replayed(document)
    write_and_share("b")
    receipts = []
    for tab in (tabs[first], tabs[1 - first]):
        assert restarted.replica.claims.announce(tab.client, tab.actor.id)
        receipts.append(tab.send(restarted))
    for tab, update in zip(tabs, write_and_share("c"), strict=True):
        receipts.append(tab.submit(restarted, update))
    for receipt in receipts:
        done = await receipt.wait()
        assert (done.denied, done.refused, done.hole) == (None, (), None)
    for tab in tabs:
        tab.hear(restarted.replica.diff(tab.doc.get_state()))
        assert tab.doc.get_update() == restarted.replica.doc.get_update()
    for event in await events_of(restarted):
        own = {"ada": 7, "ben": 8}[event.actor.id]
        written = {client for client in document_clients(event) if client != SERVER_CLIENT}
        assert written == {own}
    assert_same(restarted.replica, await replayed(restarted))


def document_clients(event: Any) -> set[int]:
    return set(read_update(event.data["update"]).structs)


@pytest.mark.parametrize("first", [0, 1])
async def test_d4_a_tab_that_never_wrote_before_keeps_its_messages(first: int) -> None:
    """Nobody has heard of ben's id, and ada's tab brings his message first: it waits for him and is not refused."""
    document = open_document(CHAT)
    tabs = [Peer("ada", 7), Peer("ben", 8)]
    for tab in tabs:
        tab.messages.append(message(f"m-{tab.actor.id}", tab.actor.id))
    both = [tab.made[-1] for tab in tabs]
    tabs[0].hear(both[1])
    tabs[1].hear(both[0])
    receipts = [tab.send(document) for tab in (tabs[first], tabs[1 - first])]
    for tab in tabs:
        tab.messages.append(message(f"n-{tab.actor.id}", tab.actor.id))
        receipts.append(tab.submit(document, tab.made[-1]))
    for receipt in receipts:
        done = await receipt.wait()
        assert (done.denied, done.refused) == (None, ())
    for event in await events_of(document):
        assert [change["author"] for change in event.data["changes"]] == [event.actor.id]
    assert len(document.replica.shared("messages")) == 4


async def test_d4_structs_under_anothers_id_are_cut_out_not_refused() -> None:
    document = open_document(TEXT)
    ada, mallory = writer("a"), Peer("mallory", 9)
    await ada.send(document).wait()
    forged = Peer("x", 7)
    forged.hear(ada.doc.get_update())
    forged.doc.get("t", type=Text).insert(1, "forged")
    mallory.hear(forged.doc.get_update())
    mallory.map("m")["k"] = 1
    done = await mallory.send(document).wait()
    assert (done.denied, done.refused, done.hole) == (None, (), None)
    assert document.replica.doc.get("t", type=Text).to_py() == "a"
    assert plain_map(document) == {"k": 1}


def plain_map(document: Any) -> Any:
    return document.replica.doc.get("m", type=Map).to_py()


async def test_d4_nobody_writes_under_the_servers_id() -> None:
    document = open_document(TEXT)
    mallory = Peer("mallory", SERVER_CLIENT)
    mallory.doc.get("t", type=Text).insert(0, "x")
    await mallory.send(document).wait()
    assert await events_of(document) == []


# --- D5 ----------------------------------------------------------------------------------------------------------


async def test_d5_the_log_holds_what_was_integrated_not_all_that_came() -> None:
    document = open_document(TEXT)
    ada, ben = writer("hello"), Peer("ben", 8)
    ada.send(document)
    ada.doc.get("t", type=Text).insert(5, "!")
    ada.submit(document, ada.doc.get_update())  # its whole state, as a client that reconnects may send it
    ben.join(document)
    ben.doc.get("t", type=Text).insert(6, "?")
    ben.submit(document, ben.doc.get_update())
    logged = [read_update(event.data["update"]) for event in await events_of(document)]
    brought = [[(struct.id, struct.length) for group in one.structs.values() for struct in group] for one in logged]
    assert brought == [[((7, 0), 5)], [((7, 5), 1)], [((8, 0), 1)]]
    assert_same(document.replica, await replayed(document))


async def test_d5_what_the_server_adds_is_in_the_event_of_the_op() -> None:
    document = open_document(CHAT)
    ada = Peer("ada", 7)
    ada.messages.append(message("m1", "ada"))
    ada.send(document)
    [event] = await events_of(document)
    assert set(read_update(event.data["update"]).structs) == {7, SERVER_CLIENT}
    stock: Doc[Any] = Doc()
    stock.apply_update(event.data["update"])
    assert plain(stock.get(MESSAGES, type=Array)) == plain(document.replica.shared(MESSAGES))


# --- G5 (a) ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TEXT, SCENE, CHAT])
async def test_g5_a_viewer_integrates_nothing_and_is_told_why(kind: Any) -> None:
    document = open_document(kind)
    vic = Peer("vic", 7, Role.VIEWER)
    vic.doc.get("t", type=Text).insert(0, "x")
    done = await vic.send(document).wait()
    least = "commenter" if kind is not TEXT else "editor"
    assert done.denied is not None
    assert f"expected a role of {least} or above" in done.denied
    assert "got viewer" in done.denied
    assert await events_of(document) == []
    assert document.replica.index.clients == []


async def test_g5_an_op_over_a_limit_integrates_nothing_and_is_told_which() -> None:
    document = open_document(TEXT, limits=Limits(string=10))
    done = await writer("x" * 11).send(document).wait()
    assert done.denied == "update, string: expected at most 10, got 11"
    assert await events_of(document) == []


async def test_g5_bytes_that_are_no_update_are_denied() -> None:
    document = open_document(TEXT)
    done = await Peer("ada", 7).submit(document, b"\x05\x00").wait()
    assert done.denied is not None
    assert "expected" in done.denied


async def test_g3_each_op_is_judged_by_the_role_of_its_moment() -> None:
    document = open_document(TEXT)
    ada = writer("a")
    assert (await ada.send(document).wait()).denied is None
    ada.role = Role.VIEWER
    ada.doc.get("t", type=Text).insert(0, "b")
    assert (await ada.send(document).wait()).denied is not None


async def test_a_fault_of_our_own_loses_the_replica_and_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    document = open_document(TEXT)

    def broken() -> Role:
        raise ZeroDivisionError

    receipt = document.submit(Peer("ada", 7).actor, broken, writer("a").doc.get_update())
    assert receipt.error is not None
    assert document.error is not None
    assert "judging an op failed" in caplog.text
