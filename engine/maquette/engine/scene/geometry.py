"""Transforms of a scene: local and world matrices, translation/rotation/scale, bounding boxes. NumPy, float64.

A matrix is an array of shape (..., 4, 4), indexed [row, column], that acts on column vectors: p' = M @ p. Its
translation is M[:3, 3]. glTF writes the same matrix as 16 numbers column by column (glTF 2.0, 3.5.3), so that the
translation is numbers 12, 13 and 14: `from_gltf` and `to_gltf` go between the two.
Lengths are in metres; +Y is up; a rotation is a unit quaternion [x, y, z, w]; all as in glTF.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maquette.engine.errors import InvalidInput

Floats = NDArray[np.float64]

QUATERNION_TOLERANCE = 0.00769
"""How far from 1 the norm of a rotation may be. Precedent: the Khronos glTF validator, which allows for rotations that
were quantised to signed bytes."""

EXACT_TOLERANCE = 1e-6
"""How far a column of a matrix may be from its decomposed form, as part of the column's length. glTF files hold what
was computed in float32 (7 digits); a shear that anybody could see is far above."""


@dataclass(frozen=True, slots=True, eq=False)
class TRS:
    """A local transform T · R · S: translation (3,), rotation (4,) as xyzw, scale (3,)."""

    translation: Floats
    rotation: Floats
    scale: Floats


# --- local matrices ----------------------------------------------------------------------------------------------


def from_gltf(numbers: ArrayLike) -> Floats:
    """glTF's 16 numbers, shape (..., 16), as matrices (..., 4, 4)."""
    flat = np.asarray(numbers, np.float64)
    return flat.reshape(*flat.shape[:-1], 4, 4).swapaxes(-1, -2)


def to_gltf(matrix: ArrayLike) -> Floats:
    """Matrices (..., 4, 4) as glTF's 16 numbers, shape (..., 16)."""
    rows = np.asarray(matrix, np.float64)
    return rows.swapaxes(-1, -2).reshape(*rows.shape[:-2], 16)


def rotation_matrix(rotation: ArrayLike) -> Floats:
    """Unit quaternions (..., 4), xyzw, as rotation matrices (..., 3, 3).

    Source: Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985, appendix I.
    """
    q = np.asarray(rotation, np.float64)
    x, y, z, w = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def compose(translation: ArrayLike, rotation: ArrayLike, scale: ArrayLike) -> Floats:
    """Translations (..., 3), rotations (..., 4), scales (..., 3) as matrices T · R · S (glTF 2.0, 3.5.3).

    Rotations are brought to unit length first, so that one within `QUATERNION_TOLERANCE` does not scale.
    """
    q = np.asarray(rotation, np.float64)
    turned = rotation_matrix(q / np.linalg.norm(q, axis=-1, keepdims=True))
    matrix = np.zeros((*turned.shape[:-2], 4, 4))
    matrix[..., :3, :3] = turned * np.asarray(scale, np.float64)[..., None, :]
    matrix[..., :3, 3] = translation
    matrix[..., 3, 3] = 1
    return matrix


def local_matrices(nodes: Sequence[Mapping[str, Any]]) -> Floats:
    """The local matrices (n, 4, 4) of n nodes' fields: `matrix` where a node has one, else its T, R and S."""
    if not nodes:
        return np.zeros((0, 4, 4))
    matrices = compose(*(np.array([node[field] for node in nodes], np.float64) for field in _TRS_FIELDS))
    for index, node in enumerate(nodes):
        if node.get("matrix") is not None:
            matrices[index] = from_gltf(node["matrix"])
    return matrices


_TRS_FIELDS = ("translation", "rotation", "scale")


# --- world matrices ----------------------------------------------------------------------------------------------


def world_matrices(parents: ArrayLike, local: ArrayLike) -> Floats:
    """The world matrices (n, 4, 4) of nodes from their local ones (n, 4, 4): a node's is its parent's times its own.

    `parents` (n,) gives for each node the index of its parent, -1 for the root, in any order (`Tree.flat` makes it).
    One matrix product for each level of depth. What grows past float64 comes out infinite.
    Raises InvalidInput for an index out of range and for a cycle.
    """
    above = np.asarray(parents, np.intp).reshape(-1)
    world = np.array(local, np.float64)
    for level in _levels(_depths(above))[1:]:
        with np.errstate(over="ignore", invalid="ignore"):
            world[level] = world[above[level]] @ world[level]
    return world


