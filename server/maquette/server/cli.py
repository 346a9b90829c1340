"""The entry point of `maquette`.

`maquette serve` is two processes (`supervisor`). The one that supervises must start quickly and must not fail with what
it watches, so nothing of the server is imported before it is clear which of the two this is.
"""

from __future__ import annotations

import os
import sys

from maquette.server.supervisor import SUPERVISED, supervise


def main() -> None:
    """Run the command that the arguments name; `serve` in a process of its own, under a supervisor."""
    if sys.argv[1:2] == ["serve"] and SUPERVISED not in os.environ:
        sys.exit(supervise([sys.executable, *sys.orig_argv[1:]]))
    from maquette.server.commandline import run

    run()


if __name__ == "__main__":
    main()
