"""The sums of a build: they make an altered page of its file visible, for SQLite keeps none.

Rule 1: pages of the file change only when its WAL is folded into it, by the store, and the WAL is empty behind that.
        What is in a WAL has SQLite's own sums: a damaged one ends sooner, and the log brings again what was behind.
Rule 2: the sums are taken away before a fold and are on disk behind it. A file that has pages and no sums was caught in
        between, or is not ours: nobody knows whether it is whole, so the view is built anew.
Rule 3: they are compared when a build is opened. What a disk does to pages later is seen by the next opening.

    FOLDER/NAME/3.sums: the CRC-32 of each page of 3.sqlite, then the CRC-32 of all that; u32, little endian
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from zlib import crc32

from maquette.engine.files import write_atomically
from maquette.projections.errors import ViewDamaged

PAGE = 4096
"""Bytes of a page: SQLite's default, which no build changes."""

_WAL_HEADER, _FRAME_HEADER = 32, 24
"""Bytes, of SQLite's file format; a frame begins with the number of its page, big endian."""


class Sums:
    """The sums of the build at `path`. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._sums = path.with_suffix(".sums")
        self._known = array("I")

    def waiting(self) -> int:
        """Bytes in the WAL."""
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def check(self) -> None:
        """Compare the pages with their sums; a build without pages is whole. Raises ViewDamaged, OSError."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size > PAGE or self._sums.exists():  # less is what a new file begins with: all that counts is in its WAL
            kept, found = self._read(), self._of_file()
            if kept != found:
                page = next(n for n, (a, b) in enumerate(zip_longest(kept, found), 1) if a != b)
                raise ViewDamaged(f"{self._path}: page {page}", "the page that was written", "another, or none")
            self._known = kept

    def take_away(self) -> set[int]:
        """Before a fold: the pages that it will write, counted from 1."""
        changed = set(self._waiting_pages())
        self._sums.unlink(missing_ok=True)
        return changed

    def renew(self, changed: set[int]) -> None:
        """Behind a fold that wrote the pages `changed`: have the sums of all on disk."""
        pages = self._path.stat().st_size // PAGE
        fresh = array("I", bytes(4 * pages))
        fresh[: len(self._known)] = self._known[:pages]
        with self._path.open("rb") as file:
            for page in range(1, pages + 1):
                if page <= len(self._known) and page not in changed:
                    continue
                file.seek((page - 1) * PAGE)
                fresh[page - 1] = crc32(file.read(PAGE))
        self._known = fresh
        body = struct.pack(f"<{pages}I", *fresh)
        write_atomically(self._sums, body + struct.pack("<I", crc32(body)), durable=True)

    def _read(self) -> array[int]:
        try:
            content = self._sums.read_bytes()
        except FileNotFoundError:
            raise ViewDamaged(str(self._path), "sums beside it", "none: it was not closed") from None
        body, end = content[:-4], content[-4:]
        if len(content) % 4 or len(content) < 4 or struct.pack("<I", crc32(body)) != end:
            raise ViewDamaged(str(self._sums), "whole sums", "others")
        return array("I", struct.unpack(f"<{len(body) // 4}I", body))

    def _of_file(self) -> array[int]:
        found = array("I")
        with self._path.open("rb") as file:
            while page := file.read(PAGE):
                found.append(crc32(page))
        return found

    def _waiting_pages(self) -> Iterator[int]:
        if not self.waiting():
            return
        with self._wal.open("rb") as file:
            file.seek(_WAL_HEADER)
            while len(frame := file.read(_FRAME_HEADER)) == _FRAME_HEADER:
                yield int.from_bytes(frame[:4])
                file.seek(PAGE, 1)
