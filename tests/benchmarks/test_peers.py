"""The comparison with our peers still runs: one short load over ours, and what becomes of its figures.

`benchmarks` is imported late: where the installed wheel is tested, it is not there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.node import FOLDER, require_node

if TYPE_CHECKING:
    from benchmarks.peers.bench import Bench
    from benchmarks.peers.servers import Server

HEADING = "**hot room, p95** (ms)"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench whose load generator runs with the packages of tests/js."""
    from benchmarks.peers.bench import Bench
    from benchmarks.peers.servers import HERE, MAQUETTE

    require_node()
    shutil.copytree(HERE / "load", tmp_path / "load")
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    program = tmp_path / "load/index.mjs"
    return Bench(seconds=1, repeats=1, among=(MAQUETTE,), program=program, tell=lambda _: None)


@contextmanager
def served(bench: Bench) -> Iterator[Server]:
    from benchmarks.peers.servers import MAQUETTE

    with bench.server(MAQUETTE) as server:
        server.make(("run-0",))
        yield server
    assert server.process.returncode == 0
    assert server.pids() == []


def test_every_op_of_a_load_is_delivered_and_its_wait_is_told(bench: Bench) -> None:
    from benchmarks.peers.bench import notes_of

    with served(bench) as server:
        told = bench.load(server, "ops", rooms=2, writers=2, readers=1, rate=10, seconds=bench.seconds, warmup=0.2)
    assert notes_of(told) == []
    assert told["delivered"] == told["expected"] == 2 * 2 * 10 * 2
    assert 0 < told["p50"] <= told["p95"] <= told["longest"] * 1.02
    assert told["server"] > 0


def test_messages_written_by_hand_pass_the_gate(bench: Bench) -> None:
    from benchmarks.peers.bench import notes_of

    with served(bench) as server:
        told = bench.load(server, "chat", "chat", people=4, perRoom=4, every=0.2, seconds=bench.seconds, warmup=0.2)
    assert notes_of(told) == []
    assert told["delivered"] == told["expected"] == 20


def test_the_load_climbs_until_the_wait_is_too_long(bench: Bench) -> None:
    with served(bench) as server:
        told = bench.load(server, "climb", rooms=1, writers=2, seconds=0.3, limit=0.0, begin=30)
    assert told["reached"] == 0
    assert [step["rate"] for step in told["steps"]] == [30, 15, 7.5]


def test_a_load_that_fails_says_why(bench: Bench) -> None:
    from benchmarks.peers.bench import LoadFailed

    with served(bench) as server, pytest.raises(LoadFailed, match=r"is not a function"):
        bench.load(server, "nothing")


def test_a_row_tells_median_spread_and_ratio_to_ours() -> None:
    from benchmarks.peers.bench import Row
    from benchmarks.peers.report import as_markdown

    row = Row(
        "hot room, p95", "ms", {"Maquette": [10.0, 30.0, 20.0], "another": [40.0], "none": []}, {"none": ["gone"]}
    )
    heading, _, _, _, ours, theirs, missing = as_markdown(row).splitlines()
    assert heading == HEADING
    assert ours == "| Maquette | 20 | 10 to 30 |  |  |"
    assert theirs == "| another | 40 |  | × 2.00 |  |"
    assert missing == "| none | none |  |  | gone |"


def test_a_section_replaces_its_last_run_and_leaves_the_rest_of_the_page() -> None:
    from benchmarks.peers import report
    from benchmarks.peers.bench import Row

    results: report.Results = {"machine": "two cores", "sections": {}}
    for figure in (1.0, 2.0):
        rows = [Row("hot room, p95", "ms", {"Maquette": [figure]})]
        report.keep(results, "hot", rows, date="2030-01-01", seconds=5.0, repeats=3)
    text = report.between(
        f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n", report.BEGIN, report.END, report.page(results)
    )
    assert text.startswith("above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text
    assert text.count(HEADING) == 1
    assert "| Maquette | 2 |" in text


def test_the_docs_have_a_place_for_the_figures() -> None:
    from benchmarks.peers import report

    report.between(report.PAGE.read_text(), report.BEGIN, report.END, "")
    with pytest.raises(ValueError, match="found it 0 times"):
        report.between("", report.BEGIN, report.END, "")


def test_what_many_people_take_follows_from_what_one_costs() -> None:
    from benchmarks.peers.scaling import Costs, Habit, need

    cost = Costs(
        connection_memory=100.0,
        document_memory=10.0,
        connection_cpu=1e-5,
        edit=1e-4,
        delivery=1e-5,
        message=4e-4,
        edit_log=300.0,
        message_log=800.0,
    )
    one = need(cost, Habit("a test", messages=0.1, edits=0.5, room=20), 1_000)
    assert one.cores == pytest.approx(0.01 + 100 * 4e-4 + 500 * (1e-4 + 20 * 1e-5))
    assert one.processes == 1
    assert one.memory == pytest.approx(1.3 * (1_000 * 100 + 100 * 10))
    assert one.log_a_day == pytest.approx(8 * 3600 * (100 * 800 + 500 * 300))
    assert need(cost, Habit("a test", messages=0.1, edits=0.5, room=20), 100_000).processes == 40


def test_there_is_no_model_without_every_cost() -> None:
    from benchmarks.peers.scaling import costs_of

    assert costs_of({"machine": "", "sections": {}}) is None
