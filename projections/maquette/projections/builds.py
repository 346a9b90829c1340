"""The builds of one projection on disk: numbered SQLite files, and a pointer to the one that is read.

    FOLDER/NAME/live        the number of the live build, replaced in one step
    FOLDER/NAME/3.sqlite    the live build, beside it its sums (`sums.py`)
    FOLDER/NAME/4.sqlite    the next one, while it is built beside it

Rule 1: a build is live when the pointer names it. A process killed at any moment leaves the old one or the new one.
Rule 2: whatever the pointer does not name is rubbish of a killed build, removed when the projection opens.

Replacing the database's own file instead was rejected: SQLite would replay the old file's WAL onto the new one.
"""

from __future__ import annotations

from pathlib import Path

from maquette.engine.files import write_atomically

SUFFIXES = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".sums")


class Builds:
    """The builds under `folder`/`name`, which is made with the first of them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name

    def live(self) -> Path | None:
        """The file of the live build; None before the first, and when the pointer or its build is lost."""
        try:
            number = int((self.folder / "live").read_text())
        except (FileNotFoundError, ValueError):
            return None
        path = self._path(number)
        return path if path.exists() else None

    def next(self) -> Path:
        """A path for a new build; whatever a killed one left there is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        live = self.live()
        path = self._path(int(live.stem) + 1 if live else 1)
        remove(path)
        return path

    def swap(self, path: Path) -> None:
        """Make `path` the live build, in one step."""
        write_atomically(self.folder / "live", path.stem.encode(), durable=True)

    def clean(self) -> None:
        """Remove everything but the live build and the pointer to it."""
        live = self.live()
        for path in self.folder.glob("*"):
            if path.name != "live" and (live is None or path.name.split(".")[0] != live.stem):
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.sqlite"


def remove(path: Path) -> None:
    """Remove the build at `path` with its WAL; nothing happens when there is none."""
    for suffix in SUFFIXES:
        path.with_suffix(suffix).unlink(missing_ok=True)
