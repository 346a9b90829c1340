"""Bad input by the ways that users have: sockets, HTTP and files of a real server over a log on disk.

Each test does the same: somebody does wrong and is told what was expected and what came; two others, who were there
before, go on; what the log then holds is whole.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pycrdt
import pytest
from tests.support import gltf
from tests.support.logs import flip, tamper
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, ServerProcess, local_server
from typer.testing import CliRunner

from maquette.engine.engine import Engine
from maquette.engine.logs.schema import DATABASE, FORMAT
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.sync import AwarenessUpdate, PermissionDenied, Stored, SyncUpdate
from maquette.server.commandline import app

SCENE = "demo/scene"
CHAT = "demo/chat"
IMPORT = "/v1/spaces/demo/import"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    """A server over a log on disk, which is sound when the test is over."""
    async with local_server(await Engine.open(tmp_path / "data")) as one:
        yield one
    log = await SqliteLog.open_readonly(tmp_path / "data")
    try:
        assert [event async for page in log.read_all() for event in page]
    finally:
        await log.close()


class Bystanders:
    """Two others in the scene: what one adds, the other sees."""

    def __init__(self, ann: Peer, ben: Peer) -> None:
        self.ann = ann
        self.ben = ben
        self.rounds = 0

    async def go_on(self) -> None:
        """Each adds a node, the other gets it."""
        self.rounds += 1
        for one, other in ((self.ann, self.ben), (self.ben, self.ann)):
            name = f"honest-{self.rounds}-{one.doc.client_id}"
            await one.edit(lambda one=one, name=name: nodes(one).update({name: node()}))  # type: ignore[misc]  # bound now
            await other.until(lambda other=other, name=name: name in nodes(other))  # type: ignore[misc]  # bound now

    def see(self) -> set[str]:
        """The ids of all nodes that they have."""
        return {*nodes(self.ann).keys(), *nodes(self.ben).keys()}


async def scene_goes_on(server: LocalServer) -> None:
    async with peer(server.url, SCENE, name="Ann") as ann, peer(server.url, SCENE, name="Ben") as ben:
        await Bystanders(ann, ben).go_on()


@pytest.fixture
async def others(server: LocalServer) -> AsyncIterator[Bystanders]:
    async with peer(server.url, SCENE, name="Ann") as ann, peer(server.url, SCENE, name="Ben") as ben:
        others = Bystanders(ann, ben)
        await others.go_on()
        yield others
        await others.go_on()


def nodes(one: Peer) -> pycrdt.Map[Any]:
    found: pycrdt.Map[Any] = one.doc.get("nodes", type=pycrdt.Map)
    return found


def node(**fields: Any) -> pycrdt.Map[Any]:
    plain = {
        "name": "n", "type": "group", "place": [None, "V"], "visible": True, "locked": False,
        "translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1],
    }  # fmt: skip
    return pycrdt.Map({**plain, **fields})


# --- the door --------------------------------------------------------------------------------------------------------


def expired(server: LocalServer) -> str:
    """A token that the server's own key signed, and that was good until a minute ago."""
    good = server.token("Old")
    claims = jwt.decode(good, options={"verify_signature": False})
    key = jwt.get_unverified_header(good)["kid"]
    secret = server.keyring._keys[key].secret
    now = int(time.time())
    return jwt.encode({**claims, "iat": now - 120, "exp": now - 60}, secret, "HS256", headers={"kid": key})


async def test_an_expired_token_is_closed_with_4401_and_says_so(server: LocalServer, others: Bystanders) -> None:
    async with peer(server.url, SCENE, sync=False, token=expired(server)) as old:
        code, reason = await old.end()
    assert code == 4401
    assert "expected" in reason
    assert "got one that expired at" in reason


@pytest.mark.parametrize("path", ["demo", "demo/text:a%0Ab", "", "demo/", "demo//scene", "a/b/c/d"])
async def test_g2_whatever_is_joined_is_accepted_and_then_refused(
    server: LocalServer, others: Bystanders, path: str
) -> None:
    """A refusal before accept is retried for ever by stock clients."""
    async with peer(server.url, path, sync=False, name="Eve") as lost:
        code, reason = await lost.end()
    assert code == 4404
    assert "expected" in reason
    assert "got" in reason


