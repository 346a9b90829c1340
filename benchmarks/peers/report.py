"""Rows as Markdown (medians, spreads, the ratio to Maquette), into docs/benchmarks.md, and as JSON beside it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.bench import Row
from benchmarks.peers.servers import MAQUETTE

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE, RESULTS = DOCS / "benchmarks.md", DOCS / "benchmarks.json"
BEGIN, END = "<!-- peers -->", "<!-- end peers -->"
Results = dict[str, Any]
"""`machine`, and under `sections` by name: `date`, `seconds`, `repeats` and `rows`, as `Row` has them."""


def machine() -> str:
    """What the figures were measured on."""
    cpu = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{os.cpu_count()} cores of {cpu}, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, Node {node.removeprefix('v')}"
    )


def as_markdown(row: Row) -> str:
    """One table: server, median, spread, ratio of the medians, notes."""
    ours = row.median()
    lines = [
        f"**{row.title}** ({row.unit})",
        "",
        "| Server | Median | Least to most | Beside Maquette | |",
        "|---|---|---|---|---|",
    ]
    for server, values in row.figures.items():
        shown, spread, ratio = "none", "", ""
        if values:
            shown = told(median(values))
            spread = f"{told(min(values))} to {told(max(values))}" if len(values) > 1 else ""
            ratio = f"× {median(values) / ours:.2f}" if ours and server != MAQUETTE else ""
        lines.append(f"| {server} | {shown} | {spread} | {ratio} | {'; '.join(row.notes.get(server, []))} |")
    return "\n".join([*lines, ""])


def ratios(rows: Sequence[Row]) -> str:
    """All rows in one table: ours, theirs, and their ratio to ours."""
    servers = list(dict.fromkeys(name for row in rows for name in row.figures if name != MAQUETTE))
    lines = [f"| | {MAQUETTE} | {' | '.join(servers)} |", f"|---|---|{'---|' * len(servers)}"]
    for row in rows:
        ours = row.median()
        cells = [_beside(row.median(name), ours) for name in servers]
        lines.append(
            f"| {row.title} | {'none' if ours is None else f'{told(ours)} {row.unit}'} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _beside(theirs: float | None, ours: float | None) -> str:
    if theirs is None:
        return "none"
    return f"{told(theirs)} (× {theirs / ours:.2f})" if ours else told(theirs)


def told(value: float) -> str:
    """A figure with what is certain of it."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def load() -> Results:
    """What was measured last; empty where nothing was."""
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"machine": "", "sections": {}}
    return results


def keep(results: Results, name: str, rows: Sequence[Row], *, date: str, seconds: float, repeats: int) -> None:
    """Let the section `name` be `rows`, in the place where it stood."""
    results["sections"][name] = {
        "date": date,
        "seconds": seconds,
        "repeats": repeats,
        "rows": [asdict(row) for row in rows],
    }


def write(results: Results, order: Sequence[str]) -> None:
    """Put `results` into the docs: as JSON, and between the markers of the page."""
    results["sections"] = {name: results["sections"][name] for name in order if name in results["sections"]}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(between(PAGE.read_text(), BEGIN, END, page(results)))


def between(text: str, begin: str, end: str, new: str) -> str:
    """`text` with `new` between the markers. Raises ValueError when they are not there."""
    changed, count = re.subn(
        rf"({re.escape(begin)}\n).*({re.escape(end)})",
        lambda found: f"{found[1]}\n{new}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"expected {begin} … {end} once, found it {count} times")
    return changed


def page(results: Results) -> str:
    """All sections."""
    parts = [f"Machine: {results['machine']}. Server and load generator have a core each.", ""]
    for section in results["sections"].values():
        times = "once" if section["repeats"] == 1 else f"{section['repeats']} times"
        parts.append(f"*{section['date']}, loads of {section['seconds']:g} s, each server {times}.*\n")
        parts += [as_markdown(Row(**row)) for row in section["rows"]]
    return "\n".join(parts)
