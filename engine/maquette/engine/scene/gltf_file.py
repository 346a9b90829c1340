"""The container of a glTF 2.0 file: GLB chunks or a self-contained .gltf, read whole before anything is used.

Rule 1: nothing outside the given bytes is ever read: buffers and images are in the GLB's BIN chunk or in data: URIs.
Rule 2: what comes out is plain JSON within fixed limits (depth, whole numbers, finite floats, valid Unicode), so that
        the modules behind this one can walk it without guarding each step.

Format: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, section 4 for GLB. Numbers keep Python's exact
round trip (int, or float by repr), so that a value passes through unchanged.
"""

from __future__ import annotations

import binascii
import json
import struct
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NoReturn, TypeAlias

from maquette.engine.errors import InvalidInput

Json: TypeAlias = dict[str, Any]

MAGIC = b"glTF"
JSON_CHUNK = 0x4E4F534A
BIN_CHUNK = 0x004E4942

VALUE_LIMIT = 2_000_000
"""Values in the JSON part: ten thousand nodes have some hundred thousand. Each costs Python 50 bytes or more, so that
a file of nothing but brackets would take twenty times its size."""

DEPTH_LIMIT = 64
"""Nested values. The core format needs twelve, extensions a few more; Python's recursion ends at a thousand."""

INTEGER_LIMIT = 2**63
"""Beyond this no reader of ours keeps a whole number exact (I-JSON, RFC 7493, stops at 2^53 already)."""


class GltfError(InvalidInput):
    """A glTF file that breaks its format. `place` is a JSON pointer, `byte N` or `chunk N`; nothing was imported."""

    def __init__(self, place: str, expected: str, actual: object) -> None:
        shown = actual if isinstance(actual, str) else repr(actual)
        super().__init__(f"glTF, {place}: expected {expected}, got {shown[:200]}")
        self.place = place
        self.expected = expected
        self.actual = shown


@dataclass(frozen=True, slots=True)
class GltfFile:
    """A file taken apart: the JSON root and the bytes of each of its buffers (None: a compression's empty fallback)."""

    root: Json
    buffers: Sequence[memoryview | None]

    def items(self, kind: str) -> list[Json]:
        """The objects of a top-level array (`nodes`, `meshes`, …); empty when the file has none."""
        found: list[Json] = self.root.get(kind, [])
        return found

    def view(self, index: int) -> memoryview | None:
        """The bytes of a bufferView; None when they are a compression's fallback that the file leaves out."""
        view = self.items("bufferViews")[index]
        if (buffer := self.buffers[view["buffer"]]) is None:
            return None
        start = view.get("byteOffset", 0)
        return buffer[start : start + view["byteLength"]]


def read_container(data: bytes) -> GltfFile:
    """Take a GLB or a self-contained .gltf apart. The JSON's structure is `check_gltf`'s to judge.

    Raises GltfError: truncated, wrong lengths or alignment, not JSON, another version, beyond the limits, an
    external URI.
    """
    text, binary = _split_glb(data) if data[:4] == MAGIC else (data, None)
    root = _parse(text)
    _check_version(root)
    buffers = root.get("buffers", [])
    if not isinstance(buffers, list):
        raise GltfError("/buffers", "an array", type(buffers).__name__)
    return GltfFile(root, [_buffer(buffer, index, binary) for index, buffer in enumerate(buffers)])


