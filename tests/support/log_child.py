"""What tests of the log run in a process of its own: `python log_child.py append|hold|full FOLDER`."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from pathlib import Path

from maquette.engine.errors import LogUnwritable
from maquette.engine.logs.sqlite import SqliteLog
from maquette.engine.testing.log_contract import collected, note


def say(**facts: object) -> None:
    """One line of JSON to whoever started this process."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def append(folder: Path) -> None:
    """Append for ever with twenty writers, and say each append that was acknowledged."""
    log = await SqliteLog.open(folder)

    async def write(number: int) -> None:
        count = 0
        while True:
            events = [note(f"{number}:{count + k}", update=bytes(100)) for k in range(2)]
            appended = await log.append(f"s{number}", events, expected=count)
            count += 2
            say(stream=f"s{number}", last=appended.last, position=appended.position, ids=[e.id.hex for e in events])

    await asyncio.gather(*(write(number) for number in range(20)))


async def hold(folder: Path) -> None:
    """Write one event for each line on stdin, until it ends."""
    log = await SqliteLog.open(folder)
    say(held=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        appended = await log.append("held", [note(line.strip())])
        say(position=appended.position)
    await log.close()


async def full(folder: Path) -> None:
    """Meet a real write error at a limit on the size of files, then go on when the limit is lifted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that write() fails, as on a full disk, instead of killing us
    log = await SqliteLog.open(folder)
    await log.append("before", [note("before")])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    stored, failed = 0, ""
    while not failed:
        futures = [log.append(f"s{k}", [note("x", update=bytes(2000)), note("y")]) for k in range(5)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert len({type(result) for result in results}) == 1, results
        if isinstance(results[0], LogUnwritable):
            failed = str(results[0])
        else:
            stored += 1
    say(stored=stored, failed=failed, writable=log.writable, readable=len(await collected(log.read_all())))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await log.until_writable()
    appended = await log.append("s0", [note("after")], expected=2 * stored)
    say(revision=appended.last, writable=log.writable, readable=len(await collected(log.read_all())))
    await log.close()


if __name__ == "__main__":
    asyncio.run({"append": append, "hold": hold, "full": full}[sys.argv[1]](Path(sys.argv[2])))
