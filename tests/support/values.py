"""JSON that somebody changed at one place: what the tests of everything that reads JSON share."""

from __future__ import annotations

import json
import random
from typing import Any

VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 3, 7, 255, 5126, 2**31, 2**53, 2**62, 0.5, 1e308, -1e-320, "", "VEC3", "a", "\ud7ff",
    [], [0], [0, 0], [1, 2, 3], [[]], {}, {"index": 0}, {"a": []}, "data:;base64,AAAA", "../x",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all members of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in [(*path, key), *places(item, (*path, key))]]


def mutated(root: Any, dice: random.Random) -> Any:
    """A copy of `root` with one member replaced, removed, doubled, or moved from elsewhere."""
    root = json.loads(json.dumps(root))
    *steps, last = dice.choice(places(root))
    owner = root
    for step in steps:
        owner = owner[step]
    match dice.randrange(4):
        case 0 | 1:
            owner[last] = dice.choice(VALUES)
        case 2:
            del owner[last]
        case _ if isinstance(owner, list):
            owner.append(owner[last])
        case _:
            owner[last] = -owner[last] if isinstance(owner[last], int | float) else dice.choice(VALUES)
    return root
