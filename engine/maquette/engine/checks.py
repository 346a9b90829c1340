"""Checks of plain values that came from outside, as data: a schema is a table of these.

A check takes a value and its path and returns nothing, or raises SchemaError, which names the path, what was expected
and what came. Small checks make larger ones: `vector(3, number())`, `record({...})`.
Numbers are int or float, because a value that went through Yjs comes back as a float; booleans are not numbers.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from maquette.engine.errors import SchemaError
from maquette.engine.ids import MAX_LENGTH, is_id

Check = Callable[[object, str], None]

FLOAT32_MAX = 3.4028234663852886e38  # what is larger becomes infinite in a GLB and in WebGL
MAX_DEPTH = 32  # of nested plain values; pycrdt's decoder and Python's own recursion end far above
INTEGER_MAX = 2**63  # what a Yjs value can hold
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = 60


def fail(path: str, expected: str, value: object) -> SchemaError:
    """The error for `value`, which is shown cut to a length fit for people."""
    shown = _SHORT.repr(value)
    if not isinstance(value, bool | int | float | None):
        shown = f"{type(value).__name__} {shown}"
    return SchemaError(path, expected, shown)


# --- single values -----------------------------------------------------------------------------------------------


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is an int of 64 bits or a finite float, and no boolean."""
    if isinstance(value, int):
        return not isinstance(value, bool) and -INTEGER_MAX <= value < INTEGER_MAX
    return isinstance(value, float) and math.isfinite(value)


def is_text(value: object) -> TypeGuard[str]:
    """Whether `value` is a string that UTF-8 can hold: JSON can bring lone surrogates, Yjs cannot take them."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value))


def number(
    low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX, *, above: float | None = None, below: float | None = None
) -> Check:
    """A finite number from `low` to `high`, greater than `above`, less than `below`."""
    bounds = [f">= {low}"] if low > -FLOAT32_MAX else []
    bounds += [f"<= {high}"] if high < FLOAT32_MAX else []
    bounds += [f"> {above}"] if above is not None else []
    bounds += [f"< {below}"] if below is not None else []
    expected = " ".join(["a finite number", " and ".join(bounds)]).strip()
    is_plain = above is None and below is None

    def check(value: object, path: str) -> None:
        if is_plain and type(value) is float and low <= value <= high:
            return  # nearly every number that comes: neither NaN nor infinity, which are not between
        if not (
            is_number(value)
            and low <= value <= high
            and (above is None or value > above)
            and (below is None or value < below)
        ):
            raise fail(path, expected, value)

    return check


def integer(low: int = 0, high: int = 2**53) -> Check:
    """A whole number from `low` to `high`; 3.0 is one."""

    def check(value: object, path: str) -> None:
        if not (is_number(value) and value == int(value) and low <= value <= high):
            raise fail(path, f"a whole number from {low} to {high}", value)

    return check


def boolean(value: object, path: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise fail(path, "true or false", value)


def text(low: int, high: int) -> Check:
    """A string of `low` to `high` characters."""

    def check(value: object, path: str) -> None:
        if not is_text(value):
            raise fail(path, f"a string of {low} to {high} characters", value)
        if not low <= len(value) <= high:
            raise SchemaError(path, f"a string of {low} to {high} characters", f"{len(value)} characters")

    return check


def pattern(regex: str, expected: str) -> Check:
    """A string that `regex` matches as a whole."""
    compiled = re.compile(regex)

    def check(value: object, path: str) -> None:
        if not (isinstance(value, str) and compiled.fullmatch(value)):
            raise fail(path, expected, value)

    return check


def one_of(*values: str) -> Check:
    """One of a few strings."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise fail(path, f"one of {', '.join(values)}", value)

    return check


def identifier(value: object, path: str) -> None:
    """An id as in `maquette.engine.ids`."""
    if not is_id(value):
        raise fail(path, f"an id of 1 to {MAX_LENGTH} characters of [A-Za-z0-9_-]", value)


