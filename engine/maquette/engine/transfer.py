"""Files into a space and out of it, through the gate like everybody.

Rule 1: a file is read and judged whole before its first op; one that cannot be taken leaves nothing in the space.
Rule 2: ops are of bounded size, so that others edit on while a large file comes in. What breaks off in between (a full
        disk, a kill) leaves whole ops; a chat that is imported again takes what is missing.
Rule 3: what an import leaves out is told in its report.
Rule 4: an export holds what is on disk in the log, and appears under its name whole or not at all.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from maquette.engine.chat_import import check_irc, check_jsonl, import_irc, import_jsonl
from maquette.engine.errors import InvalidInput, OpRefused
from maquette.engine.events import Actor
from maquette.engine.exports import chat_lines, export_chat, export_scene, scene_glb
from maquette.engine.gate import IMPORT
from maquette.engine.reports import Progress, Report, quiet
from maquette.engine.roles import Role
from maquette.engine.scene.gltf_file import MAGIC
from maquette.engine.scene_import import check_scene, import_scene
from maquette.engine.space import Space
from maquette.engine.transcripts.irc import day_in_name

__all__ = [
    "Progress",
    "Report",
    "Source",
    "chat_lines",
    "check_file",
    "export_chat",
    "export_scene",
    "import_file",
    "kind_of",
    "scene_glb",
]

Source = Path | BinaryIO | bytes
"""A file: its path, a stream (read from where it is), or its content."""

Kind = Literal["scene", "irc", "jsonl"]

SNIFFED = 4_096  # bytes: more than any line of an IRC log has
_SUFFIXES: dict[str, Kind] = {
    ".glb": "scene", ".gltf": "scene", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "irc", ".log": "irc"
}  # fmt: skip
_ROLES: dict[Kind, Role] = {"scene": Role.EDITOR, "irc": Role.OWNER, "jsonl": Role.OWNER}
"""A chat is imported in the name of others, which only an owner may."""


async def import_file(
    space: Space,
    source: Source,
    filename: str,
    actor: Actor,
    role: Role,
    progress: Progress = quiet,
    *,
    day: date | None = None,
) -> Report:
    """Take a file into `space` as `actor`: GLB or glTF into the scene, an IRC log or JSON Lines into the chat.

    `filename` and the first bytes tell what it is. `day` is that of an IRC log; without it, its name ends in the day.
    `progress` is told (phase, done, total). Raises InvalidInput for a file that cannot be taken (GltfError for a
    scene), OpRefused when `role` does not suffice, LogError and AssetUnwritable when the disk does not take it.
    """
    name = PurePath(filename).name
    with _opened(source) as file:
        kind = kind_of(name, _peek(file))
        if role < _ROLES[kind]:
            needed, given = _ROLES[kind].name.lower(), role.name.lower()
            raise OpRefused([f"import of {name!r}: expected a role of {needed} or above, got {given}"])
        actor = replace(actor, via=IMPORT)
        async with space.importing:
            match kind:
                case "scene":
                    return await import_scene(space, file, name, actor, role, progress)
                case "irc":
                    return await import_irc(space, file, name, actor, role, progress, day or day_in_name(name))
                case "jsonl":
                    return await import_jsonl(space, file, name, actor, role, progress)


def check_file(source: Source, filename: str, *, day: date | None = None) -> None:
    """Read a file as `import_file` does, into no space. Raises InvalidInput for one that no space would take."""
    name = PurePath(filename).name
    with _opened(source) as file:
        match kind_of(name, _peek(file)):
            case "scene":
                check_scene(file)
            case "irc":
                check_irc(file, name, day or day_in_name(name))
            case "jsonl":
                check_jsonl(file, name)


def kind_of(filename: str, start: bytes) -> Kind:
    """What a file is, by its name and its first bytes. Raises InvalidInput when neither tells."""
    if start.startswith(MAGIC):
        return "scene"
    kind = _SUFFIXES.get(PurePath(filename).suffix.lower())
    if kind is not None:
        return kind
    content = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if content.startswith(b"{"):
        return "scene" if b'"asset"' in start and b'"author"' not in start else "jsonl"
    if content.startswith((b"[", b"===")):
        return "irc"
    raise InvalidInput(f"import: expected a .glb, .gltf, .jsonl or IRC .txt file, got {filename!r}")


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """`source` as a stream that can be read twice."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise InvalidInput(f"import: expected a readable file, got {error}") from error
        with file:
            yield file
    elif source.seekable():
        yield source
    else:
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(source, spool)
            spool.seek(0)
            yield spool


def _peek(file: BinaryIO) -> bytes:
    place = file.tell()
    start = file.read(SNIFFED)
    file.seek(place)
    return start
