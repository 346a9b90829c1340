"""Tells every client of the HTTP API how many requests it has left (`RateLimit` and `RateLimit-Policy`)."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOWANCE = "maquette.allowance"
"""The key in a request's scope under which its route leaves the Allowance."""


class ToldAllowances:
    """Adds the fields to the answers of requests that were counted; what a refusal says already stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start" and ALLOWANCE in scope:
                headers = MutableHeaders(scope=message)
                for name, value in scope[ALLOWANCE].headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_told)
