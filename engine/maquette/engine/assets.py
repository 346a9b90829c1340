"""Assets: immutable bytes (models, images, attachments), stored once under the name that their content gives them.

Rule 1: an asset's id is the SHA-256 of its bytes as base64url without padding, so nobody can change what an id means.
Rule 2: `put` returns when the bytes are on disk under their id; only then may an op name the asset.
Rule 3: `get` hands out nothing that does not match its id: damage is an error that names the asset.
Rule 4: an id from outside is checked before it becomes part of a path.

Every method blocks on the disk: code on an event loop calls them in a thread.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from maquette.engine.errors import InvalidInput, MaquetteError, NotFound
from maquette.engine.files import sync_folder

LIMIT = 256 * 1024 * 1024
"""Bytes of one asset by default: the largest models of the common sample sets stay under 100 MB."""

CHUNK = 1024 * 1024
_ASIDE = ".incoming-"

# 43 characters hold 258 bits; the last one may only use its upper four, or one digest would have four names
ID = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")


class AssetTooLarge(InvalidInput):
    """`put` was given more bytes than the store takes. Nothing was stored."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"asset: expected at most {limit} bytes, got more")
        self.limit = limit


class AssetDamaged(MaquetteError):
    """The stored bytes no longer match the asset's id. Raised by `get`; putting the right bytes again repairs it."""

    def __init__(self, asset: str, actual: str) -> None:
        super().__init__(f"asset {asset}: expected bytes with this digest, got {actual}")
        self.asset = asset
        self.actual = actual


class AssetUnwritable(MaquetteError):
    """The disk is full or failed during `put`. Nothing was stored under the asset's id."""


class Assets(Protocol):
    """A store of assets."""

    def put(self, content: bytes | BinaryIO) -> str:
        """Store `content` and answer its id; the same content again changes nothing. Durable when it returns.

        Raises AssetTooLarge, AssetUnwritable.
        """
        ...

    def get(self, asset: str) -> bytes:
        """The bytes of an asset. Raises InvalidInput for a malformed id, NotFound, AssetDamaged."""
        ...

    def range(self, asset: str, start: int, stop: int) -> bytes:
        """Bytes start ≤ i < min(stop, size), not checked against the id (a part has no digest). Raises as `get`."""
        ...

    def size(self, asset: str) -> int:
        """How many bytes the asset has. Raises InvalidInput, NotFound."""
        ...

    def has(self, asset: str) -> bool:
        """Whether the asset is stored; False for a malformed id."""
        ...

    def ids(self) -> Iterator[str]:
        """The ids of all assets, in no particular order."""
        ...


def asset_id(content: bytes) -> str:
    """The id of `content`: its SHA-256 in base64url without padding, 43 characters."""
    return _name(hashlib.sha256(content))


def check_id(asset: str) -> str:
    """`asset` itself when it is a well-formed asset id. Raises InvalidInput."""
    if not ID.fullmatch(asset):
        raise InvalidInput(f"asset id: expected 43 characters of base64url, got {asset[:80]!r}")
    return asset


class MemoryAssets:
    """Assets in memory: for tests and for documents that live no longer than their process."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._content: dict[str, bytes] = {}

    def put(self, content: bytes | BinaryIO) -> str:
        data = b"".join(_chunks(content, self._limit))
        asset = asset_id(data)
        self._content[asset] = data
        return asset

    def get(self, asset: str) -> bytes:
        if (content := self._content.get(check_id(asset))) is None:
            raise NotFound("asset", asset)
        return content

    def range(self, asset: str, start: int, stop: int) -> bytes:
        return self.get(asset)[_bound(start) : _bound(stop)]

    def size(self, asset: str) -> int:
        return len(self.get(asset))

    def has(self, asset: str) -> bool:
        return asset in self._content

    def ids(self) -> Iterator[str]:
        return iter(list(self._content))


class AssetStore:
    """Assets as files `FOLDER/ab/abcdef…`, written aside, flushed and renamed into place.

    Several processes may share one folder: a file appears whole or not at all, and its name fixes its content.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes | BinaryIO) -> str:
        try:
            aside, asset = self._write_aside(content)
            try:
                self._settle(aside, asset)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            raise AssetUnwritable(f"asset: expected to write below {self._folder}, got {error}") from error
        return asset

    def get(self, asset: str) -> bytes:
        try:
            content = self.path(asset).read_bytes()
        except FileNotFoundError:
            raise NotFound("asset", asset) from None
        except OSError as error:
            raise AssetDamaged(asset, str(error)) from error
        if (actual := asset_id(content)) != asset:
            raise AssetDamaged(asset, f"{len(content)} bytes with digest {actual}")
        return content

    def range(self, asset: str, start: int, stop: int) -> bytes:
        try:
            with self.path(asset).open("rb") as file:
                file.seek(_bound(start))
                return file.read(max(0, stop - start))
        except FileNotFoundError:
            raise NotFound("asset", asset) from None

    def size(self, asset: str) -> int:
        try:
            return self.path(asset).stat().st_size
        except FileNotFoundError:
            raise NotFound("asset", asset) from None

    def has(self, asset: str) -> bool:
        return ID.fullmatch(asset) is not None and self.path(asset).is_file()

    def ids(self) -> Iterator[str]:
        for file in self._folder.glob("??/*"):
            if ID.fullmatch(file.name):
                yield file.name

    def path(self, asset: str) -> Path:
        """Where the asset's file is, or would be. Raises InvalidInput for a malformed id (rule 4)."""
        return self._folder / check_id(asset)[:2] / asset

    def sweep(self) -> None:
        """Remove what uploads left behind that a killed process did not end. Nobody may put meanwhile."""
        for left in self._folder.glob(f"{_ASIDE}*"):
            left.unlink(missing_ok=True)

    def _write_aside(self, content: bytes | BinaryIO) -> tuple[Path, str]:
        handle, name = tempfile.mkstemp(prefix=_ASIDE, dir=self._folder)
        digest = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in _chunks(content, self._limit):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name), _name(digest)

    def _settle(self, aside: Path, asset: str) -> None:
        """Put it in its place, also where the same bytes are already, and flush every name on the way there.

        Whoever made those names, here or in another process, may have been killed before they were on disk, or have
        been told that their flush failed; flushing them again then need not help, so the asset's own is made anew.
        """
        place = self.path(asset)
        place.parent.mkdir(exist_ok=True)
        aside.replace(place)
        for folder in (self._folder.parent, self._folder, place.parent):
            sync_folder(folder)


def _chunks(content: bytes | BinaryIO, limit: int) -> Iterator[bytes]:
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    total = 0
    while chunk := stream.read(CHUNK):
        total += len(chunk)
        if total > limit:
            raise AssetTooLarge(limit)
        yield chunk


def _name(digest: hashlib._Hash) -> str:
    return urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def _bound(offset: int) -> int:
    if offset < 0:
        raise InvalidInput(f"asset range: expected offsets of 0 or more, got {offset}")
    return offset
