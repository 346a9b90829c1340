"""Runs a script of tests/js in Node, one JSON value per line in and out: how the tests reach real Yjs.

A script reads lines from stdin and answers on stdout; what it writes to stderr appears in the failure message.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "js"
ENDED = object()


class NodeFailed(AssertionError):
    """A script ended with an error, printed what is not JSON, or did not answer in time."""


def require_node() -> str:
    """The path of `node`; skips the test where Node or the packages of tests/js are absent."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("expected Node 20 or newer on the PATH, found none")
    if not (FOLDER / "node_modules").is_dir():
        pytest.skip("expected the packages of tests/js, found none: run `npm ci` there, or `make test`")
    return node


def run(script: str, lines: Iterable[Any] = (), *, args: Iterable[str] = (), timeout: float = 30) -> list[Any]:
    """What `script` (a file of tests/js) prints for `lines`, parsed. Raises NodeFailed."""
    command = [require_node(), script, *args]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    try:
        done = subprocess.run(command, cwd=FOLDER, input=text, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise NodeFailed(f"{script}: expected an end within {timeout} s, got {error.stdout!r}") from error
    if done.returncode != 0:
        raise NodeFailed(f"{script}: expected exit code 0, got {done.returncode}:\n{done.stderr}")
    return [_parse(script, line) for line in done.stdout.splitlines()]


class Dialogue:
    """A script that runs while a test talks with it: `send` a value, `receive` the next one."""

    def __init__(self, script: str, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.script = script
        self._process = process
        self._errors = errors
        self._answers: Queue[Any] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, value: Any) -> None:
        """Pass `value` to the script as one line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("a reader of its stdin", "a closed pipe") from None

    def receive(self, timeout: float = 10) -> Any:
        """The next value that the script prints. Raises NodeFailed at its end or after `timeout` s of silence."""
        try:
            answer = self._answers.get(timeout=timeout)
        except Empty:
            raise self._failed(f"an answer within {timeout} s", "none") from None
        if answer is ENDED:
            self._answers.put(ENDED)
            raise self._failed("an answer", "its end")
        return _parse(self.script, answer)

    def ask(self, value: Any, timeout: float = 10) -> Any:
        """`send`, then `receive`."""
        self.send(value)
        return self.receive(timeout)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(ENDED)

    def _failed(self, expected: str, got: str) -> NodeFailed:
        self._errors.seek(0)
        return NodeFailed(f"{self.script}: expected {expected}, got {got}:\n{self._errors.read()}")

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # what the script had not read is of no use to anybody now


@contextmanager
def talk(script: str, *args: str) -> Iterator[Dialogue]:
    """A running `script` of tests/js, killed when the block ends. Call from a thread in async tests."""
    command = [require_node(), script, *args]
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        )
        dialogue = Dialogue(script, process, errors)
        try:
            yield dialogue
        finally:
            dialogue._close()


def _parse(script: str, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise NodeFailed(f"{script}: expected a line of JSON, got {line!r}") from error
