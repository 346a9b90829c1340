"""Nothing that the reader and the index admit harms pycrdt (rule G1)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def fates(seeds: range, timeout: float) -> dict[str, int]:
    """What became of the updates; fails when pycrdt crashed, raised, or did not return in time."""
    command = [sys.executable, "-m", "tests.support.assault", *map(str, seeds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_g1_hostile_updates_that_are_admitted_do_not_harm_pycrdt() -> None:
    counts = fates(range(40), timeout=50)
    assert sum(counts.values()) == 40 * 180
    assert min(counts[fate] for fate in ("malformed", "hole", "misfit", "applied")) > 50


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_g1_many_hostile_updates_that_are_admitted_do_not_harm_pycrdt() -> None:
    assert fates(range(1_000, 1_400), timeout=390)["applied"] > 4_000
