"""A live document with honest people in it, and what must hold of both whatever somebody else sends.

After each batch: an honest client edits and nobody takes offence; it, a newcomer, the replica and a replay of the log
hold the same, the index too; nothing is parked in pycrdt; every root can be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from pycrdt import Array, Doc, Map, Text, XmlFragment
from tests.support.edits import CHAT_BADS, CHAT_GOODS, SCENE_BADS, SCENE_GOODS
from tests.support.live import Peer, assert_nothing_pending, message, node, open_document, remembered, replayed

from maquette.engine.document import Document
from maquette.engine.events import Actor
from maquette.engine.index import Index
from maquette.engine.kinds.chat import CHAT, MESSAGES
from maquette.engine.kinds.kind import Kind, plain
from maquette.engine.kinds.scene import NODES, RECORDS, SCENE, _check_record
from maquette.engine.kinds.text import TEXT
from maquette.engine.receipts import Receipt
from maquette.engine.replica import UNLIMITED, Replica
from maquette.engine.roles import Role
from maquette.engine.update import Content, Struct, read_update

KINDS = (TEXT, CHAT, SCENE)
TYPES: tuple[Any, ...] = (Array, Map, Text, None, XmlFragment, None, None)
SPOT = "honest"
"""The root of a text document that only the honest write, so that nobody can say of what type it is before them."""

_UNEDITABLE = (AttributeError, KeyError, IndexError, StopIteration, TypeError, RuntimeError, ValueError)


class Besieged:
    """A document of `kind` in memory, with two honest clients; populated or empty."""

    def __init__(self, kind: Kind, random: Random) -> None:
        self.kind = kind
        self.random = random
        self.document: Document = open_document(kind)
        self.honest = [
            Peer("ada", random.randrange(1, 100), Role.OWNER).join(self.document),
            Peer("cy", random.randrange(2**31, 2**32 - 1), Role.OWNER).join(self.document),
        ]
        for peer in self.honest:  # as presence does when they come
            self.document.replica.claims.announce(peer.client, peer.actor.id)
        self._edits = 0

    @property
    def index(self) -> Index:
        return self.document.replica.index

    async def populate(self) -> None:
        """Some content by the honest."""
        ada, _ = self.honest
        if self.kind is SCENE:
            ada.map(NODES)["a"] = node(slots={"0": "m"})
            ada.map(NODES)["b"] = node("a")
            ada.map("materials")["m"] = Map({"metallic": 0.5})
        elif self.kind is CHAT:
            ada.messages.append(message("one", "ada"))
            ada.messages.append(message("two", "ada", reactions=Map({"👍\x1fada": True})))
        else:
            ada.doc.get("text", type=Text).insert(0, "honest 😀 words")
            ada.map("map")["a"] = Map({"x": Text("secret"), "y": Array([1, 2, Map()])})
            ada.doc.get("list", type=Array).extend([1, "two", Map({"z": 3})])
        await self._well(ada)
        for _ in range(6):
            await self.edit()

    async def edit(self) -> None:
        """One of the honest makes an edit, which must count."""
        peer = self.random.choice(self.honest)
        self._edits += 1
        name = f"h{self._edits}"
        if self.kind is SCENE:
            peer.map(NODES)[name] = node(self.random.choice((None, *_good_nodes(peer))))
        elif self.kind is CHAT:
            peer.messages.append(message(name, peer.actor.id, "sécrét 😀"))
        else:
            text = peer.doc.get(SPOT, type=Text)
            text.insert(self.random.choice((0, len(text))), "héllo😀")
        await self._well(peer)

    async def _well(self, peer: Peer) -> None:
        done = await peer.send(self.document).wait()
        assert (done.denied, done.hole, done.refused) == (None, None, ()), f"an honest edit was not taken: {done}"

    def attack(self, actor: Actor, data: bytes, own: int | None, role: Role = Role.EDITOR) -> str:
        """Submit, and say what became of it. Raises when the document is lost or an answer says nothing."""
        before = self.document.replica.revision
        receipt = self.document.submit(actor, lambda: role, data, own)
        assert self.document.error is None, f"the document was lost: {self.document.error}"
        return _fate(receipt, self.document.replica.revision > before)

    async def check(self) -> None:
        """Everything that must hold between two batches."""
        await self.edit()
        await self.document.drained()
        replica = self.document.replica
        assert self.document.error is None
        assert_nothing_pending(replica)
        assert_whole_records(replica)
        content = whole(replica.doc)
        for peer in self.honest:
            assert whole(peer.doc) == content
            read_back(peer.doc, replica)
        newcomer: Doc[Any] = Doc()
        newcomer.apply_update(replica.diff(b"\0"))
        read_back(newcomer, replica)
        again = await replayed(self.document)
        assert whole(again.doc) == content
        assert again.revision == replica.revision
        for client in self.index.clients:
            assert again.claims.owner(client) == replica.claims.owner(client)
        assert remembered(again) == remembered(replica)
        assert_same_index(again.index, replica.index)


def whole(doc: Doc[Any]) -> Any:
    """All that a replica holds, however its runs are cut: when pycrdt joins them is no content."""
    update = read_update(doc.get_update(), UNLIMITED)
    return {client: _joined(group) for client, group in update.structs.items()}, update.deletes


def _joined(group: Sequence[Struct]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for struct in group:
        value = struct.value()
        row = [struct.content, struct.origin, struct.right_origin, struct.parent, struct.key, value, struct.length]
        if rows and _continues(rows[-1], row, struct):
            rows[-1][5:] = [value if value is None else rows[-1][5] + value, rows[-1][6] + struct.length]
        else:
            rows.append(row)
    return [[*row[:5], json.dumps(row[5], sort_keys=True, default=repr), row[6]] for row in rows]


def _continues(before: list[Any], row: list[Any], struct: Struct) -> bool:
    if before[0] != row[0] or row[0] not in (Content.STRING, Content.ANY, Content.JSON, Content.DELETED, Content.GC):
        return False
    return row[0] is Content.GC or (row[1] == (struct.client, struct.clock - 1) and before[2] == row[2])


def _good_nodes(peer: Peer) -> list[str]:
    return sorted(name for name in {*peer.map(NODES).keys()} if name.startswith("h"))


def _fate(receipt: Receipt, moved: bool) -> str:
    assert receipt.error is None
    if receipt.denied is not None:
        assert "expected" in receipt.denied, receipt.denied
        return "denied"
    if receipt.refused:
        return "refused"
    if receipt.hole is not None:
        return "begun" if moved else "hole"
    return "applied" if moved else "nothing new"


def read_back(doc: Doc[Any], replica: Replica) -> None:
    """Read all roots as their types, as an application does."""
    for name, mask in replica.index._roots.items():
        for ref, type_ in enumerate(TYPES):
            if mask >> ref & 1 and type_ is not None:
                _read_root(doc.get(name, type=type_))
                break


def _read_root(root: Any) -> None:
    if isinstance(root, (Text, XmlFragment)):
        str(root)
        return
    try:
        root.to_py()
    except ValueError as error:  # Yjs puts XML into maps and arrays too
        if "no Python equivalent" not in str(error):
            raise


def assert_whole_records(replica: Replica) -> None:
    """Each message, node, material and comment has all of its fields, and none that is not its own."""
    if replica.kind is CHAT:
        for record in replica.doc.get(MESSAGES, type=Array):
            assert {"id", "author", "body", "sent", "reactions", "stamp"} <= set(record.keys()), record.to_py()
    elif replica.kind is SCENE:
        for root, what in RECORDS.items():
            for id_, record in replica.doc.get(root, type=Map).items():
                _check_record(what, id_, plain(record))


def assert_same_index(one: Index, other: Index) -> None:
    """Both know the same of every item; compared at the ends of runs, because clocks may be vast."""
    assert {client: one.clock(client) for client in one.clients} == {c: other.clock(c) for c in other.clients}
    for client in one.clients:
        for clock in {*_edges(one, client), *_edges(other, client)}:
            item = (client, clock)
            for ask in (Index.parent_of, Index.content, Index.type_ref, Index.is_deleted):
                assert ask(one, item) == ask(other, item), (ask.__name__, item)
    assert {c: spans.columns() for c, spans in one._deleted.items()} == {
        c: spans.columns() for c, spans in other._deleted.items()
    }
    assert one._pairs == other._pairs


def _edges(index: Index, client: int) -> Iterator[int]:
    runs = index._runs[client]
    for run, start in enumerate(runs.starts):
        yield start
        yield runs.end_of(run) - 1


# --- what an attacker starts from -------------------------------------------------------------------------------------


def session(kind: Kind, peer: Peer, random: Random, steps: int) -> list[bytes]:
    """The updates of `steps` edits, good and bad, that `peer` makes in its own replica."""
    goods, bads = (SCENE_GOODS, SCENE_BADS) if kind is SCENE else (CHAT_GOODS, CHAT_BADS)
    peer.made.clear()
    for number in range(steps):
        name = random.choice("ab") if kind is SCENE else f"{random.choice('ab')}{number}"
        try:
            if random.random() < 0.2:
                random.choice([*bads.values()])(peer)
            else:
                random.choice(goods)(peer, name)
        except _UNEDITABLE:
            pass  # nothing there to edit
    return [*peer.made]
