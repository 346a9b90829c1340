from __future__ import annotations

import math
from typing import Any

import pytest

from maquette.engine.errors import InvalidInput, SchemaError
from maquette.engine.scene.schema import (
    NODE,
    NODE_TYPES,
    SHAPES,
    Kind,
    check_comment,
    check_field,
    check_material,
    check_node,
    check_settings,
    check_unset,
    new_node,
)

ASSET = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"
COMMENT = {"author": "ann", "node": None, "point": [0, 0, 0], "body": "Too dark?", "at": 1_700_000_000_000.0}
PERSPECTIVE = {"yfov": 0.8, "znear": 0.1}
ORTHOGRAPHIC = {"xmag": 1, "ymag": -1, "znear": 0, "zfar": 10}


def group(**fields: Any) -> dict[str, Any]:
    return new_node("group", "a group", (None, "V"), **fields)


# --- nodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node_type", NODE_TYPES)
def test_a_new_node_is_complete(node_type: str) -> None:
    node = new_node(node_type, "thing", ("parent", "V"), visible=False)
    check_node(node)
    assert node["place"] == ["parent", "V"]
    assert node["visible"] is False
    assert {name for name, field in NODE.items() if field.required} <= set(node)


def test_new_nodes_share_nothing() -> None:
    extras = {"tags": ["a"]}
    one, other = group(extras=extras), group(extras=extras)
    one["scale"].append(1)
    one["extras"]["tags"].append("b")
    assert other["scale"] == [1, 1, 1]
    assert other["extras"] == {"tags": ["a"]}


def test_a_new_node_with_a_wrong_field_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"node\.scale\[1\]: expected a finite number, got nan"):
        group(scale=(1, math.nan, 1))


@pytest.mark.parametrize("missing", ["name", "type", "place", "translation", "rotation", "scale", "visible", "locked"])
def test_a_node_without_a_required_field_is_refused(missing: str) -> None:
    node = group()
    del node[missing]
    with pytest.raises(SchemaError) as caught:
        check_node(node)
    assert (caught.value.path, caught.value.expected, caught.value.actual) == (f"node.{missing}", "a value", "nothing")


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SchemaError, match=r"node: expected one of the fields name, type, .*, got str 'colour'"):
        check_node({**group(), "colour": "red"})


GOOD: list[tuple[Kind, str, Any]] = [
    ("node", "name", ""),
    ("node", "name", "x" * 256),
    ("node", "name", "Füße 🦊"),
    ("node", "place", [None, "a0"]),
    ("node", "place", ("some-body_s", "z" * 256)),
    ("node", "translation", [1, -2.5, 3e38]),
    ("node", "rotation", [0, 0, 0, 1.007]),
    ("node", "scale", [0, -1, 1]),
    ("node", "matrix", [1, 0, 0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1.0]),
    ("node", "trashed", {"by": "ann", "at": 1.7e12}),
    ("node", "mesh", [ASSET, 3.0]),
    ("node", "mesh", {"shape": "box"}),
    ("node", "mesh", {"shape": "cylinder", "radius_top": 0, "segments": 64}),
    ("node", "slots", {"0": "red", "12": "blue"}),
    ("node", "light", {"type": "directional"}),
    ("node", "light", {"type": "point", "color": [1, 0.5, 0], "intensity": 800, "range": 4, "name": "lamp"}),
    ("node", "light", {"type": "spot", "spot": {"innerConeAngle": 0.1, "outerConeAngle": 0.2}}),
    ("node", "camera", {"type": "perspective", "perspective": PERSPECTIVE}),
    ("node", "camera", {"type": "orthographic", "orthographic": ORTHOGRAPHIC}),
    ("node", "text", {"body": "Exit", "size": 0.3, "color": [1, 1, 1]}),
    ("node", "weights", []),
    ("node", "weights", [0, 0.5, 1]),
    ("node", "source", [ASSET, 7, "import1"]),
    ("node", "extras", {"any": [None, True, 1, 2.5, "x", {"deep": []}]}),
    ("node", "extras", None),
    ("node", "extras", "x" * (64 * 1024 - 2)),
    ("material", "source", [ASSET, 0]),
    ("material", "base_color", [0, 0.5, 1, 1]),
    ("material", "emissive", [0, 0, 12]),
    ("material", "alpha_mode", "MASK"),
    ("comment", "parent", "another"),
    ("settings", "background", [0, 0, 0]),
    ("settings", "environment", ASSET),
]

