"""REST from its OpenAPI document by schemathesis, fitting requests and unfitting ones, with two tenants' tokens.

Never a fault of ours, every refusal a problem document, and nobody sees or changes what belongs to another tenant:
both tenants have a space of the same slug, and each is asked for the other's ids.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from tests.fuzz.became import Became
from tests.support.api import PROBLEM, Api, serving

from maquette.server.limits import LimitTable, TenantLimits

SECRETS = {"t1": "qxzonezxq", "t2": "qxztwozxq"}
"""What each tenant wrote, everywhere where it can write."""
EXAMPLES = 12
"""Requests in a row to one operation, by one tenant."""
STATUSES = (200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 416, 422)
OPEN = LimitTable(TenantLimits(requests_per_actor=10**9, requests_per_address=10**9, requests_per_tenant=10**9))
"""Rates that a fuzzer does not meet."""


@dataclass(frozen=True, slots=True)
class House:
    """A server, and what a path may name: ids of both tenants."""

    api: Api
    names: Mapping[str, Sequence[str]]

    async def content(self, tenant: str) -> list[Any]:
        """All that a tenant can read of its space."""
        paths = ("", "/chat/messages", "/scene/nodes", "/scene/materials", "/scene/comments", "/documents/chat/state")
        return [await self.api.done("GET", f"/spaces/demo{path}", tenant=tenant) for path in paths]


@asynccontextmanager
async def _house() -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory() as folder:
        async with serving("memory:", Path(folder), limits=OPEN) as api:
            yield House(api, await _furnished(api, [*SECRETS]))


async def _furnished(api: Api, tenants: Sequence[str]) -> dict[str, list[str]]:
    """A space for each tenant with something of everything; the ids of it by the name of their path parameter."""
    names: dict[str, list[str]] = {
        "space": ["demo"], "message": [], "node": [], "material": [], "comment": [], "document": ["chat", "scene@1"],
        "asset": ["A" * 43], "emoji": ["👍"], "name": ["chat_history", "none"],
    }  # fmt: skip
    for tenant in tenants:
        secret = SECRETS[tenant]
        space = await api.done("POST", "/spaces", {"slug": "demo", "name": secret}, tenant=tenant)
        names["space"].append(space["id"])
        for kind, path, body in (
            ("message", "chat/messages", {"body": secret}),
            ("node", "scene/nodes", {"name": secret, "mesh": {"shape": "box"}}),
            ("material", "scene/materials", {"name": secret}),
            ("comment", "scene/comments", {"body": secret, "point": [0, 0, 0]}),
        ):
            made = await api.done("POST", f"/spaces/demo/{path}", body, tenant=tenant)
            names[kind].append(made["id"])
    return names


async def call(random: Random, count: int, note: Callable[[bytes], None]) -> Became:
    """Send about `count` requests."""
    fates: Counter[str] = Counter()
    async with _house() as house:
        schema = schemathesis.openapi.from_dict(house.api.app.openapi())
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        while fates.total() < count:
            before = await house.content("t1")
            for _ in range(8):
                case = Trial(house, random.choice(operations), random, note, fates)
                await asyncio.to_thread(case.run, asyncio.get_running_loop())
            await house.api.runner.wait_for(await house.api.engine.log.head(), 20)
            assert await house.content("t1") == before, "a request of t2 changed something of t1"
            assert [await house.api.runner.parked(name) for name in house.api.runner.names] == [[], []]
    return Became(fates)


@dataclass(slots=True)
class Trial:
    """Requests to one operation. t1 owns what must not change, and only reads; t2 does what it likes."""

    house: House
    operation: Any
    random: Random
    note: Callable[[bytes], None]
    fates: Counter[str]

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send them, from a thread beside `loop`, because Hypothesis is not asynchronous."""
        mode = self.random.choice((GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
        named = {
            one.name: self.random.choice(self.house.names[one.name])
            for one in self.operation.path_parameters
            if one.name in self.house.names and self.random.random() < 0.85
        }

        @seed(self.random.randrange(2**32))
        @settings(
            max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        )  # fmt: skip
        @given(self.operation.as_strategy(generation_mode=mode))
        def ask(case: Case[Any]) -> None:
            for name, value in named.items():
                case.path_parameters[name] = value
            asyncio.run_coroutine_threadsafe(self._ask(case), loop).result(30)

        try:
            ask()
        except Unsatisfiable:  # an operation that nothing unfitting can be sent to
            self.fates["nothing unfitting"] += 1

    async def _ask(self, case: Case[Any]) -> None:
        tenant = "t1" if case.method.upper() == "GET" and self.random.random() < 0.5 else "t2"
        sent = case.as_transport_kwargs(base_url="http://localhost")
        sent["headers"] = {**dict(sent.get("headers") or {}), **self.house.api.headers(tenant=tenant)}
        sent = {name: value for name, value in sent.items() if value is not None and name != "cookies"}
        self.note(repr(sent).encode("utf-8", "backslashreplace"))
        if "data" in sent:
            sent["content"] = sent.pop("data")
        try:
            response = await self.house.api.http.request(**sent)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError, TypeError):
            self.fates["unsendable"] += 1
            return
        self.fates[str(response.status_code)] += 1
        self._judge(response, tenant)

    def _judge(self, response: httpx.Response, tenant: str) -> None:
        assert response.status_code in STATUSES, (response.status_code, response.text)
        if response.status_code >= 400 and response.request.url.path.startswith("/v1"):
            assert response.headers["Content-Type"] == PROBLEM, response.text
        others = SECRETS[{"t1": "t2", "t2": "t1"}[tenant]].encode()
        assert others not in response.content, f"{tenant} sees what the other wrote: {response.text[:500]}"
