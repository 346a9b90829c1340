"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maquette.server.auth import DEV_TENANT

DEFAULT_DATA = Path("data")

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="MAQUETTE_DATA_DIR",
        file_okay=False,
        help="The folder with the log, the assets, the keys and the read models.",
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", metavar="ID", help="The tenant whose spaces are meant.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]

DEFAULT_TENANT = DEV_TENANT
