"""The sums of a build's pages (L6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette.projections.errors import ViewDamaged
from maquette.projections.sums import PAGE, Sums


@pytest.fixture
def build(tmp_path: Path) -> Path:
    path = tmp_path / "1.sqlite"
    path.write_bytes(bytes(range(256)) * (3 * PAGE // 256))
    return path


def test_a_new_build_has_no_sums_and_is_whole(tmp_path: Path) -> None:
    Sums(tmp_path / "1.sqlite").check()
    (tmp_path / "1.sqlite").write_bytes(bytes(PAGE))
    Sums(tmp_path / "1.sqlite").check()


def test_l6_a_build_with_pages_and_no_sums_is_not_known_to_be_whole(build: Path) -> None:
    with pytest.raises(ViewDamaged, match=r"1\.sqlite: expected sums beside it"):
        Sums(build).check()


def test_l6_a_build_that_ends_too_soon_is_seen(build: Path) -> None:
    Sums(build).renew(set())
    build.write_bytes(build.read_bytes()[: 2 * PAGE])
    with pytest.raises(ViewDamaged, match="page 3: expected the page that was written"):
        Sums(build).check()


def test_l6_damaged_sums_are_not_believed(build: Path) -> None:
    Sums(build).renew(set())
    place = build.with_suffix(".sums")
    whole = place.read_bytes()
    for content in (b"", whole[:-1], whole[:-4], bytes([whole[0] ^ 1]) + whole[1:]):
        place.write_bytes(content)
        with pytest.raises(ViewDamaged, match=r"sqlite|sums"):
            Sums(build).check()


def test_only_pages_that_a_fold_writes_are_summed_again(build: Path) -> None:
    sums = Sums(build)
    sums.renew(set())
    build.write_bytes(bytes(2 * PAGE) + build.read_bytes()[2 * PAGE :])
    sums.renew({2})
    with pytest.raises(ViewDamaged, match="page 1:"):
        Sums(build).check()
    sums.renew({1})
    Sums(build).check()


def test_a_wal_with_an_end_that_was_never_written_is_folded(build: Path) -> None:
    """As a power cut leaves it: its frames are of no page, or of one that the file does not have."""
    build.with_name("1.sqlite-wal").write_bytes(bytes(32 + 24 + PAGE) + b"\xff" * (24 + PAGE))
    sums = Sums(build)
    sums.renew(sums.take_away())
    Sums(build).check()