# --- edits whose content is refused ----------------------------------------------------------------------------------

NODES = {
    "NaN": ({"translation": [float("nan"), 0, 0]}, "translation", "a finite number"),
    "infinity": ({"scale": [1, float("inf"), 1]}, "scale", "a finite number"),
    "a long quaternion": ({"rotation": [1, 1, 1, 1]}, "rotation", "a quaternion of length 1"),
    "no quaternion": ({"rotation": [0, 0, 0]}, "rotation", "a list of 4 items"),
    "an unknown parent": ({"place": ["nobody", "V"]}, "place", "an existing parent"),
    "itself": ({"place": ["evil", "V"]}, "place", "another's id"),
}


@pytest.mark.parametrize(("fields", "field", "expected"), NODES.values(), ids=NODES.keys())
async def test_g5b_a_node_that_does_not_fit_is_taken_back_at_its_sender(
    server: LocalServer, others: Bystanders, fields: dict[str, Any], field: str, expected: str
) -> None:
    async with peer(server.url, SCENE, name="Eve") as eve:
        await eve.edit(lambda: nodes(eve).update({"evil": node(**fields)}))
        reason = (await eve.expect(PermissionDenied)).reason
        assert field in reason
        assert f"expected {expected}" in reason
        assert ", got " in reason
        await eve.until(lambda: "evil" not in nodes(eve))
        await eve.edit(lambda: nodes(eve).update({"good": node()}))
        await others.ann.until(lambda: "good" in nodes(others.ann))
        await others.ben.until(lambda: "good" in nodes(others.ben))
    assert "evil" not in others.see()


async def test_a_place_under_its_own_child_leaves_a_tree_without_a_cycle_on_every_screen(
    server: LocalServer, others: Bystanders
) -> None:
    """Nobody can tell it from a move that another move met half-way, so it is repaired and not refused."""
    async with peer(server.url, SCENE, name="Eve") as eve:
        await eve.edit(lambda: nodes(eve).update({"top": node()}))
        await eve.edit(lambda: nodes(eve).update({"under": node(place=["top", "V"])}))
        await eve.edit(lambda: nodes(eve)["top"].update({"place": ["under", "V"]}))
        for one in (eve, others.ann, others.ben):
            await one.until(lambda one=one: parents(one) in FORESTS)  # type: ignore[misc]  # bound now
        assert parents(eve) == parents(others.ann) == parents(others.ben)


FORESTS = ({"top": None, "under": "top"}, {"top": "under", "under": None})


def parents(one: Peer) -> dict[str, str | None]:
    return {id_: nodes(one)[id_]["place"][0] for id_ in ("top", "under") if id_ in nodes(one)}


async def test_a_message_of_a_megabyte_is_refused_at_its_sender(server: LocalServer, others: Bystanders) -> None:
    async with peer(server.url, CHAT, name="Ann") as ann, peer(server.url, CHAT, name="Eve") as eve:
        written: pycrdt.Array[Any] = eve.doc.get("messages", type=pycrdt.Array)
        await eve.until(lambda: bool(actor(eve)))
        body = {"author": actor(eve), "sent": 1, "reactions": pycrdt.Map()}
        await eve.edit(lambda: written.append(pycrdt.Map({**body, "id": "m1", "body": "x" * 1_000_000})))
        reason = (await eve.expect(PermissionDenied)).reason
        assert "expected at most 32768 bytes, got 1000000" in reason
        await eve.until(lambda: len(written) == 0)
        await eve.edit(lambda: written.append(pycrdt.Map({**body, "id": "m2", "body": "short"})))
        seen: pycrdt.Array[Any] = ann.doc.get("messages", type=pycrdt.Array)
        await ann.until(lambda: len(seen) == 1)
        assert seen[0]["body"] == "short"


