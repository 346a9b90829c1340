"""Which tests hold which rule of docs/spec.md. `python -m tests.support.rules` writes the table at its end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = ROOT / "docs" / "spec.md"
SECURITY = ROOT / "SECURITY.md"
PLACES = ("tests", "engine", "projections", "server", "clients/python")  # the contract suites are part of the product
RULE = re.compile(r"^\*\*([LDGPV]\d+)\*\* ", re.MULTILINE)
TEST = re.compile(r"^ *(?:async )?def (test_(?:([ldgpv]\d+)[a-z]?_)?\w+)\(", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- held by -->\n).*?(?=<!-- end -->)", re.DOTALL)
ROW = re.compile(r"^\| ([LDGPV]\d+) \| (.*) \|$", re.MULTILINE)

Tests = Mapping[str, Mapping[str, str]]
"""Rule id → name of a test → its file."""


def rules(spec: str) -> list[str]:
    """The ids that `spec` gives to its rules, in its order."""
    return RULE.findall(spec)


def sources() -> Iterator[Path]:
    """Every Python file that may hold tests, the packages that npm installs left out."""
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield path


def tests_by_rule() -> dict[str, dict[str, str]]:
    """The tests of this checkout whose name carries a rule."""
    found: dict[str, dict[str, str]] = {}
    for path in sources():
        for name, rule in TEST.findall(path.read_text()):
            if rule:
                found.setdefault(rule.upper(), {})[name] = path.relative_to(ROOT).as_posix()
    return found


def named_tests(spec: str) -> dict[str, list[str]]:
    """The tests that the table of `spec` names, per rule: docs/spec.md's, or that of SECURITY.md."""
    [table] = TABLE.findall(spec)
    return {rule: re.findall(r"`(test_\w+)`", cell) for rule, cell in ROW.findall(table)}


def write_table(spec: str, tests: Tests) -> str:
    """`spec` with a table of `tests`."""
    rows = [f"| {rule} | {_cell(tests.get(rule, {}))} |" for rule in rules(spec)]
    return TABLE.sub("\n".join(["", "| Rule | Held by |", "|---|---|", *rows, "", ""]), spec)


def _cell(tests: Mapping[str, str]) -> str:
    by_file: dict[str, list[str]] = {}
    for name, file in tests.items():
        by_file.setdefault(file, []).append(f"`{name}`")
    return "; ".join(f"{file}: {', '.join(names)}" for file, names in sorted(by_file.items())) or "*later*"


if __name__ == "__main__":
    SPEC.write_text(write_table(SPEC.read_text(), tests_by_rule()))
