"""Bodies of requests: JSON as RFC 8259 has it, and both JSON and files within limits.

Rule 1: a body is counted while it comes; one that says a larger length is refused before it is read.
Rule 2: a body comes at some pace, so that nobody holds connections and what serves them with a few bytes a minute.
Rule 3: whoever is not admitted is told so before a body is read (`admission`).
Rule 4: NaN, Infinity and what UTF-8 cannot hold are not JSON, whatever Python's reader takes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from maquette.server.admission import admitted
from maquette.server.errors import MalformedBody, TooLarge, TooSlow, UnsupportedMedia

MAX_JSON = 1 << 20  # bytes: a chat message has 32 KiB, a node with its extras 64 KiB

GRACE_SECONDS = 30.0  # for a connection that stops and comes back
LEAST_PACE = 4 << 10  # bytes a second behind that: the slowest of lines, on which 1 MiB takes four minutes


class JsonRequest(Request):
    """A request whose body is read by the rules above."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = b"".join([chunk async for chunk in limited(self, MAX_JSON)])
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route of somebody who is admitted, whose JSON body is read by the rules above, before FastAPI validates it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_first(request: Request) -> Response:
            strict = JsonRequest(request.scope, request.receive)
            admitted(strict)
            if self.body_field is not None and await strict.body():
                _require_json(strict.headers.get("content-type"))
                await strict.json()  # here, because FastAPI tells every failure in its own words
            return await handle(strict)

        return read_first


def _require_json(content_type: str | None) -> None:
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence != "application/json" and not (essence.startswith("application/") and essence.endswith("+json")):
        raise UnsupportedMedia(f"Content-Type: expected application/json, got {content_type!r:.80}")


async def limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces as they come. Raises TooLarge, TooSlow, and MalformedBody when the client goes away."""
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said[:20]) > limit:
        raise TooLarge(limit, int(said[:20]))
    size = 0
    try:
        async for chunk in _paced(request.stream()):
            size += len(chunk)
            if size > limit:
                raise TooLarge(limit, None)
            yield chunk
    except ClientDisconnect as error:  # nobody hears this, but it is no fault of ours to be logged
        raise MalformedBody(f"body: expected all of it, got its end after {size} bytes") from error


async def _paced(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The pieces, while they come at LEAST_PACE. Raises TooSlow."""
    left, size = GRACE_SECONDS, 0  # what the server itself takes for a piece does not count
    clock = asyncio.get_running_loop().time
    while True:
        begun = clock()
        try:
            async with asyncio.timeout(left):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise TooSlow(f"body: expected {LEAST_PACE} bytes a second, got {size} bytes and then too few") from error
        if piece is None:
            return
        size += len(piece)
        left += begun - clock() + len(piece) / LEAST_PACE
        yield piece


def parse_json(body: bytes) -> Any:
    """The value in `body`. Raises MalformedBody, naming the place where the reader tells one."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates, which only \u can spell
    except UnicodeEncodeError as error:
        raise MalformedBody("body: expected text that UTF-8 can hold, got a lone surrogate") from error
    except UnicodeDecodeError as error:
        raise MalformedBody(f"body: expected JSON in UTF-8, got byte {error.start} that is none") from error
    except json.JSONDecodeError as error:
        came = repr(error.doc[error.pos : error.pos + 20]) if error.pos < len(error.doc) else "its end"
        raise MalformedBody(f"body, character {error.pos}: expected JSON, got {came} ({error.msg})") from error
    except RecursionError as error:
        raise MalformedBody("body: expected JSON of some levels, got one that is nested too deeply") from error
    except ValueError as error:
        raise MalformedBody(f"body: expected JSON, got {error}") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not know")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40}, which no 64-bit number holds")
    return number
