"""The application as a whole: problems, OpenAPI, mounting, its life with a server, and what its logs hold."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import websockets
from fastapi import FastAPI
from tests.support.api import Api, problem

from maquette.engine.document import Document
from maquette.engine.engine import Engine
from maquette.engine.errors import LogHeld
from maquette.server.app import create_app, create_server_app, running
from maquette.server.auth import Authenticator
from maquette.server.problems import TOLD
from maquette.server.redaction import redacted
from maquette.server.tokens import Keyring

# --- problems ------------------------------------------------------------------------------------------------------


async def test_what_the_framework_refuses_is_a_problem_too(api: Api) -> None:
    said = problem(await api.http.get("/v2/nothing"), 404)
    assert said["detail"] == "expected a path of this API, got '/v2/nothing'"
    response = await api.http.put("/healthz")
    assert problem(response, 405)["detail"].endswith("got PUT")
    assert "expected " + response.headers["Allow"] in response.json()["detail"]


async def test_a_body_that_is_not_json_is_told_where_it_ends_to_be(api: Api) -> None:
    for body, said in (
        (b"{", "body, character 1: expected JSON, got its end"),
        (b'{"slug": x}', "body, character 9: expected JSON, got 'x}'"),
        (b'{"slug": "\xff"}', "body: expected JSON in UTF-8, got byte 10 that is none"),
        (b'{"slug": "\\ud800"}', "body: expected text that UTF-8 can hold, got a lone surrogate"),
        (b'{"slug": NaN}', "body: expected JSON, got NaN, which JSON does not know"),
        (b"[" * 100_000, "body: expected JSON of some levels, got one that is nested too deeply"),
    ):
        headers = {**api.headers(), "Content-Type": "application/json"}
        response = await api.http.post("/v1/spaces", content=body, headers=headers)
        assert problem(response, 400)["detail"].startswith(said)


async def test_a_body_of_another_type_is_refused(api: Api) -> None:
    headers = {**api.headers(), "Content-Type": "text/plain"}
    said = problem(await api.http.post("/v1/spaces", content=b'{"slug": "demo"}', headers=headers), 415)
    assert said["detail"] == "Content-Type: expected application/json, got 'text/plain'"


async def test_a_fault_of_ours_is_told_without_its_inside(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.space("demo")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(Document, "submit", broken)
    response = await api.call("POST", "/spaces/demo/chat/messages", {"body": "hi"})
    assert problem(response, 500)["detail"] == "expected to answer, an error came that this server's log tells"
    assert "inside" not in response.text


async def test_reads_without_projections_are_told_so(api: Api) -> None:
    app = create_app(api.engine, Authenticator(api.keyring, api.engine.node))
    async with client(app) as http:
        await http.post("/v1/spaces", json={"slug": "demo"}, headers=api.headers())
        response = await http.get("/v1/spaces/demo/chat/messages", headers=api.headers())
        assert "this server runs without it" in problem(response, 503)["detail"]
        assert (await http.get("/readyz")).json() == {"ready": True}


async def test_answers_are_kept_by_no_cache_unless_they_say_so(api: Api) -> None:
    for path in ("/v1/spaces", "/v1/spaces/nowhere", "/openapi.json"):
        response = await api.http.get(path, headers=api.headers())
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


# --- OpenAPI -------------------------------------------------------------------------------------------------------


async def test_the_description_is_openapi_3_1_with_words_for_everything(api: Api) -> None:
    described = (await api.http.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    operations = [
        (f"{method} {path}", operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) >= 35
    names = [operation["operationId"] for _, operation in operations]
    assert len(set(names)) == len(names)
    for name, operation in operations:
        assert operation.get("description"), name
        assert ("security" in operation) == ("/v1/" in name), name
        errors = operation["responses"]["default"]["content"]
        assert errors["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}, name
    for name, schema in described["components"]["schemas"].items():
        assert schema.get("description"), name


# --- mounting ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        yield http


async def test_it_is_mounted_below_any_path_of_another_application(api: Api) -> None:
    host = FastAPI()
    host.mount("/rooms", api.app)
    async with client(host) as http:
        created = await http.post("/rooms/v1/spaces", json={"slug": "demo"}, headers=api.headers())
        assert created.headers["Location"] == "/rooms/v1/spaces/demo"
        assert (await http.get(created.headers["Location"], headers=api.headers())).json()["slug"] == "demo"
        assert problem(await http.get("/rooms/v1/spaces/demo"), 401)
        assert problem(await http.get("/rooms/v1/nothing"), 404)
        assert (await http.get("/elsewhere")).headers["Content-Type"] == "application/json"  # the host's own


async def test_pages_of_other_origins_may_not_call_unless_named(api: Api) -> None:
    app = create_app(api.engine, Authenticator(api.keyring, api.engine.node), cors=["https://studio.example"])
    for app_, origin, allowed in (
        (api.app, "https://studio.example", None),
        (app, "https://studio.example", "https://studio.example"),
        (app, "https://evil.example", None),
    ):
        async with client(app_) as http:
            response = await http.get("/healthz", headers={"Origin": origin})
            assert response.headers.get("Access-Control-Allow-Origin") == allowed


# --- its life with a server ----------------------------------------------------------------------------------------


@pytest.mark.smoke
async def test_a_server_opens_its_folder_and_closes_it(tmp_path: Path) -> None:
    app = create_server_app(tmp_path)
    async with client(app) as http:
        assert "started" in problem(await http.get("/v1/spaces"), 503)["detail"]
        async with app.router.lifespan_context(app):
            headers = bearer(Keyring.load(tmp_path))
            assert (await http.post("/v1/spaces", json={"slug": "demo"}, headers=headers)).status_code == 201
            with pytest.raises(LogHeld):
                await Engine.open(tmp_path)
    again = create_server_app(tmp_path)
    async with again.router.lifespan_context(again), client(again) as http:
        spaces = (await http.get("/v1/spaces", headers=headers)).json()["spaces"]
        assert [space["slug"] for space in spaces] == ["demo"]


def bearer(keyring: Keyring) -> dict[str, str]:
    return {"Authorization": f"Bearer {keyring.sign('ann', 'Ann', 't1', {'*': 'owner'})}"}


async def test_an_embedded_application_runs_over_an_engine_of_ones_own() -> None:
    async with await Engine.open() as engine:
        keyring = Keyring.fresh()
        app = create_app(engine, Authenticator(keyring, engine.node))
        async with running(app), client(app) as http:
            space = await engine.create_space("t1", "demo", keyring.verify(token(keyring)).actor)
            found = (await http.get("/v1/spaces/demo", headers=bearer(keyring))).json()
            assert found["id"] == space.id


def token(keyring: Keyring) -> str:
    return bearer(keyring)["Authorization"].removeprefix("Bearer ")


# --- logs ----------------------------------------------------------------------------------------------------------


def test_tokens_are_taken_out_of_lines_and_nothing_else() -> None:
    jwt = token(Keyring.fresh())
    for line in (f"/sync/demo/chat?token={jwt}&acks=1", f"/x?a=1&token={jwt}", f"/x?TOKEN={jwt}", f"/x?%74oken={jwt}"):
        assert jwt not in redacted(line)
        assert jwt.rpartition(".")[2] not in redacted(line)
    assert redacted("/sync/demo/chat?token=secret&acks=1") == "/sync/demo/chat?token=***&acks=1"
    assert redacted("/v1/spaces/token?name=token&x=1") == "/v1/spaces/token?name=token&x=1"
    assert redacted(7) == 7


SERVE = """
import sys, uvicorn
from pathlib import Path
from maquette.server.app import create_server_app
uvicorn.run(create_server_app(Path(sys.argv[1])), port=0, log_level="debug")
"""


async def test_a_served_token_is_in_no_log(tmp_path: Path) -> None:
    """A real uvicorn at its most talkative: requests and WebSockets, good tokens and bad ones."""
    keyring = Keyring.load(tmp_path)
    good, bad = token(keyring), token(Keyring.fresh())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(tmp_path), stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    written, url = b"", ""
    try:
        while not url:
            line = await process.stdout.readline()
            assert line, written.decode()
            written += line
            found = re.search(rb"running on (http://\S+)", line)
            url = found[1].decode() if found else ""
        await use(url, good, bad)
    finally:
        if process.returncode is None:
            process.terminate()
        rest, _ = await process.communicate()
        process._transport.close()  # type: ignore[attr-defined]  # else its __del__ may warn after the loop is closed
    log = (written + rest).decode()
    assert log.count("token=***") >= 4, log
    for secret in (good, bad):
        assert secret not in log
        assert secret.rpartition(".")[2] not in log


async def use(url: str, good: str, bad: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/v1/spaces", params={"token": good})).status_code == 200
        assert (await http.get("/v1/spaces", params={"token": bad})).status_code == 401
        assert (await http.get(f"/v1/spaces?%74oken={quote(good)}")).status_code == 200
        created = await http.post("/v1/spaces", params={"token": good}, json={"slug": "demo"})
        assert created.status_code == 201
    for sent, code in ((good, None), (bad, 4401)):
        async with websockets.connect(f"{url.replace('http', 'ws')}/sync/demo/chat?token={sent}") as socket:
            if code is None:
                assert await socket.recv()
            else:
                with pytest.raises(websockets.ConnectionClosed) as caught:
                    await socket.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == code


async def test_the_page_of_the_api_lists_every_route_and_no_other(api: Api) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    listed = re.findall(r"^\| `([A-Z]+ /\S+)` \|", page, re.MULTILINE)
    paths = (await api.http.get("/openapi.json")).json()["paths"]
    served = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert sorted(listed) == sorted(served)
    assert len(set(listed)) == len(listed)


async def test_the_page_of_the_api_lists_every_kind_of_problem() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", page, re.MULTILINE)
    listed = {(int(status), kind) for status, kinds in rows for kind in re.findall(r"`([a-z-]+)`", kinds)}
    assert listed == {(told.status, told.kind) for _, told in TOLD} | {(405, "method-not-allowed")}