def write_container(root: Mapping[str, Any], binary: Sequence[bytes | memoryview]) -> bytes:
    """A GLB of `root` and, when there are any, the concatenated `binary` parts (each a multiple of 4 bytes long).

    Raises GltfError past 4 GiB, which is all that the header's lengths can say.
    """
    text = json.dumps(root, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    size = sum(len(part) for part in binary)
    total = 20 + len(text) + (8 + size if size else 0)
    if total >= 2**32:
        raise GltfError("byte 8", "a GLB below 4 GiB", f"{total} bytes")
    head = struct.pack("<4sIIII", MAGIC, 2, total, len(text), JSON_CHUNK) + text
    return b"".join([head, struct.pack("<II", size, BIN_CHUNK), *binary] if size else [head])


def decode_data_uri(uri: object, place: str) -> tuple[str, bytes]:
    """Media type and bytes of a base64 data: URI (RFC 2397). Raises GltfError for any other address (rule 1)."""
    if not isinstance(uri, str):
        raise GltfError(place, "a data: URI", type(uri).__name__)
    if not uri.startswith("data:"):
        raise GltfError(
            place, "a data: URI, for the file must carry all that it needs", f"the external URI {uri[:100]!r}"
        )
    head, comma, body = uri[5:].partition(",")
    if not comma or not head.endswith(";base64"):
        raise GltfError(place, "a data: URI in base64", repr(uri[:60]))
    try:
        return head.removesuffix(";base64").split(";")[0], b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GltfError(place, "base64 in the data: URI", str(error)) from None


def _split_glb(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON chunk and the BIN chunk, if any; chunks of other types are passed over, as the format demands."""
    if len(data) < 20:
        raise GltfError("byte 0", "a GLB header and a JSON chunk, 20 bytes or more", f"{len(data)} bytes")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise GltfError("byte 4", "GLB version 2", version)
    if length != len(data):
        raise GltfError("byte 8", f"the length of the file, {len(data)}", length)
    chunks = _chunks(data)
    if chunks[0][0] != JSON_CHUNK:
        raise GltfError("byte 16", "the first chunk to be JSON (0x4E4F534A)", f"0x{chunks[0][0]:08X}")
    for kind, _ in chunks[2:]:
        if kind in (JSON_CHUNK, BIN_CHUNK):
            raise GltfError("chunk 2", "JSON only as the first and BIN only as the second chunk", f"0x{kind:08X}")
    return chunks[0][1], chunks[1][1] if len(chunks) > 1 and chunks[1][0] == BIN_CHUNK else None


def _chunks(data: bytes) -> list[tuple[int, bytes]]:
    chunks = []
    offset = 12
    while offset < len(data):
        if len(data) - offset < 8:
            raise GltfError(f"byte {offset}", "a chunk header of 8 bytes", f"{len(data) - offset} bytes")
        size, kind = struct.unpack_from("<II", data, offset)
        if size > len(data) - offset - 8:
            raise GltfError(f"byte {offset}", f"a chunk of at most {len(data) - offset - 8} bytes", size)
        if size % 4:
            raise GltfError(f"byte {offset}", "a chunk length that is a multiple of 4", size)
        chunks.append((kind, data[offset + 8 : offset + 8 + size]))
        offset += 8 + size
    return chunks


def _parse(text: bytes) -> Json:
    # counted before anything is made of them; what is inside strings counts too, but base64 has none of these
    if (values := sum(map(text.count, (b",", b"[", b"{")))) > VALUE_LIMIT:
        raise GltfError("JSON", f"at most {VALUE_LIMIT} values", f"about {values}")
    try:
        root = json.loads(text.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise GltfError("JSON", "UTF-8", f"byte {text[error.start]:#04x} at {error.start}") from None
    except json.JSONDecodeError as error:
        raise GltfError("JSON", "a GLB or JSON text", f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise GltfError("JSON", f"at most {DEPTH_LIMIT} nested values", "more") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise GltfError("JSON", "numbers of ordinary size", str(error)) from None
    if not isinstance(root, dict):
        raise GltfError("JSON", "an object", type(root).__name__)
    _check_values(root, "", 0)
    return root


def _refuse_constant(name: str) -> NoReturn:
    raise GltfError("JSON", "finite numbers", name)


def _check_values(value: object, place: str, depth: int) -> None:
    """Rule 2 for one value and all below it."""
    if depth > DEPTH_LIMIT:
        raise GltfError(place, f"at most {DEPTH_LIMIT} nested values", "more")
    match value:
        case bool() | None:
            return
        case str():
            _check_text(value, place)
        case float() if not isfinite(value):
            raise GltfError(place, "a finite number", value)
        case int() if abs(value) >= INTEGER_LIMIT:
            raise GltfError(place, "a whole number below 2^63", f"{len(str(value))} digits")
        case dict():
            for key, item in value.items():
                _check_text(key, place)
                _check_values(item, f"{place}/{key[:40]}", depth + 1)
        case list():
            for index, item in enumerate(value):
                _check_values(item, f"{place}/{index}", depth + 1)


def _check_text(text: str, place: str) -> None:
    """A lone surrogate gets through JSON as an escape, and then no encoder takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GltfError(place, "Unicode text", f"a lone surrogate at character {error.start}") from None


def _check_version(root: Json) -> None:
    asset = root.get("asset")
    if not isinstance(asset, dict) or not isinstance(asset.get("version"), str):
        raise GltfError("/asset/version", "a glTF version", "nothing")
    if asset["version"].split(".")[0] != "2" or asset.get("minVersion", "2.0") != "2.0":
        raise GltfError("/asset/version", "glTF 2.0", asset.get("minVersion", asset["version"]))


def _buffer(buffer: object, index: int, binary: bytes | None) -> memoryview | None:
    place = f"/buffers/{index}"
    if not isinstance(buffer, dict):
        raise GltfError(place, "an object", type(buffer).__name__)
    length = buffer.get("byteLength")
    if type(length) is not int or length < 1:
        raise GltfError(f"{place}/byteLength", "a number of bytes", length)
    if "uri" in buffer:
        content: bytes | None = decode_data_uri(buffer["uri"], f"{place}/uri")[1]
    else:
        content = binary if index == 0 else None
    if content is None:
        _check_fallback(buffer, place)
        return None
    if len(content) < length:
        raise GltfError(f"{place}/byteLength", f"at most the {len(content)} bytes that are there", length)
    return memoryview(content)[:length]


def _check_fallback(buffer: Json, place: str) -> None:
    """Only the fallback of EXT_meshopt_compression (or its KHR twin) may have no bytes."""
    extensions = buffer.get("extensions")
    for name in ("EXT_meshopt_compression", "KHR_meshopt_compression"):
        if isinstance(extensions, dict) and isinstance(extensions.get(name), dict):
            return
    raise GltfError(place, "a data: URI or, for the first buffer, a BIN chunk", "neither")
