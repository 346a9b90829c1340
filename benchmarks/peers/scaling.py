"""docs/scaling.md: what many people take, computed from the costs that were measured last (docs/benchmarks.json).

    python -m benchmarks.peers.scaling

Rule 1: each figure of the page is either measured, with its row's name, or assumed, and says which.
Rule 2: without all of the measured ones there is no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from benchmarks.peers import costs, joining, report
from benchmarks.peers.bench import Row
from benchmarks.peers.people import PER_ROOM
from benchmarks.peers.servers import HERE

PAGE = report.DOCS / "scaling.md"
TEMPLATE = HERE / "scaling.md"
BUSY = 0.5  # of a core at most: bursts, snapshots and projections need the rest
SPARE = 1.3  # memory: the system, the page cache of the log's tail, what Python does not give back
HEADERS = 60  # bytes around a frame: TCP and IP with options, Ethernet, WebSocket
EDIT_FRAME, CHAT_FRAME = 30, 150  # bytes of an edit's and a message's frame
OPEN_PER_ROOM = 2  # a chat and a scene
HOURS_A_DAY = 8.0
PEOPLE = (10_000, 50_000, 1_000_000)
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured, of one process on one core: seconds of processor, and bytes."""

    connection_memory: float
    document_memory: float
    connection_cpu: float
    edit: float
    delivery: float
    message: float
    edit_log: float
    message_log: float


@dataclass(frozen=True, slots=True)
class Habit:
    """How people behave while they are connected, all of it assumed. Rates are per person and second."""

    name: str
    messages: float
    edits: float
    room: int


HABITS = (
    Habit("all chat: each says something every 10 s, in rooms of 20", 0.1, 0.0, 20),
    Habit(
        "a working day: one in ten edits once a second, each chats once in 5 minutes, in rooms of 20", 1 / 300, 0.1, 20
    ),
)


@dataclass(frozen=True, slots=True)
class Need:
    """What so many people take together."""

    cores: float
    processes: int
    memory: float
    log_a_day: float
    network: float


def need(cost: Costs, habit: Habit, people: int) -> Need:
    """Linear in people, as nothing is shared between rooms but a process."""
    messages, edits, rooms = people * habit.messages, people * habit.edits, people / habit.room
    cpu = people * cost.connection_cpu + messages * cost.message * habit.room / PER_ROOM
    cpu += edits * (cost.edit + habit.room * cost.delivery)
    memory = people * cost.connection_memory + rooms * OPEN_PER_ROOM * cost.document_memory
    log = (messages * cost.message_log + edits * cost.edit_log) * 3600 * HOURS_A_DAY
    network = habit.room * (messages * (CHAT_FRAME + HEADERS) + edits * (EDIT_FRAME + HEADERS))
    return Need(cpu, ceil(cpu / BUSY), memory * SPARE, log, network)


def costs_of(results: report.Results) -> Costs | None:
    """The measured costs; None while one is missing."""
    rows = {row["title"]: Row(**row) for section in results["sections"].values() for row in section["rows"]}
    figures = {title: rows[title].median() for title in rows}
    still = [figures.get(f"idle: {what}") for what in (joining.STILL_MEMORY, joining.OPEN_MEMORY, joining.STILL_CPU)]
    work = [figures.get(title) for title in (costs.APART, costs.EACH, costs.SAID, costs.EDIT_BYTES, costs.CHAT_BYTES)]
    found = [figure for figure in (*still, *work) if figure is not None]
    if len(found) < len(still) + len(work):
        return None
    connection, opened, cpu, apart, each, said, edit_bytes, chat_bytes = found
    # a document that one person has open holds a connection too
    document = max(0.0, opened - connection) * 1024
    return Costs(connection * 1024, document, cpu / 1e6, apart / 1e6, each / 1e6, said / 1e6, edit_bytes, chat_bytes)


def write(results: report.Results) -> bool:
    """Write the page; False when a cost is not yet measured."""
    cost = costs_of(results)
    if cost is None:
        return False
    PAGE.write_text(text(cost, results["machine"]))
    return True


def text(cost: Costs, machine: str) -> str:
    """The page."""
    return TEMPLATE.read_text().format(
        machine=machine,
        measured=_table(("Measured", "Figure", "Row of docs/benchmarks.md"), _measured(cost)),
        needs="\n".join(_needs(cost, habit) for habit in HABITS),
        busy=f"{BUSY:.0%}",
        spare=f"{SPARE - 1:.0%}",
        headers=HEADERS,
        edit=EDIT_FRAME,
        chat=CHAT_FRAME,
        documents=OPEN_PER_ROOM,
        hours=f"{HOURS_A_DAY:g}",
    )


def _measured(cost: Costs) -> list[tuple[str, ...]]:
    return [
        ("memory per connection", f"{cost.connection_memory / 1024:.0f} KiB", joining.STILL_MEMORY),
        (
            "memory per open document",
            f"{cost.document_memory / 1024:.0f} KiB",
            f"{joining.OPEN_MEMORY}, less a connection",
        ),
        ("processor per idle connection", f"{cost.connection_cpu * 1e6:.1f} µs/s", joining.STILL_CPU),
        ("processor per edit taken in", f"{cost.edit * 1e6:.0f} µs", costs.APART),
        ("processor per edit handed out", f"{cost.delivery * 1e6:.1f} µs", costs.EACH),
        ("processor per chat message in a room of 20", f"{cost.message * 1e6:.0f} µs", costs.SAID),
        ("log per edit", f"{cost.edit_log:.0f} bytes", costs.EDIT_BYTES),
        ("log per chat message", f"{cost.message_log:.0f} bytes", costs.CHAT_BYTES),
    ]


def _needs(cost: Costs, habit: Habit) -> str:
    rows = []
    for people in PEOPLE:
        one = need(cost, habit, people)
        each = people / one.processes
        rows.append(
            (
                f"{people:,}",
                f"{one.cores:,.1f}",
                f"{one.processes:,}",
                f"{each:,.0f}",
                f"{one.memory / GIB:,.1f} GiB",
                f"{one.log_a_day / GIB:,.1f} GiB",
                f"{one.network * 8 / 1e6:,.0f} Mbit/s",
            )
        )
    head = ("People connected", "Cores busy", "Processes", "People each", "Memory", "Log a day", "Network out")
    return f"**{habit.name[0].upper()}{habit.name[1:]}**\n\n{_table(head, rows)}\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def _main() -> None:
    if not write(report.load()):
        raise SystemExit(
            f'expected the sections idle and cost in {report.RESULTS.name}: run `make bench ARGS="idle cost"`'
        )
    print(PAGE.read_text())


if __name__ == "__main__":
    _main()
