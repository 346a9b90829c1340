"""The supervisor with real processes that are no servers: when it starts another, and when it ends (G4)."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maquette.engine.pulse import Busy, Work
from maquette.server import supervisor
from maquette.server.incidents import Incident, unsettled
from maquette.server.supervisor import supervise

STREAM = "dev/6Yp0aUz81Rk/6Yp0aUz81Rk@1"

CHILD = """
import json, os, signal, sys, time
from pathlib import Path
from maquette.server.supervised import supervised
import socket
folder = Path({folder!r})
started = folder / "started"
number = int(started.read_text()) if started.exists() else 0
started.write_text(str(number + 1))
me = supervised()
assert me is not None and me.restarts == number
def serve():
    me.introduce(folder, {answer}, {opening}, me.listener or socket.create_server(("127.0.0.1", 0)))
    me.served()
{body}
"""


def supervised(folder: Path, body: str, *, answer: float = 30, opening: float = 60) -> tuple[int, int]:
    """The exit code of the supervisor of a process that does `body`, and how many such processes there were."""
    code = CHILD.format(folder=str(folder), body=body, answer=answer, opening=opening)
    exit_code = supervise([sys.executable, "-c", code])
    return exit_code, int((folder / "started").read_text())


def incidents(folder: Path) -> list[Incident]:
    found = [incident for _, incident in unsettled(folder)]
    assert None not in found
    return [incident for incident in found if incident is not None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.01)


def test_g4_what_ends_before_it_served_is_not_started_again(tmp_path: Path) -> None:
    assert supervised(tmp_path, "sys.exit(2)") == (2, 1)


def test_g4_a_process_that_was_told_to_end_ends_its_supervisor(tmp_path: Path) -> None:
    assert supervised(tmp_path, "serve()") == (0, 1)


def test_g4_a_process_that_ends_by_itself_is_started_again_on_the_same_socket(tmp_path: Path) -> None:
    body = """
port = folder / "port"
if number == 0:
    serve()
    sys.exit(3)
assert me.listener.getsockname()[1] > 0
serve()
"""
    assert supervised(tmp_path, body) == (0, 2)
    assert incidents(tmp_path) == []


def test_g4_one_that_dies_again_and_again_is_given_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervised(tmp_path, "serve(); sys.exit(3)") == (3, supervisor.MOST_FAILURES)
    assert "it ended 10 times in a row, and is not started again" in capfd.readouterr().err


def test_g4_one_that_cannot_start_again_is_tried_for_a_while(tmp_path: Path) -> None:
    """As while a command holds the log, or a full disk has no room."""
    assert supervised(tmp_path, "number in (1, 2) and sys.exit(1); serve(); sys.exit(7 if number == 0 else 0)") == (
        0,
        4,
    )


def test_g4_a_hang_is_ended_and_written_down_before_the_next_start(tmp_path: Path) -> None:
    body = f"""
if number == 0:
    serve()
    me.pulse.judging({STREAM!r}, 7, "ann", b"poison")
    time.sleep(60)
assert len(list((folder / "incidents").glob("*.json"))) == 1
serve()
"""
    assert supervised(tmp_path, body, answer=1) == (0, 2)
    [incident] = incidents(tmp_path)
    assert (incident.busy.work, incident.busy.stream, incident.busy.actor) == (Work.JUDGING, STREAM, "ann")
    assert "it did not answer for " in incident.cause


def test_g4_a_sign_of_life_is_no_hang(tmp_path: Path) -> None:
    body = """
serve()
for _ in range(30):
    me.pulse.beat()
    time.sleep(0.1)
"""
    assert supervised(tmp_path, body, answer=2) == (0, 1)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell who waits for it")
def test_g4_one_that_waits_for_a_processor_does_not_hang(tmp_path: Path) -> None:
    body = f"""
import subprocess
serve()
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
hog = "import time; end = time.monotonic() + 12\\nwhile time.monotonic() < end: pass"
others = [subprocess.Popen([sys.executable, "-c", hog]) for _ in range(8)]
me.pulse.judging({STREAM!r}, 7, "ann", b"honest")
began = time.monotonic()
while time.process_time() < 0.7:
    pass
(folder / "took").write_text(str(time.monotonic() - began))
for other in others:
    other.kill()
    other.wait()
"""
    assert supervised(tmp_path, body, answer=1.5) == (0, 1)
    assert incidents(tmp_path) == []
    assert float((tmp_path / "took").read_text()) > 2


def test_g4_one_that_is_stopped_is_replaced_and_what_it_did_is_not_blamed(tmp_path: Path) -> None:
    body = f"""
