"""Documents of every kind are opened, edited and left, again and again: what the server's memory does.

    python benchmarks/soak.py [--documents 500] [--cycles 3] [--edits 10]

Spaces of four documents: the chat, the scene, two texts. In each document two people join over WebSockets, say in
presence where they are, write in turn and see each other's edits; the chat and the scene are also written and read over
REST; then they leave. A cycle ends when the server has evicted every document, which it does after half a second here
instead of a minute. Prints its memory behind each cycle (RSS, and PSS, which counts shared pages in part) and how the
last cycle's compares with that of the one before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.soak import Memory, growth, soak  # noqa: E402  (behind the path above)


async def run(documents: int, cycles: int, edits: int) -> list[Memory]:
    """Print the memory behind each cycle."""
    found: list[Memory] = []
    with TemporaryDirectory() as folder:
        start = time.monotonic()
        async for memory in soak(Path(folder), documents, cycles, edits):
            found.append(memory)
            print(f"cycle {len(found)}: {memory}, {time.monotonic() - start:.0f} s", flush=True)
            start = time.monotonic()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--edits", type=int, default=10, help="in each document and cycle")
    asked = parser.parse_args()
    print(f"{asked.documents} documents, {asked.edits} edits in each, {os.cpu_count()} cores")
    rss, pss = growth(asyncio.run(run(asked.documents, asked.cycles, asked.edits)))
    print(f"the last cycle against the one before: RSS {rss:+.1%}, PSS {pss:+.1%}")


if __name__ == "__main__":
    main()
