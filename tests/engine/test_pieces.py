"""Pieces: an update taken apart is the update (G2), and each piece is something that a person could have sent."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Doc
from tests.support import crowd
from tests.support.edits import CHAT_GOODS, SCENE_GOODS
from tests.support.live import (
    SERVER_CLIENT,
    Peer,
    assert_nothing_pending,
    assert_same,
    events_of,
    node,
    open_document,
    places,
    replayed,
    state_of,
)

from maquette.engine.document import Document
from maquette.engine.index import Index
from maquette.engine.kinds.chat import CHAT
from maquette.engine.kinds.kind import Kind
from maquette.engine.kinds.scene import NODES, SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.pieces import Size, split
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.snapshots import state_in_pieces
from maquette.engine.update import Content, Struct, Update, read_update

TINY = Size(80, 4)
BOLD: Any = {"max_examples": 60, "deadline": None}


def taken(replica: Replica, update: Update) -> None:
    """Into the index and pycrdt, as the gate does."""
    update = replica.index.trim(update)
    if not update.is_empty:
        assert replica.index.hole(update) is None
        replica._apply(update)
        assert_nothing_pending(replica)


def units(struct: Struct) -> list[Any]:
    """What each clock of a struct holds: how clocks are joined to structs depends on what came together."""
    match struct.content:
        case Content.GC | Content.DELETED:
            return [None] * struct.length
        case Content.STRING:
            text = struct.value().encode("utf-16-le")
            return [text[at : at + 2] for at in range(0, len(text), 2)]
        case Content.ANY | Content.JSON:
            return [json.dumps(value, sort_keys=True, default=repr) for value in struct.value()]
        case _:
            return [(struct.content, repr(struct.value()))]


def content(replica: Replica) -> Any:
    """All that pycrdt has, and what the index says of it."""
    told = read_update(replica.doc.get_update(), UNLIMITED)
    held = {client: [unit for struct in group for unit in units(struct)] for client, group in told.structs.items()}
    return held, told.deletes, places(replica)


@settings(**BOLD)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40))
def test_g2_the_pieces_of_random_edits_give_what_the_whole_gives(seed: int, before: int, after: int) -> None:
    one, other = (crowd.Replica(client, Random(seed + client)) for client in (50, 9))
    for replica in (one, other):
        for _ in range(before):
            replica.act()
    other.doc.apply_update(one.doc.get_update())
    known = read_update(one.doc.get_update(), UNLIMITED)
    for _ in range(after):
        other.act()
    update = read_update(other.doc.get_update(one.doc.get_state()), UNLIMITED)
    whole, parts = Replica(TEXT, SERVER_CLIENT), Replica(TEXT, SERVER_CLIENT)
    for server in (whole, parts):
        taken(server, known)
    taken(whole, update)
    for piece in split(parts.index.trim(update), parts.index, TINY):
        taken(parts, read_update(piece.encode(), UNLIMITED))
    assert content(parts) == content(whole)


@settings(**BOLD)
@given(st.integers(0, 2**32), st.integers(5, 60))
def test_d6_the_pieces_of_a_state_give_the_state(seed: int, edits: int) -> None:
    author = crowd.Replica(50, Random(seed))
    for _ in range(edits):
        author.act()
    replica = Replica(TEXT, SERVER_CLIENT)
    replica.doc.apply_update(author.doc.get_update())
    fresh, index = Replica(TEXT, SERVER_CLIENT), Index()
    update = read_update(replica.doc.get_update(), UNLIMITED)
    for piece in split(update, index, TINY):
        fresh.doc.apply_update(piece.encode())
    assert read_update(fresh.doc.get_update(), UNLIMITED).deletes == update.deletes
    assert content(fresh)[:2] == content(replica)[:2]


async def offline(kind: Kind, seed: int) -> tuple[Document, Document, bytes]:
    """Two documents with the same past, and what a person did away from them under two client ids."""
    random = Random(seed)
    documents = open_document(kind), open_document(kind)
    first = Peer("ann", 70).join(documents[0])
    goods = SCENE_GOODS if kind is SCENE else CHAT_GOODS
    for number in range(random.randrange(1, 12)):
        do(random.choice(goods), first, f"a{number}")
        await first.send(documents[0]).wait()
    for event in await events_of(documents[0]):
        documents[1].submit(first.actor, lambda: first.role, event.data["update"], 70)
    await documents[1].drained()
    first.hear(documents[0].replica.diff(first.doc.get_state()))
    later = Peer("ann", random.choice((7, 99)))
    for visit, rounds in ((first, 15), (later, 25)):
        visit.hear(first.doc.get_update())
        for number in range(rounds):
            do(random.choice(goods), visit, f"{visit.client}{number % 9}")
    return *documents, later.doc.get_update(documents[0].replica.state_vector())


def do(good: Any, peer: Peer, name: str) -> None:
    try:
        good(peer, name)
    except (KeyError, IndexError, TypeError, RuntimeError):
        pass  # nothing to edit


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kind", [SCENE, CHAT], ids=["scene", "chat"])
async def test_g2_the_pieces_of_offline_work_are_judged_like_the_whole(kind: Kind, seed: int) -> None:
    one, other, update = await offline(kind, seed)
    ann = Peer("ann", 70)
    whole = await ann.submit(one, update).wait()
    assert (whole.denied, whole.hole) == (None, None)
    trimmed = other.replica.index.trim(read_update(update))
    refused: list[str] = []
    for piece in split(trimmed, other.replica.index, TINY, whole=True):
        done = await ann.submit(other, piece.encode()).wait()
        assert (done.denied, done.hole) == (None, None)
        refused += done.refused
    assert not refused or whole.refused
    if not refused and not whole.refused:  # a post that is edited at once is refused as one op, and taken as two
        shown = [state_of(document.replica.doc, kind) for document in (one, other)]
        for state in shown if kind is CHAT else ():
            for record in state.values():
                record.pop("stamp")
        assert shown[0] == shown[1]
    assert_same(other.replica, await replayed(other))


def test_g2_a_record_is_never_cut_nor_parted_from_what_it_hangs_from() -> None:
    ann, ben = Peer("ann", 99), Peer("ann", 7)
    for number in range(30):
        ann.map(NODES)[f"p{number}"] = node()
    ben.hear(ann.doc.get_update())
    for number in range(30):
        ben.map(NODES)[f"c{number}"] = node(f"p{number}")
    ann.hear(ben.doc.get_update())
    ann.map(NODES)["p0"]["name"] = "again"
    update = read_update(ann.doc.get_update())
    pieces = split(update, Index({"nodes": 1, "materials": 1, "comments": 1, "settings": 1}), TINY, whole=True)
    assert len(pieces) > 20
    for piece in pieces:
        made = [one for group in piece.structs.values() for one in group if one.parent == NODES]
        fields = [one.key for group in piece.structs.values() for one in group if one.key == "place"]
        assert len(made) == len(fields)


def test_g2_a_snapshot_of_a_large_document_is_many_small_pieces() -> None:
    doc: Doc[Any] = Doc(client_id=5)
    replica = Replica(SCENE, SERVER_CLIENT)
    author = Peer("ann", 5)
    for number in range(1_500):
        author.map(NODES)[f"n{number}"] = node()
    replica.doc.apply_update(author.doc.get_update())
    pieces = state_in_pieces(replica)
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 90_000
    for piece in pieces:
        doc.apply_update(piece)
    assert len(doc.get_update()) == len(replica.doc.get_update())
