from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine.errors import InvalidInput
from maquette.engine.scene.geometry import (
    Floats,
    compose,
    decompose,
    from_gltf,
    is_unit_quaternion,
    local_matrices,
    quaternion,
    rotation_matrix,
    to_gltf,
    transform_box,
    world_matrices,
)

IDENTITY = {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}

coordinates = st.floats(-1e4, 1e4, allow_nan=False)
vectors = st.tuples(coordinates, coordinates, coordinates)
rotations = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .filter(lambda q: math.hypot(*q) > 0.1)
    .map(lambda q: [part / math.hypot(*q) for part in q])
)
factors = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3)
scales = st.tuples(factors, factors, factors)


def test_a_matrix_computed_by_hand() -> None:
    """A quarter turn around +Y takes +X to -Z and +Z to +X; twice as large along X; then moved by (1, 2, 3)."""
    half = math.sqrt(0.5)
    matrix = compose([1, 2, 3], [0, half, 0, half], [2, 1, 1])
    assert np.allclose(matrix, [[0, 0, 1, 1], [0, 1, 0, 2], [-2, 0, 0, 3], [0, 0, 0, 1]])
    assert np.allclose(matrix @ [1, 0, 0, 1], [1, 2, 1, 1])
    assert np.allclose(to_gltf(matrix), [0, 0, -2, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 2, 3, 1])


def test_gltf_numbers_are_column_by_column() -> None:
    numbers = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1]
    assert from_gltf(numbers)[:3, 3].tolist() == [7, 8, 9]
    assert to_gltf(from_gltf([numbers, numbers])).tolist() == [numbers, numbers]


@given(rotations, vectors)
def test_a_rotation_keeps_lengths_and_is_q_v_q_conjugate(rotation: list[float], vector: Any) -> None:
    turned = rotation_matrix(rotation) @ vector
    axis, w = np.array(rotation[:3]), rotation[3]
    twist = 2 * np.cross(axis, vector)  # v' = v + 2w(a × v) + 2a × (a × v), an independent form of the same
    assert np.allclose(turned, vector + w * twist + np.cross(axis, twist), atol=1e-8)
    assert math.isclose(np.linalg.norm(turned), np.linalg.norm(vector), rel_tol=1e-9, abs_tol=1e-9)


@given(rotations)
def test_a_quaternion_comes_back_from_its_matrix_up_to_its_sign(rotation: list[float]) -> None:
    found = quaternion(rotation_matrix(rotation))
    assert found[3] >= 0
    assert np.allclose(found, rotation, atol=1e-9) or np.allclose(-found, rotation, atol=1e-9)


@given(vectors, rotations, scales)
def test_composed_then_decomposed_is_the_same_matrix(translation: Any, rotation: list[float], scale: Any) -> None:
    matrix = compose(translation, rotation, scale)
    found = decompose(matrix)
    assert found is not None
    again = compose(found.translation, found.rotation, found.scale)
    assert np.allclose(again[:3, :3], matrix[:3, :3], rtol=0, atol=1e-9 * np.abs(scale).max())
    assert found.translation.tolist() == list(translation)
    assert np.allclose(np.abs(found.scale), np.abs(scale), rtol=1e-9)


@given(vectors, rotations, st.tuples(*[st.floats(1e-3, 1e3)] * 3))
def test_positive_scales_come_back_as_they_were(translation: Any, rotation: list[float], scale: Any) -> None:
    found = decompose(compose(translation, rotation, scale))
    assert found is not None
    assert np.allclose(found.scale, scale, rtol=1e-9)


@given(vectors, rotations, scales)
def test_a_matrix_rounded_to_float32_still_decomposes(translation: Any, rotation: list[float], scale: Any) -> None:
    assert decompose(compose(translation, rotation, scale).astype(np.float32)) is not None


@pytest.mark.parametrize("shear", [1.0, 0.01, 1e-5])
def test_a_sheared_matrix_has_no_trs(shear: float) -> None:
    matrix = np.eye(4)
    matrix[0, 1] = shear
    assert decompose(matrix) is None


def test_a_turned_child_of_a_stretched_parent_has_no_trs() -> None:
    stretched = compose([0, 0, 0], [0, 0, 0, 1], [3, 1, 1])
    turned = compose([0, 0, 0], [0, 0, math.sin(0.4), math.cos(0.4)], [1, 1, 1])
    assert decompose(stretched @ turned) is None


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_matrix_that_is_not_finite_has_no_trs(number: float) -> None:
    matrix = np.eye(4)
    matrix[1, 1] = number
    assert decompose(matrix) is None


def test_a_matrix_that_outgrows_float64_has_no_trs() -> None:
    assert decompose(np.diag([1e200, 1, 1, 1])) is None


def test_a_projective_matrix_has_no_trs() -> None:
    matrix = np.eye(4)
    matrix[3, 2] = 0.5
    assert decompose(matrix) is None


@given(rotations, st.lists(st.sampled_from([0.0, 2.0, -3.0]), min_size=3, max_size=3))
def test_flat_and_mirrored_matrices_decompose_exactly(rotation: list[float], scale: list[float]) -> None:
    matrix = compose([1, 2, 3], rotation, scale)
    found = decompose(matrix)
    assert found is not None
    assert is_unit_quaternion(found.rotation)
    assert np.allclose(compose(found.translation, found.rotation, found.scale), matrix, atol=1e-12)


def test_a_nearly_unit_rotation_does_not_scale() -> None:
    assert np.allclose(compose([0, 0, 0], [0, 0, 0, 1.005], [1, 1, 1]), np.eye(4), atol=1e-15)


