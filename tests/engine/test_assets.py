"""The asset stores: one set of behaviours for both, then what only files can do."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from maquette.engine.assets import (
    AssetDamaged,
    Assets,
    AssetStore,
    AssetTooLarge,
    AssetUnwritable,
    MemoryAssets,
    asset_id,
)
from maquette.engine.engine import Engine
from maquette.engine.errors import InvalidInput, NotFound

ABC = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"  # SHA-256("abc"), FIPS 180-4 example, as base64url


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Assets:
    return MemoryAssets(limit=1000) if request.param == "memory" else AssetStore(tmp_path / "assets", limit=1000)


@pytest.fixture
def files(tmp_path: Path) -> AssetStore:
    return AssetStore(tmp_path / "assets")


def test_the_id_is_the_digest_of_the_bytes(store: Assets) -> None:
    assert store.put(b"abc") == asset_id(b"abc") == ABC


def test_what_was_put_is_got(store: Assets) -> None:
    assert store.get(store.put(b"abc")) == b"abc"
    assert store.get(store.put(b"")) == b""


def test_a_stream_gets_the_same_id_as_its_bytes(store: Assets) -> None:
    assert store.put(io.BytesIO(b"abc")) == ABC


def test_putting_twice_stores_once(store: Assets) -> None:
    store.put(b"abc")
    store.put(b"abc")
    assert list(store.ids()) == [ABC]


def test_ranges_end_with_the_asset(store: Assets) -> None:
    asset = store.put(b"0123456789")
    assert store.range(asset, 2, 5) == b"234"
    assert store.range(asset, 8, 100) == b"89"
    assert store.range(asset, 20, 30) == store.range(asset, 5, 3) == b""
    assert store.size(asset) == 10


def test_a_negative_range_is_refused(store: Assets) -> None:
    asset = store.put(b"0123456789")
    with pytest.raises(InvalidInput, match="expected offsets of 0 or more, got -3"):
        store.range(asset, -3, 5)


def test_an_unknown_asset_is_not_found(store: Assets) -> None:
    assert not store.has(ABC)
    for ask in (store.get, store.size, lambda asset: store.range(asset, 0, 1)):
        with pytest.raises(NotFound, match=ABC):
            ask(ABC)


def test_the_limit_is_exact_and_leaves_nothing(store: Assets) -> None:
    store.put(bytes(1000))
    with pytest.raises(AssetTooLarge, match="at most 1000 bytes"):
        store.put(bytes(1001))
    assert len(list(store.ids())) == 1


@pytest.mark.parametrize(
    "asset",
    ["", "../../../etc/passwd", "..", "a" * 42, "/" + "a" * 42, "a" * 41 + "/A", ABC + "A", ABC[:-1] + "1", "\0" * 43],
)
def test_a_malformed_id_never_becomes_a_path(store: Assets, asset: str) -> None:
    assert not store.has(asset)
    for ask in (store.get, store.size, lambda asset: store.range(asset, 0, 1)):
        with pytest.raises(InvalidInput, match="43 characters of base64url"):
            ask(asset)


def test_a_flipped_bit_is_named(files: AssetStore) -> None:
    asset = files.put(b"abc")
    files.path(asset).write_bytes(b"abb")
    with pytest.raises(AssetDamaged, match=asset):
        files.get(asset)


def test_putting_again_repairs_damage(files: AssetStore) -> None:
    asset = files.put(b"abc")
    files.path(asset).write_bytes(b"ab")
    files.put(b"abc")
    assert files.get(asset) == b"abc"


def test_another_opening_sees_the_assets(files: AssetStore, tmp_path: Path) -> None:
    files.put(b"abc")
    assert list(AssetStore(tmp_path / "assets").ids()) == [ABC]


def test_a_full_disk_leaves_nothing_behind(files: AssetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AssetUnwritable, match="No space left"):
            files.put(b"abc")
    assert not files.has(ABC)
    assert [file for file in (tmp_path / "assets").rglob("*") if file.is_file()] == []


def test_put_flushes_the_file_then_its_folder(files: AssetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    files.put(b"other")
    flushed: list[tuple[int, bool]] = []
    flush = os.fsync

    def watch(handle: int) -> None:
        flushed.append((os.fstat(handle).st_ino, files.path(ABC).exists()))
        flush(handle)

    monkeypatch.setattr(os, "fsync", watch)
    files.put(b"abc")
    place = files.path(ABC)
    assert flushed[0] == (place.stat().st_ino, False)
    assert flushed[-1] == (place.parent.stat().st_ino, True)


def test_a_stream_that_fails_leaves_nothing_behind(files: AssetStore, tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise RuntimeError("connection lost")

    with pytest.raises(RuntimeError, match="connection lost"):
        files.put(Broken())
    assert list((tmp_path / "assets").iterdir()) == []


async def test_what_killed_uploads_left_is_swept_when_the_log_opens_for_writing(tmp_path: Path) -> None:
    async with await Engine.open(tmp_path) as engine:
        kept = engine.assets.put(b"abc")
    left = tmp_path / "assets" / ".incoming-x"
    left.write_bytes(b"half an upload")
    async with await Engine.open_readonly(tmp_path):
        assert left.exists()  # it may be another process's, at work
    async with await Engine.open(tmp_path) as engine:
        assert not left.exists()
        assert engine.assets.get(kept) == b"abc"
