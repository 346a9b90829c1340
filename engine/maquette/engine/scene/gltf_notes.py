"""Our note in an object's `extras`: what an export knows that glTF has no word for, so that an import finds it again.

`extras.maquette` is an object: `id`, and for a node also `type` (when it does not follow from the content), `locked`,
`shape` (its mesh is one of ours) and `wrapper` (we added it). The user's extras stay beside it; those that are not an
object move into it, as `extras`.
"""

from __future__ import annotations

from typing import Any

from maquette.engine.scene.gltf_file import Json

KEY = "maquette"


def with_note(item: Json, extras: Any, note: Json) -> Json:
    """`item` with the user's `extras` and our `note`."""
    rest = {key: value for key, value in item.items() if key != "extras"}
    if isinstance(extras, dict):
        return rest | {"extras": extras | {KEY: note}}
    return rest | {"extras": {KEY: note if extras is None else note | {"extras": extras}}}


def note_of(item: Json) -> Json:
    """The note in an object's extras; empty when there is none."""
    extras = item.get("extras")
    note = extras.get(KEY) if isinstance(extras, dict) else None
    return note if isinstance(note, dict) else {}


def extras_of(item: Json) -> Any:
    """The user's extras; None when there are none."""
    extras = item.get("extras")
    if isinstance(extras, dict):
        return {key: value for key, value in extras.items() if key != KEY} or note_of(item).get("extras")
    return extras
