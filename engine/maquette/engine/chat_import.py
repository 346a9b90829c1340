"""Chats of other systems into the chat of a space.

Rule 1: the file is read twice: once to judge every line and to learn who and what is in it, once to post. A file most
        of whose lines cannot be read is another kind of file, and is refused whole.
Rule 2: a message that the conversation holds already is not posted again. Ids of JSON Lines are kept; the id of a line
        of an IRC log is derived from the line, under the node's secret so that nobody can guess words from ids.
Rule 3: pages turn where they would have turned: at most as many messages are posted as the page still takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, BinaryIO

import pycrdt

from maquette.engine.checks import plain
from maquette.engine.document import Document
from maquette.engine.errors import InvalidInput, MaquetteError, SchemaError
from maquette.engine.events import Actor
from maquette.engine.ids import check_id
from maquette.engine.kinds.chat import MAX_ATTACHMENTS, ChatMemory, bad_value, is_emoji
from maquette.engine.nicks import Nicks
from maquette.engine.reports import Notes, Progress, Report
from maquette.engine.roles import Role
from maquette.engine.space import Space
from maquette.engine.spaces import IRC
from maquette.engine.transcripts.irc import read_irc
from maquette.engine.transcripts.jsonl import Numbered, Record, own_id, read_jsonl
from maquette.engine.transcripts.lines import BadLine
from maquette.engine.writers.chat import ChatWriter

MOST_MESSAGES = 100
"""Messages of one op. The serving thread stood still for 59 ms with 100 and for 188 ms with 500."""

MOST_BYTES = 1 << 20
"""Bytes of the bodies of one op; the gate takes updates of eight times that (`Limits.bytes`)."""

Lines = Callable[[], Iterator[Numbered | BadLine]]
"""Reads the file from its beginning."""


async def import_irc(
    space: Space, file: BinaryIO, name: str, actor: Actor, role: Role, progress: Progress, day: date
) -> Report:
    """Take the log of an IRC channel, whose first line is of `day` (UTC), into the chat of `space`.

    Each nick becomes an author with a profile, the same one in each log that comes into the space. Joins, parts,
    renames and the server's notices become messages with `notice`, by the nick that they are about; a rename mentions
    the new nick's author, which is how the two are linked. An action becomes `/me …`.
    """
    nicks = Nicks(space.record.nicks, space.engine.node, space.id)
    chat = _Chat(name, IRC, _irc_lines(file, day, nicks))
    report = await _ChatImport(space, chat, actor, role, progress, nicks.names).run()
    return replace(report, warnings=(*report.warnings, *nicks.warnings()))


async def import_jsonl(space: Space, file: BinaryIO, name: str, actor: Actor, role: Role, progress: Progress) -> Report:
    """Take JSON Lines (`transcripts.jsonl`) into the chat of `space`: ids, authors, times, threads, reactions kept."""
    return await _ChatImport(space, _Chat(name, "jsonl", _json_lines(file)), actor, role, progress, {}).run()


def check_irc(file: BinaryIO, name: str, day: date) -> None:
    """Read what `import_irc` would take. Raises InvalidInput when it would refuse it."""
    _Chat(name, IRC, _irc_lines(file, day, Nicks({}, b"", ""))).survey()


def check_jsonl(file: BinaryIO, name: str) -> None:
    """Read what `import_jsonl` would take. Raises InvalidInput when it would refuse it."""
    _Chat(name, "jsonl", _json_lines(file)).survey()


def _irc_lines(file: BinaryIO, day: date, nicks: Nicks) -> Lines:
    start = file.tell()

    def lines() -> Iterator[Numbered | BadLine]:
        file.seek(start)
        for line in read_irc(file, day):
            if isinstance(line, BadLine):
                yield line
            elif line.kind != "blank":
                yield Numbered(line.number, nicks.record(line))

    return lines


def _json_lines(file: BinaryIO) -> Lines:
    start = file.tell()

    def lines() -> Iterator[Numbered | BadLine]:
        file.seek(start)
        for line in read_jsonl(file):
            yield line if isinstance(line, BadLine) else replace(line, record=_with_own_ids(line.record))

    return lines


@dataclass(slots=True)
class _Survey:
    """What the first reading of a file found. `ids` are those of its messages, `names` of its people."""

    read: int = 0
    ids: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    renamed: Notes = field(default_factory=Notes)
    extras: dict[str, int] = field(default_factory=dict)
    errors: Notes = field(default_factory=Notes)
    notices: int = 0

    def take(self, line: Numbered) -> None:
        record = line.record
        self.read += 1
        self.ids.add(record.id)
        self.notices += record.notice
        if record.name is not None and self.names.setdefault(record.author, record.name) != record.name:
            self.renamed.add(f"line {line.number}: author {record.author!r} has another name here, the first is kept")
        for key in record.extras:
            self.extras[key] = self.extras.get(key, 0) + 1


@dataclass(frozen=True, slots=True)
class _Chat:
    """A file: its name, what kind of chat it is, and its lines."""

    name: str
    kind: str
    lines: Lines

    def survey(self) -> _Survey:
        """What is in it. Raises InvalidInput when most of it cannot be read (rule 1)."""
        survey = _Survey()
        for line in self.judged():
            if isinstance(line, BadLine):
                survey.errors.add(line)
            else:
                survey.take(line)
        if survey.read <= survey.errors.count:
            first = next(iter(survey.errors.kept()), "the file is empty")
            total = survey.read + survey.errors.count
            raise InvalidInput(
                f"{self.name}: expected a chat ({self.kind}), got {survey.errors.count} of {total} lines "
                f"that cannot be read: {first}"
            )
        return survey

    def judged(self) -> Iterator[Numbered | BadLine]:
        """Each line, judged as the gate will judge it."""
        seen: set[str] = set()
        for line in self.lines():
            if isinstance(line, BadLine):
                yield line
            elif line.record.id in seen:
                yield BadLine(line.number, "a message id once", f"{line.record.id!r} again")
            elif (reason := _misfit(line.record)) is not None:
                yield BadLine(line.number, "a message that fits", reason)
            else:
                seen.add(line.record.id)
                yield line


class _ChatImport:
    def __init__(
        self,
        space: Space,
        chat: _Chat,
        actor: Actor,
        role: Role,
        progress: Progress,
        names: Mapping[str, str],
    ) -> None:
        self._space = space
        self._chat = chat
        self._actor = actor
        self._role = role
        self._progress = progress
        self._names = names
        self._posted = 0

    async def run(self) -> Report:
        self._progress("read", 0, 1)
        survey = await self._space.engine.convert(self._space, self._chat.kind, self._chat.survey)
        self._progress("read", 1, 1)
        known = await self._known(survey.ids)
        total = survey.read - len(known)
        try:
            kept = await self._name_people(survey.names | dict(self._names))
            for batch in _batches(self._new(known)):
                await self._post(batch, total)
        except MaquetteError as error:
            error.add_note(f"{self._posted} of {total} messages were stored before; importing again adds the rest")
            raise
        return self._report(survey, len(known), kept)

    # --- reading -----------------------------------------------------------------------------------------------

    def _new(self, known: set[str]) -> Iterator[Record]:
        for line in self._chat.judged():
            if isinstance(line, Numbered) and line.record.id not in known:
                yield line.record

    async def _known(self, ids: set[str]) -> set[str]:
        """Those of `ids` that the conversation holds already, on any of its pages."""
        found: set[str] = set()
        record = self._space.record.documents["chat"]
        for done, epoch in enumerate(record.epochs):
            self._progress("pages", done, len(record.epochs))
            replica = await self._space.engine.replica(self._space, record, epoch.number)
            found |= ids & _memory(replica.memory).ids
        return found

    # --- writing -----------------------------------------------------------------------------------------------

    async def _name_people(self, names: dict[str, str]) -> int:
        """Name those who have no name in the space yet; how many had another one, which they keep."""
        profiles = self._space.record.profiles
        new = {author: name for author, name in names.items() if author not in profiles}
        await self._space.name_profiles(self._actor, new, IRC if self._chat.kind == IRC else None)
        return sum(profiles[author] != name for author, name in names.items())

    async def _post(self, batch: Sequence[Record], total: int) -> None:
        while batch:
            document = await self._page()
            room = _memory(document.replica.memory).room
            part, batch = batch[:room], batch[room:]
            self._progress("chat", self._posted, total)
            await self._space.engine.pens(document).write(self._actor, self._role, self._posting(part))
            self._posted += len(part)
        self._progress("chat", self._posted, total)

    async def _page(self) -> Document:
        """The current page, turned first when it is full (rule 3)."""
        while True:
            found = await self._space.resolve("chat")
            document = await self._space.open_resolved(found)
            if not document.replica.is_full():
                return document
            await self._space.turn_page(found.record, found.epoch, document)
            self._space.engine.release(document)

    def _posting(self, records: Sequence[Record]) -> Callable[[pycrdt.Doc[Any]], None]:
        def post(doc: pycrdt.Doc[Any]) -> None:
            writer = ChatWriter(doc, self._actor.id, self._space.engine.clock)
            for record in records:
                _write(writer, record)

        return post

    # --- telling -----------------------------------------------------------------------------------------------

    def _report(self, survey: _Survey, known: int, kept_names: int) -> Report:
        warnings = list(survey.renamed.kept())
        if known:
            warnings.append(f"{known} messages are in the conversation already and were not posted again")
        if kept_names:
            warnings.append(f"{kept_names} authors have another name in the space, which they keep")
        for key, times in sorted(survey.extras.items()):
            warnings.append(f"field {key!r:.80} of {times} messages has no place in a chat and was left out")
        counts = {
            "messages": self._posted,
            "known": known,
            "notices": survey.notices,
            "authors": len(survey.names),
            "left_out": survey.errors.count,
        }
        return Report(self._chat.name, self._chat.kind, counts, tuple(warnings), survey.errors.kept())


def _memory(memory: object) -> ChatMemory:
    assert isinstance(memory, ChatMemory)
    return memory


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        weight = len(record.body.encode()) + sum(len(repr(item)) for item in record.attachments)
        if batch and (len(batch) == MOST_MESSAGES or size + weight > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += weight
    if batch:
        yield batch


def _write(writer: ChatWriter, record: Record) -> None:
    writer.post(
        record.body,
        id=record.id,
        author=record.author,
        sent=record.sent,
        thread=record.thread,
        mentions=record.mentions,
        attachments=record.attachments,
        notice=record.notice,
        edited=record.edited,
        deleted=record.deleted,
        reactions=record.reactions,
    )


def _with_own_ids(record: Record) -> Record:
    return replace(
        record,
        id=own_id(record.id),
        author=own_id(record.author),
        thread=None if record.thread is None else own_id(record.thread),
        mentions=tuple(map(own_id, record.mentions)),
        deleted=None if record.deleted is None else (own_id(record.deleted[0]), record.deleted[1]),
        reactions={emoji: tuple(map(own_id, actors)) for emoji, actors in record.reactions.items()},
    )


def _misfit(record: Record) -> str | None:
    """Why the gate would not take the message."""
    try:
        check_id(record.id, "id")
        plain(MAX_ATTACHMENTS)(list(record.attachments), "attachments")
    except (InvalidInput, SchemaError) as error:
        return str(error)
    for emoji in record.reactions:
        if not is_emoji(emoji):
            return f"reactions: expected an emoji, got {emoji!r:.80}"
    values = {"body": record.body, "mentions": list(record.mentions), "attachments": list(record.attachments)}
    return next(filter(None, (bad_value(key, value) for key, value in values.items())), None)
