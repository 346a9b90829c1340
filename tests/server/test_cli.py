"""The command line, run in this process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.gltf import parts, triangle
from typer.testing import CliRunner, Result

from maquette.engine.engine import Engine
from maquette.engine.logs.lock import WriterLock
from maquette.engine.logs.schema import DATABASE, LOCK
from maquette.server.auth import Authenticator
from maquette.server.commandline import app
from maquette.server.tokens import Keyring

COMMANDS = ["serve", "token", "spaces", "import", "export", "log", "rebuild", "rewrite", "backup", "doctor", "thaw"]
CHAT = "".join(json.dumps({"id": f"m{n}", "author": "u1", "sent": n, "body": f"says {n}"}) + "\n" for n in range(3))

Maquette = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def maquette(data: Path, monkeypatch: pytest.MonkeyPatch) -> Maquette:
    """Run a command over the folder `data`. Whatever goes wrong is a line and an exit code, never an exception."""
    monkeypatch.setenv("MAQUETTE_DATA_DIR", str(data))

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a space `demo`, a model and three messages in it, beside the files that they came from."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "model.glb").write_bytes(triangle().glb())
    (folder / "chat.jsonl").write_text(CHAT)
    arguments = ["import", "demo", folder / "model.glb", folder / "chat.jsonl", "--data", folder / "data"]
    assert CliRunner().invoke(app, [str(argument) for argument in arguments]).exit_code == 0
    return folder


@pytest.fixture
def filled(maquette: Maquette, example: Path, tmp_path: Path) -> Maquette:
    """A copy of the example of one's own."""
    shutil.copytree(example, tmp_path, dirs_exist_ok=True)
    return maquette


@pytest.mark.smoke
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_options(maquette: Maquette, command: str) -> None:
    result = maquette(command, "--help")
    assert result.exit_code == 0
    assert len(result.stdout) > 300


@pytest.mark.smoke
def test_the_version_is_told(maquette: Maquette) -> None:
    assert maquette("--version").stdout.startswith("maquette ")


def test_a_wrong_option_is_misuse(maquette: Maquette) -> None:
    assert maquette("spaces", "--nonsense").exit_code == 2


@pytest.mark.parametrize("command", ["spaces", "log", "doctor", "rebuild all", "export demo --to x.glb"])
def test_reading_where_there_is_no_log_says_so_and_makes_none(maquette: Maquette, data: Path, command: str) -> None:
    result = maquette(*command.split())
    assert result.exit_code == 1
    assert result.stderr == f"maquette: expected a log at {data / DATABASE}, got no such file\n"
    assert not data.exists()


# --- token -----------------------------------------------------------------------------------------------------------


def test_a_token_is_printed_alone_and_holds(maquette: Maquette, data: Path) -> None:
    result = maquette("token", "--name", "Ann", "--role", "demo=editor", "--role", "*=viewer", "--tenant", "acme")
    session = Keyring.load(data).verify(result.stdout.strip())
    assert (session.name, session.tenant, session.actor.kind) == ("Ann", "acme", "person")
    assert {space: role.name for space, role in session.roles.items()} == {"demo": "EDITOR", "*": "VIEWER"}
    assert result.stdout.count("\n") == 1


