"""Text documents: any Yjs content, no schema. For notes, and for applications that bring their own.

Rule 1: whoever may edit, may edit all of it; nothing is refused for its content.
Rule 2: changes tell which roots an op touched, no more: the meaning is the application's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maquette.engine.edits import Edit
from maquette.engine.index import Index
from maquette.engine.kinds.kind import Change, Kind, Op, Register, Verdict, View
from maquette.engine.roles import Role


class TextMemory:
    """A text document remembers nothing."""

    def judge(self, op: Op, edits: Sequence[Edit], view: View) -> list[Verdict]:
        return []

    def learn(self, edits: Sequence[Edit]) -> None:
        pass

    def settle(self, edits: Sequence[Edit], changes: Sequence[Change], actor: str) -> None:
        pass

    def finish(self, op: Op, edits: Sequence[Edit]) -> Sequence[Register]:
        return ()

    def describe(self, edits: Sequence[Edit], view: View) -> list[Change]:
        roots = {str(view.path(edit.parent)[0]) for edit in edits}
        return [{"type": "text.changed", "roots": sorted(roots)}] if roots else []

    def is_broken(self) -> bool:
        return False

    def repair(self, view: View) -> None:
        pass

    def is_full(self, index: Index) -> bool:
        return False

    def element(self, array: Any, type_id: Any) -> int | None:
        return None

    def extras(self) -> Mapping[str, Any]:
        return {}

    def to_plain(self) -> Any:
        return None


TEXT = Kind("text", None, Role.EDITOR, 1, TextMemory, lambda _: TextMemory())
