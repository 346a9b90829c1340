"""The command line: `maquette COMMAND`. Each command is a module of `commands`."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import Annotated

import typer

from maquette.server.commands.backup import backup
from maquette.server.commands.doctor import doctor
from maquette.server.commands.log import log
from maquette.server.commands.members import members
from maquette.server.commands.rebuild import rebuild
from maquette.server.commands.rewrite import rewrite
from maquette.server.commands.serve import serve
from maquette.server.commands.spaces import spaces
from maquette.server.commands.thaw import thaw
from maquette.server.commands.token import token
from maquette.server.commands.transfer import export_file, import_files

app = typer.Typer(
    name="maquette",
    help="Maquette: people and AI participants chat and edit 3D scenes together, from one durable log.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a docstring again
    pretty_exceptions_enable=False,  # its boxes print local variables, which may hold tokens
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(serve)
app.command()(token)
app.command()(spaces)
app.command()(members)
app.command("import")(import_files)
app.command("export")(export_file)
app.command()(log)
app.command()(rebuild)
app.command()(rewrite)
app.command()(backup)
app.command()(doctor)
app.command()(thaw)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maquette {version('maquette')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Maquette: people and AI participants chat and edit 3D scenes together, from one durable log.

    Exit codes: 0 done, 1 something is wrong or was left out, 2 a wrong option or argument.
    """


def run() -> None:
    """Run the command that the arguments name."""
    logging.basicConfig(level=logging.WARNING, format="maquette: %(message)s")  # to stderr, without a time
    app(prog_name="maquette")