def test_a_token_keeps_the_subject_and_the_time_that_were_given(maquette: Maquette, data: Path) -> None:
    result = maquette(
        "token", "--name", "A", "--role", "demo=viewer", "--sub", "ann1", "--kind", "ai", "--expires", "2h"
    )
    keyring = Keyring.load(data)
    session = keyring.verify(result.stdout.strip())
    assert (session.actor.id, session.actor.kind) == ("ann1", "ai")
    other = maquette("token", "--name", "A", "--role", "demo=viewer", "--expires", "1d")
    later = keyring.verify(other.stdout.strip())
    assert session.expires is not None
    assert later.expires is not None
    assert 21 * 3600 < later.expires - session.expires < 23 * 3600


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--role", "demo"], "--role: expected SPACE=ROLE"),
        (["--role", "demo=king"], "expected one of viewer, commenter"),
        (["--role", "demo=editor", "--expires", "soon"], "--expires: expected a number and one of s, m, h, d, w"),
        (["--role", "demo=editor", "--kind", "server"], "--kind: expected one of person, bot, ai"),
        (["--role", "demo=editor", "--sub", "ann@example.org"], "token, sub: expected"),
    ],
)
def test_a_token_that_cannot_be_says_why(maquette: Maquette, arguments: list[str], told: str) -> None:
    result = maquette("token", "--name", "Ann", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not result.stdout


def test_nobody_can_ask_for_an_import_by_token_or_address(data: Path) -> None:
    keyring = Keyring.load(data)
    token = keyring.sign("ann1", "Ann", "dev", {"*": "owner"})
    for query in ({"via": "import", "for": "bob"}, {"on_behalf_of": "bob"}):
        session = Authenticator(keyring, b"n" * 16).authenticate(f"Bearer {token}", query, "127.0.0.1")
        assert (session.actor.via, session.actor.on_behalf_of) == (None, None)


# --- files -----------------------------------------------------------------------------------------------------------


def test_an_import_makes_the_space_says_so_and_reports_each_file(maquette: Maquette, tmp_path: Path) -> None:
    (tmp_path / "model.glb").write_bytes(triangle().glb())
    (tmp_path / "chat.jsonl").write_text(CHAT)
    result = maquette("import", "demo", tmp_path / "model.glb", tmp_path / "chat.jsonl")
    assert result.exit_code == 0
    assert "space 'demo' was not there and was made" in result.stderr
    model, chat = result.stdout.splitlines()
    assert model == f"{tmp_path / 'model.glb'}: 1 nodes, 1 meshes, 1 triangles, 1 materials"
    assert chat == f"{tmp_path / 'chat.jsonl'}: 3 messages"
    assert "made" not in maquette("import", "demo", tmp_path / "model.glb").stderr


def test_a_file_that_is_refused_does_not_keep_the_next_one_out(maquette: Maquette, tmp_path: Path) -> None:
    (tmp_path / "bad.glb").write_bytes(triangle().glb()[:-9])
    (tmp_path / "good.glb").write_bytes(triangle().glb())
    result = maquette("import", "demo", tmp_path / "bad.glb", tmp_path / "none.glb", tmp_path / "good.glb")
    assert result.exit_code == 1
    assert f"maquette: {tmp_path / 'bad.glb'}: glTF, " in result.stderr
    assert "No such file" in result.stderr
    assert result.stdout.startswith(f"{tmp_path / 'good.glb'}: 1 nodes")


@pytest.mark.parametrize(
    ("name", "content"),
    [("bad.glb", b"glTF"), ("bad.jsonl", b"nonsense\n"), ("town-2005-06-12.txt", b"nonsense\n"), ("x.bin", b"?")],
)
def test_a_file_that_is_refused_makes_no_space(maquette: Maquette, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    result = maquette("import", "demo", tmp_path / name)
    assert result.exit_code == 1
    assert "was made" not in result.stderr.replace("is made", "")
    assert maquette("spaces").stdout == ""
    assert maquette("import", "Not A Slug", tmp_path / name).exit_code == 2


def test_what_is_no_file_is_refused_and_not_waited_for(maquette: Maquette, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.glb")
    (tmp_path / "folder.glb").mkdir()
    result = maquette("import", "demo", tmp_path / "pipe.glb", tmp_path / "folder.glb")
    assert result.exit_code == 1
    assert "expected a file, got a pipe or a device" in result.stderr
    assert "expected a file, got a folder" in result.stderr


def test_lines_that_were_left_out_are_told_and_fail_the_command(maquette: Maquette, tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(CHAT + "nonsense\n")
    result = maquette("import", "demo", tmp_path / "chat.jsonl")
    assert result.exit_code == 1
    assert "  left out: line 4: expected a JSON object" in result.stderr
    assert "3 messages, 1 left out" in result.stdout


def test_the_day_of_a_log_can_be_given(maquette: Maquette, tmp_path: Path) -> None:
    (tmp_path / "town.txt").write_text("[10:00] <bob> hi\n")
    assert maquette("import", "demo", tmp_path / "town.txt").exit_code == 1
    assert maquette("import", "demo", tmp_path / "town.txt", "--day", "yesterday").exit_code == 2
    assert maquette("import", "demo", tmp_path / "town.txt", "--day", "2005-06-12").exit_code == 0


def test_what_was_imported_is_exported(filled: Maquette, tmp_path: Path) -> None:
    assert filled("export", "demo", "--to", tmp_path / "out.glb").exit_code == 0
    assert filled("export", "demo", "--to", tmp_path / "out.jsonl").exit_code == 0
    assert len(parts((tmp_path / "out.glb").read_bytes())[0]["nodes"]) == 1
    assert (tmp_path / "out.jsonl").read_text() == CHAT.replace(", ", ",").replace(": ", ":")


@pytest.mark.parametrize(
    ("space", "name", "told"),
    [
        ("demo", "out.obj", "expected a file that ends in .glb, .jsonl"),
        ("none", "out.glb", "expected an existing space"),
    ],
)
def test_an_export_that_cannot_be_says_why(filled: Maquette, tmp_path: Path, space: str, name: str, told: str) -> None:
    result = filled("export", space, "--to", tmp_path / name)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("place", ["none/out.glb", "file/out.jsonl"])
def test_an_export_into_what_is_no_folder_says_so_in_plain_words(filled: Maquette, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    result = filled("export", "demo", "--to", tmp_path / place)
    assert result.exit_code == 2
    folder, name = (tmp_path / place).parent, Path(place).name
    assert result.stderr == f"maquette: export: expected to write {name!r} into an existing folder, got '{folder}'\n"


# --- reading ---------------------------------------------------------------------------------------------------------


def test_spaces_are_listed_for_people_and_for_programs(filled: Maquette) -> None:
    head, row = filled("spaces").stdout.splitlines()
    assert head.split() == ["SLUG", "ID", "NAME", "DOCUMENTS"]
    assert row.split()[0] == "demo"
    told = json.loads(filled("spaces", "--json").stdout)
    assert (told["slug"], told["documents"]) == ("demo", ["chat@1", "scene@1"])
    assert filled("spaces", "--tenant", "other").stdout == ""


def test_the_log_is_one_line_per_event(filled: Maquette) -> None:
    lines = filled("log").stdout.splitlines()
    positions = [int(line.split()[0]) for line in lines]
    assert positions == sorted(positions)
    assert "document.edited  bot " in lines[-1]
    assert "(via import)  3 × message.posted, " in lines[-1]


def test_the_log_can_begin_later_and_be_of_one_space_or_document(filled: Maquette) -> None:
    space = json.loads(filled("spaces", "--json").stdout)["id"]
    everything = rows(filled("log", "--json"))
    behind = rows(filled("log", "--json", "--after", everything[2]["position"]))
    assert behind == everything[3:]
    below = rows(filled("log", "--json", "--stream", f"dev/{space}"))
    assert below == [row for row in everything if row["stream"] != "dev"]
    scene = rows(filled("log", "--json", "--stream", f"dev/{space}/scene@1"))
    assert scene == [row for row in everything if row["stream"].endswith("scene@1")] != []


def test_a_stream_that_is_not_there_is_named(filled: Maquette) -> None:
    result = filled("log", "--stream", "dev/demo")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected an existing stream, got 'dev/demo'" in result.stderr
    assert "`maquette spaces`" in result.stderr


def test_an_event_as_json_is_whole(filled: Maquette) -> None:
    last = rows(filled("log", "--json"))[-1]
    assert last.keys() == {
        "position", "stream", "revision", "time", "id", "type", "schema", "actor", "cause", "data"
    }  # fmt: skip
    assert set(last["data"]["update"]) == {"$bytes"}
    assert last["actor"]["via"] == "import"


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_projections_are_built_and_built_anew(filled: Maquette) -> None:
    first = filled("rebuild", "all")
    assert [line.split(":")[0] for line in first.stdout.splitlines()] == ["chat_history", "scene_graph"]
    assert filled("rebuild", "scene_graph").stdout.startswith("scene_graph: built anew, up to position ")


def test_a_projection_that_is_not_there_is_named(filled: Maquette) -> None:
    result = filled("rebuild", "nonsense")
    assert (result.exit_code, result.stderr) == (2, "maquette: expected an existing projection, got 'nonsense'\n")


def test_d9_a_scene_is_rewritten_and_what_that_saves_is_told_before(filled: Maquette) -> None:
    dry = filled("rewrite", "demo/scene", "--dry-run")
    assert dry.stdout.startswith("scene would go on as scene@2 with 1 nodes, 1 materials, 0 comments")
    done = filled("rewrite", "demo/scene")
    assert done.stdout.startswith("scene goes on as scene@2 with 1 nodes")
    assert " → " in done.stdout
    assert "scene@2" in filled("spaces").stdout
    assert filled("doctor").exit_code == 0


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("demo", "expected SPACE/DOCUMENT"),
        ("demo/chat", "turns its pages by itself"),
        ("demo/scene@9", "scene@9"),
        ("none/scene", "'none'"),
        ("demo/text:none", "text:none"),
    ],
)
def test_d9_a_rewrite_that_cannot_be_says_why(filled: Maquette, document: str, told: str) -> None:
    result = filled("rewrite", document)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_a_backup_is_a_log_that_can_be_read(filled: Maquette, tmp_path: Path) -> None:
    assert filled("backup", tmp_path / "copy").exit_code == 0
    assert filled("log", "--data", tmp_path / "copy").stdout == filled("log").stdout
    assert filled("backup", tmp_path / "copy").exit_code == 2


def test_l5_a_log_that_somebody_else_writes_names_the_holder(filled: Maquette, data: Path, tmp_path: Path) -> None:
    lock = WriterLock(data / LOCK)
    try:
        result = filled("import", "demo", tmp_path / "model.glb")
        assert result.exit_code == 1
        assert "expected to be the only writer of" in result.stderr
        assert "it is held by process" in result.stderr
        assert filled("spaces").exit_code == 0
    finally:
        lock.release()


def test_l6_a_server_does_not_open_a_log_that_was_cut_short(filled: Maquette, data: Path) -> None:
    cut_short(data)
    result = filled("serve", "--port", "0")
    assert result.exit_code == 1
    assert result.stderr.startswith("maquette: ")
    assert "open with --accept-loss to go on without them" in result.stderr
    assert "server.json" not in {path.name for path in data.iterdir()}


def cut_short(data: Path) -> None:
    """Take the last event away, as if its commit had been forgotten."""
    change(
        data / DATABASE,
        "UPDATE streams SET revision = revision - 1, position = position - 1"
        " WHERE position = (SELECT max(position) FROM events)",
    )
    change(data / DATABASE, "DELETE FROM events WHERE position = (SELECT max(position) FROM events)")


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_g4_a_frozen_document_is_a_problem_until_it_is_thawed(filled: Maquette, data: Path) -> None:
    async def freeze() -> None:
        async with await Engine.open(data) as engine:
            space = await engine.space("dev", "demo")
            await space.freeze(space.record.documents["scene"], 1, 1, "it did not end well")

    asyncio.run(freeze())
    found = filled("doctor")
    assert found.exit_code == 1
    assert "scene@1 to take edits, it is frozen before revision 1: it did not end well" in found.stdout
    assert "document.frozen" in filled("log").stdout
    assert filled("thaw", "demo/scene").stdout == "demo/scene: takes edits\n"
    assert filled("doctor").exit_code == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [("demo", "SPACE/DOCUMENT"), ("demo/none", "'none'"), ("demo/scene@2", "demo/scene"), ("x/chat", "'x'")],
)
def test_a_document_that_is_not_there_cannot_be_thawed(filled: Maquette, name: str, told: str) -> None:
    result = filled("thaw", name)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_sound_folder_has_no_problems(filled: Maquette) -> None:
    filled("rebuild", "all")
    result = filled("doctor")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "no problems")
    assert "documents: 2 replayed" in result.stdout
    assert "assets: 1 named by scenes" in result.stdout


def problems(result: Result) -> list[str]:
    assert result.exit_code == 1
    return [line for line in result.stdout.splitlines() if line.startswith("  PROBLEM: ")]


def only_asset(data: Path) -> Path:
    [asset] = (data / "assets").glob("??/*")
    return asset


def test_an_asset_that_is_gone_is_named_with_the_scene_that_names_it(filled: Maquette, data: Path) -> None:
    asset = only_asset(data)
    asset.unlink()
    [problem] = problems(filled("doctor"))
    assert f"asset {asset.name}, which dev/" in problem
    assert "scene@1 names: expected an existing asset" in problem


def test_an_asset_that_was_altered_is_named(filled: Maquette, data: Path) -> None:
    asset = only_asset(data)
    asset.write_bytes(asset.read_bytes() + b"!")
    [problem] = problems(filled("doctor"))
    assert "expected bytes with this digest" in problem


def test_l6_a_record_that_was_altered_is_named(filled: Maquette, data: Path) -> None:
    change(data / DATABASE, "UPDATE events SET time = time + 1 WHERE position = 3")
    assert any("#3" in problem or "position 3" in problem for problem in problems(filled("doctor")))


def test_l6_a_log_that_was_cut_short_is_told_and_the_doctor_does_not_fail(filled: Maquette, data: Path) -> None:
    change(data / DATABASE, "DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
    found = problems(filled("doctor"))
    assert any("witness" in problem for problem in found)
    assert "the log does not open" in found[-1]


def test_l6_an_altered_page_of_a_projection_is_told_and_built_anew(filled: Maquette, data: Path) -> None:
    filled("rebuild", "all")
    path = max((data / "projections" / "chat_history").glob("*.sqlite"))
    content = path.read_bytes()
    path.write_bytes(content[:9000] + bytes([content[9000] ^ 4]) + content[9001:])
    said = filled("doctor")
    assert said.exit_code == 0
    assert "page 3: expected the page that was written" in said.output.replace("\n", "")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE checkpoint SET position = 9999", "expected a checkpoint up to the log's head"),
        ("UPDATE checkpoint SET event = zeroblob(16)", "to be an event of this log, got another's"),
        (
            "INSERT INTO parked VALUES ('dev/x/scene@1', 5, 1, 1, 1, 'KeyError: place', 0)",
            "stopped for stream dev/x/scene@1: KeyError: place",
        ),
        ("DROP TABLE checkpoint", "`maquette rebuild scene_graph`"),
    ],
)
def test_a_projection_that_does_not_fit_the_log_is_named(
    filled: Maquette, data: Path, statement: str, told: str
) -> None:
    filled("rebuild", "all")
    [build] = (data / "projections" / "scene_graph").glob("*.sqlite")
    change(build, statement)
    [problem] = problems(filled("doctor"))
    assert "projection scene_graph: " in problem
    assert told in problem


def test_keys_that_others_may_read_are_a_problem(filled: Maquette, data: Path) -> None:
    Keyring.load(data)
    (data / "keys.json").chmod(0o644)
    [problem] = problems(filled("doctor"))
    assert "expected mode 0600" in problem


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
