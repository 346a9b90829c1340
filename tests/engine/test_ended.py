"""Keys that an op sets and ends at once, in whatever order: a record keeps what it needs (G1, G5 b)."""

from __future__ import annotations

import pytest
from pycrdt import Array, Map
from tests.support import wire
from tests.support.live import Peer, message, node, open_document

from maquette.engine.kinds.chat import CHAT, MESSAGES
from maquette.engine.kinds.scene import NODES, SCENE
from maquette.engine.update import DEFAULT_LIMITS, read_update

LOW, HIGH = 50, 60


def with_end(data: bytes, key: str, *, client: int, beside: bool) -> bytes:
    """The update of client LOW and a struct of `client` that ends `key`: behind the value, or `beside` it."""
    update = read_update(data, DEFAULT_LIMITS)
    writes = [struct for struct in update.structs[LOW] if struct.key == key]
    place = {"parent": writes[0].parent, "key": key} if beside else {"origin": writes[-1].id}
    clock = update.structs[LOW][-1].end if client == LOW else 0
    end = read_update(wire.update(wire.group(client, clock, wire.deleted(1, **place))), DEFAULT_LIMITS)
    merged = {c: [*update.structs.get(c, []), *end.structs.get(c, [])] for c in {*update.structs, *end.structs}}
    return type(update)(merged, update.ranges).encode()


ENDS = pytest.mark.parametrize(("client", "beside"), [(LOW, False), (HIGH, False), (HIGH, True), (LOW, True)])


def valued(data: bytes, key: str, value: bytes) -> bytes:
    """The update of client LOW and another value for `key`, beside the first, by client HIGH."""
    struct = next(struct for struct in read_update(data, DEFAULT_LIMITS).structs[LOW] if struct.key == key)
    more = wire.update(wire.group(HIGH, 0, wire.plain(value, parent=struct.parent, key=key)))
    update, other = read_update(data, DEFAULT_LIMITS), read_update(more, DEFAULT_LIMITS)
    return type(update)({**update.structs, **other.structs}, update.ranges).encode()


@ENDS
async def test_g5_b_a_message_whose_author_the_same_op_ends_is_no_message(client: int, beside: bool) -> None:
    document = open_document(CHAT)
    eve = Peer("eve", LOW)
    eve.messages.append(message("one", "eve"))
    done = await eve.submit(document, with_end(eve.made[-1], "author", client=client, beside=beside)).wait()
    shown = document.replica.doc.get(MESSAGES, type=Array).to_py()
    assert all("author" in one for one in shown), done


async def test_g5_b_a_message_with_two_values_of_a_field_keeps_one_or_is_none() -> None:
    document = open_document(CHAT)
    eve = Peer("eve", LOW)
    eve.messages.append(message("one", "eve"))
    await eve.submit(document, valued(eve.made[-1], "author", b"\x77\x03eve")).wait()
    assert [one.get("author") for one in document.replica.doc.get(MESSAGES, type=Array).to_py()] in ([], ["eve"])


@ENDS
async def test_g5_b_a_body_that_is_changed_and_ended_in_one_op_stays(client: int, beside: bool) -> None:
    document = open_document(CHAT)
    eve = Peer("eve", LOW).join(document)
    eve.messages.append(message("one", "eve"))
    await eve.send(document).wait()
    eve.made.clear()
    eve.messages[0]["body"] = "another"
    start = document.replica.index.clock(LOW)
    struct = read_update(eve.made[-1], DEFAULT_LIMITS).structs[LOW][-1]
    place = {"origin": struct.origin} if beside else {"origin": struct.id}
    clock = start + 1 if client == LOW else 0
    end = wire.update(wire.group(client, clock, wire.deleted(1, **place)))
    update, other = read_update(eve.made[-1], DEFAULT_LIMITS), read_update(end, DEFAULT_LIMITS)
    merged = {c: [*update.structs.get(c, []), *other.structs.get(c, [])] for c in {*update.structs, *other.structs}}
    await eve.submit(document, type(update)(merged, update.ranges).encode()).wait()
    [shown] = document.replica.doc.get(MESSAGES, type=Array).to_py()
    assert shown["body"] in ("hello", "another")


@ENDS
@pytest.mark.parametrize("key", ["name", "place", "slots"])
async def test_g5_b_a_node_with_a_field_that_the_same_op_ends_is_no_node(key: str, client: int, beside: bool) -> None:
    document = open_document(SCENE)
    eve = Peer("eve", LOW)
    eve.map(NODES)["a"] = node(slots={"0": "m"})
    await eve.submit(document, with_end(eve.made[-1], key, client=client, beside=beside)).wait()
    assert all(key in one for one in document.replica.doc.get(NODES, type=Map).to_py().values())


async def test_g1_two_tabs_that_set_a_field_of_their_new_record_keep_it() -> None:
    document = open_document(SCENE)
    low, high = Peer("ann", LOW), Peer("ann", HIGH)
    low.map(NODES)["a"] = node()
    high.hear(low.doc.get_update())
    low.map(NODES)["a"]["name"] = "one"
    high.map(NODES)["a"]["name"] = "other"
    low.hear(high.doc.get_update())
    assert (await low.send(document).wait()).refused == ()
    assert document.replica.doc.get(NODES, type=Map)["a"]["name"] == low.map(NODES)["a"]["name"]