def test_a_matrix_takes_the_place_of_trs() -> None:
    numbers = [1, 0, 0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 7, 8, 9, 1]
    plain, sheared = local_matrices([IDENTITY, {**IDENTITY, "matrix": numbers}])
    assert np.array_equal(plain, np.eye(4))
    assert to_gltf(sheared).tolist() == numbers


def test_no_nodes_have_no_matrices() -> None:
    assert local_matrices([]).shape == world_matrices([], local_matrices([])).shape == (0, 4, 4)


def test_a_world_matrix_computed_by_hand() -> None:
    """A hand of 1 m at the end of an arm of 2 m that is turned up by a quarter turn around +Z."""
    half = math.sqrt(0.5)
    arm = {**IDENTITY, "translation": [10, 0, 0], "rotation": [0, 0, half, half]}
    hand = {**IDENTITY, "translation": [2, 0, 0]}
    world = world_matrices([-1, 0], local_matrices([arm, hand]))
    assert np.allclose(world[1] @ [1, 0, 0, 1], [10, 3, 0, 1])


def by_recursion(parents: list[int], local: Floats, node: int) -> Floats:
    own: Floats = local[node]
    return own if parents[node] < 0 else by_recursion(parents, local, parents[node]) @ own


@given(st.data(), st.integers(1, 30))
def test_world_matrices_are_the_products_along_the_way_up(data: st.DataObject, count: int) -> None:
    shuffled = data.draw(st.permutations(range(count)))
    parents = [-1] * count
    for index in range(1, count):
        parents[shuffled[index]] = data.draw(st.sampled_from([-1, *shuffled[:index]]))
    small = st.tuples(*[st.floats(0.5, 2)] * 3)
    local = np.stack([compose(data.draw(small), data.draw(rotations), data.draw(small)) for _ in range(count)])
    world = world_matrices(parents, local)
    for node in range(count):
        assert np.allclose(world[node], by_recursion(parents, local, node), rtol=1e-9, atol=1e-9)


def test_a_chain_of_ten_thousand_adds_up() -> None:
    count = 10_000
    local = np.tile(compose([0.5, 0, 0], [0, 0, 0, 1], [1, 1, 1]), (count, 1, 1))
    world = world_matrices(np.arange(count) - 1, local)
    assert world[-1, 0, 3] == count / 2


def test_given_matrices_are_not_written_to() -> None:
    local = local_matrices([{**IDENTITY, "translation": [1, 0, 0]}] * 2)
    world_matrices([-1, 0], local)
    assert local[1, 0, 3] == 1


def test_what_grows_past_float64_is_infinite_and_no_error() -> None:
    local = local_matrices([{**IDENTITY, "scale": [1e200, 1, 1]}] * 2)
    assert world_matrices([-1, 0], local)[1, 0, 0] == math.inf


@pytest.mark.parametrize("parents", [[1, 0], [0], [-1, 2, 3, 1]])
def test_a_cycle_is_refused(parents: list[int]) -> None:
    with pytest.raises(InvalidInput, match="expected a tree, got a cycle"):
        world_matrices(parents, np.tile(np.eye(4), (len(parents), 1, 1)))


@pytest.mark.parametrize("parents", [[-2], [1], [0, -1, 3]])
def test_an_index_out_of_range_is_refused(parents: list[int]) -> None:
    with pytest.raises(InvalidInput, match="expected indices from -1 to"):
        world_matrices(parents, np.tile(np.eye(4), (len(parents), 1, 1)))


@pytest.mark.parametrize(
    ("rotation", "is_one"),
    [
        ([0, 0, 0, 1], True),
        ([0, 0, 0, -1], True),
        ([0.5, 0.5, 0.5, 0.5], True),
        ([0, 0, 0, 1.0076], True),
        ([0, 0, 0, 1.0078], False),
        ([0, 0, 0, 0], False),
        ([0, 0, 1], False),
        ([math.nan, 0, 0, 1], False),
        ([math.inf, 0, 0, 1], False),
        ([1e300, 0, 0, 1], False),
    ],
)
def test_a_rotation_has_length_one(rotation: list[float], is_one: bool) -> None:
    assert is_unit_quaternion(rotation) is is_one


@given(vectors, vectors, vectors, rotations, scales)
def test_a_moved_box_is_the_box_of_its_moved_corners(
    one: Any, other: Any, translation: Any, rotation: list[float], scale: Any
) -> None:
    lowest, highest = np.minimum(one, other), np.maximum(one, other)
    matrix = compose(translation, rotation, scale)
    corners = np.array(
        [[x, y, z, 1] for x, y, z in np.array(np.meshgrid(*zip(lowest, highest, strict=True))).T.reshape(-1, 3)]
    )
    moved = (corners @ matrix.T)[:, :3]
    low, high = transform_box(matrix, lowest, highest)
    size = 1e-9 * (1 + np.abs(moved).max())
    assert np.allclose(low, moved.min(axis=0), rtol=0, atol=size)
    assert np.allclose(high, moved.max(axis=0), rtol=0, atol=size)


def test_boxes_are_moved_many_at_a_time() -> None:
    matrices = local_matrices([{**IDENTITY, "translation": [at, 0, 0]} for at in range(3)])
    low, high = transform_box(matrices, [[-1, -1, -1]] * 3, [[1, 1, 1]] * 3)
    assert low[:, 0].tolist() == [-1, 0, 1]
    assert high[:, 0].tolist() == [1, 2, 3]
