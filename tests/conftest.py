"""What every test shares: the event loop's backend, the way to the real data, and what a skip may be for."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXCUSES = ("no real data at ", "runs only in a git checkout")
"""How the reasons begin that no machine can mend. Where CI is true any other skip fails, as it hides a missing tool."""


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """What tests start heeds hangups and interrupts, also where tests run under nohup or in the background: whoever
    ignores a signal hands that down."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real models, chats and traces; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("MAQUETTE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set MAQUETTE_DATA to the folder that holds chat/, models/ and traces/")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_needless_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_needless_skip(report)
    return report


def fail_needless_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = skip_reason(report.longrepr)
    if not reason.startswith(EXCUSES):
        report.outcome = "failed"
        report.longrepr = f"expected nothing to be skipped where CI is true, got: {reason}"


def skip_reason(longrepr: object) -> str:
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(reason).removeprefix("Skipped: ")
