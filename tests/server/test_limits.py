"""The settings of limits, and their page."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from maquette.engine.errors import InvalidInput
from maquette.server.limits import TenantLimits, read_limits

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
UNITS = {"": 1, "MiB": 1 << 20}


def written(folder: Path, text: str) -> Path:
    path = folder / "limits.toml"
    path.write_text(text)
    return path


def test_a_tenant_has_its_own_limits_and_the_default_ones_for_the_rest(tmp_path: Path) -> None:
    table = read_limits(
        written(tmp_path, "[default]\nops_per_space = 7\n[tenant.acme]\nconnections_per_tenant = 20_000\n")
    )
    assert table.of("acme") == TenantLimits(ops_per_space=7, connections_per_tenant=20_000)
    assert table.of("other") == TenantLimits(ops_per_space=7)


def test_a_file_without_limits_changes_nothing(tmp_path: Path) -> None:
    assert read_limits(written(tmp_path, "")).of("acme") == TenantLimits()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[default]\nops = 1", "'ops'"),
        ("[default]\nops_per_space = 0", "ops_per_space"),
        ("[default]\nops_per_space = 1.5", "1.5"),
        ("[default]\nops_per_space = true", "True"),
        ('[tenant.acme]\nops_per_space = "many"', r"\[tenant.acme\] ops_per_space"),
        ("[tenant]\nacme = 3", "tenant.acme"),
        ('[tenant."a/b"]', "a/b"),
        ("[tenants.acme]", "'tenants'"),
        ("ops_per_space = 1", "'ops_per_space'"),
        ("[default", "TOML"),
    ],
)
def test_what_is_no_limit_is_an_error_that_names_it(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as raised:
        read_limits(written(tmp_path, text))
    assert "expected" in str(raised.value)


def test_a_file_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none.toml: expected a TOML file"):
        read_limits(tmp_path / "none.toml")


def test_the_page_of_the_api_lists_every_limit_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) ?(MiB)? \|", PAGE.read_text(), re.MULTILINE)
    listed = {name: int(number.replace(",", "")) * UNITS[unit] for name, number, unit in rows}
    assert listed == {one.name: one.default for one in fields(TenantLimits)}
