"""A frozen document (G4): shown as it was before a revision, read-only, while everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pycrdt import Array, Text
from tests.support.live import Peer, assert_same, message

from maquette.engine.document import Document
from maquette.engine.engine import Engine
from maquette.engine.errors import DocumentFrozen, InvalidInput
from maquette.engine.events import SERVER, Actor, NewEvent
from maquette.engine.kinds.chat import MESSAGES
from maquette.engine.kinds.kind import plain
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.engine.testing.log_contract import collected

ADA = Actor("ada")
NOTES = "text:notes"
SAID = UUID(int=7)


def word(text: str) -> Callable[[Any], None]:
    def edit(doc: Any) -> None:
        doc.get("t", type=Text).insert(0, f"{text} ")

    return edit


def text_of(doc: Any) -> str:
    return str(doc.get("t", type=Text))


async def written(engine: Engine, words: str = "one two three") -> Space:
    """A space with a text document to which each of `words` was added by an op of its own."""
    space = await engine.create_space("t", "demo", ADA)
    for one in words.split():
        await space.write(NOTES, ADA, Role.EDITOR, word(one))
    return space


async def test_g4_a_frozen_document_shows_what_was_before_and_takes_no_edits() -> None:
    async with await Engine.open() as engine:
        space = await written(engine)
        record = space.record.documents[NOTES]
        await space.freeze(record, 1, 3, "its revision 3 stopped the server")
        document = await space.open(NOTES)
        assert text_of(document.replica.doc) == "two one "
        with pytest.raises(DocumentFrozen, match="frozen before revision 3: its revision 3 stopped the server"):
            await space.write(NOTES, ADA, Role.OWNER, word("four"))
        await space.write("text:other", ADA, Role.EDITOR, word("elsewhere"))
        assert await engine.log.revision(document.stream) == 3


async def test_g4_who_watches_when_a_document_is_frozen_is_shown_it_again_and_denied_with_the_reason() -> None:
    async with await Engine.open() as engine:
        space = await written(engine)
        live = await space.open(NOTES)
        peer = Peer("ben", 8).join(live)
        await space.freeze(space.record.documents[NOTES], 1, 3, "why")
        assert [type(error) for error in peer.errors] == [DocumentFrozen]
        frozen = await space.open(NOTES)
        assert frozen is not live
        assert peer.submit(frozen, frozen.replica.diff(b"\0")).denied is None, "what is known may come again"
        denied = peer.send(frozen).denied  # it has seen revision 3
        assert denied is not None
        assert denied.endswith("why")


async def test_g4_a_document_stays_frozen_over_a_restart_and_thaws_whole(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space = await written(engine)
        whole = (await space.open(NOTES)).replica
        await space.freeze(space.record.documents[NOTES], 1, 2, "why")
    async with await Engine.open(tmp_path) as engine:
        space = await engine.space("t", "demo")
        record = space.record.documents[NOTES]
        document = await space.open(NOTES)
        assert text_of(document.replica.doc) == "one "
        await space.thaw(ADA, record, 1)
        await space.thaw(ADA, record, 1)
        assert_same((await space.open(NOTES)).replica, whole)
        await space.write(NOTES, ADA, Role.EDITOR, word("four"))
        said = [event async for page in engine.log.read(space.record.stream) for event in page]
        assert [event.type for event in said[-2:]] == ["document.frozen", "document.thawed"]


async def test_g4_of_two_revisions_the_lower_counts_and_one_event_is_said_once() -> None:
    async with await Engine.open() as engine:
        space = await written(engine)
        record = space.record.documents[NOTES]
        for before in (3, 2, 3):
            await space.freeze(record, 1, before, f"before {before}", event=SAID if before == 2 else None)
        assert record.frozen[1].before == 2
        record.frozen.clear()  # as after a kill between the event and whatever remembers that it was said
        await space.freeze(record, 1, 2, "before 2", event=SAID)
        said = await collected(engine.log.read(space.record.stream))
        assert [event.data["before"] for event in said if event.type == "document.frozen"] == [3, 2]
        with pytest.raises(InvalidInput, match="a revision from 1"):
            await space.freeze(record, 1, 0, "why")


async def test_g4_history_before_the_freeze_can_be_read_and_later_is_told_why_not() -> None:
    async with await Engine.open() as engine:
        space = await written(engine)
        record = space.record.documents[NOTES]
        await space.freeze(record, 1, 3, "why")
        assert text_of((await engine.replica(space, record, 1)).doc) == "two one "
        assert text_of((await engine.replica(space, record, 1, revision=1)).doc) == "one "
        with pytest.raises(DocumentFrozen):
            await engine.replica(space, record, 1, revision=3)


async def test_g4_a_document_may_be_frozen_before_its_first_revision() -> None:
    async with await Engine.open() as engine:
        space = await written(engine)
        await space.freeze(space.record.documents[NOTES], 1, 1, "why")
        assert text_of((await space.open(NOTES)).replica.doc) == ""


# --- a conversation --------------------------------------------------------------------------------------------------


async def conversation(engine: Engine, *bodies: str) -> Space:
    space = await engine.create_space("t", "demo", ADA)
    for body in bodies:
        await space.write_chat(ADA, Role.EDITOR, lambda chat, said=body: chat.post(said))  # type: ignore[misc]  # bound
    return space


def bodies_of(document: Document) -> list[str]:
    return [message["body"] for message in plain(document.replica.doc.get(MESSAGES, type=Array))]


async def test_g4_a_conversation_whose_page_is_frozen_goes_on_in_a_new_one() -> None:
    async with await Engine.open() as engine:
        space = await conversation(engine, "one", "two")
        live = await space.open("chat")
        ben = Peer("ben", 8).join(live)
        await space.freeze(space.record.documents["chat"], 1, 2, "a test")
        assert ben.successors == ["chat@2"]
        await space.write_chat(ADA, Role.EDITOR, lambda chat: chat.post("three"))
        assert bodies_of(await space.open("chat")) == ["three"]
        assert bodies_of(await space.open("chat@1")) == ["one"]
        with pytest.raises(DocumentFrozen):
            await space.write_chat(ADA, Role.EDITOR, lambda chat: chat.post("four"), page="chat@1")


async def test_g4_whoever_wrote_into_a_page_is_known_to_hold_it_also_behind_the_freeze() -> None:
    async with await Engine.open() as engine:
        space = await conversation(engine, "one")
        live = await space.open("chat")
        cat = Peer("cat", 9).join(live)
        cat.messages.append(message("m", "cat"))
        await cat.send(live).wait()
        engine.evict_idle(0)
        record = space.record.documents["chat"]
        await space.freeze(record, 1, 2, "a test")
        assert {9, *live.replica.index.clients} == set(record.before(2))


async def test_g4_a_page_that_was_frozen_by_a_process_which_died_then_is_turned_by_the_next(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        space = await conversation(engine, "one")
        record = space.record.documents["chat"]
        data = {"document": record.id, "epoch": 1, "before": 1, "reason": "a test"}
        await space._record([NewEvent("document.frozen", SERVER, data)])
    async with await Engine.open(tmp_path) as engine:
        space = await engine.space("t", "demo")
        assert space.record.documents["chat"].current == 2
        await space.write_chat(ADA, Role.EDITOR, lambda chat: chat.post("two"))


async def test_g4_a_page_that_is_thawed_is_an_older_page_like_others() -> None:
    async with await Engine.open() as engine:
        space = await conversation(engine, "one", "two")
        record = space.record.documents["chat"]
        await space.freeze(record, 1, 2, "a test")
        await space.thaw(ADA, record, 1)
        await space.write_chat(ADA, Role.EDITOR, lambda chat: chat.post("late"), page="chat@1")
        assert bodies_of(await space.open("chat@1")) == ["one", "two", "late"]
        assert record.current == 2
