"""How much a tenant, and who comes in its name, may use of a server (G2). `DATA/limits.toml` sets it per tenant:

    [default]                        # every tenant that is not named
    ops_per_space = 500
    [tenant.acme]                    # the rest as in [default]
    connections_per_tenant = 20_000

Rule 1: everything is counted within a tenant: nobody uses up what another tenant has.
Rule 2: a name or value that is not known is an error when the server starts, never a limit that does not hold.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maquette.engine.errors import InvalidInput
from maquette.engine.spaces import check_tenant

FILE = "limits.toml"


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """The limits of one tenant. Frames, bytes and ops count per second, accepts per 10 s, requests per minute.

    An address is an IPv4 address or the /64 of an IPv6 one; an op is a frame with an update.
    """

    # A pointer and a drag at 120 Hz are 240 frames. Scripts that write faster are slowed, which loses nothing.
    frames_per_connection: int = 1_000
    bytes_per_connection: int = 4 << 20
    ops_per_connection: int = 1_000

    # A person is on two screens at most; a bot may sit in many documents.
    frames_per_actor: int = 2_000
    bytes_per_actor: int = 8 << 20
    ops_per_actor: int = 1_000

    # The three below are shared fairly between the actors there. An office of 100 behind one address.
    frames_per_address: int = 4_000
    bytes_per_address: int = 16 << 20
    ops_per_address: int = 1_500

    # A crowd of 100 in one space, ten edits a second each; every op also goes out to everyone in its document.
    frames_per_space: int = 4_000
    bytes_per_space: int = 16 << 20
    ops_per_space: int = 1_000

    # What one process on one core takes with room to spare is 3,000 to 5,000 ops a second.
    frames_per_tenant: int = 8_000
    bytes_per_tenant: int = 32 << 20
    ops_per_tenant: int = 2_000

    # An application has three documents open per tab; a bot or an agent has one per place where it works.
    connections_per_actor: int = 64
    connections_per_address: int = 1_000
    connections_per_space: int = 2_000
    connections_per_tenant: int = 5_000

    # Per 10 s. A restart brings everybody back at once: stock clients try again within 2.5 s until they are in.
    accepts_per_actor: int = 60
    accepts_per_address: int = 300
    accepts_per_tenant: int = 1_000

    # Per minute. A page of a listing has 100 entries; who reads or writes much has `export`, `import` and sync.
    requests_per_actor: int = 1_200
    requests_per_address: int = 6_000
    requests_per_tenant: int = 30_000

    # `text:NAME` documents. Each stays in the log and in the space's record, opened by whoever can spell a name.
    documents_per_space: int = 1_000

    # Bytes of updates: 200 times a novel, ten scenes of 10,000 nodes. Opening one takes about 0.2 s per MB.
    document_bytes: int = 64 << 20

    # Refused ops of one actor in one document, before it is read more slowly and no longer logged (engine, `patience`).
    refused_per_document: int = 20


DEFAULT_TENANT_LIMITS = TenantLimits()
_NAMES = frozenset(one.name for one in fields(TenantLimits))


@dataclass(frozen=True, slots=True)
class LimitTable:
    """Tenant → limits."""

    default: TenantLimits = DEFAULT_TENANT_LIMITS
    tenants: Mapping[str, TenantLimits] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, tenant: str) -> TenantLimits:
        """The limits of `tenant`: its own, or those for everybody."""
        return self.tenants.get(tenant, self.default)


DEFAULT_TABLE = LimitTable()


def read_limits(path: Path) -> LimitTable:
    """The table in the TOML file `path`. Raises InvalidInput, which names the place, for what does not fit."""
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: expected a TOML file with limits, got {error}") from error
    unknown = sorted(told.keys() - {"default", "tenant"})
    if unknown:
        raise InvalidInput(f"{path}: expected the tables [default] and [tenant.ID], got {unknown[0]!r}")
    default = _changed(path, "default", DEFAULT_TENANT_LIMITS, told.get("default", {}))
    tenants = _table(path, "tenant", told.get("tenant", {}))
    return LimitTable(
        default,
        MappingProxyType(
            {check_tenant(name): _changed(path, f"tenant.{name}", default, one) for name, one in tenants.items()}
        ),
    )


def _changed(path: Path, place: str, base: TenantLimits, told: Any) -> TenantLimits:
    for name, value in _table(path, place, told).items():
        if name not in _NAMES:
            raise InvalidInput(f"{path}, [{place}]: expected the name of a limit, got {name!r}")
        if type(value) is not int or value < 1:
            raise InvalidInput(f"{path}, [{place}] {name}: expected a whole number above 0, got {value!r:.80}")
    return replace(base, **told)


def _table(path: Path, place: str, told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise InvalidInput(f"{path}: expected a table [{place}], got {told!r:.80}")
    return told
