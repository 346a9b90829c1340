"""Problem documents (RFC 9457): how every error of the HTTP side is told.

Rule 1: every error has one, those that the framework raises too; `detail` says what was expected and what came.
Rule 2: what is the machine's fault is told without its inside, and logged with it.
Rule 3: nothing of the query is repeated, for it may hold a token.
"""

from __future__ import annotations

import logging
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from maquette.engine.assets import AssetTooLarge, AssetUnwritable
from maquette.engine.errors import (
    DocumentFrozen,
    DocumentMoved,
    InvalidInput,
    LogClosed,
    LogDamaged,
    LogUnwritable,
    MalformedUpdate,
    MaquetteError,
    NotFound,
    OpRefused,
    RewriteRunning,
    SchemaError,
    WrongRevision,
)
from maquette.projections.errors import ProjectionBehind, ProjectionStopped
from maquette.server.errors import (
    Conflict,
    Forbidden,
    LimitReached,
    MalformedBody,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5  # an operator frees a disk in minutes; a projection catches up in seconds
_logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """A problem document (RFC 9457). `type` names the kind of problem and stays the same between versions."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:maquette:problem:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What was expected and what came.", examples=["expected an existing node, got 'x'"])
    instance: str = Field(description="The path that was asked for.", examples=["/v1/spaces/demo/scene/nodes/x"])


@dataclass(frozen=True, slots=True)
class Told:
    """How one class of errors is told: its kind of problem, and which of its fields go with it."""

    status: int
    kind: str
    fields: tuple[str, ...] = ()
    inside: bool = False


# The first class that fits tells: subclasses stand before what they derive from.
TOLD: Sequence[tuple[type[Exception], Told]] = (
    (Unauthenticated, Told(401, "unauthenticated")),
    (Forbidden, Told(403, "forbidden")),
    (OpRefused, Told(403, "refused", ("reasons",))),
    (NotFound, Told(404, "not-found", ("what",))),
    (DocumentMoved, Told(409, "document-moved", ("successor",))),
    (DocumentFrozen, Told(423, "document-frozen", ("before", "reason"))),
    (Conflict, Told(409, "conflict")),
    (RewriteRunning, Told(409, "conflict")),
    (WrongRevision, Told(409, "conflict")),
    (TooSlow, Told(408, "too-slow")),
    (TooLarge, Told(413, "too-large", ("limit",))),
    (AssetTooLarge, Told(413, "too-large", ("limit",))),
    (MalformedBody, Told(400, "malformed")),
    (MalformedUpdate, Told(400, "malformed", ("offset",))),
    (LimitReached, Told(429, "too-many-requests", ("limit", "retry"))),
    (UnsupportedMedia, Told(415, "unsupported-media")),
    (SchemaError, Told(422, "invalid", ("path", "expected", "actual"))),
    (InvalidInput, Told(422, "invalid")),
    (ProjectionBehind, Told(503, "behind")),
    (ProjectionStopped, Told(503, "unavailable")),
    (Unavailable, Told(503, "unavailable", ("reasons",))),
    (LogUnwritable, Told(503, "read-only")),
    (AssetUnwritable, Told(503, "read-only", inside=True)),
    (LogClosed, Told(503, "unavailable", inside=True)),
    (MaquetteError, Told(500, "internal", inside=True)),
)

TITLES = {
    "unauthenticated": "No valid token",
    "forbidden": "Not allowed",
    "refused": "Refused by the gate",
    "not-found": "Not found",
    "document-moved": "The document goes on under another name",
    "document-frozen": "The document takes no edits",
    "conflict": "Conflict",
    "too-large": "Too large",
    "malformed": "Malformed body",
    "unsupported-media": "Unsupported media type",
    "invalid": "Invalid input",
    "too-many-requests": "More than the limits of the tenant allow",
    "behind": "The projection has not come so far yet",
    "unavailable": "Not available now",
    "read-only": "The log cannot be written now",
    "internal": "Internal error",
}

INSIDE = {
    500: "expected to answer, an error came that this server's log tells",
    503: "expected to write to the disk, it did not take it: try again later",
}


def problem(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The response for one problem. `kind` is the last part of its type; `fields` go beside the standard ones."""
    document = {
        "type": f"urn:maquette:problem:{kind}",
        "title": TITLES.get(kind) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.scope["path"],
    }
    return JSONResponse({**(fields or {}), **document}, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of `app` be told as a problem document (rule 1)."""
    app.add_exception_handler(MaquetteError, _tell)
    app.add_exception_handler(RequestValidationError, _tell_validation)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(Exception, _tell_fault)


async def _tell(request: Request, error: Exception) -> JSONResponse:
    told = next(told for class_, told in TOLD if isinstance(error, class_))
    fields = {name: value for name in told.fields if (value := getattr(error, name, None)) is not None}
    detail = str(error)
    if told.inside:
        told_all = isinstance(error, LogDamaged)  # it names its place; a traceback per request would bury that
        _logger.error("%s %s failed: %s", request.method, request.scope["path"], error, exc_info=not told_all and error)
        detail = INSIDE[told.status]
    return problem(request, told.status, told.kind, detail, headers=_headers(told.status, error), fields=fields)


def _headers(status: int, error: Exception) -> Mapping[str, str]:
    if isinstance(error, LimitReached):
        return error.headers
    match status:
        case 401:
            return {"WWW-Authenticate": 'Bearer realm="maquette"'}
        case 503:
            return {"Retry-After": str(RETRY_SECONDS)}
    return {}


async def _tell_http(request: Request, error: Exception) -> JSONResponse:
    """What routing raises: 404 for a path, 405 for a method."""
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    kind = {400: "malformed", 404: "not-found", 413: "too-large"}.get(error.status_code, "")
    if error.status_code == 404:
        detail = f"expected a path of this API, got {request.scope['path']!r:.200}"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail, kind = f"expected {allowed}, got {request.method}", "method-not-allowed"
    return problem(request, error.status_code, kind or "http", detail, headers=error.headers)


async def _tell_fault(request: Request, error: Exception) -> JSONResponse:
    return problem(request, 500, "internal", INSIDE[500])  # Starlette raises it on to the server, which logs it


async def _tell_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_validation(one) for one in error.errors()]
    detail = "; ".join(f"{one['path']}: expected {one['expected']}, got {one['actual']}" for one in errors[:5])
    return problem(request, 422, "invalid", detail, fields={"path": errors[0]["path"], "errors": errors[:50]})


_SHORT = reprlib.Repr()  # bounded in depth too: what came may be nested deeper than `repr` can go
_SHORT.maxstring = _SHORT.maxother = 60
_WORDS = re.compile(r"^(?:Input|Value|\w+) should (?:be |have |match )?")


def _validation(error: Mapping[str, Any]) -> dict[str, str]:
    place = [str(part) for part in error["loc"]]
    path = ".".join(place[1:]) or place[0]  # without "body", "query" or "path"
    match error["type"]:
        case "missing":
            return {"path": path, "expected": "a value", "actual": "none"}
        case "extra_forbidden":
            return {"path": path, "expected": "no field of this name", "actual": repr(path)}
    expected = _WORDS.sub("", error["msg"])
    return {"path": path, "expected": expected[:1].lower() + expected[1:], "actual": _SHORT.repr(error.get("input"))}
