"""Sets the peers up, and says which of them can run here."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence

from benchmarks.peers.servers import HERE, HOCUSPOCUS, LEVELDB, MAQUETTE, PYCRDT, Y_WEBSOCKET

PACKAGES = {
    HOCUSPOCUS: ("@hocuspocus/server", "@hocuspocus/extension-sqlite"),
    Y_WEBSOCKET: ("y-websocket/bin/utils",),
    LEVELDB: ("y-websocket/bin/utils", "y-leveldb"),
}
"""What each peer needs of Node's packages. Those with native parts are optional: without a compiler npm goes on."""

_STAMP = HERE / "node_modules/.stamp"


class Unready(RuntimeError):
    """What no row can do without is not here."""


def ready(wanted: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    """Those of `wanted` that run here, Maquette first of all; `tell` hears why another one does not.

    Installs the peers and the load generator's packages when their lock file is another than last time. Raises Unready.
    """
    for tool in ("node", "npm", "taskset"):
        if shutil.which(tool) is None:
            raise Unready(f"expected {tool} on the PATH, found none: Node 20 or newer, and Linux with util-linux")
    _install(tell)
    if why := _broken(("ws", "yjs", "lib0/encoding")):
        raise Unready(f"expected the packages of the load generator, got: {why}")
    missing = {name: why for name in wanted if (why := _why_not(name))}
    for name, why in missing.items():
        tell(f"{name}: expected to run it beside us, but it could not be installed: {why}. The others go on.")
    return [name for name in wanted if name not in missing]


def _install(tell: Callable[[str], None]) -> None:
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if _STAMP.exists() and _STAMP.read_text() == wanted:
        return
    tell("installing the peers: npm ci in benchmarks/peers (a minute where native parts are compiled)")
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=HERE, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Unready(f"expected `npm ci` in benchmarks/peers to succeed, got:\n{done.stderr.strip()}")
    _STAMP.write_text(wanted)


def _why_not(name: str) -> str:
    """Why the server `name` does not run here; empty when it does."""
    if name == MAQUETTE:
        return ""
    if name == PYCRDT:
        return "" if importlib.util.find_spec("pycrdt.websocket") else "no module pycrdt.websocket"
    return _broken(PACKAGES[name])


def _broken(packages: Sequence[str]) -> str:
    """What Node says when it loads `packages`; empty when it does."""
    script = "".join(f"await import({package!r});" for package in packages) + "process.exit(0)"
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        cwd=HERE,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    said = [line for line in done.stderr.splitlines() if "Error" in line] or ["Node ended with an error"]
    return "" if done.returncode == 0 else said[0].strip()
