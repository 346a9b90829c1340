"""The main job on real input, with its figures: `make bench`.

Runs what the end-to-end tests assert, over the wire against `maquette serve` in a process of its own, and prints
events, ops per second, bytes per op, the wait from an edit to its echo from the disk, the time to open, and memory.

    python benchmarks/main_job.py [--data FOLDER] [--write]

FOLDER holds chat/, models/ and traces/ (default: MAQUETTE_DATA, or ../shared/data). Times are of this machine in this
run; compare rows of one run with one another, never with another machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import main_job, traces  # noqa: E402  (behind the path above)
from tests.support.server import ServerProcess  # noqa: E402

from maquette.client import RemoteChat, RemoteDocument, RemoteScene, RemoteText  # noqa: E402

TRACES = ("clownschool", "friendsforever")
Row = tuple[str, str]


async def trace_rows(server: ServerProcess, data: Path, name: str) -> list[Row]:
    trace = traces.load(data / "traces" / f"{name}.json.gz")
    run = await main_job.replay_trace(server, trace, name)
    whole = run.texts == [trace.end] * trace.agents and run.replayed() == trace.end and not run.stored_twice()
    return [
        (f"{name}: everything equal to the recording, nothing twice, after kill -9 halfway", "yes" if whole else "NO"),
        (f"{name}: events in the log", f"{len(run.events):,} of {len(trace.steps):,} edits"),
        (f"{name}: edits per second, one after the other as recorded", f"{len(trace.steps) / run.seconds:,.0f}"),
        (f"{name}: bytes per op (update)", f"{run.bytes_per_op:.1f}"),
    ]


async def file_rows(server: ServerProcess, data: Path) -> list[Row]:
    models = [data / "models" / name for name in main_job.MODELS]
    chats = sorted((data / "chat").glob("*.txt"))
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        await main_job.import_files(server, models)
        imported = time.perf_counter()
        await main_job.export_to(server, Path(folder) / "scene.glb")
        exported = time.perf_counter()
        same = main_job.shown_by(Path(folder) / "scene.glb") == sum(
            map(main_job.shown_by, models), start=main_job.Shown(0, 0, 0)
        )
    await main_job.import_files(server, chats)
    told = time.perf_counter()
    messages = len(await main_job.conversation(server))
    return [
        ("models: triangles, animations and skins as in the sources", "yes" if same else "NO"),
        (f"models: import of {len(models)} files, with the start of a command", f"{imported - started:.1f} s"),
        ("models: export, with the start of a command", f"{exported - imported:.1f} s"),
        ("chat: messages and notices of two days", f"{messages:,}"),
        ("chat: import, with the start of a command", f"{told - exported:.1f} s"),
    ]


async def open_rows(server: ServerProcess) -> list[Row]:
    """Each document opened cold, after a restart, then warm."""
    await server.stop()
    started = time.perf_counter()
    await server.start()
    rows = [("server: start over this log", f"{time.perf_counter() - started:.2f} s")]
    for kind, name in ((RemoteScene, "scene"), (RemoteChat, "chat"), (RemoteText, "text:clownschool")):
        cold, warm = [await _opened(server, kind, name) for _ in range(2)]
        rows.append((f"{name}: open and sync, cold / warm", f"{1_000 * cold:,.0f} / {1_000 * warm:,.0f} ms"))
    return rows


async def _opened(server: ServerProcess, kind: type[RemoteDocument], name: str) -> float:
    started = time.perf_counter()
    async with kind(server.url, main_job.SPACE, name, name="Reader"):
        return time.perf_counter() - started


async def steady_rows(server: ServerProcess, people: int, rate: float) -> list[Row]:
    latencies = await main_job.steady(server, people=people, rate=rate, seconds=5)
    p50, p95 = latencies.percentile(50), latencies.percentile(95)
    return [(f"echo: {people} people × {rate:g} edits/s in one text, p50 / p95", f"{p50:.1f} / {p95:.1f} ms")]


def size(folder: Path) -> int:
    """Bytes of the files of the log itself."""
    return sum(path.stat().st_size for path in folder.glob("log.*") if path.is_file())


async def measure(data: Path) -> list[Row]:
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        async with ServerProcess(Path(folder)) as server:
            rows.append(("server: memory when idle", f"{server.memory() / 2**20:.0f} MiB"))
            for people, rate in ((1, 20), (4, 10), (20, 10)):
                rows += await steady_rows(server, people, rate)
            rows += await file_rows(server, data)
            for name in TRACES:
                rows += await trace_rows(server, data, name)
            rows.append(("server: memory after all of it", f"{server.memory() / 2**20:.0f} MiB"))
            rows += await open_rows(server)
            stored = await main_job.events(server.folder)
            rows.append(("log: events", f"{len(stored):,}"))
            await server.stop()
            rows.append(("log: bytes on disk per event", f"{size(server.folder) / len(stored):.0f}"))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    lines = [
        f"Machine: {machine}.",
        "",
        "| What | Figure |",
        "|---|---|",
        *(f"| {what} | {figure} |" for what, figure in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MAQUETTE_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="the folder with chat/, models/ and traces/")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md too")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"--data: expected a folder with chat/, models/ and traces/, got {str(options.data)!r}")
    table = markdown(asyncio.run(measure(options.data)))
    print(table)
    if options.write:
        page = ROOT / "docs" / "benchmarks.md"
        page.write_text(
            re.sub(r"(<!-- main job -->\n).*(<!-- end -->)", rf"\1\n{table}\n\2", page.read_text(), flags=re.DOTALL)
        )


if __name__ == "__main__":
    main()