def _depths(above: NDArray[np.intp]) -> NDArray[np.intp]:
    """The number of ancestors of each node, by pointer jumping: log2(depth) rounds."""
    count = len(above)
    if count and (above.min() < -1 or above.max() >= count):
        raise InvalidInput(f"parents: expected indices from -1 to {count - 1}, got {above.min()} to {above.max()}")
    jump = np.append(above, -1)  # a last entry for the root, so that -1 leads to -1
    depth = (jump >= 0).astype(np.intp)
    for _ in range(count.bit_length() + 1):
        if (jump < 0).all():
            return depth[:-1]
        depth += depth[jump]
        jump = jump[jump]
    raise InvalidInput(f"parents: expected a tree, got a cycle among {int((jump >= 0).sum())} of {count} nodes")


def _levels(depths: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    order = np.argsort(depths, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depths))[:-1])


# --- decomposition -----------------------------------------------------------------------------------------------


def decompose(matrix: ArrayLike) -> TRS | None:
    """The translation, rotation and scale of one matrix (4, 4), or None when it has no such form.

    It has none when it is sheared (columns that are not perpendicular), projective, or not finite (a column whose
    length is past float64 is not either). Each column of T · R · S is within `EXACT_TOLERANCE` of the matrix. A
    mirrored matrix gets a negative x scale; of a flat one (a zero column) the rotation is completed to any that fits.
    """
    m = np.asarray(matrix, np.float64)
    if not np.isfinite(m).all() or (m[3] != (0, 0, 0, 1)).any():
        return None
    with np.errstate(over="ignore"):
        scale = np.linalg.norm(m[:3, :3], axis=0)
    if not np.isfinite(scale).all():
        return None
    axes = _completed(m[:3, :3], scale)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
        scale[0] *= -1
    found = TRS(m[:3, 3].copy(), quaternion(axes), scale)
    return found if _equal(compose(found.translation, found.rotation, found.scale), m) else None


def _completed(columns: Floats, lengths: Floats) -> Floats:
    """The columns at unit length; in the place of zero ones, what is perpendicular to the others."""
    axes = np.divide(columns, lengths, out=np.zeros((3, 3)), where=lengths > 0)
    for column in np.flatnonzero(lengths == 0):
        rest = np.eye(3) - axes @ axes.T  # what the axes found so far leave of each coordinate axis
        longest = rest[:, np.linalg.norm(rest, axis=0).argmax()]
        axes[:, column] = longest / np.linalg.norm(longest)
    return axes


def _equal(made: Floats, given: Floats) -> bool:
    lengths = np.linalg.norm(given[:3, :3], axis=0)
    return bool((np.linalg.norm((made - given)[:3, :3], axis=0) <= EXACT_TOLERANCE * lengths).all())


def quaternion(axes: ArrayLike) -> Floats:
    """A rotation matrix (3, 3) as unit quaternion (4,), xyzw, with w >= 0.

    Source: Shepperd, "Quaternion from Rotation Matrix", Journal of Guidance and Control 1 (1978): all products of two
    components are linear in the matrix; the row of the largest component loses no digits.
    """
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(axes, np.float64)
    products = np.array(
        [
            [1 + a - e - i, b + d, c + g, h - f],
            [b + d, 1 - a + e - i, f + h, c - g],
            [c + g, f + h, 1 - a - e + i, d - b],
            [h - f, c - g, d - b, 1 + a + e + i],
        ]
    )
    row = products[products.diagonal().argmax()]
    unit: Floats = row / np.linalg.norm(row)
    return -unit if unit[3] < 0 else unit


def is_unit_quaternion(rotation: ArrayLike) -> bool:
    """Whether four numbers are a rotation: finite and of length 1 within `QUATERNION_TOLERANCE`."""
    q = np.asarray(rotation, np.float64)
    return q.shape == (4,) and abs(math.hypot(*q) - 1) <= QUATERNION_TOLERANCE


# --- bounding boxes ----------------------------------------------------------------------------------------------


def transform_box(matrix: ArrayLike, lowest: ArrayLike, highest: ArrayLike) -> tuple[Floats, Floats]:
    """The smallest boxes, as lowest and highest corners (..., 3), around boxes moved by affine matrices (..., 4, 4).

    Source: Arvo, "Transforming Axis-Aligned Bounding Boxes", Graphics Gems (1990), in its form with centre and half
    size: the half size is moved by the absolute values of the matrix.
    """
    m = np.asarray(matrix, np.float64)
    low, high = np.asarray(lowest, np.float64), np.asarray(highest, np.float64)
    centre = (m[..., :3, :3] @ ((low + high) / 2)[..., None])[..., 0] + m[..., :3, 3]
    half = (np.abs(m[..., :3, :3]) @ ((high - low) / 2)[..., None])[..., 0]
    return centre - half, centre + half
