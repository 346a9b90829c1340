"""The watchdog (G4): what hangs or crashes the process that serves, and what becomes of everybody else.

The hangs and crashes are real: updates that pycrdt does not survive, over the wire to a server whose reader is switched
off, or written into a log by hand for the ordinary server.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pycrdt import Text
from tests.support import wire
from tests.support.hanging import POISON
from tests.support.peer import peer
from tests.support.server import ServerProcess
from tests.support.tabs import Browser, Tab, browser

from maquette.engine import inspection
from maquette.engine.engine import Engine
from maquette.engine.events import Actor, Event, NewEvent
from maquette.engine.roles import Role
from maquette.engine.sync import PermissionDenied, SyncUpdate
from maquette.engine.testing.log_contract import collected
from maquette.server.checkup import check

HANGS = bytes.fromhex(
    "011107002701016d0463756265012700070003706f730008000701017c0000000081070201880703017c400000000001000400010003c8070307"
    "04017c40a000000001000188070e037e787601016b75027c3f8000007c400000000002810713020001840716072077c3b6726c6400"
)
"""111 bytes: a run of text inside an array. Reading it never ends."""
CRASHES = wire.update(wire.group(5, 0, wire.plain(b"\x75\x01" * 30_000 + wire.NULL, parent="m", key="k")))
"""60 kB: a value nested 30,000 deep. Rust's stack overflows."""

PATIENCE = 40.0
SOON = ("--answer-seconds", "2")
NOTES, OTHER = "demo/text:notes", "demo/text:other"
TEXT = "doc.getText('notes')"


@asynccontextmanager
async def typing(node: Browser, url: str, document: str) -> AsyncIterator[tuple[Tab, Tab]]:
    """Two stock clients on one document: what the first types, the second sees."""
    ben = await node.open(url, document, tab=f"ben {document}", name="Ben")
    cara = await node.open(url, document, tab=f"cara {document}", name="Cara")
    for tab in (ben, cara):
        await tab.wait("provider.synced")
    yield ben, cara


async def echo(ben: Tab, cara: Tab, word: str) -> float:
    """Seconds until what `ben` types is shown to `cara`: then it is on disk."""
    began = time.monotonic()
    await ben.run(f"{TEXT}.insert(0, '{word} ')")
    await cara.wait(f"{TEXT}.toString().includes('{word} ')", PATIENCE)
    return time.monotonic() - began


def tell(figure: str) -> None:
    """For docs/reliability.md, with `pytest -s`."""
    sys.stdout.write(f"\n{figure}\n")


async def figure(server: ServerProcess, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{server.url}/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"maquette_{name} "))


async def said(folder: Path, *types: str) -> list[Event]:
    """The events of these types in the log of a folder."""
    async with await Engine.open_readonly(folder) as engine:
        return [event for event in await collected(engine.log.read_all()) if event.type in types]


async def logged_text(folder: Path, document: str) -> str:
    async with await Engine.open_readonly(folder) as engine:
        space = await engine.space("dev", "demo")
        replica = await engine.replica(space, space.record.documents[document], 1)
        return str(replica.doc.get("notes", type=Text))


def serving(folder: Path, *options: str, careless: bool = False) -> ServerProcess:
    module = "tests.support.careless" if careless else "maquette.server.cli"
    return ServerProcess(folder, *options, module=module)


