"""The reader and the index agree with pycrdt and with real Yjs on what random edits do."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pycrdt import Array, Decoder, Doc, Map, Text, XmlFragment
from tests.support import node
from tests.support.crowd import ROOTS, Crowd

from maquette.engine.deletes import read_deletes
from maquette.engine.index import Hole, Index
from maquette.engine.update import Update, blank, cut, merge, read_update

SESSIONS = 9
SEEDS = range(20)
STEPS = 60


def states(encoded: bytes) -> dict[int, int]:
    decoder = Decoder(encoded)
    return {decoder.read_var_uint(): decoder.read_var_uint() for _ in range(decoder.read_var_uint())}


def new_doc() -> Doc[Any]:
    doc: Doc[Any] = Doc(client_id=2**40)
    for name, kind in (("map", Map), ("list", Array), ("text", Text), ("rich", Text), ("page", XmlFragment)):
        doc.get(name, type=kind)
    return doc


def content(doc: Doc[Any]) -> list[object]:
    page = re.sub(r"(?<=<p )[^>]*", lambda attributes: " ".join(sorted(attributes[0].split())), str(doc["page"]))
    return [doc["map"].to_py(), doc["list"].to_py(), str(doc["text"]), doc["rich"].diff(), page]


@dataclass
class Integrated:
    """What pycrdt did with one update."""

    before: dict[int, int]
    after: dict[int, int]
    deletes: bytes


class Server:
    """A pycrdt replica with an index beside it that goes only by what it reads."""

    def __init__(self, index: Index) -> None:
        self.doc = new_doc()
        self.index = index
        self.events: list[Integrated] = []
        self._subscription = self.doc.observe(self._note)
        self.seen: Counter[str] = Counter()

    def _note(self, event: Any) -> None:  # pycrdt's stubs lack these attributes of TransactionEvent
        self.events.append(Integrated(states(event.before_state), states(event.after_state), event.delete_set))

    def take(self, data: bytes) -> None:
        self.seen["updates"] += 1
        read = read_update(data)
        trimmed = self.index.trim(read)
        hole = self.index.hole(trimmed)
        if trimmed.is_empty:
            self._expect_nothing(data)
        elif hole is not None:
            self._expect_pending(trimmed, hole)
        else:
            self.seen["partly known"] += trimmed is not read
            self._integrate(trimmed)

    def _expect_nothing(self, data: bytes) -> None:
        self.seen["known"] += 1
        before = self.doc.get_update()
        self.events.clear()
        self.doc.apply_update(data)
        assert not self.events
        assert self.doc.get_update() == before

    def _expect_pending(self, trimmed: Update, hole: Hole) -> None:
        self.seen[f"hole: {hole.why}"] += 1
        if self.seen[f"hole: {hole.why}"] % 5:  # a copy of the document each time would take most of the test
            return
        copy = new_doc()
        copy.apply_update(self.doc.get_update())
        copy.apply_update(trimmed.encode())
        held = states(copy.get_state())
        if hole.why == "deletion":
            deleted = read_update(copy.get_update()).deletes.get(hole.client, [])
            assert not any(clock <= hole.clock < clock + length for clock, length in deleted)
        else:
            assert any(held.get(client, 0) < structs[-1].end for client, structs in trimmed.structs.items())

    def _integrate(self, trimmed: Update) -> None:
        self.events.clear()
        self.doc.apply_update(trimmed.encode())
        [done] = self.events
        written = {client: (structs[0].clock, structs[-1].end) for client, structs in trimmed.structs.items()}
        assert written == {
            client: (done.before.get(client, 0), after)
            for client, after in done.after.items()
            if after != done.before.get(client, 0)
        }
        writes = self.index.writes(trimmed)
        assert self.index.misfit(writes) is None
        told = {(hit.client, clock) for hit in self.index.erased(trimmed) for clock in clocks(hit.clock, hit.length)}
        assert told == {(client, clock) for client, ranges in trimmed.deletes.items() for clock in flat(ranges)}
        done_deletes = read_deletes(done.deletes, 0, 10**6)
        assert told <= {(client, clock) for client, ranges in done_deletes.items() for clock in flat(list(ranges))}
        self.index.add(trimmed, done.deletes)

    def check(self) -> None:
        """The index knows exactly what the replica holds."""
        state = self.doc.get_update()
        assert self.index.trim(read_update(state)).is_empty
        assert {client: self.index.clock(client) for client in self.index.clients} == states(self.doc.get_state())
        for client, ranges in read_update(state).deletes.items():
            deleted = set(flat(ranges))
            for clock in range(self.index.clock(client)):
                assert self.index.is_deleted((client, clock)) == (clock in deleted)
        again = Index.decode(self.index.encode())
        assert again.encode() == self.index.encode()


def clocks(clock: int, length: int) -> range:
    return range(clock, clock + length)


def flat(ranges: list[tuple[int, int]]) -> Iterator[int]:
    return (clock for start, length in ranges for clock in clocks(start, length))


def run_sessions(seed: int, seen: Counter[str]) -> None:
    for session in range(SESSIONS):
        crowd = Crowd(seed * 1000 + session)
        server = Server(Index(ROOTS if session % 2 else None))
        for _ in range(STEPS):
            for data in crowd.step():
                server.take(data)
        for replica in crowd.replicas:
            server.take(replica.doc.get_update())
        server.check()
        for replica in crowd.replicas:
            replica.hear(server.doc.get_update())
            assert content(replica.doc) == content(server.doc)
        seen.update(server.seen)


def test_d2_d3_reader_and_index_agree_with_pycrdt_on_10_000_updates() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        run_sessions(seed, seen)
    assert seen["updates"] > 10_000
    assert min(seen[f"hole: {why}"] for why in ("clock", "origin", "deletion")) > 50
    assert min(seen["known"], seen["partly known"]) > 1_000


def crowd_updates(seed: int) -> list[bytes]:
    crowd = Crowd(seed)
    made = [data for _ in range(80) for data in crowd.step()]
    return made + [replica.doc.get_update() for replica in crowd.replicas]


def test_what_the_reader_writes_is_what_it_read() -> None:
    for seed in range(10):
        here, there = new_doc(), new_doc()
        for data in crowd_updates(seed):
            here.apply_update(data)
            there.apply_update(read_update(data).encode())
        assert content(here) == content(there)
        assert states(here.get_state()) == states(there.get_state())
        assert read_update(here.get_update()).deletes == read_update(there.get_update()).deletes


def test_l8_blank_updates_converge_in_any_order() -> None:
    for seed in range(10):
        updates = [blank(read_update(data)).encode() for data in crowd_updates(seed)]
        forward, backward = new_doc(), new_doc()
        for data in updates:
            forward.apply_update(data)
        for data in reversed(updates):
            backward.apply_update(data)
        assert content(forward) == content(backward) == content(new_doc())
        assert states(forward.get_state()) == states(backward.get_state())


def test_g5_edits_go_on_above_an_update_that_was_blanked() -> None:
    """A refused op's blank form is stored; its author does not know yet, and edits what only their replica holds."""
    for seed in range(10):
        crowd = Crowd(seed)
        [author, *_] = crowd.replicas
        server = Server(Index(ROOTS))
        for step in range(60):
            author.act()
            for data in author.made:
                read = read_update(data)
                server.take((blank(read) if step % 3 == 0 else read).encode())
            author.made.clear()
        server.check()
        assert server.seen["updates"] > 40
        assert not any("hole" in what for what in server.seen)


