"""The members of a space, for owners and moderators: their roles, and who is kept out."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from maquette.client.errors import NotAdmitted

TIMEOUT_SECONDS = 30.0  # a change waits for the disk


class RemoteMembers:
    """The members of one space on a server, an async context manager.

    Each method raises NotAdmitted with the status and the reason when the server refuses, and httpx.HTTPError when it
    does not answer. Every change counts at once, for open connections too.
    """

    def __init__(self, url: str, space: str, *, token: str) -> None:
        """`url` is the server's, `http://`; `token` that of an owner, or of a moderator for bans."""
        self._url = f"{url.rstrip('/')}/v1/spaces/{quote(space, safe='')}/members"
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def list(self) -> list[dict[str, Any]]:
        """Of whom the space says anything: `actor`, `name`, `role`, `removed`, `banned`."""
        found: list[dict[str, Any]] = (await self._ask("GET", ""))["members"]
        return found

    async def set(self, actor: str, role: str) -> None:
        """Give `actor` a role, whatever its token says."""
        await self._ask("PUT", f"/{quote(actor, safe='')}", {"role": role})

    async def remove(self, actor: str) -> None:
        """Take every role from `actor`, until one is set again."""
        await self._ask("DELETE", f"/{quote(actor, safe='')}")

    async def ban(self, actor: str, *, until: int | None = None, reason: str | None = None) -> None:
        """Keep `actor` out until then, in milliseconds since 1970, or for good."""
        await self._ask("PUT", f"/{quote(actor, safe='')}/ban", {"until": until, "reason": reason})

    async def unban(self, actor: str) -> None:
        """Lift the ban of `actor`."""
        await self._ask("DELETE", f"/{quote(actor, safe='')}/ban")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        response = await self._client.request(method, self._url + path, json=body)
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        problem = response.headers.get("Content-Type") == "application/problem+json"
        raise NotAdmitted(response.status_code, response.json()["detail"] if problem else response.reason_phrase)