serve()
if number == 0:
    me.pulse.judging({STREAM!r}, 7, "ann", b"honest")
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    assert supervised(tmp_path, body, answer=1) == (0, 2)
    assert incidents(tmp_path) == []


@pytest.mark.parametrize(
    "mark", ["me.pulse.loading(STREAM, 7, 0)", "me.pulse.replaying(STREAM, 7, 1 << 21)"], ids=["opening", "large"]
)
def test_g4_opening_and_large_updates_have_limits_of_their_own(tmp_path: Path, mark: str) -> None:
    body = f"STREAM = {STREAM!r}\nserve()\n{mark}\ntime.sleep(2)"
    assert supervised(tmp_path, body, answer=0.5, opening=30) == (0, 1)


def test_g4_without_a_limit_nothing_is_a_hang(tmp_path: Path) -> None:
    assert supervised(tmp_path, "serve(); time.sleep(1)", answer=0, opening=0) == (0, 1)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_g4_a_crash_blames_what_was_being_done(tmp_path: Path, name: str) -> None:
    body = f"""
serve()
if number == 0:
    me.pulse.replaying({STREAM!r}, 9, 30)
    os.kill(os.getpid(), signal.{name})
"""
    assert supervised(tmp_path, body) == (0, 2)
    [incident] = incidents(tmp_path)
    assert incident.busy == Busy(Work.REPLAYING, STREAM, 9, 30)
    assert name in incident.cause


def test_g4_a_kill_blames_nobody_until_it_comes_over_the_same_again(tmp_path: Path) -> None:
    """The kernel's, when memory runs out, comes again; a person's does not."""
    body = f"""
serve()
if number < 3:
    me.pulse.replaying({STREAM!r}, 9 if number else 8, 30)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert supervised(tmp_path, body) == (0, 4)
    [incident] = incidents(tmp_path)
    assert (incident.busy.revision, incident.times) == (9, 2)


def test_a_file_that_is_no_incident_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "incidents").mkdir()
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps({"cause": "x", "times": 1, "busy": {"work": 99}}))):
        (tmp_path / "incidents" / f"{name}.json").write_text(text)
    assert [incident for _, incident in unsettled(tmp_path)] == [None, None, None]


def test_g4_a_standard_error_that_takes_nothing_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(sys, "stderr", Full())
    assert supervised(tmp_path, "serve(); sys.exit(0 if number else 3)") == (0, 2)


def test_g4_opening_without_a_limit_is_no_hang(tmp_path: Path) -> None:
    body = f"""
serve()
me.pulse.loading({STREAM!r}, 0, 1)
time.sleep(2)
"""
    assert supervised(tmp_path, body, answer=0.5, opening=0) == (0, 1)


def test_a_hangup_ends_it_as_sigterm_does(tmp_path: Path) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / "drained").write_text("") or 0))
serve()
os.kill(os.getppid(), signal.SIGHUP)
time.sleep(20)
sys.exit(5)
"""
    assert supervised(tmp_path, body) == (0, 1)
    assert (tmp_path / "drained").exists()


def test_a_hangup_that_is_ignored_at_the_start_ends_nothing(tmp_path: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        body = "serve()\nos.kill(os.getppid(), signal.SIGHUP)\ntime.sleep(0.5)\nsys.exit(3 if number == 0 else 0)"
        assert supervised(tmp_path, body) == (0, 2)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_comes_while_a_process_is_started_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert supervise([sys.executable, "-c", "import time; time.sleep(20); raise SystemExit(5)"]) == 0


def test_g4_what_a_thread_hangs_over_is_blamed_and_not_what_the_event_loop_waited_with(tmp_path: Path) -> None:
    """A regular expression, which never lets another thread of Python run."""
    body = f"""
import re, threading
from maquette.engine.pulse import Work
def fold():
    with me.pulse.beside(Work.FOLDING, {STREAM!r}, 9, 1, "tally"):
        re.match("(a+)+b", "a" * 60)
serve()
if number == 0:
    me.pulse.judging({STREAM!r}, 7, "ann", b"honest")
    threading.Thread(target=fold, daemon=True).start()
    time.sleep(60)
"""
    assert supervised(tmp_path, body, answer=1) == (0, 2)
    [incident] = incidents(tmp_path)
    assert incident.busy == Busy(Work.FOLDING, STREAM, 9, 1, by="tally")
