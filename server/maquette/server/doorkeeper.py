"""Who may come in now: open connections, and the rates of connections and of requests (G2), all within a tenant.

Rule 1: an actor is counted before its address, and an address before the tenant, so that one actor uses up no more of
        what is shared than its own part.
Rule 2: whoever is refused is told when to come back, each at another moment.

The rates are kept by `limits`, whose storage can be shared between servers. A hit takes 5 µs, or 300 when it starts the
thread that sweeps: good enough for a connection or a request, not for each frame, which `rates` counts.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Address

from maquette.server.errors import LimitReached
from maquette.server.limits import DEFAULT_TABLE, LimitTable, TenantLimits
from maquette.server.rates import Meter, Pace, Pacer

ACCEPT_SECONDS = 10
REQUEST_SECONDS = 60
CROWDED_SECONDS = 10  # until somebody may have left; nobody knows when
JITTER_SECONDS = 5  # over which those who were refused at one moment come back


@dataclass(frozen=True, slots=True)
class Visit:
    """Who comes: an actor of a tenant, from an address."""

    tenant: str
    actor: str
    address: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a rate, as the fields RateLimit-Policy and RateLimit tell it."""

    scope: str
    limit: int
    window: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"{self.scope}";q={self.limit};w={self.window}',
            "RateLimit": f'"{self.scope}";r={self.remaining};t={self.reset}',
        }


@dataclass(slots=True)
class _Tenant:
    """The meters of a tenant that has connections, by the name of what they measure."""

    limits: TenantLimits
    whole: Meter
    actors: dict[str, Meter] = field(default_factory=dict)
    addresses: dict[str, Meter] = field(default_factory=dict)
    spaces: dict[str, Meter] = field(default_factory=dict)


class Doorkeeper:
    """Counts who comes and who is in. One for each server; use it on one event loop only."""

    def __init__(self, table: LimitTable = DEFAULT_TABLE) -> None:
        self.table = table
        self._rates = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._tenants: dict[str, _Tenant] = {}

    # --- rates -----------------------------------------------------------------------------------------------------

    def knock(self, visit: Visit) -> None:
        """Count a new connection. Raises LimitReached."""
        limits = self.table.of(visit.tenant)
        what, seconds = "connections in 10 s", ACCEPT_SECONDS
        self._hit(what, "actor", limits.accepts_per_actor, seconds, visit.tenant, visit.actor)
        self._hit(what, "address", limits.accepts_per_address, seconds, visit.tenant, visit.address)
        self._hit(what, "tenant", limits.accepts_per_tenant, seconds, visit.tenant)

    def request(self, visit: Visit) -> Allowance:
        """Count a request; what its actor has left. Raises LimitReached."""
        limits = self.table.of(visit.tenant)
        what, seconds = "requests in 60 s", REQUEST_SECONDS
        self._hit(what, "actor", limits.requests_per_actor, seconds, visit.tenant, visit.actor)
        self._hit(what, "address", limits.requests_per_address, seconds, visit.tenant, visit.address)
        self._hit(what, "tenant", limits.requests_per_tenant, seconds, visit.tenant)
        return self._left("actor", limits.requests_per_actor, seconds, what, visit.tenant, visit.actor)

    def _hit(self, what: str, scope: str, limit: int, seconds: int, *key: str) -> None:
        if not self._rates.hit(_item(limit, seconds), what, scope, *key):
            left = self._left(scope, limit, seconds, what, *key)
            raise LimitReached(f"{what} of one {scope}", limit, retry_seconds(left.reset), left.headers)

    def _left(self, scope: str, limit: int, seconds: int, what: str, *key: str) -> Allowance:
        stats = self._rates.get_window_stats(_item(limit, seconds), what, scope, *key)
        return Allowance(scope, limit, seconds, stats.remaining, max(1, round(stats.reset_time - time.time())))

    # --- connections -------------------------------------------------------------------------------------------------

    @contextmanager
    def inside(self, visit: Visit, space: str) -> Iterator[Pacer]:
        """Count an open connection to the space for the block; what tells at which pace to read it.

        Raises LimitReached.
        """
        limits = self.table.of(visit.tenant)
        tenant = self._tenants.get(visit.tenant) or _Tenant(limits, Meter(_pace(limits, "tenant")))
        actor = tenant.actors.get(visit.actor) or Meter(_pace(limits, "actor"))
        address = tenant.addresses.get(visit.address) or Meter(_pace(limits, "address"))
        place = tenant.spaces.get(space) or Meter(_pace(limits, "space"))
        _require("actor", limits.connections_per_actor, actor)
        _require("address", limits.connections_per_address, address)
        _require("space", limits.connections_per_space, place)
        _require("tenant", limits.connections_per_tenant, tenant.whole)
        self._tenants[visit.tenant] = tenant
        places = (
            _Place(tenant.actors, visit.actor, actor),
            _Place(tenant.addresses, visit.address, address),
            _Place(tenant.spaces, space, place),
        )
        for one in places:
            one.join(visit.actor)
        tenant.whole.members[visit.actor] += 1
        try:
            yield Pacer(_pace(limits, "connection"), actor, (address, place, tenant.whole))
        finally:
            for one in places:
                one.leave(visit.actor)
            if _leave(tenant.whole, visit.actor):
                del self._tenants[visit.tenant]


@dataclass(frozen=True, slots=True)
class _Place:
    """A meter among its kin, where it is while somebody shares it."""

    meters: dict[str, Meter]
    name: str
    meter: Meter

    def join(self, actor: str) -> None:
        self.meters[self.name] = self.meter
        self.meter.members[actor] += 1

    def leave(self, actor: str) -> None:
        if _leave(self.meter, actor):
            del self.meters[self.name]


def _leave(meter: Meter, actor: str) -> bool:
    """Count one connection less; whether none is left."""
    meter.members[actor] -= 1
    if not meter.members[actor]:
        del meter.members[actor]
    return not meter.members


def _require(scope: str, limit: int, meter: Meter) -> None:
    if meter.members.total() >= limit:
        raise LimitReached(f"open connections of one {scope}", limit, retry_seconds(CROWDED_SECONDS))


def retry_seconds(after: float) -> int:
    """When to come back: after so many seconds at least, and not all at the same moment."""
    return math.ceil(after + JITTER_SECONDS * random.random())


def address_of(client: Address | None) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which is what a household gets."""
    host = "" if client is None else client.host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host  # a UNIX socket, or a proxy's word for nobody
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ip_network((address, 64), strict=False))
    return str(address)


def _pace(limits: TenantLimits, scope: str) -> Pace:
    return Pace(*(getattr(limits, f"{what}_per_{scope}") for what in ("frames", "bytes", "ops")))


@cache
def _item(limit: int, seconds: int) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(limit, seconds)