def test_d4_cut_updates_meet_again_without_loss() -> None:
    for seed in range(5):
        whole = read_update(crowd_updates(seed)[-1])
        parts = [cut(whole, lambda client, own=own: client == own)[0] for own in whole.structs]  # type: ignore[misc]
        joined = parts[0]
        for part in parts[1:]:
            joined = merge(joined, part)
        assert read_update(joined.encode()).encode() == whole.encode()


# --- real Yjs ----------------------------------------------------------------------------------------------------

YJS_SESSIONS = [{"seed": seed, "steps": 60, "halves": seed % 4 == 0} for seed in range(1, 41)]


@pytest.fixture(scope="module")
def yjs_sessions() -> list[Any]:
    return node.run("updates.mjs", YJS_SESSIONS, timeout=50)


def id_of(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_reads_real_yjs_as_yjs_does(yjs_sessions: list[Any]) -> None:
    seen: Counter[str] = Counter()
    for session in yjs_sessions:
        for sent in session["updates"]:
            data = base64.b64decode(sent["data"])
            read = read_update(data)
            structs = [struct for group in read.structs.values() for struct in group]
            assert {
                (struct.client, struct.clock, struct.length, int(struct.content), struct.origin, struct.right_origin,
                 struct.parent, struct.key)
                for struct in structs
            } == {tuple(map(id_of, described)) for described in sent["structs"]}  # fmt: skip
            assert read.deletes == {client: list(map(tuple, ranges)) for client, ranges in sent["deletes"]}
            assert read.encode() == data
            seen.update(struct.content.name for struct in structs)
    assert min(seen[kind] for kind in ("GC", "SKIP", "DELETED", "FORMAT", "EMBED", "BINARY", "TYPE")) > 5


def take_in_when_whole(index: Index, waiting: list[Update], split_pairs: bool) -> Iterator[Update]:
    """The parts that the index takes, in rounds, until no update of those that wait is without a hole."""
    taken = True
    while taken:
        taken = False
        for update in list(waiting):
            trimmed = index.trim(update)
            if index.hole(trimmed) is None:
                waiting.remove(update)
                taken = True
                misfit = index.misfit(index.writes(trimmed))
                assert misfit is None or (split_pairs and "half a surrogate pair" in misfit)
                index.add(trimmed)
                yield trimmed


def test_d3_an_item_lies_where_yjs_puts_it(yjs_sessions: list[Any]) -> None:
    located = 0
    for session, asked in zip(yjs_sessions, YJS_SESSIONS, strict=True):
        index = Index()
        waiting: list[Update] = []
        for sent in session["updates"]:
            waiting.append(read_update(base64.b64decode(sent["data"])))
            list(take_in_when_whole(index, waiting, bool(asked["halves"])))
        assert not waiting
        assert {client: index.clock(client) for client in index.clients} == states(base64.b64decode(session["state"]))
        for client, clock, length, parent, key, is_deleted in session["items"]:
            for at in (clock, clock + length - 1):
                place = index.parent_of((client, at))
                # None: we heard first from a replica that had collected it
                assert place == (id_of(parent), key) or (place is None and is_deleted)
                assert is_deleted or not index.is_deleted((client, at))
                located += place is not None
    assert located > 5_000


def test_yjs_and_pycrdt_integrate_what_the_reader_trims(yjs_sessions: list[Any]) -> None:
    """Also the deletions: what pycrdt reports makes the whole delete set of a Yjs replica known (D2)."""
    trimmed_of: list[list[str]] = []
    for session, asked in zip(yjs_sessions, YJS_SESSIONS, strict=True):
        server = Server(Index())
        waiting: list[Update] = []
        parts = []
        for sent in [] if asked["halves"] else session["updates"]:
            waiting.append(read_update(base64.b64decode(sent["data"])))
            for trimmed in take_in_when_whole(server.index, waiting, split_pairs=False):
                server.events.clear()
                server.doc.apply_update(trimmed.encode())
                for done in server.events:
                    server.index.note_deletes(done.deletes)
                parts.append(base64.b64encode(trimmed.encode()).decode())
        server.check()
        if parts:
            parts.append(base64.b64encode(server.doc.get_update()).decode())
            trimmed_of.append(parts)
            assert [str(server.doc["text"]), len(server.doc["list"])] == session["content"]
    replies = node.run("integrate.mjs", trimmed_of, timeout=50)
    expected = [session for session, asked in zip(yjs_sessions, YJS_SESSIONS, strict=True) if not asked["halves"]]
    assert replies == [{"state": session["state"], "content": session["content"]} for session in expected]