@pytest.mark.parametrize(("poison", "how"), [(HANGS, "hang"), (CRASHES, "crash")], ids=["hang", "crash"])
async def test_g4_an_update_that_stops_the_server_is_dropped_and_the_others_go_on_within_seconds(
    tmp_path: Path, poison: bytes, how: str
) -> None:
    async with (
        serving(tmp_path, *SOON, careless=True) as server,
        browser() as node,
        typing(node, server.url, NOTES) as (ben, cara),
    ):
        await echo(ben, cara, "before")
        async with peer(server.url, NOTES, name="Mallory") as mallory:
            await mallory.send(SyncUpdate(poison))
            took = await echo(ben, cara, "after")
            tell(f"{how} while judging: {took:.1f} s to the next echo")
            assert (await mallory.end())[0] == 1006
        async with peer(server.url, NOTES, name="Mallory") as mallory:
            await mallory.send(SyncUpdate(poison))
            denied = await mallory.expect(PermissionDenied)
            assert "one that stopped the server before" in denied.reason
            await mallory.send(SyncUpdate(poison))
            assert (await mallory.end())[0] == 4403
        assert await echo(ben, cara, "later") < took
        assert await figure(server, "restarts") == 1
        assert await server.stop() == 0
    [quarantined] = await said(tmp_path, "update.quarantined", "document.frozen")
    assert quarantined.data["size"] == len(poison)
    assert not list((tmp_path / "incidents").iterdir())
    assert await logged_text(tmp_path, "text:notes") == "later after before "


async def test_g4_whoever_stops_the_server_twice_writes_there_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, careless=True) as server:
        for depth in (30_000, 30_001):
            async with peer(server.url, NOTES, name="Mallory") as mallory:
                value = wire.plain(b"\x75\x01" * depth + wire.NULL, parent="m", key="k")
                await mallory.send(SyncUpdate(wire.update(wire.group(5, 0, value))))
                await mallory.end()
        async with peer(server.url, NOTES, name="Mallory") as mallory:
            await mallory.write("an honest word")
            assert "2 of yours stopped the server" in (await mallory.expect(PermissionDenied)).reason
        async with peer(server.url, NOTES, name="Ben") as ben:
            await ben.write("hello")
            await ben.expect(SyncUpdate)
        assert await figure(server, "restarts") == 2


async def poisoned(folder: Path, *updates: bytes) -> int:
    """A log whose document `text:notes` has two words by Ann, then `updates` by hand, then another word; its poison's
    first revision."""
    ann = Actor("ann-4711")

    def word(text: str) -> Any:
        return lambda doc: doc.get("notes", type=Text).insert(0, text)

    async with await Engine.open(folder) as engine:
        space = await engine.create_space("dev", "demo", ann)
        for name in ("text:notes", "text:other"):
            for one in ("two ", "one "):
                await space.write(name, ann, Role.EDITOR, word(one))
        stream = space.record.document_stream(space.record.documents["text:notes"], 1)
        await engine.settle()
        before = await engine.log.revision(stream)
        rows: list[dict[str, Any]] = [{"update": update, "changes": [], "describe": 1} for update in updates]
        await engine.log.append(stream, [NewEvent("document.edited", ann, row) for row in rows], before)
    return before


def deep_types(client: int) -> tuple[bytes, bytes]:
    """Maps nested 40,000 deep, and the deletion of the outermost, which overflows Rust's stack."""
    maps = [wire.shared(1, parent="m", key="k")]
    maps += [wire.shared(1, parent=(client, level), key="k") for level in range(39_999)]
    return wire.update(wire.group(client, 0, *maps)), wire.update(deletes={client: [(0, 1)]})


def many_clients(number: int) -> bytes:
    """One struct of each of so many clients: pycrdt takes a time that grows with their square."""
    struct = wire.plain(wire.NULL, parent="m", key="k")
    return wire.update(*(wire.group(client, 0, struct) for client in range(number + 1_000, 1_000, -1)))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["crash", "hang"])
async def test_g4_a_logged_update_that_stops_the_server_freezes_its_document_before_that_revision(
    tmp_path: Path, how: str
) -> None:
    updates = deep_types(77) if how == "crash" else (many_clients(60_000),)
    whole = await poisoned(tmp_path, *updates)
    before = whole + len(updates)  # the last of them does it
    async with serving(tmp_path, *SOON) as server, browser() as node, typing(node, server.url, OTHER) as (ben, cara):
        began = time.monotonic()
        ann = await node.open(server.url, NOTES, tab="ann", name="Ann")
        took = await echo(ben, cara, "after")
        tell(f"{how} of a logged update: {took:.1f} s to the next echo elsewhere")
        await ann.wait(f"{TEXT}.toString() === 'one two '", PATIENCE)
        tell(f"{how} of a logged update: {time.monotonic() - began:.1f} s until it is shown as it was before")
        await ann.run(f"{TEXT}.insert(0, 'and ')")
        await ann.wait("tab.warnings.some(text => text.includes('Permission denied'))", PATIENCE)
        assert await figure(server, "restarts") == 1
        assert await figure(server, "documents_frozen") == 1
        async with httpx.AsyncClient(trust_env=False, base_url=server.url) as http:
            assert (await http.get("/readyz")).status_code == 200
            state = (await http.get("/v1/spaces/demo/documents/text:notes/state")).json()
            assert state["revision"] == before - 1
        assert await server.stop() == 0
    [frozen] = await said(tmp_path, "document.frozen", "update.quarantined")
    assert frozen.data["before"] == before
    [problem] = (await check(tmp_path)).problems
    assert f"frozen before revision {before}" in problem


