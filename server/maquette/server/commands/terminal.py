"""The terminal: errors in one line, progress bars where somebody looks, and coroutines run to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from maquette.engine.errors import InvalidInput, MaquetteError, NotFound
from maquette.engine.reports import Progress as Told

T = TypeVar("T")

FAILED = 1
MISUSED = 2  # what click answers for a wrong option, too
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. A MaquetteError ends the command with one line on stderr and exit code 1 or 2."""
    try:
        return asyncio.run(work)
    except MaquetteError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(error: MaquetteError) -> NoReturn:
    """Say what went wrong and end the command: with code 2 for what the caller can put right, else with 1."""
    tell(f"maquette: {error}")
    for note in getattr(error, "__notes__", ()):
        tell(f"  {note}")
    raise typer.Exit(MISUSED if isinstance(error, (InvalidInput, NotFound)) else FAILED)


def say(text: str) -> None:
    """A line of the result, on stdout."""
    typer.echo(text)


def tell(text: str) -> None:
    """A line about the work, on stderr."""
    typer.echo(text, err=True)


@contextmanager
def progress(title: str) -> Iterator[Told]:
    """Bars on stderr, one for each phase that is told; nothing where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def told(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(f"{title}: {phase}", total=total)
            bars.update(tasks[phase], completed=done, total=total)

        yield told


def columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines of `rows` whose columns stand below one another; never wrapped, so that programs can cut them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
