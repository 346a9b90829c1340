"""`python -m benchmarks.peers [SECTION …]`: Maquette beside its peers, as Markdown on standard output."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
from benchmarks.peers import report, scaling
from benchmarks.peers.bench import Bench, LoadFailed, Row
from benchmarks.peers.install import Unready, ready
from benchmarks.peers.servers import ALL, HOCUSPOCUS, MAQUETTE
from benchmarks.peers.suite import QUICK, SECTIONS, TWICE

tell = partial(print, file=sys.stderr, flush=True)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as by Ctrl-C: what was started is ended
    told = _arguments()
    _allow_many_files()
    try:
        among = ready(told.among or ((MAQUETTE, HOCUSPOCUS) if told.quick else ALL), tell)
        bench = Bench(seconds=told.seconds, repeats=told.repeats, among=among)
        failed = _run(bench, told.sections or (QUICK if told.quick else tuple(SECTIONS)), write=told.write)
        if told.write and not told.sections:
            failed += _main_job(told.data)
    except Unready as error:
        tell(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        tell("interrupted; nothing was left running")
        return 130
    if failed:
        tell(f"error: expected every section to be measured, got none of {', '.join(failed)}")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all when none is named"
    )
    parser.add_argument("--quick", action="store_true", help="the main rows, Maquette beside Hocuspocus, in 3 minutes")
    parser.add_argument("--among", action="append", choices=ALL, help="only these servers, once for each")
    parser.add_argument("--seconds", type=float, help="how long each load lasts (5; quick: 3)")
    parser.add_argument("--repeats", type=int, help="how often each server takes its turn (3; quick: 1)")
    default = os.environ.get("MAQUETTE_DATA", report.DOCS.parent.parent / "shared" / "data")
    parser.add_argument(
        "--data", type=Path, default=default, help="real input for the main job: chat/, models/, traces/"
    )
    parser.add_argument("--write", action="store_true", help="put what was measured into docs/ too")
    told = parser.parse_args()
    told.seconds = told.seconds or (3.0 if told.quick else 5.0)
    told.repeats = told.repeats or (1 if told.quick else 3)
    if unknown := [name for name in told.sections if name not in SECTIONS]:
        parser.error(f"expected sections of {', '.join(SECTIONS)}, got {unknown[0]!r}")
    return told


def _run(bench: Bench, sections: Sequence[str], *, write: bool) -> list[str]:
    """Measure `sections`, each kept as soon as it is there; those that failed."""
    results = report.load()
    results["machine"] = report.machine()
    print(f"Machine: {results['machine']}.\n", flush=True)
    began, failed, measured = time.monotonic(), [], list[Row]()
    for number, name in enumerate(sections, 1):
        tell(f"{(time.monotonic() - began) / 60:4.1f} min  {number} of {len(sections)}: {name}")
        try:
            rows = _measured(bench, name)
        except (LoadFailed, OSError, RuntimeError, ValueError, httpx.HTTPError) as error:  # the other sections go on
            tell(f"{name}: {error}")
            failed.append(name)
            continue
        measured += rows
        report.keep(
            results, name, rows, date=time.strftime("%Y-%m-%d"), seconds=bench.seconds, repeats=_repeats(bench, name)
        )
        for row in rows:
            print(report.as_markdown(row), flush=True)
        if write:
            report.write(results, tuple(SECTIONS))
            scaling.write(results)
    tell(f"{(time.monotonic() - began) / 60:4.1f} min  done")
    print(report.ratios(measured))
    return failed


def _measured(bench: Bench, name: str) -> list[Row]:
    return list(SECTIONS[name](replace(bench, repeats=_repeats(bench, name))))


def _main_job(data: Path) -> list[str]:
    """Run the main job on real input, where there is some."""
    if not data.is_dir():
        tell(f"main job: expected real input in {str(data)!r}, found none: it keeps its figures (--data FOLDER)")
        return []
    tell("main job")
    command = [sys.executable, str(report.DOCS.parent / "benchmarks/main_job.py"), "--data", str(data), "--write"]
    return ["main job"] if subprocess.run(command, check=False).returncode else []


def _repeats(bench: Bench, name: str) -> int:
    return min(bench.repeats, 2) if name in TWICE else bench.repeats


def _allow_many_files() -> None:
    """10,000 connections are as many open files, of the server and of the load."""
    with suppress(ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


sys.exit(main())
