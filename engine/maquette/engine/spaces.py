"""Spaces and the documents in them, folded from their own streams.

`tenant` is the stream of a tenant's directory: which spaces there are, under which slugs.
`tenant/space` is the stream of a space: its documents with their epochs, and the names of people in it.

Rule 1: streams are made of opaque ids only. Names and slugs are in the data of events, which erasure can blank (L8).
Rule 2: the newest epoch of a document is the one behind its bare name; `name@epoch` names one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from maquette.engine.errors import InvalidInput, NotFound
from maquette.engine.events import Event
from maquette.engine.kinds.chat import CHAT
from maquette.engine.kinds.kind import Kind
from maquette.engine.kinds.scene import SCENE
from maquette.engine.kinds.text import TEXT
from maquette.engine.members import Members
from maquette.engine.quarantine import Quarantine

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (CHAT, SCENE, TEXT)}
FIXED = ("chat", "scene")
"""The documents that every space has from the start, by name, id and kind in one."""

IRC = "irc"
"""`source` of a `profile.named` that stands for a nick."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"(?P<name>chat|scene|text:[^/@\s\x00-\x1f]{1,100})(?:@(?P<epoch>[1-9][0-9]{0,8}))?")


def check_slug(slug: str) -> str:
    """`slug` when it can name a space in URLs. Raises InvalidInput."""
    if not _SLUG.fullmatch(slug):
        raise InvalidInput(f"space: expected 1 to 63 of a-z, 0-9 and '-', not first a '-', got {slug!r:.80}")
    return slug


def check_tenant(tenant: str) -> str:
    """`tenant` when it can be a tenant's id. Raises InvalidInput."""
    if not _TENANT.fullmatch(tenant):
        raise InvalidInput(f"tenant: expected 1 to 64 characters of [A-Za-z0-9_-], got {tenant!r:.80}")
    return tenant


@dataclass(frozen=True, slots=True)
class DocumentName:
    """A document as people name it: `chat`, `scene@2`, `text:notes`. `epoch` is None for the current one."""

    name: str
    epoch: int | None

    @classmethod
    def parse(cls, text: str) -> DocumentName:
        """Raises NotFound: a name that cannot be is one that does not exist."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise NotFound("document called chat, scene or text:NAME", text)
        epoch = match["epoch"]
        return cls(match["name"], int(epoch) if epoch else None)

    @property
    def kind(self) -> Kind:
        """Told by the name."""
        return KINDS[self.name.partition(":")[0]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of a document. `before` are the client ids of the epoch before: whoever knows them is late (D9)."""

    number: int
    before: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Frozen:
    """An epoch that is shown as it was before the revision `before`, read-only, and why (G4).

    `times`: how often it was frozen, further back each time, since it was thawed.
    """

    before: int
    reason: str
    times: int = 1


@dataclass(slots=True)
class DocumentRecord:
    """A document of a space. `closed` holds the epochs that take no more writes, each with the reason; `frozen` those
    that a later revision would harm."""

    id: str
    kind: Kind
    name: str
    epochs: list[Epoch] = field(default_factory=list)
    closed: dict[int, str] = field(default_factory=dict)
    frozen: dict[int, Frozen] = field(default_factory=dict)
    quarantined: dict[int, Quarantine] = field(default_factory=dict)

    @property
    def current(self) -> int:
        return self.epochs[-1].number

    @property
    def over(self) -> list[int]:
        """The epochs that are over and still take late edits, the oldest first."""
        return [one.number for one in self.epochs[:-1] if one.number not in self.closed]

    def behind(self, epoch: int) -> int:
        """The epoch that followed `epoch`, which is over."""
        return next(one.number for one in self.epochs if one.number > epoch)

    def has(self, epoch: int) -> bool:
        return any(one.number == epoch for one in self.epochs)

    def freeze(self, epoch: int, before: int, reason: str) -> None:
        """Fold one `document.frozen`."""
        frozen = self.frozen.get(epoch)
        self.frozen[epoch] = Frozen(before, reason, 1 if frozen is None else frozen.times + 1)

    def thaw(self, epoch: int) -> None:
        """Fold one `document.thawed`: its quarantine ends too."""
        self.frozen.pop(epoch, None)
        self.quarantined.pop(epoch, None)

    def before(self, epoch: int) -> frozenset[int]:
        """The client ids of all epochs before `epoch`."""
        return frozenset().union(*(one.before for one in self.epochs if one.number <= epoch))


@dataclass(slots=True)
class TenantRecord:
    """A tenant's directory: slug → space id, each way."""

    revision: int = 0
    spaces: dict[str, str] = field(default_factory=dict)
    slugs: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Fold one event of the tenant's stream."""
        self.revision = event.revision
        if event.type in ("space.created", "space.renamed"):
            space, slug = event.data["space"], event.data["slug"]
            self.spaces.pop(self.slugs.get(space, ""), None)
            self.spaces[slug], self.slugs[space] = space, slug


@dataclass(slots=True)
class SpaceRecord:
    """A space: its documents by name, its people's display names, and which restores it went through.

    `nicks` holds the authors that logs of IRC brought, by nick: a later log posts for them again, and must not take
    somebody else of that name for one of them.
    """

    tenant: str
    id: str
    revision: int = 0
    name: str = ""
    documents: dict[str, DocumentRecord] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    nicks: dict[str, str] = field(default_factory=dict)
    restores: set[str] = field(default_factory=set)
    members: Members = field(default_factory=Members)

    @property
    def stream(self) -> str:
        return f"{self.tenant}/{self.id}"

    def document(self, document: str) -> DocumentRecord:
        """The document with this id, whatever its name."""
        return next(one for one in self.documents.values() if one.id == document)

    def document_stream(self, record: DocumentRecord, epoch: int) -> str:
        return f"{self.stream}/{record.id}@{epoch}"

    def take(self, event: Event) -> None:
        """Fold one event of the space's stream."""
        self.revision = event.revision
        data = event.data
        match event.type:
            case "space.named":
                self.name = data["name"]
            case "document.opened":
                name = data.get("name", data["document"])
                record = self.documents.setdefault(name, DocumentRecord(data["document"], KINDS[data["kind"]], name))
                if not record.has(data["epoch"]):  # the stream of a rewritten epoch has told it before
                    record.epochs.append(Epoch(data["epoch"], frozenset(data.get("clients", ()))))
            case "document.closed":
                self.document(data["document"]).closed[data["epoch"]] = data["reason"]
            case "document.frozen":
                self.document(data["document"]).freeze(data["epoch"], data["before"], data["reason"])
            case "update.quarantined":
                quarantined = self.document(data["document"]).quarantined
                quarantine = quarantined.setdefault(data["epoch"], Quarantine())
                quarantine.take(data["digest"], data["size"], data["actor"])
            case "document.thawed":
                self.document(data["document"]).thaw(data["epoch"])
            case "profile.named":
                self.profiles[data["id"]] = data["name"]
                if data.get("source") == IRC:
                    self.nicks[data["name"]] = data["id"]
            case type_ if type_.startswith("member."):
                self.members.take(event)
            case "space.restored":
                self.restores.add(data["mark"])
            case _:
                pass  # other rooms of the house keep events here too
