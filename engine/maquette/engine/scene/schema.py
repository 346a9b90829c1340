"""What the maps of a scene document may hold: tables of fields for nodes, materials, comments and settings.

Rule 1: a field that is not in the table is refused, so that a scene does not gather what nobody reads; what is
        foreign goes into `extras`, any JSON value of up to 64 KiB.
Rule 2: a field's check sees that field alone, because concurrent writers set fields one by one.
Rule 3: spelling and units inside `light` are those of KHR_lights_punctual, inside `camera` those of glTF 2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from maquette.engine.checks import (
    Check,
    Field,
    Fields,
    all_of,
    array,
    boolean,
    check_fields,
    fail,
    identifier,
    integer,
    known,
    mapping,
    nullable,
    number,
    one_of,
    pattern,
    plain,
    record,
    row,
    text,
    variant,
)
from maquette.engine.errors import SchemaError
from maquette.engine.scene.geometry import QUATERNION_TOLERANCE, is_unit_quaternion
from maquette.engine.scene.order import MAX_LENGTH as MAX_ORDER
from maquette.engine.scene.order import is_order

Kind = Literal["node", "material", "comment", "settings"]

NODE_TYPES = ("group", "mesh", "light", "camera", "text")
MAX_NAME = 256
MAX_BODY = 10_000
MAX_EXTRAS = 64 * 1024
MAX_INDEX = 1_000_000  # of meshes, nodes, materials and primitives in one asset
MAX_WEIGHTS = 1_024
MAX_SLOTS = 1_024
MAX_SEGMENTS = 512  # more is no rounder and lets a small op ask every screen for millions of triangles

# --- values of several fields ------------------------------------------------------------------------------------

_ASSET: Check = pattern("[A-Za-z0-9_-]{43}", "an asset id: the SHA-256 of its bytes as 43 characters of base64url")
_INDEX = integer(0, MAX_INDEX)
_VECTOR = array(number(), 3, 3)
_UNIT = number(0, 1)
_COLOUR = array(_UNIT, 3, 3)
_ACTOR = text(1, MAX_NAME)
_TIME = integer()
_EXTRAS = Field(plain(MAX_EXTRAS))


_FOUR, _SIXTEEN = array(number(), 4, 4), array(number(), 16, 16)
_OF_ASSET = row(_ASSET, _INDEX)


def _rotation(value: Any, path: str) -> None:
    _FOUR(value, path)
    if not is_unit_quaternion(value):
        length = math.hypot(*value)
        raise SchemaError(path, f"a quaternion of length 1 within {QUATERNION_TOLERANCE}", f"length {length:.6g}")


def _matrix(value: Any, path: str) -> None:
    _SIXTEEN(value, path)
    if [value[3], value[7], value[11], value[15]] != [0, 0, 0, 1]:
        raise fail(path, "an affine matrix, column by column: 0, 0, 0, 1 at 3, 7, 11, 15", value)


def _order(value: object, path: str) -> None:
    if not is_order(value):
        raise fail(path, f"an order of 1 to {MAX_ORDER} base62 digits", value)


# --- meshes, lights, cameras -------------------------------------------------------------------------------------

SHAPES: Mapping[str, Mapping[str, float]] = {
    "box": {"width": 1.0, "height": 1.0, "depth": 1.0},
    "sphere": {"radius": 0.5, "width_segments": 32, "height_segments": 16},
    "cylinder": {"radius_top": 0.5, "radius_bottom": 0.5, "height": 1.0, "segments": 32},
    "cone": {"radius": 0.5, "height": 1.0, "segments": 32},
    "plane": {"width": 1.0, "depth": 1.0},
    "torus": {"radius": 0.5, "tube": 0.2, "radial_segments": 16, "tubular_segments": 48},
}
"""The parametric shapes: their parameters with the defaults, sizes in metres. Each is centred at the origin with its
axis along +Y (width along X, depth along Z); a plane faces +Y and a torus lies flat, around Y. A parameter that is
left out has its default."""

MAY_BE_ZERO = ("radius_top", "radius_bottom")


def _shape_parameter(name: str) -> Check:
    if name.endswith("segments"):
        return integer(2 if name == "height_segments" else 3, MAX_SEGMENTS)
    return number(0) if name in MAY_BE_ZERO else number(above=0)


_SHAPE = variant("shape", {s: {name: Field(_shape_parameter(name)) for name in names} for s, names in SHAPES.items()})


def _mesh(value: Any, path: str) -> None:
    if isinstance(value, list | tuple):
        _OF_ASSET(value, path)
    elif isinstance(value, Mapping):
        _SHAPE(value, path)
    else:
        raise fail(path, "[asset id, mesh index] or a map with a shape", value)


def _inner_within_outer(value: Any, path: str) -> None:
    inner, outer = value.get("innerConeAngle", 0), value.get("outerConeAngle", math.pi / 4)
    if inner >= outer:
        raise SchemaError(f"{path}.innerConeAngle", f"less than the outer cone's {outer}", repr(inner))


_SPOT: Fields = {
    "innerConeAngle": Field(number(0, below=math.pi / 2)),
    "outerConeAngle": Field(number(above=0, high=math.pi / 2)),
    "extras": _EXTRAS,
}
_ANY_LIGHT: Fields = {
    "name": Field(text(0, MAX_NAME)),
    "color": Field(_COLOUR),
    "intensity": Field(number(0)),  # candela; lux when directional
    "range": Field(number(above=0)),
    "extensions": _EXTRAS,
    "extras": _EXTRAS,
}
_LIGHT = variant(
    "type",
    {
        "directional": _ANY_LIGHT,
        "point": _ANY_LIGHT,
        "spot": {**_ANY_LIGHT, "spot": Field(all_of(record(_SPOT), _inner_within_outer), required=True)},
    },
)

_PERSPECTIVE: Fields = {
    "yfov": Field(number(above=0, below=math.pi), required=True),
    "znear": Field(number(above=0), required=True),
    "zfar": Field(number(above=0)),  # left out: infinite
    "aspectRatio": Field(number(above=0)),
    "extras": _EXTRAS,
}
_ORTHOGRAPHIC: Fields = {
    "xmag": Field(number(), required=True),
    "ymag": Field(number(), required=True),
    "znear": Field(number(0), required=True),
    "zfar": Field(number(above=0), required=True),
    "extras": _EXTRAS,
}


def _far_behind_near(value: Any, path: str) -> None:
    near, far = value["znear"], value.get("zfar")
    if far is not None and far <= near:
        raise SchemaError(f"{path}.zfar", f"more than znear, {near}", repr(far))


def _magnified(value: Any, path: str) -> None:
    for name in ("xmag", "ymag"):
        if value[name] == 0:
            raise SchemaError(f"{path}.{name}", "a number other than 0", "0")


_ANY_CAMERA: Fields = {"name": Field(text(0, MAX_NAME)), "extensions": _EXTRAS, "extras": _EXTRAS}
_CAMERA = variant(
    "type",
    {
        "perspective": {
            **_ANY_CAMERA,
            "perspective": Field(all_of(record(_PERSPECTIVE), _far_behind_near), required=True),
        },
        "orthographic": {
            **_ANY_CAMERA,
            "orthographic": Field(all_of(record(_ORTHOGRAPHIC), _far_behind_near, _magnified), required=True),
        },
    },
)

_TEXT = record(
    {
        "body": Field(text(0, MAX_BODY), required=True),
        "size": Field(number(above=0)),  # height of a line in metres
        "color": Field(_COLOUR),  # linear
    }
)

# --- the tables --------------------------------------------------------------------------------------------------

NODE: Fields = {
    "name": Field(text(0, MAX_NAME), required=True),
    "type": Field(one_of(*NODE_TYPES), required=True),
    "place": Field(row(nullable(identifier), _order), required=True),
    "translation": Field(_VECTOR, required=True),
    "rotation": Field(_rotation, required=True),
    "scale": Field(_VECTOR, required=True),
    "visible": Field(boolean, required=True),
    "locked": Field(boolean, required=True),
    "trashed": Field(record({"by": Field(_ACTOR, required=True), "at": Field(_TIME, required=True)})),
    "matrix": Field(_matrix),
    "mesh": Field(_mesh),
    "slots": Field(mapping(pattern("0|[1-9][0-9]{0,5}", "a primitive's index in digits"), identifier, MAX_SLOTS)),
    "light": Field(_LIGHT),
    "camera": Field(_CAMERA),
    "text": Field(_TEXT),
    "weights": Field(array(number(), 0, MAX_WEIGHTS)),
    "source": Field(row(_ASSET, _INDEX, identifier)),
    "extras": _EXTRAS,
}

MATERIAL: Fields = {
    "name": Field(text(0, MAX_NAME)),
    "source": Field(row(_ASSET, _INDEX)),
    "base_color": Field(array(_UNIT, 4, 4)),  # linear
    "metallic": Field(_UNIT),
    "roughness": Field(_UNIT),
    "emissive": Field(array(number(0), 3, 3)),  # linear; above 1 by KHR_materials_emissive_strength
    "alpha_mode": Field(one_of("OPAQUE", "MASK", "BLEND")),
    "alpha_cutoff": Field(number(0)),
    "double_sided": Field(boolean),
    "extras": _EXTRAS,
}

COMMENT: Fields = {
    "author": Field(_ACTOR, required=True),
    "node": Field(nullable(identifier), required=True),
    "point": Field(_VECTOR, required=True),  # in the node's own space; in the world's when node is None
    "normal": Field(_VECTOR),
    "body": Field(text(1, MAX_BODY), required=True),
    "at": Field(_TIME, required=True),
    "parent": Field(identifier),
    "resolved": Field(boolean),
}

SETTINGS: Fields = {
    "background": Field(_COLOUR),  # linear
    "environment": Field(_ASSET),  # an equirectangular image that lights the scene
    "exposure": Field(number(above=0)),
    "extras": _EXTRAS,
}

TABLES: Mapping[Kind, Fields] = {"node": NODE, "material": MATERIAL, "comment": COMMENT, "settings": SETTINGS}

# --- the checks --------------------------------------------------------------------------------------------------


def check_node(fields: Mapping[str, object], node: str | None = None) -> None:
    """Check all fields of a new node, whose id is `node`. Raises SchemaError for what is missing, unknown or wrong."""
    _check_all("node", fields, node)


def check_material(fields: Mapping[str, object]) -> None:
    """Check all fields of a new material. Raises SchemaError."""
    _check_all("material", fields, None)


def check_comment(fields: Mapping[str, object], comment: str | None = None) -> None:
    """Check all fields of a new comment, whose id is `comment`. Raises SchemaError."""
    _check_all("comment", fields, comment)


def check_settings(fields: Mapping[str, object]) -> None:
    """Check some or all settings. Raises SchemaError."""
    _check_all("settings", fields, None)


def check_field(kind: Kind, field: str, value: object, owner: str | None = None) -> None:
    """Check one new value of a field; `owner` is the id of the node or comment that has it. Raises SchemaError."""
    known(TABLES[kind], field, kind).check(value, f"{kind}.{field}")
    if owner is not None:
        _check_own_parent(kind, field, value, owner)


def check_unset(kind: Kind, field: str) -> None:
    """Check that a field may be deleted. Raises SchemaError for a required and for an unknown one."""
    if known(TABLES[kind], field, kind).required:
        raise SchemaError(f"{kind}.{field}", "a value", "its deletion")


def _check_all(kind: Kind, fields: Mapping[str, object], owner: str | None) -> None:
    check_fields(TABLES[kind], fields, kind)
    for field in _PARENTS[kind]:
        if field in fields:
            _check_own_parent(kind, field, fields[field], owner)


def _check_own_parent(kind: Kind, field: str, value: object, owner: str | None) -> None:
    parent = value[0] if field == "place" and isinstance(value, list | tuple) else value
    if field in _PARENTS[kind] and owner is not None and parent == owner:
        raise SchemaError(_PARENTS[kind][field], "another's id", f"its own, {owner!r}")


_PARENTS: Mapping[Kind, Mapping[str, str]] = {
    "node": {"place": "node.place[0]"},
    "material": {},
    "comment": {"parent": "comment.parent"},
    "settings": {},
}
"""The fields that name another of their kind, and where in them."""

# --- new nodes ---------------------------------------------------------------------------------------------------

_DEFAULTS: Mapping[str, Any] = {
    "translation": [0.0, 0.0, 0.0],
    "rotation": [0.0, 0.0, 0.0, 1.0],
    "scale": [1.0, 1.0, 1.0],
    "visible": True,
    "locked": False,
}
_DEFAULTS_BY_TYPE: Mapping[str, Mapping[str, Any]] = {
    "mesh": {"mesh": {"shape": "box", **SHAPES["box"]}},
    "light": {"light": {"type": "point", "color": [1.0, 1.0, 1.0], "intensity": 1.0}},
    "camera": {"camera": {"type": "perspective", "perspective": {"yfov": math.pi / 4, "znear": 0.1, "zfar": 1000.0}}},
    "text": {"text": {"body": "", "size": 0.1}},
}


def new_node(node_type: str, name: str, place: tuple[str | None, str], **fields: Any) -> dict[str, Any]:
    """The complete fields of a new node: `fields` over the defaults of its type, tuples as lists. Raises SchemaError.

    A mesh is a box of 1 m, a light a white point light, a camera a perspective one, a text empty, unless
    `fields` say otherwise.
    """
    defaults = {**_DEFAULTS, **_DEFAULTS_BY_TYPE.get(node_type, {})}
    node = {"name": name, "type": node_type, "place": place, **defaults, **fields}
    check_node(node)
    return {field: _own(value) for field, value in node.items()}


def _own(value: Any) -> Any:
    """A copy of a plain value, so that nobody else's list is in it."""
    if isinstance(value, list | tuple):
        return [_own(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _own(item) for name, item in value.items()}
    return value
