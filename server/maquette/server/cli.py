"""The entry point of `maquette`.

`maquette serve` is two processes (`supervisor`). The one that supervises must start quickly and must not fail with what
it watches, so nothing of the server is imported before it is clear which of the two this is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from maquette.server.supervisor import SUPERVISED, supervise


def main() -> None:
    """Run the command that the arguments name; `serve` in a process of its own, under a supervisor."""
    if sys.argv[1:2] == ["serve"] and SUPERVISED not in os.environ:
        sys.exit(supervise([sys.executable, *sys.orig_argv[1:]]))
    with _ending_at_once():
        from maquette.server.commandline import run
    run()


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """While modules are loaded, a second's work, Ctrl-C ends it without a traceback; ignored, it stays so."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
