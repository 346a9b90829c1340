"""A bounded run of `make fuzz`, the same every time: what CI runs."""

from __future__ import annotations

import pytest
from tests.fuzz.campaign import run_round

ROUNDS = {
    "updates": (7, 6_000, ("denied", "hole", "applied", "refused", "nothing new")),
    "sockets": (10, 400, ("open", "4400", "4403")),
    "served": (12, 400, ("denied", "waits", "taken", "refused", "closed with 4403")),
    "rest": (11, 150, ("200", "201", "400", "404", "422")),
    "tokens": (8, 2_000, ("refused", "taken", "asked")),
    "files": (9, 600, ("glb refused", "glb taken", "txt refused", "txt taken", "jsonl refused", "jsonl taken")),
}
"""Per target: the seed, how many inputs, and what must have become of some, or nothing was tried."""


@pytest.mark.parametrize("name", ROUNDS)
def test_g1_hostile_input_is_survived(name: str) -> None:
    seed, count, fates = ROUNDS[name]
    became = run_round(name, seed, count)
    assert became.total >= count
    assert [fate for fate in fates if became.fates[fate] < count // 500] == []
