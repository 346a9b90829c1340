"""Broken models and chats through the importers: a clear error and nothing left, or content like any other."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

from tests.fuzz.became import Became
from tests.fuzz.besieged import assert_same_index, whole
from tests.support import gltf
from tests.support.assault import mutated as flipped
from tests.support.values import mutated

from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput
from maquette.engine.events import Actor
from maquette.engine.roles import Role
from maquette.engine.scene.gltf_import import read_gltf
from maquette.engine.space import Space
from maquette.engine.transcripts.jsonl import read_jsonl
from maquette.engine.transcripts.lines import BadLine
from maquette.engine.transfer import chat_lines, import_file, scene_glb

OWNER = Actor("olga")
PER_SPACE = 15
"""Files into one space, so that later ones meet what earlier ones left."""

IRC = """[00:00] <ann> hello
=== ann [~a@host]  has joined #channel
[00:01]  * ann waves at ben
[00:02] -bot- be nice
=== ann is now known as ann_
[23:59] <ben> ann_: grüße 😀
[00:01] <ann_> past midnight
=== ben [~b@host]  has quit ["gone"]
no time at all
=== mode/#channel [+o ben] by ChanServ
""".encode()
RECORDS = (
    {"id": "m1", "author": "a1", "name": "Ann", "sent": 1118536260000, "body": "hello", "mentions": ["a2"]},
    {"id": "m2", "author": "a2", "time": "2005-06-12T00:31:00+00:00", "body": "re", "thread": "m1", "notice": True},
    {"id": "m3", "author": "a3", "sent": 1118536270000, "body": "", "reactions": {"👍": ["a2", "a1"]}, "x": {"y": [1]}},
    {"id": "$long:id.example/" + "x" * 60, "author": "@a:b", "sent": 5, "body": "😀", "edited": 6,
     "deleted": {"by": "a1", "at": 7}, "attachments": [{"name": "n", "url": "u"}]},
)  # fmt: skip


def broken_model(random: Random) -> tuple[str, bytes]:
    made = gltf.FILES[random.choice([*gltf.FILES])]()
    root = made.finished()
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 4))):
        root = mutated(root, random)
    binary = bytes(made.binary)
    if binary and random.random() < 0.3:
        binary = flipped(binary, random)
    data = gltf.glb(root, binary) if random.random() < 0.7 else json.dumps(root).encode()
    return "model.glb" if data.startswith(b"glTF") else "model.gltf", _bytes(data, random, 0.2)


def broken_irc(random: Random) -> tuple[str, bytes]:
    lines = IRC.split(b"\n")
    random.shuffle(lines)
    pieces = [random.choice((line, flipped(line or b"=", random), line * 3, b"\xff\xfe\x81" + line)) for line in lines]
    return "channel-2005-06-12.txt", _bytes(random.choice((b"\n", b"\r\n", b"\n\n\x00")).join(pieces), random, 0.5)


def broken_lines(random: Random) -> tuple[str, bytes]:
    broken = random.choice((0.05, 0.5))
    records = [mutated(one, random) if random.random() < broken else one for one in RECORDS]
    lines = [json.dumps(record).encode() for record in records]
    return "chat.jsonl", _bytes(b"\n".join(lines), random, 0.3)


def _bytes(data: bytes, random: Random, chance: float) -> bytes:
    """With some chance, `data` with bytes flipped, cut, doubled or taken out."""
    if random.random() > chance or not data:
        return data
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return random.choice((flipped(data, random), data[:end], data[:start] + data[end:], data + data[start:end]))


MAKERS = (broken_model, broken_model, broken_irc, broken_lines)


async def import_broken(random: Random, count: int, note: Callable[[bytes], None]) -> Became:
    """Import `count` files."""
    fates: Counter[str] = Counter()
    while fates.total() < count:
        async with _space() as space:
            for _ in range(PER_SPACE):
                name, data = random.choice(MAKERS)(random)
                note(name.encode() + b" " + data)
                fates[await _import(space, name, data)] += 1
            await _check(space)
    return Became(fates)


@asynccontextmanager
async def _space() -> AsyncIterator[Space]:
    async with await Engine.open() as engine:
        yield await engine.create_space("t1", "demo", OWNER)


async def _import(space: Space, name: str, data: bytes) -> str:
    kind = name.rpartition(".")[2]
    before = await space.engine.log.head()
    try:
        await import_file(space, data, name, OWNER, Role.OWNER)
    except InvalidInput as error:
        refusal = str(error)
    else:
        return f"{kind} taken"
    assert "expected" in refusal, refusal
    assert len(refusal) < 2_000, f"expected an error for a person, got {len(refusal)} characters"
    assert await space.engine.log.head() == before, "a file that was refused left something"
    return f"{kind} refused"


async def _check(space: Space) -> None:
    """What came in can be read, goes out again, and is what the log gives."""
    exported = await scene_glb(space)
    read_gltf(exported.data, keep_ids=True)
    lines = b"".join([line async for line in chat_lines(space)])
    assert not any(isinstance(line, BadLine) for line in read_jsonl(io.BytesIO(lines)))
    for name in ("scene", "chat"):
        document = await space.open(name)
        await document.drained()
        assert document.error is None
        found = await space.resolve(name)
        again = await space.engine.replica(space, found.record, found.epoch)
        assert whole(again.doc) == whole(document.replica.doc)
        assert_same_index(again.index, document.replica.index)
