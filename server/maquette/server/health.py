"""How the server is: for load balancers (`/healthz`, `/readyz`) and for Prometheus (`/metrics`).

Rule 1: alive means that the loop answers; ready means that writes are taken and reads are not far behind.
Rule 2: no tenant, space or actor is in a metric: labels are for ever, and they are personal.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel, Field

from maquette.projections.runner import Status
from maquette.server.errors import Unavailable
from maquette.server.services import Services, services_of

MAX_BEHIND = 10_000  # positions: some seconds of catching up
MAX_LAG = 30_000  # milliseconds

router = APIRouter(tags=["health"])


class Ready(BaseModel):
    """The server takes requests."""

    ready: bool = Field(examples=[True])
    warnings: list[str] = Field(
        default=[], description="What an operator should look at; absent when there is nothing."
    )


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Alive."""
    return "ok\n"


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model_exclude_defaults=True)
async def readyz(request: Request) -> Ready:
    """Whether the server takes writes and its read models are up to date; a problem with `reasons` when not."""
    services = services_of(request)
    reasons = [] if _writable(services) else ["log: expected to be writable, the last commit failed"]
    for status in await _statuses(services):
        reasons += _faults(status)
    if reasons:
        raise Unavailable(*reasons)
    return Ready(ready=True, warnings=_warnings(services))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Figures in the text format of Prometheus."""
    services = services_of(request)
    registry = CollectorRegistry()
    for name, help_, value in (
        (
            "log_position",
            "Position of the newest event: events appended, where positions are dense.",
            await services.engine.log.head(),
        ),
        ("log_commits", "Commits since the log was opened.", getattr(services.engine.log, "commits", 0)),
        ("log_writable", "1 while the log takes appends.", _writable(services)),
        ("documents_open", "Documents in memory.", services.engine.open_documents),
        ("documents_unopenable", "Documents that could not be opened the last time.", len(services.engine.unopenable)),
        ("documents_frozen", "Frozen documents (G4), of the spaces in use.", services.engine.frozen_documents),
        ("restarts", "Processes that served before this one, under the same supervisor (G4).", services.restarts),
        ("connections", "WebSocket connections.", len(services.hub.connections)),
    ):
        Gauge(f"maquette_{name}", help_, registry=registry).set(value)
    _projections(registry, await _statuses(services))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _projections(registry: CollectorRegistry, statuses: list[Status]) -> None:
    for name, help_, field in (
        ("behind_positions", "Positions between the checkpoint and the newest event.", "behind"),
        ("lag_milliseconds", "Age of the oldest event that was read and is not applied.", "milliseconds"),
        ("applied_events", "Events applied since the server started.", "applied"),
        ("parked_streams", "Streams that an event stopped in this projection.", "parked"),
    ):
        gauge = Gauge(f"maquette_projection_{name}", help_, ["projection"], registry=registry)
        for status in statuses:
            gauge.labels(status.name).set(getattr(status, field))


def _warnings(services: Services) -> list[str]:
    """Never by name: whoever asks is nobody in particular."""
    failing = len(services.engine.unopenable)
    return [f"documents: {failing} cannot be opened, `maquette doctor` tells which and why"] if failing else []


def _writable(services: Services) -> bool:
    return bool(getattr(services.engine.log, "writable", True))


async def _statuses(services: Services) -> list[Status]:
    return [] if services.projections is None else await services.projections.status()


def _faults(status: Status) -> list[str]:
    if status.error is not None:
        return [f"projection {status.name!r}: expected to follow the log, it stopped: {status.error}"]
    if status.behind > MAX_BEHIND and status.milliseconds > MAX_LAG:
        return [
            f"projection {status.name!r}: expected at most {MAX_BEHIND} positions and {MAX_LAG} ms behind, "
            f"got {status.behind} and {status.milliseconds}"
        ]
    return []