def nullable(inner: Check) -> Check:
    """None, or what `inner` takes."""

    def check(value: object, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


# --- values made of values ---------------------------------------------------------------------------------------


def array(inner: Check, low: int, high: int) -> Check:
    """A list of `low` to `high` items, all of one kind."""
    expected = f"{low}" if low == high else f"{low} to {high}"

    def check(value: object, path: str) -> None:
        if not isinstance(value, list | tuple):
            raise fail(path, f"a list of {expected} items", value)
        if not low <= len(value) <= high:
            raise SchemaError(path, f"a list of {expected} items", f"{len(value)} items")
        try:
            for item in value:
                inner(item, path)
        except SchemaError:  # a path for each item would take longer than to check it
            for index, item in enumerate(value):
                inner(item, f"{path}[{index}]")

    return check


def row(*inner: Check) -> Check:
    """A list with one item for each of `inner`."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            raise fail(path, f"a list of {len(inner)} items", value)
        for index, (item, one) in enumerate(zip(value, inner, strict=True)):
            one(item, f"{path}[{index}]")

    return check


def mapping(key: Check, inner: Check, high: int) -> Check:
    """A map of at most `high` entries, whose keys and values are all of one kind."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise fail(path, "a map", value)
        if len(value) > high:
            raise SchemaError(path, f"at most {high} entries", f"{len(value)} entries")
        for name, item in value.items():
            key(name, f"{path}: key")
            inner(item, f"{path}.{name}")

    return check


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record: the check of its value, and whether it must be there."""

    check: Check
    required: bool = False


Fields = Mapping[str, Field]


def record(fields: Fields) -> Check:
    """A map with exactly the fields of the table: required ones are there, unknown ones are not."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise fail(path, "a map", value)
        check_fields(fields, value, path)

    return check


def check_fields(fields: Fields, values: Mapping[str, object], path: str = "") -> None:
    """Raise SchemaError for the first field that is missing, unknown or wrong; `path` goes before the field's name."""
    prefix = f"{path}." if path else ""
    for name, field in fields.items():
        if field.required and name not in values:
            raise SchemaError(f"{prefix}{name}", "a value", "nothing")
    for name, value in values.items():
        field = fields[name] if name in fields else known(fields, name, path)
        field.check(value, f"{prefix}{name}")


def known(fields: Fields, name: object, path: str = "") -> Field:
    """The field of that name. Raises SchemaError when the table has none."""
    if not isinstance(name, str) or name not in fields:
        raise fail(path or "field", f"one of the fields {', '.join(fields)}", name)
    return fields[name]


def variant(tag: str, tables: Mapping[str, Fields]) -> Check:
    """A record whose field `tag` says which of the tables has its other fields."""
    choose = one_of(*tables)

    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise fail(path, "a map", value)
        choice = value.get(tag)
        choose(choice, f"{path}.{tag}")
        check_fields({tag: Field(choose), **tables[str(choice)]}, value, path)

    return check


def all_of(*checks: Check) -> Check:
    """What every one of `checks` takes, asked in turn."""

    def check(value: object, path: str) -> None:
        for one in checks:
            one(value, path)

    return check


def plain(limit: int) -> Check:
    """Any value that JSON can hold, of at most `limit` bytes as JSON and 32 levels."""

    def check(value: object, path: str) -> None:
        _plain(value, path, MAX_DEPTH)
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        if size > limit:
            raise SchemaError(path, f"at most {limit} bytes as JSON", f"{size} bytes")

    return check


def _plain(value: object, path: str, depth: int) -> None:
    if value is None or isinstance(value, bool) or is_number(value) or is_text(value):
        return
    if depth == 0:
        raise SchemaError(path, f"at most {MAX_DEPTH} levels", "more")
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _plain(item, f"{path}[{index}]", depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not is_text(name):
                raise fail(path, "strings as keys", name)
            _plain(item, f"{path}.{name}", depth - 1)
    else:
        raise fail(path, "null, true, false, a finite number, a string, a list or a map", value)