BAD: list[tuple[Kind, str, Any, str]] = [
    ("node", "name", "x" * 257, "node.name: expected a string of 0 to 256 characters, got 257 characters"),
    ("node", "name", None, "node.name: expected a string of 0 to 256 characters, got None"),
    ("node", "name", "half a \ud83e", "node.name: expected a string"),
    ("node", "type", "sphere", "node.type: expected one of group, mesh, light, camera, text, got str 'sphere'"),
    ("node", "type", ["mesh"], "node.type: expected one of"),
    ("node", "place", "V", "node.place: expected a list of 2 items, got str 'V'"),
    ("node", "place", [None], "node.place: expected a list of 2 items"),
    ("node", "place", [None, ""], "node.place[1]: expected an order of 1 to 256 base62 digits"),
    ("node", "place", [None, "z" * 257], "node.place[1]: expected an order"),
    ("node", "place", [None, "a-b"], "node.place[1]: expected an order"),
    ("node", "place", [None, 5], "node.place[1]: expected an order"),
    ("node", "place", ["a b", "V"], "node.place[0]: expected an id of 1 to 64 characters"),
    ("node", "place", ["", "V"], "node.place[0]: expected an id"),
    ("node", "place", ["me", "V"], "node.place[0]: expected another's id, got its own, 'me'"),
    ("node", "translation", [0, 0], "node.translation: expected a list of 3 items, got 2 items"),
    ("node", "translation", {"x": 1}, "node.translation: expected a list of 3 items, got dict {'x': 1}"),
    ("node", "translation", [0, True, 0], "node.translation[1]: expected a finite number, got True"),
    ("node", "translation", [0, "1", 0], "node.translation[1]: expected a finite number, got str '1'"),
    ("node", "translation", [0, 0, math.inf], "node.translation[2]: expected a finite number, got inf"),
    ("node", "translation", [0, 0, 1e39], "node.translation[2]: expected a finite number"),
    ("node", "translation", [10**400, 0, 0], "node.translation[0]: expected a finite number"),
    ("node", "scale", [math.nan, 0, 0], "node.scale[0]: expected a finite number, got nan"),
    ("node", "rotation", [0, 0, 0], "node.rotation: expected a list of 4 items"),
    ("node", "rotation", [0, 0, 0, 2], "node.rotation: expected a quaternion of length 1 within 0.00769, got length 2"),
    ("node", "rotation", [0, 0, 0, 0], "node.rotation: expected a quaternion of length 1"),
    ("node", "rotation", [0, 0, math.nan, 1], "node.rotation[2]: expected a finite number"),
    ("node", "matrix", [1] * 15, "node.matrix: expected a list of 16 items"),
    ("node", "matrix", [1] * 16, "node.matrix: expected an affine matrix"),
    ("node", "visible", 1, "node.visible: expected true or false, got 1"),
    ("node", "locked", "no", "node.locked: expected true or false"),
    ("node", "trashed", True, "node.trashed: expected a map"),
    ("node", "trashed", {"by": "ann"}, "node.trashed.at: expected a value, got nothing"),
    ("node", "trashed", {"by": "ann", "at": 1.5}, "node.trashed.at: expected a whole number"),
    ("node", "trashed", {"by": "ann", "at": -1}, "node.trashed.at: expected a whole number"),
    ("node", "mesh", "box", "node.mesh: expected [asset id, mesh index] or a map with a shape"),
    ("node", "mesh", ["short", 0], "node.mesh[0]: expected an asset id"),
    ("node", "mesh", [ASSET, -1], "node.mesh[1]: expected a whole number from 0"),
    ("node", "mesh", [ASSET, True], "node.mesh[1]: expected a whole number"),
    ("node", "mesh", {}, "node.mesh.shape: expected one of box, sphere"),
    ("node", "mesh", {"shape": "teapot"}, "node.mesh.shape: expected one of box, sphere"),
    ("node", "mesh", {"shape": "box", "radius": 1}, "node.mesh: expected one of the fields shape, width"),
    ("node", "mesh", {"shape": "box", "width": 0}, "node.mesh.width: expected a finite number > 0"),
    ("node", "mesh", {"shape": "sphere", "width_segments": 1e6}, "node.mesh.width_segments: expected a whole number"),
    ("node", "mesh", {"shape": "cone", "segments": 3.5}, "node.mesh.segments: expected a whole number from 3 to 512"),
    ("node", "slots", ["red"], "node.slots: expected a map"),
    ("node", "slots", {"01": "red"}, "node.slots: key: expected a primitive's index in digits, got str '01'"),
    ("node", "slots", {0: "red"}, "node.slots: key: expected a primitive's index in digits, got 0"),
    ("node", "slots", {"0": None}, "node.slots.0: expected an id"),
    ("node", "slots", {str(i): "red" for i in range(1_025)}, "node.slots: expected at most 1024 entries, got 1025"),
    ("node", "light", {"type": "sun"}, "node.light.type: expected one of directional, point, spot"),
    ("node", "light", {"type": "point", "color": [2, 0, 0]}, "node.light.color[0]: expected a finite number >= 0 and"),
    ("node", "light", {"type": "point", "intensity": -1}, "node.light.intensity: expected a finite number >= 0"),
    ("node", "light", {"type": "point", "range": 0}, "node.light.range: expected a finite number > 0"),
    ("node", "light", {"type": "point", "spot": {}}, "node.light: expected one of the fields type, name"),
    ("node", "light", {"type": "spot"}, "node.light.spot: expected a value, got nothing"),
    ("node", "light", {"type": "spot", "spot": {"innerConeAngle": 1}}, "node.light.spot.innerConeAngle: expected less"),
    ("node", "light", {"type": "spot", "spot": {"outerConeAngle": 2}}, "node.light.spot.outerConeAngle: expected a fi"),
    ("node", "camera", {"type": "perspective"}, "node.camera.perspective: expected a value, got nothing"),
    ("node", "camera", {"type": "perspective", "perspective": {"yfov": 1}}, "node.camera.perspective.znear: expected"),
    (
        "node",
        "camera",
        {"type": "perspective", "perspective": {**PERSPECTIVE, "zfar": 0.1}},
        "node.camera.perspective.zfar: expected more than znear, 0.1, got 0.1",
    ),
    (
        "node",
        "camera",
        {"type": "orthographic", "orthographic": {**ORTHOGRAPHIC, "xmag": 0}},
        "node.camera.orthographic.xmag: expected a number other than 0",
    ),
    (
        "node",
        "camera",
        {"type": "orthographic", "perspective": PERSPECTIVE, "orthographic": ORTHOGRAPHIC},
        "node.camera: expected one of the fields type",
    ),
    ("node", "text", {"size": 1}, "node.text.body: expected a value, got nothing"),
    ("node", "weights", [0, math.nan], "node.weights[1]: expected a finite number"),
    ("node", "weights", [0] * 1_025, "node.weights: expected a list of 0 to 1024 items, got 1025 items"),
    ("node", "source", [ASSET, 7], "node.source: expected a list of 3 items"),
    ("node", "extras", b"bytes", "node.extras: expected null, true, false, a finite number, a string"),
    ("node", "extras", {"a": [math.inf]}, "node.extras.a[0]: expected null"),
    ("node", "extras", {1: "a"}, "node.extras: expected strings as keys, got 1"),
    ("node", "extras", "x" * (64 * 1024), "node.extras: expected at most 65536 bytes as JSON, got 65538 bytes"),
    ("node", "nonsense", 1, "node: expected one of the fields"),
    ("material", "base_color", [1, 1, 1], "material.base_color: expected a list of 4 items"),
    ("material", "metallic", 1.1, "material.metallic: expected a finite number >= 0 and <= 1, got 1.1"),
    ("material", "emissive", [0, 0, -1], "material.emissive[2]: expected a finite number >= 0"),
    ("material", "alpha_mode", "mask", "material.alpha_mode: expected one of OPAQUE, MASK, BLEND"),
    ("material", "texture", "x", "material: expected one of the fields"),
    ("comment", "body", "", "comment.body: expected a string of 1 to 10000 characters, got 0 characters"),
    ("comment", "parent", "me", "comment.parent: expected another's id"),
    ("settings", "background", "black", "settings.background: expected a list of 3 items"),
    ("settings", "gravity", 9.81, "settings: expected one of the fields"),
]


