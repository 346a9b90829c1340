"""`maquette serve` as a process of its own, and the commands beside it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import httpx
import pytest
from tests.support.gltf import triangle
from tests.support.server import serving
from typer.testing import CliRunner, Result
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from maquette.server.commandline import app
from maquette.server.running import find
from maquette.server.tokens import Keyring

PATIENCE = 40.0  # seconds until a process that hangs is killed; the machine may be busy


@dataclass
class Server:
    """A running server: its process, its address, and its data folder."""

    process: subprocess.Popen[str]
    url: str
    data: Path

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        assert self.process.stdout is not None
        self.process.stdout.read()  # the process that serves ends behind a supervisor that is killed
        return self.process.wait(PATIENCE)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "maquette.server.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr of a process that ends by itself."""
    _, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stderr


def first_line(process: subprocess.Popen[str]) -> str:
    """The first line on stdout; an empty one when the process ends or hangs."""
    assert process.stdout is not None
    watchdog = Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        return process.stdout.readline().rstrip("\n")
    finally:
        watchdog.cancel()


@contextmanager
def served(data: Path, *arguments: object) -> Iterator[Server]:
    process = start("serve", "--data", data, "--port", "0", *arguments)
    try:
        line = first_line(process)
        assert line.startswith("Listening on http://127.0.0.1:"), finish(process)
        yield Server(process, line.removeprefix("Listening on "), data)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("served") / "data", "--dev") as server:
        yield server


