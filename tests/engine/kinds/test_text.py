"""Text documents take any Yjs content."""

from __future__ import annotations

from pycrdt import Array, Map, Text, XmlElement, XmlFragment, XmlText
from tests.support import wire
from tests.support.live import Peer, events_of, open_document

from maquette.engine.kinds.text import TEXT
from maquette.engine.rewriting import with_fresh_clients
from maquette.engine.update import read_update


async def test_changes_tell_which_roots_an_op_touched() -> None:
    document = open_document(TEXT)
    ada = Peer("ada", 7)
    ada.doc.get("body", type=Text).insert(0, "x")
    ada.map("meta")["deep"] = Map({"x": Map({"y": 1})})
    await ada.send(document).wait()
    ada.map("meta")["deep"]["x"]["y"] = 2
    await ada.send(document).wait()
    told = [event.data["changes"] for event in await events_of(document)]
    assert told == [
        [{"type": "text.changed", "roots": ["body", "meta"]}],
        [{"type": "text.changed", "roots": ["meta"]}],
    ]


async def test_what_lies_below_garbage_is_taken_and_tells_nothing() -> None:
    document = open_document(TEXT)
    below = [wire.gc(1), wire.shared(1, parent=(9, 0), key="k"), wire.shared(1, parent=(9, 1), key="k")]
    done = await Peer("ada", 9).submit(document, wire.update(wire.group(9, 0, *below))).wait()
    assert (done.denied, done.error) == (None, None)
    more = wire.plain(wire.ONE, parent=(9, 2), key="k")
    done = await Peer("ada", 9).submit(document, wire.update(wire.group(9, 3, more))).wait()
    assert (done.denied, done.error) == (None, None)
    assert all(event.data["changes"] == [] for event in await events_of(document))


async def test_g1_several_characters_at_a_key_are_denied_because_newcomers_would_not_see_them() -> None:
    """An item behind some of them cuts them in two in a live replica; whoever joins later sees the last half alone."""
    document = open_document(TEXT)
    several, one = (wire.update(wire.group(9, 0, wire.text(text, parent="t", key="k"))) for text in ("abc", "a"))
    done = await Peer("eve", 9).submit(document, several).wait()
    assert "expected one value at key 'k'" in str(done.denied)
    done = await Peer("eve", 9).submit(document, one).wait()
    assert (done.denied, done.error) == (None, None)


def test_d9_a_state_under_fresh_clients_shows_the_same() -> None:
    peers = [Peer(name, client) for name, client in (("ada", 5), ("ben", 2**31), ("cy", 900))]
    for _ in range(3):
        for peer in peers:
            text, page = peer.doc.get("t", type=Text), peer.doc.get("p", type=XmlFragment)
            text.insert(0, peer.actor.id, {"bold": True})
            peer.doc.get("l", type=Array).insert(0, peer.actor.id)
            peer.map("m")[peer.actor.id] = Map({"by": Array([peer.actor.id])})
            page.children.insert(0, XmlElement("p", {"id": peer.actor.id}, contents=[XmlText(peer.actor.id)]))
            del text[1:2]
        for peer in peers:
            for other in peers:
                other.hear(peer.doc.get_update())

    def shown(peer: Peer) -> object:
        roots = (peer.doc.get("t", type=Text).diff(), str(peer.doc.get("p", type=XmlFragment)))
        return (*roots, peer.doc.get("l", type=Array).to_py(), peer.map("m").to_py())

    fresh = Peer("new", 1)
    update = with_fresh_clients(read_update(peers[0].doc.get_update()))
    fresh.hear(update.encode())
    assert shown(fresh) == shown(peers[0])
    assert not update.structs.keys() & {5, 2**31, 900}