def actor(one: Peer) -> str:
    """The actor id that the server says in presence."""
    for message in one.seen:
        for state in message.states if isinstance(message, AwarenessUpdate) else ():
            if state.client == one.doc.client_id and state.state and "actor" in state.state:
                return str(state.state["actor"]["id"])
    return ""


# --- updates against the limits --------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def test_g1_a_value_that_is_nested_too_deeply_never_reaches_the_replica(
    server: LocalServer, others: Bystanders
) -> None:
    async with peer(server.url, SCENE, name="Eve") as eve:
        await eve.edit(lambda: nodes(eve).update({"evil": node(extras={"deep": deep(100)})}))
        reason = (await eve.expect(PermissionDenied)).reason
        assert "expected at most" in reason
        await others.go_on()
        await eve.edit(lambda: nodes(eve).update({"more": node()}))
        code, said = await eve.end()
    assert code == 4403
    assert "expected" in said
    assert not {"evil", "more"} & others.see()


async def test_g2_an_update_of_many_megabytes_is_denied_and_the_others_go_on(
    server: LocalServer, others: Bystanders
) -> None:
    async with peer(server.url, SCENE, name="Eve") as eve:
        await eve.send(SyncUpdate(bytes(9 << 20)))
        assert "expected at most 8388608, got 9437184" in (await eve.expect(PermissionDenied)).reason
    await others.go_on()


# --- files -----------------------------------------------------------------------------------------------------------


def cut() -> bytes:
    return gltf.triangle().glb()[:-7]


def lying_header() -> bytes:
    data = bytearray(gltf.triangle().glb())
    struct.pack_into("<I", data, 8, len(data) * 2)
    return bytes(data)


def lying_chunk() -> bytes:
    data = bytearray(gltf.triangle().glb())
    struct.pack_into("<I", data, 12, 2**31)
    return bytes(data)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[], bytes]:
    def make() -> bytes:
        built = gltf.triangle()
        root = json.loads(json.dumps(built.finished()))
        change(root)
        return gltf.glb(root, bytes(built.binary))

    return make


