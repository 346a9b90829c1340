"""A glTF file in the making: its arrays, in the order in which objects were added, and the parts of its BIN chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.engine.scene.gltf_check import FLOAT, TOP_LEVEL
from maquette.engine.scene.gltf_extensions import MESHOPT
from maquette.engine.scene.gltf_file import Json, write_container

ALIGNMENT = 4
"""No component is longer than four bytes, so every bufferView that starts at a multiple of four is aligned."""

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
UNSIGNED_INT = 5125


class Output:
    """Collects objects and bytes. `add` gives an object its index; `intern` gives equal objects one index."""

    def __init__(self) -> None:
        self.root: Json = {}
        self.required: set[str] = set()
        self.declared: set[str] = set()
        self._interned: dict[tuple[str, str], int] = {}
        self._parts: list[bytes | memoryview] = []
        self._size = 0
        self._absent = 0

    def add(self, kind: str, item: Json) -> int:
        """Append `item` to the top-level array `kind`; answers its index."""
        items = self.root.setdefault(kind, [])
        items.append(item)
        return len(items) - 1

    def intern(self, kind: str, item: Json) -> int:
        """As `add`, but an object that is there already is used again."""
        key = (kind, json.dumps(item, sort_keys=True))
        if key not in self._interned:
            self._interned[key] = self.add(kind, item)
        return self._interned[key]

    def add_extension_item(self, extension: str, kind: str, item: Json) -> int:
        """As `intern`, for an array in a root extension, such as the lights of KHR_lights_punctual."""
        key = (f"{extension}/{kind}", json.dumps(item, sort_keys=True))
        items = self.root.setdefault("extensions", {}).setdefault(extension, {}).setdefault(kind, [])
        if key not in self._interned:
            items.append(item)
            self._interned[key] = len(items) - 1
        return self._interned[key]

    def add_bytes(self, data: bytes | memoryview) -> int:
        """Append bytes to the BIN chunk; answers their offset."""
        offset = self._size
        padding = bytes(-len(data) % ALIGNMENT)
        self._parts.extend([data, padding] if padding else [data])
        self._size += len(data) + len(padding)
        return offset

    def add_view(self, data: bytes | memoryview, **fields: Any) -> int:
        """A bufferView over new bytes."""
        offset = self.add_bytes(data)
        return self.add("bufferViews", {"buffer": 0, "byteOffset": offset, "byteLength": len(data), **fields})

    def add_absent_view(self, length: int, **fields: Any) -> int:
        """A bufferView over bytes that only a decompression brings: they lie in a buffer without content."""
        view = {"buffer": 1, "byteOffset": self._absent, "byteLength": length, **fields}
        self._absent += length + -length % ALIGNMENT
        return self.add("bufferViews", view)

    def add_vertices(self, values: NDArray[np.float32]) -> int:
        """An accessor over new float vectors (n, 2 or 3), with the bounds that positions need."""
        view = self.add_view(values.astype("<f4").tobytes(), target=ARRAY_BUFFER)
        bounds = {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        head = {"bufferView": view, "componentType": FLOAT, "type": f"VEC{values.shape[1]}"}
        return self.add("accessors", {**head, "count": len(values), **bounds})

    def add_indices(self, values: NDArray[np.uint32]) -> int:
        """An accessor over new vertex indices."""
        view = self.add_view(values.astype("<u4").tobytes(), target=ELEMENT_ARRAY_BUFFER)
        head = {"bufferView": view, "componentType": UNSIGNED_INT, "type": "SCALAR"}
        return self.add("accessors", {**head, "count": len(values)})

    def finish(self) -> bytes:
        """The GLB. Lists the extensions that are used; of the required ones, those. Raises GltfError past 4 GiB."""
        self._add_buffers()
        used = {*extension_names(self.root), *self.declared}
        root = {**self.root}
        if used:
            root["extensionsUsed"] = sorted(used)
        if required := sorted(self.required & used):
            root["extensionsRequired"] = required
        kinds = {kind: root.pop(kind) for kind in TOP_LEVEL if kind in root}
        return write_container({"asset": root.pop("asset"), **root, **kinds}, self._parts)

    def _add_buffers(self) -> None:
        if self._size or self._absent:
            # a GLB's first buffer is its BIN chunk, so it has to exist for the second to follow
            self.add("buffers", {"byteLength": max(self._size, 1)})
        if self._absent:
            name = next(name for name in MESHOPT if name in extension_names(self.root))
            self.add("buffers", {"byteLength": self._absent, "extensions": {name: {"fallback": True}}})


def extension_names(value: Any) -> Iterator[str]:
    """The names of all extensions on objects at and below `value`; what is in extras is the user's."""
    if isinstance(value, list):
        for item in value:
            yield from extension_names(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "extensions" and isinstance(item, dict):
                yield from item
                yield from extension_names(list(item.values()))
            elif key != "extras" and isinstance(item, dict | list):
                yield from extension_names(item)
