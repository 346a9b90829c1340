"""Edits of scenes and chats as clients make them: good ones, and those that the gate refuses (G5 b).

A good edit takes who edits and a short id; it raises KeyError, IndexError, TypeError or RuntimeError where there is
nothing to edit. A bad one needs the nodes `a`, `b`, the material `m`, the messages `one` and `two` of ada's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycrdt import Map, Text
from tests.support.live import Peer, message, node

from maquette.engine.kinds.chat import SEPARATOR
from maquette.engine.kinds.scene import COMMENTS, MATERIALS, NODES, SETTINGS

SECRET = "qxzsecretzxq"
Bad = Callable[[Peer], None]
Good = Callable[[Peer, str], None]

SCENE_BADS: dict[str, Bad] = {
    "a register that is none": lambda p: p.map(NODES)["a"].__setitem__("translation", [SECRET]),
    "an unknown field": lambda p: p.map(NODES)["a"].__setitem__("colour", SECRET),
    "a register made a map": lambda p: p.map(NODES)["a"].__setitem__("extras", Map({"x": SECRET})),
    "a register made a text": lambda p: p.map(NODES)["a"].__setitem__("extras", Text(SECRET)),
    "a record overwritten": lambda p: p.map(NODES).__setitem__("a", Map({"name": SECRET})),
    "a record removed": lambda p: p.map(NODES).__delitem__("a"),
    "slots made a value": lambda p: p.map(NODES)["a"].__setitem__("slots", SECRET),
    "a slot that is none": lambda p: p.map(NODES)["a"]["slots"].__setitem__("0", [SECRET]),
    "a required field removed": lambda p: p.map(NODES)["a"].__delitem__("place"),
    "a node without fields": lambda p: p.map(NODES).__setitem__("z", Map({"name": SECRET})),
    "a node that is a value": lambda p: p.map(NODES).__setitem__("z", SECRET),
    "a node below nobody": lambda p: p.map(NODES).__setitem__("z", node(SECRET)),
    "types in types": lambda p: p.map(NODES).__setitem__("z", Map({"x": Map({"y": Map({"z": SECRET})})})),
    "a setting that is a type": lambda p: p.map(SETTINGS).__setitem__("extras", Map({"x": SECRET})),
    "a comment by another": lambda p: p.map(COMMENTS).__setitem__(
        "k", Map({"author": "ada", "node": None, "point": [0, 0, 0], "body": SECRET, "at": 1})
    ),
    "an unknown setting": lambda p: p.map(SETTINGS).__setitem__("x", SECRET),
    "keys of extras": lambda p: p.map(NODES)["a"].__setitem__("extras", {SECRET: float("nan")}),
}


def find(peer: Peer, id_: str) -> Any:
    return next(record for record in peer.messages if record["id"] == id_)


def place_of(peer: Peer, id_: str) -> int:
    return next(index for index, record in enumerate(peer.messages) if record["id"] == id_)


CHAT_BADS: dict[str, Bad] = {
    "another's body": lambda p: find(p, "one").__setitem__("body", SECRET),
    "another's body removed": lambda p: find(p, "one").__delitem__("body"),
    "a stamp": lambda p: find(p, "one").__setitem__("stamp", [99, SECRET]),
    "an id": lambda p: find(p, "one").__setitem__("id", SECRET),
    "reactions overwritten": lambda p: find(p, "two").__setitem__("reactions", Map({"x": SECRET})),
    "another's reaction": lambda p: find(p, "two")["reactions"].__setitem__(f"👎{SEPARATOR}cy", SECRET),
    "a reaction of another removed": lambda p: find(p, "two")["reactions"].__delitem__(f"👍{SEPARATOR}ada"),
    "a message removed": lambda p: p.messages.__delitem__(place_of(p, "one")),
    "all messages removed": lambda p: p.messages.__delitem__(slice(0, len(p.messages))),
    "a message of another": lambda p: p.messages.append(message("x", "cy", SECRET)),
    "an id twice": lambda p: p.messages.append(message("one", "ben", SECRET)),
    "a message without fields": lambda p: p.messages.insert(0, Map({"body": SECRET})),
    "a value among messages": lambda p: p.messages.insert(1, SECRET),
    "a text among messages": lambda p: p.messages.insert(1, Text(SECRET)),
    "a body that is a text": lambda p: p.messages.append(message("x", "ben", Text(SECRET))),  # type: ignore[arg-type]
    "a message too long": lambda p: p.messages.append(message("x", "ben", SECRET * 3_000)),
    "types in types": lambda p: p.messages.append(message("x", "ben", thread=Map({"y": Map({"z": SECRET})}))),
    "another's tombstone": lambda p: find(p, "one").__setitem__("deleted", {"by": "ben", "at": 1}),
}

SCENE_GOODS: list[Callable[[Peer, str], None]] = [
    lambda p, k: p.map(NODES).__setitem__(k, node(slots={"0": "m"})),
    lambda p, k: p.map(NODES)[k].__setitem__("name", k),
    lambda p, k: p.map(NODES)[k].__setitem__("place", ["a" if k != "a" else None, "W"]),
    lambda p, k: p.map(NODES)[k].__setitem__("place", ["b" if k != "b" else None, "X"]),
    lambda p, k: p.map(NODES)[k].__setitem__("trashed", {"by": p.actor.id, "at": 7}),
    lambda p, k: p.map(NODES)[k].__delitem__("trashed"),
    lambda p, k: p.map(NODES)[k].__setitem__("slots", Map({"1": "m"})),
    lambda p, k: p.map(NODES)[k]["slots"].__setitem__("2", "m"),
    lambda p, k: p.map(NODES).__delitem__(k),
    lambda p, k: p.map(MATERIALS).__setitem__(k, Map({"metallic": 0.25})),
    lambda p, k: p.map(MATERIALS)[k].__setitem__("name", k),
    lambda p, k: p.map(MATERIALS).__delitem__(k),
    lambda p, k: p.map(SETTINGS).__setitem__("exposure", 2.0),
    lambda p, k: p.map(SETTINGS).__delitem__("exposure"),
    lambda p, k: p.map(COMMENTS).__setitem__(
        k, Map({"author": p.actor.id, "node": k, "point": [0, 1, 2], "body": "hm", "at": 9})
    ),
    lambda p, k: p.map(COMMENTS)[k].__setitem__("body", k),
    lambda p, k: p.map(COMMENTS)[k].__setitem__("resolved", True),
]
CHAT_GOODS: list[Callable[[Peer, str], None]] = [
    lambda p, k: p.messages.append(message(f"{k}-{len(p.messages)}-{p.client}", p.actor.id)),
    lambda p, k: p.messages.insert(0, message(f"{k}-{len(p.messages)}-{p.client}", p.actor.id, mentions=["x"])),
    lambda p, k: p.messages[-1].__setitem__("body", k),
    lambda p, k: p.messages[0].__setitem__("edited", 5),
    lambda p, k: p.messages[0].__setitem__("deleted", {"by": p.actor.id, "at": 8}),
    lambda p, k: p.messages[0].__delitem__("deleted"),
    lambda p, k: p.messages[-1]["reactions"].__setitem__(f"{k}{SEPARATOR}{p.actor.id}", True),
    lambda p, k: p.messages[-1]["reactions"].__delitem__(f"{k}{SEPARATOR}{p.actor.id}"),
    lambda p, k: p.messages.__delitem__(len(p.messages) - 1),
]
