from __future__ import annotations

import re

import pytest

from maquette.engine.errors import InvalidInput
from maquette.engine.ids import check_id, is_id, mint


def test_a_minted_id_is_eleven_base62_characters() -> None:
    assert all(re.fullmatch("[0-9A-Za-z]{11}", mint()) for _ in range(1_000))


def test_minted_ids_do_not_repeat() -> None:
    assert len({mint() for _ in range(20_000)}) == 20_000


def test_a_minted_id_holds_every_bit_of_its_source() -> None:
    assert mint(lambda count: b"\x00" * count) == "0" * 11
    assert mint(lambda count: b"\x00" * (count - 1) + b"\x3e") == "0" * 9 + "10"  # 62
    assert mint(lambda count: b"\xff" * count) == "LygHa16AHYF"  # 2 ** 64 - 1 in base 62


@pytest.mark.parametrize("foreign", ["a", "A-b_9", "x" * 64, pytest.param(mint(), id="minted")])
def test_a_foreign_id_of_safe_characters_is_taken(foreign: str) -> None:
    assert check_id(foreign) == foreign


@pytest.mark.parametrize("wrong", ["", "x" * 65, "a b", "ä", "a/b", "a\n", "a.b", None, 7, b"abc"])
def test_what_is_no_id_is_refused_by_name(wrong: object) -> None:
    assert not is_id(wrong)
    with pytest.raises(InvalidInput, match="parent id: expected 1 to 64 characters"):
        check_id(wrong, "parent id")