FILES = {
    "cut short": cut,
    "a wrong length in the header": lying_header,
    "a wrong length in a chunk": lying_chunk,
    "an accessor beyond its view": changed(lambda root: root["accessors"][0].update(count=10**9)),
    "an accessor of a view that is not there": changed(lambda root: root["accessors"][0].update(bufferView=99)),
    "a view beyond its buffer": changed(lambda root: root["bufferViews"][0].update(byteLength=10**6)),
    "a buffer elsewhere": changed(lambda root: root["buffers"].append({"uri": "../../keys.json", "byteLength": 4})),
    "an image of the file system": changed(lambda root: root.update(images=[{"uri": "file:///etc/passwd"}])),
    "an image of another host": changed(lambda root: root.update(images=[{"uri": "http://127.0.0.1:1/a.png"}])),
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
async def test_a_model_that_is_broken_is_refused_whole(
    server: LocalServer, others: Bystanders, tmp_path: Path, make: Callable[[], bytes]
) -> None:
    before = await server.engine.log.head()
    assets = files(tmp_path)
    async with httpx.AsyncClient(base_url=server.url) as http:
        response = await http.post(IMPORT, params={"filename": "model.glb", "name": "Eve"}, content=make())
    assert response.status_code == 422, response.text
    detail = response.json()["detail"]
    assert "expected" in detail
    assert ", got " in detail
    assert "passwd" not in detail or "file:///etc/passwd" in detail  # its address, never its content
    added = [event.type async for page in server.engine.log.read_all(after=before) for event in page]
    assert set(added) <= {"profile.named"}
    assert files(tmp_path) == assets


def files(folder: Path) -> set[str]:
    """What the folder of assets holds, half-written files included."""
    return {str(path) for path in (folder / "data" / "assets").rglob("*") if path.is_file()}


async def test_an_upload_that_is_given_up_leaves_nothing_and_no_alarm(
    server: LocalServer, others: Bystanders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = await server.engine.log.head()
    port = int(server.url.rpartition(":")[2])
    for path in (f"{IMPORT}?filename=a.glb", "/v1/spaces/demo/chat/messages"):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
        )
        writer.write(head.encode() + b"{")
        await writer.drain()
        await others.go_on()
        writer.transport.abort()
        await others.go_on()
    assert not [record for record in caplog.records if record.exc_info]
    types = [event.type async for page in server.engine.log.read_all(after=before) for event in page]
    assert set(types) == {"document.edited"}
    assert not files(tmp_path)


# --- a log that is damaged -------------------------------------------------------------------------------------------


async def test_l6_a_damaged_document_is_named_to_the_operator_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_server(await Engine.open(tmp_path)) as server:
        async with peer(server.url, "demo/text:notes", name="Ann") as ann:
            await ann.write("secret")
            await ann.expect(SyncUpdate)
        await scene_goes_on(server)
        stream = (await (await server.engine.space("dev", "demo")).open("text:notes")).stream
    tamper(tmp_path, "UPDATE events SET data = CAST(data || x'00' AS BLOB) WHERE stream = "
                     "(SELECT id FROM streams WHERE name = ?) AND revision = 1", stream)  # fmt: skip
    async with local_server(await Engine.open(tmp_path)) as server:
        async with peer(server.url, "demo/text:notes", name="Ann", sync=False) as ann:
            code, reason = await ann.end()
        assert code == 1013
        assert "expected" in reason
        assert str(tmp_path) not in reason  # where the log is, is not for everybody
        assert f"stream {stream!r}, revision 1" in caplog.text
        async with httpx.AsyncClient(base_url=server.url) as client:
            answer = await client.get("/v1/spaces/demo/documents/text:notes/state", params={"name": "Ann"})
        assert answer.status_code == 500
        assert str(tmp_path) not in answer.text
        assert "Traceback" not in caplog.text  # a line for each try; it is retried
        await scene_goes_on(server)


def refusal(folder: Path) -> str:
    """What `maquette serve` says of a folder that it does not serve."""
    result = CliRunner().invoke(app, ["serve", "--data", str(folder), "--port", "0"])
    assert result.exit_code == 1
    assert not (folder / "server.json").exists()
    return result.stderr


async def test_l6_a_bit_that_flipped_in_the_wal_of_a_killed_server_is_not_served_over(tmp_path: Path) -> None:
    async with (
        ServerProcess(tmp_path / "data") as server,
        peer(server.url, "demo/text:n", name="Ann", acks="1") as ann,
    ):
        for _ in range(50):
            await ann.write("x")
            await ann.expect(Stored)
        await server.kill()
    (tmp_path / "data" / "server.json").unlink()
    flip(wal := tmp_path / "data" / f"{DATABASE}-wal", wal.stat().st_size // 2)
    before = wal.read_bytes()
    said = await asyncio.to_thread(refusal, tmp_path / "data")
    assert re.search(r"expected the log to reach position \d+, it ends at \d+: \d+ position", said)
    assert "--accept-loss" in said
    assert wal.read_bytes() == before  # nothing is given up before somebody says so


async def test_a_log_of_a_newer_version_is_not_served_and_stays_as_it_is(tmp_path: Path) -> None:
    async with local_server(await Engine.open(tmp_path)) as server:
        await scene_goes_on(server)
    tamper(tmp_path, "PRAGMA user_version = 99")
    before = (tmp_path / DATABASE).read_bytes()
    said = await asyncio.to_thread(refusal, tmp_path)
    assert f"in log format {FORMAT} or older, got 99" in said
    assert (tmp_path / DATABASE).read_bytes() == before


async def test_a_handshake_that_is_too_long_is_answered_and_ended(server: LocalServer, others: Bystanders) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /sync/main/chat?token=%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        % (b"x" * 9_000, host.encode())
    )
    answer = await reader.read()  # to its end: the server closes
    assert answer.startswith(b"HTTP/1.1 414 ")
    writer.close()
    await writer.wait_closed()
