"""What the documents show works as it is shown."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import node
from tests.support.rules import ROOT
from tests.support.server import ServerProcess

from maquette.client import RemoteScene
from maquette.engine.ids import is_id
from maquette.engine.scene.schema import check_node

LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/spec.md",
    "docs/why.md",
    "docs/api.md",
    "docs/benchmarks.md",
]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_node_of_the_readme_is_one_that_the_scene_admits() -> None:
    blocks = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if "doc.getMap('nodes').set(" in block]
    [made] = node.run("readme.mjs", [code])
    assert made
    for name, fields in made.items():
        assert is_id(name)
        check_node(fields, name)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_link_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for file, anchor in LINK.findall(path.read_text()):
        target = path.parent / file if file else path
        assert target.exists(), f"expected {file} beside {name}"
        assert not anchor or anchor in anchors(target), f"expected a heading for #{anchor} in {target.name}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_make_target_that_is_named_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = re.findall(r"`([^`\n]*)`|^(make .*)$", (ROOT / name).read_text(), re.MULTILINE)
    named = {target for spans in shown for span in spans for target in TARGET.findall(span)}
    assert named <= targets


def python_block(text: str) -> str:
    """The Python code of the README that holds `text`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if text in block]
    return str(code)


def run_python(code: str) -> str:
    """What `code` prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_embedding_of_the_readme_writes_and_reads() -> None:
    printed = run_python(python_block("write_chat"))
    assert "message.posted" in printed
    assert "node.added" in printed


async def test_the_python_client_of_the_readme_writes(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path) as server:
        code = python_block("RemoteChat").replace("http://127.0.0.1:8000", server.url)
        await asyncio.to_thread(run_python, code)
        async with RemoteScene(server.url, "demo", "scene", name="Reader") as scene:
            [table] = scene.children()
            assert scene.nodes()[table]["name"] == "table"
            assert [scene.nodes()[node]["name"] for node in scene.children(table)] == ["vase"]


def test_the_application_of_the_readme_is_mounted_into_another(tmp_path: Path) -> None:
    code = python_block("create_app").replace('Path("data")', f"Path({str(tmp_path)!r})")
    asked = """
import asyncio, httpx
async def main():
    async with host.router.lifespan_context(host):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as client:
            print((await client.get("/rooms/healthz")).status_code, (await client.get("/rooms/v1/spaces")).status_code)
asyncio.run(main())
"""
    assert run_python(code + asked).split() == ["200", "401"]
