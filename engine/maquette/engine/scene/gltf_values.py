"""Reading untrusted glTF JSON: each method answers a value of the shape that the format gives it, or says what came.

Places are JSON pointers (RFC 6901, without its escapes: they are for people).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from maquette.engine.checks import FLOAT32_MAX
from maquette.engine.scene.gltf_file import GltfError, GltfFile, Json


class Values:
    """Typed access to the members of a file's objects. Every method raises GltfError for another shape."""

    def __init__(self, file: GltfFile) -> None:
        self.file = file
        self.root = file.root

    def array(self, owner: Json, place: str, key: str) -> list[Any]:
        found = owner.get(key, [])
        if not isinstance(found, list):
            raise GltfError(f"{place}/{key}", "an array", repr(found))
        return found

    def member(self, owner: Json, place: str, key: str, default: Json | None = None) -> Json:
        found = owner.get(key, default)
        if not isinstance(found, dict):
            raise GltfError(f"{place}/{key}", "an object", repr(found))
        return found

    def mapping(self, found: Any, place: str) -> Iterator[tuple[str, Any]]:
        """The entries of an object whose values are indices."""
        if not isinstance(found, dict):
            raise GltfError(place, "an object", repr(found))
        for key, value in found.items():
            if type(value) is not int or value < 0:
                raise GltfError(f"{place}/{key}", "an index", repr(value))
            yield key, value

    def extensions(self, owner: Json, place: str) -> None:
        for name, value in self.member(owner, place, "extensions", {}).items():
            if not isinstance(value, dict):
                raise GltfError(f"{place}/extensions/{name}", "an object", repr(value))

    def index(self, owner: Json, place: str, key: str, kind: str, *, required: bool = False) -> int | None:
        """`owner[key]` as an index into the top-level array `kind`; None where it is absent and may be."""
        if key not in owner and not required:
            return None
        return self.below(owner.get(key), len(self.file.items(kind)), f"{place}/{key}", kind)

    def below(self, number: object, limit: int, place: str, kind: str) -> int:
        if type(number) is not int or not 0 <= number < limit:
            raise GltfError(place, f"an index into the {limit} {kind}", repr(number))
        return number

    def integer(
        self, owner: Json, place: str, key: str, low: int, high: int | None = None, *, required: bool = False
    ) -> int | None:
        found = owner.get(key)
        if key not in owner and not required:
            return None
        if type(found) is not int or found < low or (high is not None and found > high):
            span = f"{low} or more" if high is None else f"{low} to {high}"
            raise GltfError(f"{place}/{key}", f"a whole number, {span}", repr(found))
        return found

    def number(self, owner: Json, place: str, key: str, *, required: bool = False) -> None:
        found = owner.get(key, None if required else 0)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise GltfError(f"{place}/{key}", "a number", repr(found))

    def numbers(self, owner: Json, place: str, key: str, width: int) -> list[float] | None:
        if key not in owner:
            return None
        found = owner[key]
        if not isinstance(found, list) or len(found) != width or not all(map(_is_float32, found)):
            raise GltfError(f"{place}/{key}", f"{width} numbers of single precision", repr(found))
        return found

    def boolean(self, owner: Json, place: str, key: str) -> None:
        if not isinstance(owner.get(key, False), bool):
            raise GltfError(f"{place}/{key}", "true or false", owner[key])

    def choice(self, owner: Json, place: str, key: str, known: Collection[Any]) -> None:
        found = owner.get(key)
        if not isinstance(found, int | str) or found not in known:
            raise GltfError(f"{place}/{key}", f"one of {', '.join(map(str, known))}", repr(found))


def _is_float32(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= FLOAT32_MAX  # type: ignore[arg-type]  # a number, as just seen
