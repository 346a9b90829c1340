"""What the documents show works as it is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import node
from tests.support.rules import ROOT

from maquette.engine.ids import is_id
from maquette.engine.scene.schema import check_node

LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/spec.md", "docs/why.md"]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_node_of_the_readme_is_one_that_the_scene_admits() -> None:
    blocks = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if "new Y.Map(" in block]
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
