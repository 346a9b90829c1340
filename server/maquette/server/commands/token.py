"""`maquette token`: a token for somebody."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from maquette.engine.errors import InvalidInput
from maquette.engine.ids import mint
from maquette.engine.roles import Role
from maquette.server.commands.options import DEFAULT_DATA, DEFAULT_TENANT, Data, Tenant
from maquette.server.commands.terminal import run, say
from maquette.server.sessions import ALL_SPACES
from maquette.server.tokens import KINDS, Keyring

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def token(
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="The name that others see.")],
    role: Annotated[
        list[str],
        typer.Option(
            "--role",
            metavar="SPACE=ROLE",
            help="A role in a space, by slug or id; '*' is every space. Again for more. Roles: "
            + ", ".join(one.name.lower() for one in Role)
            + ".",
        ),
    ],
    sub: Annotated[
        str | None,
        typer.Option("--sub", metavar="ID", help="Who it is: an opaque id, never a name. [default: a new one]"),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    kind: Annotated[str, typer.Option("--kind", help=f"One of {', '.join(KINDS)}.")] = "person",
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it holds: a number and s, m, h, d or w.")
    ] = "30d",
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a token for somebody and print it.

    It is signed with the key ring in the data folder, which is made when it is not there. Whoever has the token acts
    as that participant until it expires: treat it like a password.
    """

    async def work() -> str:
        roles = dict(_role(one) for one in role)
        known = next((one for one in KINDS if one == kind), None)
        if known is None:
            raise InvalidInput(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        keyring = Keyring.load(data)
        return keyring.sign(sub or mint(), name, tenant, roles, kind=known, lifetime=seconds(expires))

    say(run(work()))


def seconds(text: str) -> int:
    """The seconds of a time such as `90s`, `12h` or `30d`. Raises InvalidInput."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found is None or int(found[1]) == 0:
        raise InvalidInput(f"--expires: expected a number and one of s, m, h, d, w, such as 30d, got {text!r}")
    return int(found[1]) * _SECONDS[found[2]]


def _role(text: str) -> tuple[str, str]:
    space, separator, name = text.rpartition("=")
    if not separator or not space:
        raise InvalidInput(f"--role: expected SPACE=ROLE, such as demo=editor or '{ALL_SPACES}=owner', got {text!r}")
    return space, Role.parse(name).name.lower()