async def test_g4_a_logged_update_that_raises_freezes_its_document_without_a_restart(tmp_path: Path) -> None:
    before = await poisoned(tmp_path, CRASHES) + 1
    async with serving(tmp_path) as server, peer(server.url, NOTES, name="Ann") as ann:
        assert str(ann.text) == "one two "
        await ann.write("and ")
        assert f"frozen before revision {before}" in (await ann.expect(PermissionDenied)).reason
        assert await figure(server, "restarts") == 0


async def test_v4_a_projection_that_hangs_parks_that_event_at_the_restart_and_blames_no_edit(tmp_path: Path) -> None:
    chat = "/v1/spaces/demo/chat/messages?name=Ann"
    async with (
        ServerProcess(tmp_path, *SOON, module="tests.support.hanging") as server,
        httpx.AsyncClient(trust_env=False, base_url=server.url, timeout=PATIENCE) as http,
    ):
        began = time.monotonic()
        for body in ("before", POISON):
            with suppress(httpx.TransportError):  # it may hang before it has answered
                await http.post(chat, json={"body": body})
        restarts = 0.0
        while not restarts:
            with suppress(httpx.TransportError):  # of the process that is ended
                restarts = await figure(server, "restarts")
        other = (await http.post("/v1/spaces/other/chat/messages?name=Ann", json={"body": "after"})).json()
        read = await http.get(f"/v1/spaces/other/chat/messages?wait={other['position']}")
        assert [message["body"] for message in read.json()["messages"]] == ["after"]
        tell(f"hang of a projection: {time.monotonic() - began:.1f} s until the others' messages are read")
        assert await figure(server, "restarts") == 1
        assert await server.stop() == 0
    assert await said(tmp_path, "document.frozen", "update.quarantined") == []
    [problem] = (await check(tmp_path)).problems
    assert "projection chat_history: stopped for stream" in problem
    assert "this one stopped the server before" in problem


async def test_g4_the_doctor_names_poison_that_no_server_has_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "SECONDS", 1.0)
    before = await poisoned(tmp_path, HANGS)
    found = await check(tmp_path)
    [problem] = found.problems
    assert f"expected to replay its events, got revision {before + 1}: a worker" in problem
    assert "documents: 3 replayed" in found.facts


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_g4_a_process_that_is_stopped_or_killed_from_outside_is_replaced_and_nobody_is_blamed(
    tmp_path: Path, how: signal.Signals
) -> None:
    async with serving(tmp_path, *SOON) as server, browser() as node, typing(node, server.url, NOTES) as (ben, cara):
        await echo(ben, cara, "before")
        first = server.serving
        os.kill(first, how)
        tell(f"{how.name}: {await echo(ben, cara, 'after'):.1f} s to the next echo")
        assert server.serving != first
        assert await server.stop() == 0
    assert await said(tmp_path, "document.frozen", "update.quarantined") == []
    assert await logged_text(tmp_path, "text:notes") == "after before "


async def test_g4_a_supervisor_that_is_killed_leaves_nobody_who_holds_the_log(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        orphan = server.serving
        await server.kill()  # returns when nobody holds its stdout any more
        async with await Engine.open(tmp_path):
            assert not _runs(orphan)


def _runs(process: int) -> bool:
    """Not one that only waits to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
