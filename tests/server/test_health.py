"""What load balancers and Prometheus are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.api import Api, on_each_log, problem

from maquette.engine.events import SERVER, NewEvent
from maquette.engine.logs.sqlite import SqliteLog


async def figures(api: Api) -> dict[str, float]:
    response = await api.http.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@on_each_log
async def test_a_server_that_is_well_is_alive_and_ready(api: Api) -> None:
    alive, ready = await api.http.get("/healthz"), await api.http.get("/readyz")
    assert (alive.status_code, alive.text) == (200, "ok\n")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    assert [(await api.http.head(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]


@on_each_log
async def test_v5_metrics_tell_events_documents_and_lag(api: Api) -> None:
    before = await figures(api)
    await api.space("demo")
    written = await api.done("POST", "/spaces/demo/chat/messages", {"body": "hi"})
    await api.done("GET", f"/spaces/demo/chat/messages?wait={written['position']}")
    after = await figures(api)
    assert before["maquette_documents_open"] == 0
    assert after["maquette_documents_open"] == 1
    assert after["maquette_log_position"] == int(written["position"])
    assert after["maquette_log_writable"] == 1
    assert after["maquette_connections"] == 0
    assert after["maquette_projection_behind_positionschat_history"] == 0
    assert after["maquette_projection_parked_streamsscene_graph"] == 0


async def test_no_metric_names_a_tenant_a_space_or_a_person(api: Api) -> None:
    await api.space("secretspace", tenant="secrettenant", sub="secretperson")
    assert "secret" not in (await api.http.get("/metrics")).text


@pytest.mark.parametrize("api", ["sqlite"], indirect=True)
async def test_l7_a_full_disk_makes_writes_wait_and_reads_go_on(api: Api) -> None:
    await api.space("demo")
    written = await api.done("POST", "/spaces/demo/chat/messages", {"body": "before"})
    await limit_pages(api.engine.log, full=True)
    said = await api.refused(503, "POST", "/spaces/demo/chat/messages", {"body": "x" * 30_000})
    assert said["type"] == "urn:maquette:problem:read-only"
    response = await api.http.get("/readyz")
    assert problem(response, 503)["reasons"] == ["log: expected to be writable, the last commit failed"]
    assert response.headers["Retry-After"] == "5"
    assert (await figures(api))["maquette_log_writable"] == 0
    assert (await api.http.get("/healthz")).status_code == 200
    read = await api.done("GET", f"/spaces/demo/chat/messages?wait={written['position']}")
    assert [message["body"] for message in read["messages"]] == ["before"]
    await limit_pages(api.engine.log, full=False)
    await asyncio.wait_for(until_writable(api.engine.log), 20)
    assert (await api.http.get("/readyz")).status_code == 200
    written = await api.done("POST", "/spaces/demo/chat/messages", {"body": "after"})
    read = await api.done("GET", f"/spaces/demo/chat/messages?wait={written['position']}")
    assert [message["body"] for message in read["messages"]] == ["before", "after"]


async def limit_pages(log: Any, *, full: bool) -> None:
    """Let SQLite find the disk full, or not any more."""
    assert isinstance(log, SqliteLog)
    assert log._files is not None
    connection = log._files.connection
    pages = 1 if full else 1 << 30  # SQLite takes no less than what the file has
    await asyncio.to_thread(connection.execute, f"PRAGMA max_page_count={pages}")


async def until_writable(log: Any) -> None:
    assert isinstance(log, SqliteLog)
    await log.until_writable()


async def test_v4_a_parked_stream_is_told_and_does_not_stop_the_server(api: Api) -> None:
    bad = {"update": b"", "changes": [{"type": "message.edited", "id": "nosuch", "body": "x"}], "describe": 1}
    await api.engine.log.append("t1/s/chat@1", [NewEvent("document.edited", SERVER, bad)])
    await api.runner.wait_for(await api.engine.log.head(), 10)
    assert (await figures(api))["maquette_projection_parked_streamschat_history"] == 1
    assert (await api.http.get("/readyz")).status_code == 200


async def test_a_projection_that_stopped_makes_the_server_unready(api: Api) -> None:
    api.runner.view("scene_graph").stop("expected space on the disk, got none")
    reasons = problem(await api.http.get("/readyz"), 503)["reasons"]
    assert reasons == [
        "projection 'scene_graph': expected to follow the log, it stopped: expected space on the disk, got none"
    ]