@pytest.mark.parametrize(("kind", "field", "value"), GOOD)
def test_a_good_value_is_taken(kind: Kind, field: str, value: Any) -> None:
    check_field(kind, field, value, "me")


@pytest.mark.parametrize(("kind", "field", "value", "message"), BAD)
def test_a_bad_value_is_refused_by_name(kind: Kind, field: str, value: Any, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        check_field(kind, field, value, "me")
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 700
    assert isinstance(caught.value, InvalidInput)


def test_values_too_deep_are_refused_before_they_are_measured() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SchemaError, match="expected at most 32 levels, got more"):
        check_field("node", "extras", deep)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(SchemaError, match="at most 32 levels"):
        check_field("node", "extras", endless)


@pytest.mark.parametrize(("shape", "parameters"), SHAPES.items())
def test_the_defaults_of_each_shape_are_taken(shape: str, parameters: dict[str, float]) -> None:
    check_field("node", "mesh", {"shape": shape, **parameters})


# --- whole records -----------------------------------------------------------------------------------------------


def test_a_node_may_not_be_created_under_itself() -> None:
    node = {**group(), "place": ["me", "V"]}
    check_node(node, "someone")
    with pytest.raises(SchemaError, match=r"node\.place\[0\]: expected another's id, got its own, 'me'"):
        check_node(node, "me")


def test_a_comment_needs_its_author_place_body_and_time() -> None:
    check_comment(COMMENT)
    for missing in COMMENT:
        with pytest.raises(SchemaError, match=rf"comment\.{missing}: expected a value, got nothing"):
            check_comment({name: value for name, value in COMMENT.items() if name != missing})


def test_a_comment_may_not_answer_itself() -> None:
    with pytest.raises(SchemaError, match=r"comment\.parent: expected another's id"):
        check_comment({**COMMENT, "parent": "me"}, "me")


def test_materials_and_settings_need_nothing() -> None:
    check_material({})
    check_settings({})


def test_a_bad_material_is_refused_whole() -> None:
    with pytest.raises(SchemaError, match=r"material\.roughness"):
        check_material({"metallic": 1, "roughness": -0.1})


def test_only_optional_fields_can_be_deleted() -> None:
    check_unset("node", "trashed")
    with pytest.raises(SchemaError, match=r"node\.place: expected a value, got its deletion"):
        check_unset("node", "place")
    with pytest.raises(SchemaError, match="node: expected one of the fields"):
        check_unset("node", "nonsense")
