"""Members over HTTP, and what a change of theirs does to connections that are open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api
from tests.support.peer import Peer, peer
from tests.support.server import LocalServer, ServerProcess, local_server
from tests.support.tabs import browser
from typer.testing import CliRunner

from maquette.client import NotAdmitted, RemoteMembers
from maquette.engine.engine import Engine
from maquette.engine.members import BanMember, MemberChange, RemoveMember, SetMember
from maquette.engine.roles import Role
from maquette.engine.sync import PermissionDenied, SyncStep1, SyncUpdate, write_frame
from maquette.server.commandline import app
from maquette.server.running import operator

NOTES = "demo/text:notes"
AT_ONCE = 1.0  # seconds (G3)


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with local_server() as one:
        yield one


async def change(server: LocalServer, member: MemberChange) -> None:
    space = await server.engine.space("dev", "demo")
    await space.change_member(operator(server.engine.node), Role.OWNER, member)


def actor(one: Peer, server: LocalServer, name: str) -> str:
    """The actor id of the visitor called `name`."""
    [found] = {connection.session.actor.id for connection in server.hub.connections if connection.session.name == name}
    return found


# --- over HTTP -------------------------------------------------------------------------------------------------------


async def test_g3_owners_set_roles_which_count_in_the_next_request(api: Api) -> None:
    demo = await api.space()
    await api.refused(403, "POST", f"{demo}/chat/messages", {"body": "x"}, sub="ben", role="viewer")
    said = await api.done("PUT", f"{demo}/members/ben", {"role": "commenter"})
    assert said == {"actor": "ben", "name": None, "role": "commenter", "removed": False, "banned": None}
    await api.done("POST", f"{demo}/chat/messages", {"body": "x"}, sub="ben", role="viewer")
    assert (await api.done("GET", demo, sub="ben", roles={}))["role"] == "commenter"
    await api.done("PUT", f"{demo}/members/ben", {"role": "viewer"})
    await api.refused(403, "POST", f"{demo}/chat/messages", {"body": "x"}, sub="ben", role="owner")


async def test_g3_who_was_removed_is_told_so_and_others_learn_nothing(api: Api) -> None:
    demo = await api.space()
    await api.done("DELETE", f"{demo}/members/ben")
    said = await api.refused(403, "GET", demo, sub="ben")
    assert said["detail"] == "expected a member of the space, 'ben' was removed"
    assert (await api.done("GET", "/spaces", sub="ben"))["spaces"] == []
    await api.refused(404, "GET", demo, sub="cy", roles={})
    await api.refused(404, "GET", demo, sub="ben", tenant="t2")
    await api.done("PUT", f"{demo}/members/ben", {"role": "editor"})
    assert (await api.done("GET", demo, sub="ben", roles={}))["role"] == "editor"


async def test_g3_moderators_ban_for_a_time_and_say_why(api: Api) -> None:
    demo, until = await api.space(), time.time_ns() // 1_000_000 + 60_000
    ban = {"until": until, "reason": "spam"}
    said = await api.done("PUT", f"{demo}/members/ben/ban", ban, sub="mod", role="moderator")
    assert said["banned"] == {"by": "mod", "rank": "moderator", **ban}
    assert "banned" in (why := (await api.refused(403, "GET", demo, sub="ben", role="editor"))["detail"])
    assert ("spam" in why, str(until) in why) == (True, True)
    assert (await api.done("GET", demo, sub="ben", role="owner"))["role"] == "owner"  # above who banned
    listed = (await api.done("GET", f"{demo}/members", role="moderator"))["members"]
    assert [one["actor"] for one in listed] == ["ben"]
    assert (await api.done("DELETE", f"{demo}/members/ben/ban", sub="mod", role="moderator"))["banned"] is None
    await api.done("GET", demo, sub="ben", role="editor")
    await api.refused(404, "DELETE", f"{demo}/members/ben/ban")


async def test_g3_a_ban_ends_with_its_time(api: Api) -> None:
    demo, now = await api.space(), 1_000_000
    api.engine.clock = lambda: now
    await api.done("PUT", f"{demo}/members/ben/ban", {"until": now + 5})
    await api.refused(403, "GET", demo, sub="ben", role="editor")
    now += 5
    await api.done("GET", demo, sub="ben", role="editor")
    assert [one["banned"] for one in (await api.done("GET", f"{demo}/members"))["members"]] == [None]


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("GET", "", None, "moderator"),
        ("PUT", "/ben", {"role": "editor"}, "owner"),
        ("DELETE", "/ben", None, "owner"),
        ("PUT", "/ben/ban", {}, "moderator"),
        ("DELETE", "/ben/ban", None, "moderator"),
    ],
)
async def test_g3_below_the_role_nothing_of_members_is_seen_or_changed(
    api: Api, method: str, path: str, body: Any, least: str
) -> None:
    demo = await api.space()
    below = Role(Role.parse(least) - 1).name.lower()
    said = await api.refused(403, method, f"{demo}/members{path}", body, sub="eve", role=below)
    assert f"expected a role of {least} or above" in said["detail"]
    assert (await api.done("GET", f"{demo}/members"))["members"] == []


async def test_what_is_no_member_is_422(api: Api) -> None:
    demo = await api.space()
    for path, body in (("/no%20id", {"role": "editor"}), ("/ben", {"role": "king"}), ("/ben/ban", {"until": 1})):
        await api.refused(422, "PUT", f"{demo}/members{path}", body)
    await api.refused(403, "DELETE", f"{demo}/members/ann")  # the owner who asks, and no other is known


async def test_g3_an_op_over_http_is_judged_by_the_role_of_its_judgement(api: Api) -> None:
    """The role changes between the request's arrival and the writing."""
    demo = await api.space()
    space = await api.engine.space("t1", "demo")
    name_profile = space.name_profile

    async def meanwhile(*args: Any) -> None:
        await name_profile(*args)
        await space.change_member(operator(api.engine.node), Role.OWNER, RemoveMember("ben"))

    space.name_profile = meanwhile  # type: ignore[method-assign,assignment]  # the moment between
    said = await api.refused(403, "POST", f"{demo}/chat/messages", {"body": "x"}, sub="ben", role="editor")
    assert "'ben' was removed or banned" in said["detail"]
    assert (await api.done("GET", f"{demo}/chat/messages"))["messages"] == []


