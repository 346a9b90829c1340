"""The container: GLB chunks and self-contained .gltf."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from tests.support import gltf

from maquette.engine.errors import InvalidInput
from maquette.engine.scene.gltf_file import GltfError, read_container, write_container

ASSET = {"asset": {"version": "2.0"}}
GLB = gltf.triangle().glb()


def refused(data: bytes, place: str, *words: str) -> None:
    with pytest.raises(GltfError) as caught:
        read_container(data)
    assert caught.value.place == place
    for word in words:
        assert word in str(caught.value)


def text(root: Any) -> bytes:
    return json.dumps(root).encode()


def test_a_glb_and_the_same_gltf_hold_the_same() -> None:
    made = gltf.textured()
    one, other = read_container(made.glb()), read_container(made.gltf())
    assert [bytes(part or b"") for part in (*one.buffers, *other.buffers)] == [made.binary] * 2
    assert one.items("meshes") == other.items("meshes") == made.root["meshes"]


def test_a_file_without_buffers_is_read() -> None:
    assert read_container(gltf.glb(ASSET)).root == read_container(text(ASSET)).root == ASSET


def test_what_is_written_is_read_again_with_exact_numbers() -> None:
    root = {**ASSET, "extras": [0.1, 1e-320, 5e300, -0.0, 1, 2**53 + 1, 1 / 3, "ünï"]}
    again = read_container(write_container(root, [])).root
    assert json.dumps(again) == json.dumps(root)


def test_the_error_is_the_callers_mistake() -> None:
    assert issubclass(GltfError, InvalidInput)


@pytest.mark.parametrize("length", range(0, len(GLB), 7))
def test_a_truncated_glb_is_refused(length: int) -> None:
    with pytest.raises(GltfError, match="expected"):
        read_container(GLB[:length])


def test_a_length_that_is_not_the_files_is_refused() -> None:
    refused(GLB + bytes(4), "byte 8", f"expected the length of the file, {len(GLB) + 4}, got {len(GLB)}")
    refused(GLB[:-4], "byte 8", str(len(GLB) - 4))


def test_another_glb_version_is_refused() -> None:
    refused(GLB[:4] + struct.pack("<I", 1) + GLB[8:], "byte 4", "expected GLB version 2, got 1")


def test_a_chunk_that_passes_the_end_is_refused() -> None:
    refused(GLB[:12] + struct.pack("<I", 2**31) + GLB[16:], "byte 12", f"at most {len(GLB) - 20} bytes, got {2**31}")


def test_a_chunk_length_out_of_step_is_refused() -> None:
    length = struct.unpack_from("<I", GLB, 12)[0]
    refused(GLB[:12] + struct.pack("<I", length - 1) + GLB[16:], "byte 12", "multiple of 4")


def test_a_first_chunk_that_is_not_json_is_refused() -> None:
    refused(GLB[:16] + b"BIN\0" + GLB[20:], "byte 16", "first chunk to be JSON", "0x004E4942")


def test_a_second_json_chunk_is_refused() -> None:
    chunk = struct.pack("<II", 0, 0x4E4F534A)
    data = GLB + chunk
    refused(data[:8] + struct.pack("<I", len(data)) + data[12:], "chunk 2", "JSON only as the first")


def test_a_chunk_of_an_unknown_type_is_passed_over() -> None:
    data = GLB + struct.pack("<II", 4, 0x12345678) + b"abcd"
    data = data[:8] + struct.pack("<I", len(data)) + data[12:]
    assert read_container(data).root == read_container(GLB).root


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a GLB or JSON text"),
        (b"solid cube", "a GLB or JSON text"),
        (b"[]", "an object, got list"),
        (b'{"a": \xff}', "UTF-8"),
        (b'{"a": NaN}', "finite numbers, got NaN"),
        (b'{"a": -Infinity}', "finite numbers, got -Infinity"),
        (b'{"a": ' + b"9" * 5000 + b"}", "ordinary size"),
        (b"[" * 100_000, "nested values"),
        (b'{"asset": 1}, {}', "Extra data"),
    ],
)
def test_text_that_is_no_sane_json_is_refused(data: bytes, words: str) -> None:
    refused(data, "JSON", words)


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        ("[" * 70 + "]" * 70, "/extras" + "/0" * 64, "at most 64 nested values"),
        ("1e999", "/extras", "a finite number, got inf"),
        ("[9223372036854775808]", "/extras/0", "below 2^63"),
        (r'"\ud800"', "/extras", "a lone surrogate"),
        (r'{"\udfff": 1}', "/extras", "a lone surrogate"),
    ],
)
def test_values_that_no_scene_can_hold_are_refused(value: str, place: str, words: str) -> None:
    refused(b'{"asset": {"version": "2.0"}, "extras": %s}' % value.encode(), place, words)


@pytest.mark.parametrize(
    "asset", [None, {}, {"version": 2.0}, {"version": "1.0"}, {"version": "2.1", "minVersion": "2.1"}]
)
def test_another_version_of_gltf_is_refused(asset: Any) -> None:
    refused(text({"asset": asset}), "/asset/version", "expected")


@pytest.mark.parametrize(
    "uri",
    [
        "buffer.bin",
        "../../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "https://example.org/buffer.bin",
        "//example.org/b",
        "",
    ],
)
def test_a_uri_that_points_outside_is_refused_by_name(uri: str) -> None:
    buffer = {"byteLength": 4, "uri": uri}
    refused(
        text({**ASSET, "buffers": [buffer]}),
        "/buffers/0/uri",
        f"the external URI {uri!r}",
        "must carry all that it needs",
    )


@pytest.mark.parametrize("uri", [5, "data:", "data:;base64,@@@@", "data:text/plain,abcd", "data:;base64,abc"])
def test_a_data_uri_that_cannot_be_read_is_refused(uri: Any) -> None:
    refused(text({**ASSET, "buffers": [{"byteLength": 1, "uri": uri}]}), "/buffers/0/uri", "expected")


def test_a_buffer_longer_than_its_bytes_is_refused() -> None:
    uri = "data:;base64," + base64.b64encode(b"abcd").decode()
    refused(text({**ASSET, "buffers": [{"byteLength": 5, "uri": uri}]}), "/buffers/0/byteLength", "at most the 4", "5")
    refused(gltf.glb({**ASSET, "buffers": [{"byteLength": 5}]}, b"abcd"), "/buffers/0/byteLength", "at most the 4")


@pytest.mark.parametrize("buffers", [5, [5], [{}], [{"byteLength": 0}], [{"byteLength": 1.5}], [{"byteLength": True}]])
def test_buffers_of_another_shape_are_refused(buffers: Any) -> None:
    with pytest.raises(GltfError, match="/buffers"):
        read_container(gltf.glb({**ASSET, "buffers": buffers}, b"abcd"))


def test_only_the_first_buffer_is_the_bin_chunk() -> None:
    refused(gltf.glb({**ASSET, "buffers": [{"byteLength": 4}] * 2}, b"abcd"), "/buffers/1", "got neither")
