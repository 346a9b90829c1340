"""The pulse: what one process marks is what another finds, also after a sudden end (G4)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from maquette.engine.pulse import Busy, Pulse, Work, digest_of, shared_memory

STREAM = "tenant/6Yp0aUz81Rk/scene@1"


@pytest.fixture
def ends() -> Iterator[tuple[Pulse, Pulse]]:
    file = shared_memory()
    writer, reader = Pulse(file), Pulse(file)
    os.close(file)
    yield writer, reader
    writer.close()
    reader.close()


@pytest.mark.parametrize("size", [0, 1, 30, 4_096, 4_097, 8 << 20])
def test_g4_an_update_that_is_judged_is_known_by_its_digest(ends: tuple[Pulse, Pulse], size: int) -> None:
    writer, reader = ends
    update = os.urandom(size)
    writer.judging(STREAM, 7, "ann-4711", update)
    assert reader.busy() == Busy(Work.JUDGING, STREAM, 7, size, "ann-4711", digest_of(update))
    writer.rest()
    assert reader.busy() is None


def test_g4_whole_documents_and_revisions_are_marked(ends: tuple[Pulse, Pulse]) -> None:
    writer, reader = ends
    writer.judging(STREAM, 7, "ann-4711", b"x" * 100)
    writer.replaying(STREAM, 8, 30)
    assert reader.busy() == Busy(Work.REPLAYING, STREAM, 8, 30)
    writer.loading(STREAM, 9, 0)
    assert reader.busy() == Busy(Work.LOADING, STREAM, 9, 0)
    with writer.while_reading(STREAM, 10, 50):
        assert reader.busy() == Busy(Work.READING, STREAM, 10, 50)
    assert reader.busy() is None


def test_g4_each_mark_and_each_beat_is_a_sign_of_life(ends: tuple[Pulse, Pulse]) -> None:
    writer, reader = ends
    seen = [reader.count]
    for mark in (writer.beat, lambda: writer.replaying(STREAM, 1, 1), lambda: writer.judging(STREAM, 1, "a", b"")):
        mark()
        seen.append(reader.count)
    assert seen == [0, 1, 2, 3]


def test_g4_names_that_are_too_long_and_memory_full_of_rubbish_harm_nobody(ends: tuple[Pulse, Pulse]) -> None:
    writer, reader = ends
    writer.judging("s" * 100_000, 2**64 - 1, "ä" * 100_000, b"x")
    busy = reader.busy()
    assert busy is not None
    assert busy.digest == digest_of(b"x")
    writer._memory[:] = b"\xff" * len(writer._memory)
    assert reader.busy() is None


def test_g4_work_of_threads_is_marked_beside_that_of_the_event_loop_while_there_are_places() -> None:
    writer = Pulse(shared_memory())
    with ExitStack() as stack:
        writer.judging("t/s/d@1", 7, "ann", b"update")
        for revision in range(20):
            stack.enter_context(writer.beside(Work.FOLDING, "t/s/d@1", revision, 2, "tally"))
        marks = dict(enumerate(writer.busy_beside()))
        assert {thread for thread, _ in marks.values()} == {threading.get_native_id()}
        seen = sorted(busy.revision for _, busy in marks.values())
        assert seen == list(range(8))
        assert marks[0][1] == Busy(Work.FOLDING, "t/s/d@1", marks[0][1].revision, 2, by="tally")
        busy = writer.busy()
        assert busy is not None
        assert busy.work is Work.JUDGING
    assert list(writer.busy_beside()) == []
    with writer.beside(Work.CONVERTING, "t/s", 0, 0, "scene"):
        assert [busy.work for _, busy in writer.busy_beside()] == [Work.CONVERTING]