# --- open connections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept_out", [RemoveMember, BanMember])
async def test_g3_who_is_removed_or_banned_is_closed_at_once_and_stays_out(server: LocalServer, kept_out: Any) -> None:
    async with (
        peer(server.url, NOTES, name="Ann") as ann,
        peer(server.url, NOTES, name="Ben") as ben,
        peer(server.url, "demo/chat", name="Ben") as other,
    ):
        await change(server, kept_out(actor(ben, server, "Ben")))
        async with asyncio.timeout(AT_ONCE):
            assert [(await one.end())[0] for one in (ben, other)] == [4403, 4403]
        assert ("removed" if kept_out is RemoveMember else "banned") in (ben.socket.close_reason or "")
        async with peer(server.url, NOTES, name="Ben", sync=False) as again:
            assert (await again.end())[0] == 4403
        await ann.write("still here")
        await ann.until_text("still here")


async def test_g3_a_lowered_role_is_told_at_once_and_what_is_on_its_way_closes_nothing(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        await change(server, SetMember(actor(ben, server, "Ben"), Role.COMMENTER))
        for text in "abc":
            await ben.write(text)
        async with asyncio.timeout(AT_ONCE):
            assert "got commenter" in (await ben.expect(PermissionDenied)).reason
        await ann.write("x")
        await ben.until(lambda: "x" in str(ben.text))
        assert ben.socket.close_code is None
        assert str(ann.text) == "x"


async def test_g3_a_raised_role_brings_what_was_written_meanwhile(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        who = actor(ben, server, "Ben")
        await change(server, SetMember(who, Role.VIEWER))
        await ben.expect(PermissionDenied)
        await ben.write("a")
        await ann.write("b")
        await ben.until(lambda: "b" in str(ben.text))
        await change(server, SetMember(who, Role.EDITOR))
        async with asyncio.timeout(AT_ONCE):
            await ben.expect(SyncStep1)
            await ann.until(lambda: sorted(str(ann.text)) == ["a", "b"])
        await ben.write("c")
        await ann.until(lambda: sorted(str(ann.text)) == ["a", "b", "c"])


async def test_g3_an_op_that_came_before_a_removal_is_stored_and_the_next_is_not(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann") as ann, peer(server.url, NOTES, name="Ben") as ben:
        await ben.write("before")
        await ann.until_text("before")
        [connection] = (one for one in server.hub.connections if one.session.name == "Ben")
        await change(server, RemoveMember(connection.session.actor.id))
        connection.receive(write_frame(SyncUpdate(ben.change(lambda: ben.text.insert(0, "after ")))))
        assert (await ben.end())[0] == 4403
        async with peer(server.url, NOTES, name="Cat") as cat:
            assert str(cat.text) == "before"


async def test_g3_stock_clients_are_closed_or_made_readers_within_a_second(server: LocalServer) -> None:
    insert, text = "doc.getText('text').insert(0, %r)", "doc.getText('text').toString()"
    async with browser() as node:
        ann = await node.open(server.url, NOTES, tab="ann", name="Ann")
        ben = await node.open(server.url, NOTES, tab="ben", name="Ben")
        for tab in (ann, ben):
            await tab.wait("provider.synced && awareness.getLocalState().actor")
        who = (await ben.run("return awareness.getLocalState().actor"))["id"]
        await change(server, SetMember(who, Role.VIEWER))
        await ann.run(insert % "seen behind it ")
        async with asyncio.timeout(AT_ONCE):
            await ben.wait(f"{text} === 'seen behind it ' && tab.warnings.length === 1")
        await change(server, SetMember(who, Role.EDITOR))
        await ben.run(insert % "again")
        await ann.wait(f"{text} === 'againseen behind it '")
        await change(server, BanMember(who, reason="spam"))
        async with asyncio.timeout(AT_ONCE):
            await ben.wait("!provider.wsconnected")
        await ann.run(insert % "on ")
        await ann.wait(f"{text} === 'on againseen behind it '")


# --- client and command line -----------------------------------------------------------------------------------------


async def test_the_python_client_changes_members(server: LocalServer) -> None:
    async with peer(server.url, NOTES, name="Ann"):
        pass
    async with RemoteMembers(server.url, "demo", token=server.token("owner", "owner")) as members:
        await members.set("ben", "editor")
        await members.ban("cy", reason="spam")
        assert [(one["actor"], one["role"]) for one in await members.list()] == [("ben", "editor"), ("cy", None)]
        await members.unban("cy")
        await members.remove("ben")
        assert [(one["actor"], one["removed"]) for one in await members.list()] == [("ben", True)]
    async with RemoteMembers(server.url, "demo", token=server.token("eve")) as members:
        with pytest.raises(NotAdmitted, match=r"403.*expected a role of moderator"):
            await members.list()


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["members", "demo", "--tenant", "dev", "--data", str(folder), *arguments])
    return done.exit_code, done.stdout, done.stderr


async def test_members_on_the_command_line_with_and_without_a_server(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        await engine.create_space("dev", "demo", operator(engine.node))
    assert await asyncio.to_thread(command, tmp_path, "--set", "ada=editor") == (0, "", "")
    async with ServerProcess(tmp_path) as process:
        for change in (["--ban", "ben", "--for", "1h", "--reason", "spam"], ["--remove", "ada"]):
            code, _, told = await asyncio.to_thread(command, tmp_path, *change)
            assert (code, "through the server" in told) == (0, True)
        async with peer(process.url, NOTES, name="Ann"):
            pass
    code, listed, _ = await asyncio.to_thread(command, tmp_path, "--json")
    rows = [json.loads(line) for line in listed.splitlines()]
    assert (code, [(row["actor"], row["role"]) for row in rows]) == (0, [("ada", "removed"), ("ben", None)])
    assert "spam" in rows[1]["banned"]
    assert (await asyncio.to_thread(command, tmp_path))[1].splitlines()[0].split() == ["ID", "NAME", "ROLE", "BANNED"]
    for wrong in (["--set", "ada"], ["--set", "ada=king"], ["--set", "a=editor", "--ban", "b"], ["--for", "1h"]):
        assert (await asyncio.to_thread(command, tmp_path, *wrong))[0] == 2