def maquette(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- beside a running server ---------------------------------------------------------------------------------------


def test_a_server_answers_at_the_address_that_it_prints(server: Server) -> None:
    assert httpx.get(f"{server.url}/healthz", trust_env=False).text == "ok\n"


def test_a_server_can_be_found_by_who_may_read_its_folder(server: Server) -> None:
    path = server.data / "server.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = find(server.data)
    assert found is not None
    assert (found.url, found.pid) == (server.url, server.process.pid)


def test_an_import_beside_a_server_goes_through_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.glb").write_bytes(triangle().glb())
    (tmp_path / "town-2005-06-12.txt").write_text("[10:00] <bob> hi\nnonsense\n[10:01] <cat> ho\n")
    result = maquette("import", "town", tmp_path / "model.glb", tmp_path / "town-2005-06-12.txt", "--data", server.data)
    assert f"through the server at {server.url}" in result.stderr
    assert "space 'town' was not there and was made" in result.stderr
    assert "left out: line 2: expected `[hh:mm] <nick> text`" in result.stderr
    assert result.exit_code == 1
    assert "model.glb: 1 nodes" in result.stdout
    exported = maquette("export", "town", "--to", tmp_path / "out.jsonl", "--data", server.data)
    assert exported.exit_code == 0
    assert [json.loads(line)["name"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["bob", "cat"]


def test_a_file_that_the_server_refuses_is_named_and_the_next_one_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bad.glb").write_bytes(b"glTF and nothing more")
    (tmp_path / "good.glb").write_bytes(triangle().glb())
    result = maquette("import", "files", tmp_path / "bad.glb", tmp_path / "good.glb", "--data", server.data)
    assert result.exit_code == 1
    assert f"maquette: {tmp_path / 'bad.glb'}: glTF, " in result.stderr
    assert "good.glb: 1 nodes" in result.stdout


def test_a_file_that_is_refused_makes_no_space_on_the_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bad.glb").write_bytes(b"glTF and nothing more")
    assert maquette("import", "empty", tmp_path / "bad.glb", "--data", server.data).exit_code == 1
    assert "empty" not in maquette("spaces", "--data", server.data).stdout


def test_a_hangup_ends_a_server_cleanly(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--dev") as server:
        httpx.post(f"{server.url}/v1/spaces", json={"slug": "demo"}, trust_env=False).raise_for_status()
        assert server.end(signal.SIGHUP) == 0
        assert server.process.stderr is not None
        assert "WARNING" not in server.process.stderr.read()


def test_a_projection_is_rebuilt_by_the_server(server: Server) -> None:
    result = maquette("rebuild", "all", "--data", server.data)
    assert (result.exit_code, result.stdout) == (0, "chat_history: built anew\nscene_graph: built anew\n")


def test_g4_a_document_is_thawed_by_the_server(server: Server) -> None:
    httpx.post(f"{server.url}/v1/spaces", json={"slug": "cold"}, trust_env=False).raise_for_status()
    result = maquette("thaw", "cold/scene", "--data", server.data)
    assert f"through the server at {server.url}" in result.stderr
    assert (result.exit_code, result.stdout) == (0, "cold/scene: takes edits\n")


def test_only_the_operator_rebuilds(server: Server) -> None:
    token = Keyring.load(server.data).sign("ann1", "Ann", "dev", {"*": "owner"})
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        answer = httpx.post(f"{server.url}/v1/projections/scene_graph/rebuild", headers=headers, trust_env=False)
        assert answer.status_code == 403


@pytest.mark.parametrize("command", ["spaces", "log", "doctor"])
def test_l5_reading_commands_work_beside_a_server(server: Server, command: str) -> None:
    result = maquette(command, "--data", server.data)
    assert result.exit_code == 0, result.output
    assert not result.exception


def test_a_backup_is_made_beside_a_server(server: Server, tmp_path: Path) -> None:
    assert maquette("backup", tmp_path / "copy", "--data", server.data).exit_code == 0
    assert maquette("doctor", "--data", tmp_path / "copy").exit_code == 0


def test_l5_a_second_server_over_the_same_folder_names_the_first(server: Server) -> None:
    code, stderr = finish(start("serve", "--data", server.data, "--port", "0"))
    assert code == 1
    assert stderr.count("\n") == 1
    assert f"it is held by process {serving(server.process.pid)} on " in stderr
    assert find(server.data) is not None


def test_a_port_that_is_taken_is_told_before_anything_is_made(server: Server, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    code, stderr = finish(start("serve", "--data", tmp_path / "data", "--port", port))
    assert code == 1
    assert stderr.startswith(f"maquette: expected port {port} of 127.0.0.1 to be free")
    assert not (tmp_path / "data").exists()


def test_the_log_can_be_followed(server: Server, tmp_path: Path) -> None:
    httpx.post(f"{server.url}/v1/spaces", json={"slug": "followed"}, trust_env=False).raise_for_status()
    follower = start("log", "--follow", "--json", "--data", server.data)
    try:
        assert json.loads(first_line(follower))["position"] == 1
        httpx.post(f"{server.url}/v1/spaces", json={"slug": "fresh"}, trust_env=False).raise_for_status()
        assert follower.stdout is not None
        watchdog = Timer(PATIENCE, follower.kill)
        watchdog.start()
        created = (row for row in map(json.loads, follower.stdout) if row["type"] == "space.created")
        slugs = iter(row["data"]["slug"] for row in created)
        assert next(slug for slug in slugs if slug == "fresh")
        watchdog.cancel()
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=PATIENCE)
        assert follower.returncode == 130
    finally:
        if follower.poll() is None:
            follower.kill()
        follower.communicate()


# --- begin and end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_tells_its_clients_and_ends_well(tmp_path: Path, how: signal.Signals) -> None:
    with served(tmp_path / "data", "--dev") as server:
        address = server.url.replace("http", "ws", 1) + "/sync/demo/scene?name=Ann"
        with connect(address, proxy=None) as client:
            client.recv(PATIENCE)
            server.process.send_signal(how)
            with pytest.raises(ConnectionClosed) as closed:
                drain(client)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert server.process.wait(PATIENCE) == 0
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()
    assert "server.json" not in names(tmp_path / "data")


def drain(client: Any) -> None:
    while True:
        client.recv(PATIENCE)


def test_a_killed_server_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data, "--dev") as server:
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert "server.json" in names(data)
    assert find(data) is None
    checked = maquette("doctor", "--data", data)
    assert checked.exit_code == 0
    assert "left behind by a server that was killed" in checked.stdout
    (tmp_path / "model.glb").write_bytes(triangle().glb())
    result = maquette("import", "demo", tmp_path / "model.glb", "--data", data)
    assert (result.exit_code, "through the server" in result.stderr) == (0, False)
    with served(data) as server:
        assert find(data) is not None
        assert server.end() == 0
    assert "server.json" not in names(data)


def test_dev_says_loudly_what_it_does(tmp_path: Path) -> None:
    with served(tmp_path / "data", "--dev") as server:
        assert server.end() == 0
        assert server.process.stderr is not None
        said = server.process.stderr.read()
    assert "NO ACCESS CONTROL" in said
    assert "Anyone on this machine may edit" in said
    assert f"new WebsocketProvider('{server.url.replace('http', 'ws')}/sync'" in said
    assert str(tmp_path / "data") in said


def test_without_dev_everybody_needs_a_token(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        assert httpx.get(f"{server.url}/v1/spaces", trust_env=False).status_code == 401
        token = maquette("token", "--name", "Ann", "--role", "*=owner", "--data", server.data).stdout.strip()
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{server.url}/v1/spaces", headers=headers, trust_env=False).json() == {"spaces": []}
        server.end()
        assert server.process.stderr is not None
        assert "NO ACCESS CONTROL" not in server.process.stderr.read()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_dev_is_for_this_machine_alone(tmp_path: Path, host: str) -> None:
    result = maquette("serve", "--dev", "--host", host, "--data", tmp_path / "data", "--port", "0")
    assert result.exit_code == 2
    assert "--dev: expected a loopback address" in result.stderr
    assert not (tmp_path / "data").exists()


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    result = maquette("serve", "--host", "192.0.2.1", "--data", tmp_path / "data", "--port", "0")
    assert result.exit_code == 2
    assert "expected to listen at 192.0.2.1" in result.stderr


def test_a_file_that_names_no_living_process_is_not_believed(tmp_path: Path) -> None:
    stale = {"url": "http://127.0.0.1:1", "pid": 2**22 + 1, "operator": "x"}  # Linux gives no higher one
    (tmp_path / "server.json").write_text(json.dumps(stale))
    assert find(tmp_path) is None
    (tmp_path / "server.json").write_text("{")
    assert find(tmp_path) is None


def test_a_file_of_this_process_tells_that_it_lives(tmp_path: Path) -> None:
    row = {"url": "http://127.0.0.1:1", "pid": os.getpid(), "operator": "x"}
    (tmp_path / "server.json").write_text(json.dumps(row))
    assert find(tmp_path) is not None


def test_g2_a_server_takes_its_limits_from_the_data_folder_or_from_a_file_and_names_what_is_wrong(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "limits.toml").write_text("[default]\nops_per_place = 3\n")
    code, told = finish(start("serve", "--data", data, "--port", "0"))
    assert code != 0
    assert "'ops_per_place'" in told
    code, told = finish(start("serve", "--data", data, "--port", "0", "--limits", tmp_path / "none.toml"))
    assert code != 0
    assert "none.toml: expected a TOML file" in told


def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback() -> None:
    code = """
import signal, sys
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "maquette.server.commandline":
            signal.raise_signal(signal.SIGINT)
from maquette.server.cli import main
sys.meta_path.insert(0, Interrupting())
sys.argv = ["maquette", "spaces"]
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")
