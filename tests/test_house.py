"""The house keeps its own order: the namespace, the pins, the rules and what the repository says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.support import rules

ROOT = rules.ROOT
ROOMS = {
    "maquette.engine": "engine/maquette",
    "maquette.projections": "projections/maquette",
    "maquette.server": "server/maquette",
    "maquette.client": "clients/python/maquette",
}
REQUIREMENTS = ["requirements.txt", "requirements-runtime.txt"]
PIN = re.compile(r"^[a-z0-9-]+==[^ ]+(?: ;[^\\]*)? \\$")
ADDRESS = re.compile(r"^ *(?:-i |-f |--(?:extra-)?index-url|--find-links).*|https?://\S+", re.MULTILINE)
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
# split, so that this file does not name them
FOREIGN = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/[a-z]", "pypi." + "org", "npm" + "js"]))


def git_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("runs only in a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" not in file.read(8192)


@pytest.mark.smoke
@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_that_it_has_types(room: str) -> None:
    spec = importlib.util.find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    assert (Path(spec.origin).parent / "py.typed").is_file()


@pytest.mark.smoke
def test_maquette_is_a_namespace_that_others_may_join() -> None:
    spec = importlib.util.find_spec("maquette")
    assert spec is not None
    assert spec.origin is None, f"expected no maquette/__init__.py, got {spec.origin}"


@pytest.mark.parametrize("folder", ROOMS.values())
def test_no_room_ends_the_namespace(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_of_a_room_is_a_package(room: str) -> None:
    top = ROOT / ROOMS[room] / room.removeprefix("maquette.")
    folders = {path.parent for path in top.rglob("*.py")}
    assert folders
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_pin_is_exact_and_has_a_hash(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    pins = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert len(pins) > 20
    assert [lines[number] for number in pins if not PIN.match(lines[number])] == []
    assert [lines[number] for number in pins if not HASH.match(lines[number + 1])] == []


@pytest.mark.parametrize("name", [*REQUIREMENTS, "pyproject.toml"])
def test_no_pin_names_an_index(name: str) -> None:
    assert ADDRESS.findall((ROOT / name).read_text()) == []


def test_the_product_is_pinned_as_it_is_tested() -> None:
    tested, served = (set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE)) for name in REQUIREMENTS)
    assert served < tested


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {re.split(r"[<>=;\[ ]", one)[0] for one in project["project"]["dependencies"]}
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / REQUIREMENTS[1]).read_text(), re.MULTILINE))
    assert asked
    assert asked - pinned == set()


def test_the_packages_for_node_are_pinned_without_an_address() -> None:
    text = (ROOT / "tests/js/package-lock.json").read_text()
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert packages
    assert "://" not in re.sub(r'"(?:url|funding)": "[^"]*"', "", text)
    assert [name for name, one in packages.items() if "integrity" not in one or "resolved" in one] == []
    asked = json.loads((ROOT / "tests/js/package.json").read_text())["dependencies"]
    assert [one for one in asked.values() if not re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", one)] == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in git_files()
        if is_text(path)
        for match in FOREIGN.finditer(path.read_text(errors="replace"))
    ]
    assert found == []


def test_every_rule_that_a_test_names_is_in_the_spec() -> None:
    known = set(rules.rules(rules.SPEC.read_text()))
    assert len(known) >= 30
    assert {rule: tests for rule, tests in rules.tests_by_rule().items() if rule not in known} == {}


def test_every_test_that_the_spec_names_exists() -> None:
    spec = rules.SPEC.read_text()
    named = rules.named_tests(spec)
    assert list(named) == rules.rules(spec), "expected a row for each rule: run `make spec`"
    exist = rules.tests_by_rule()
    missing = [name for rule, names in named.items() for name in names if name not in exist.get(rule, {})]
    assert missing == [], "expected tests that exist: run `make spec`"


def test_the_threat_model_names_each_rule_and_tests_that_exist() -> None:
    security = rules.SECURITY.read_text()
    named, exist = rules.named_tests(security), rules.tests_by_rule()
    missing = [name for rule, names in named.items() for name in names if name not in exist.get(rule, {})]
    assert missing == []
    assert [rule for rule, names in named.items() if not names] == []
    said = {*named, *re.findall(r"^\*\*(\w\d)\*\* ", security, re.MULTILINE)}
    assert said == set(rules.rules(rules.SPEC.read_text())), "expected every rule, or why it is left out"


def test_the_table_of_the_spec_can_be_written_again() -> None:
    spec = "**L1** One.\n\n**L2** Two.\n\n<!-- held by -->\nold\n<!-- end -->\n"
    written = rules.write_table(spec, {"L2": {"test_l2_holds": "tests/test_x.py"}})
    assert rules.named_tests(written) == {"L1": [], "L2": ["test_l2_holds"]}
    assert "| L1 | *later* |" in written
    assert rules.write_table(written, {}).count("*later*") == 2


@pytest.mark.parametrize(
    ("ci", "reason", "outcome"),
    [
        ("true", "no such tool", "1 failed"),
        ("true", "no real data at x", "1 skipped"),
        ("", "no such tool", "1 skipped"),
    ],
)
def test_where_ci_is_true_only_a_known_reason_excuses_a_skip(
    tmp_path: Path, ci: str, reason: str, outcome: str
) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(f"import pytest\ndef test_it() -> None: pytest.skip({reason!r})\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(tmp_path)], env=os.environ | {"CI": ci}, capture_output=True, text=True, timeout=50
    )
    assert outcome in done.stdout.splitlines()[-1]
