"""Whatever a body holds, it is taken or refused with a reason; it is never a fault of ours, and others go on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.support.api import Api

ROUNDS = 400
NUMBERS = [0, 1, -1, 2**31, 2**53, 2**63, 2**64, 10**30, 0.5, 1e-320, 3.4e38, 3.5e38, 1e308]
STRINGS = ["", "x", "\x00", "\x1f", "😀", "\u2028", "a" * 300, "../x", "NaN", "__proto__", "A" * 43, "mesh", "box"]
FITTING: dict[str, Any] = {
    "body": "ok", "thread": "m1", "mentions": ["ann"], "attachments": [{"name": "x"}], "name": "x", "slug": "x",
    "translation": [1, 2, 3], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1], "matrix": None, "visible": True,
    "locked": False, "mesh": {"shape": "box"}, "slots": {"0": "m1"}, "light": {"type": "point"}, "text": {"body": "x"},
    "camera": None, "weights": [0.5], "extras": {"x": 1}, "type": "group", "parent": None, "index": 7,
    "base_color": [1, 0, 0, 1], "metallic": 0.5, "roughness": 0.5, "emissive": [1, 1, 1], "alpha_mode": "MASK",
    "alpha_cutoff": 0.5, "point": [0, 1, 0], "node": None, "normal": [0, 1, 0], "resolved": True,
}  # fmt: skip
"""A value of each field that is taken."""

MESSAGE = ("body", "thread", "mentions", "attachments")
NODE = (
    "name", "translation", "rotation", "scale", "matrix", "visible", "locked", "mesh", "slots", "light", "camera",
    "text", "weights", "extras", "type", "parent", "index",
)  # fmt: skip
MATERIAL = ("name", "base_color", "metallic", "roughness", "emissive", "alpha_mode", "alpha_cutoff", "extras")
COMMENT = ("body", "point", "node", "normal", "parent", "resolved")


class Chance:
    """Bodies by chance, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        """Any value of JSON; one in three is one that some field takes."""
        choice = self.random.randrange(9 if depth < 3 else 5)
        if choice < 3:
            return self.random.choice(list(FITTING.values()))
        if choice < 5:
            return self.random.choice([self.random.choice(NUMBERS), self.random.choice(STRINGS)])
        values = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return values if choice < 7 else {self.random.choice([*FITTING, *STRINGS]): value for value in values}

    def body(self, fields: tuple[str, ...]) -> Any:
        """A map of one or two of `fields` and what comments need, half of it fitting; now and then something else."""
        if self.random.random() < 0.1:
            return self.value()
        body = {
            field: FITTING[field] if self.random.random() < 0.6 else self.value()
            for field in self.random.choices(fields, k=2)
        }
        return {field: FITTING[field] for field in ("body", "point") if field in fields} | body


async def test_no_body_is_a_fault_of_ours(api: Api) -> None:
    chat, scene = "/spaces/demo/chat/messages", "/spaces/demo/scene"
    await api.space("demo")
    message = (await api.done("POST", chat, {"body": "x"}))["id"]
    node = (await api.done("POST", f"{scene}/nodes", {"name": "x"}))["id"]
    material = (await api.done("POST", f"{scene}/materials", {"name": "x"}))["id"]
    comment = (await api.done("POST", f"{scene}/comments", {"body": "x", "point": [0, 0, 0]}))["id"]
    targets = [
        ("POST", chat, MESSAGE),
        ("PATCH", f"{chat}/{message}", MESSAGE),
        ("POST", f"{scene}/nodes", NODE),
        ("PATCH", f"{scene}/nodes/{node}", NODE),
        ("POST", f"{scene}/nodes/{node}/move", ("parent", "index")),
        ("POST", f"{scene}/materials", MATERIAL),
        ("PATCH", f"{scene}/materials/{material}", MATERIAL),
        ("POST", f"{scene}/comments", COMMENT),
        ("PATCH", f"{scene}/comments/{comment}", COMMENT),
        ("POST", "/spaces", ("slug", "name")),
        ("PATCH", "/spaces/demo", ("name",)),
    ]
    chance, statuses = Chance(1), Counter[int]()
    for _ in range(ROUNDS):
        method, path, fields = chance.random.choice(targets)
        body = chance.body(fields)
        response = await api.call(method, path, body)
        statuses[response.status_code] += 1
        assert response.status_code in (200, 201, 404, 409, 422), (method, path, body, response.text)
        assert response.is_success or "expected" in response.json()["detail"], response.text
    assert statuses[201] > 20  # else nothing was tried
    assert statuses[200] > 20
    await api.runner.wait_for(await api.engine.log.head(), 20)
    assert [await api.runner.parked(name) for name in api.runner.names] == [[], []]
    for path in (chat, f"{scene}/nodes", f"{scene}/matrices", "/spaces/demo/documents/scene/state"):
        await api.done("GET", path)
    for format_ in ("glb", "jsonl"):
        assert (await api.call("GET", f"/spaces/demo/export?format={format_}")).status_code == 200
