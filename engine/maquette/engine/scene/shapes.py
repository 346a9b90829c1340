"""The triangles of the parametric shapes: what a file gets where a scene says `{"shape": "sphere", "radius": 2}`.

Rule 1: conventions are those of `schema.SHAPES`: metres, centred at the origin, the axis along +Y.
Rule 2: front faces wind counter-clockwise seen from outside, normals are of unit length, `v` of a texture coordinate
        grows downwards (glTF 2.0, 3.7.2.1 and 3.8.3).
Rule 3: the same parameters give the same bytes on every machine that computes sines alike.

A round shape is a grid of vertices, bent: (rows + 1) × (columns + 1), the seam twice, so that textures close.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.engine.errors import InvalidInput
from maquette.engine.scene.schema import SHAPES

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Triangles:
    """An indexed triangle mesh: positions and normals (n, 3), texture coordinates (n, 2), indices (3 × triangles,)."""

    positions: NDArray[np.float32]
    normals: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    indices: NDArray[np.uint32]


def triangulate(mesh: Mapping[str, Any]) -> Triangles:
    """The triangles of a parametric `mesh` register. Raises InvalidInput for an unknown shape."""
    name = mesh.get("shape")
    if not isinstance(name, str) or name not in SHAPES:
        raise InvalidInput(f"shape: expected one of {', '.join(SHAPES)}, got {name!r}")
    return _MAKERS[name]({**SHAPES[name], **mesh})


def _box(given: Mapping[str, Any]) -> Triangles:
    """Six faces of four vertices each: an edge needs two normals."""
    half = np.array([given["width"], given["height"], given["depth"]]) / 2
    faces = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            normal, right = np.zeros(3), np.zeros(3)
            normal[axis] = sign
            right[(axis + 1) % 3] = sign
            up = np.cross(normal, right)
            corners = [normal - right + up, normal + right + up, normal - right - up, normal + right - up]
            faces.append(_surface(np.array(corners) * half, np.tile(normal, (4, 1)), 1, 1))
    return _joined(*faces)


def _plane(given: Mapping[str, Any]) -> Triangles:
    x, z = given["width"] / 2, given["depth"] / 2
    corners = np.array([[-x, 0, -z], [x, 0, -z], [-x, 0, z], [x, 0, z]])
    return _joined(_surface(corners, np.tile([0.0, 1.0, 0.0], (4, 1)), 1, 1))


def _sphere(given: Mapping[str, Any]) -> Triangles:
    rows, columns = int(given["height_segments"]), int(given["width_segments"])
    down, around = _grid(rows, columns)
    polar = down * np.pi
    normals = _spun(np.sin(polar), np.cos(polar), around)
    return _joined(_surface(normals * given["radius"], normals, rows, columns))


def _cylinder(given: Mapping[str, Any]) -> Triangles:
    return _frustum(given["radius_top"], given["radius_bottom"], given["height"], int(given["segments"]))


def _cone(given: Mapping[str, Any]) -> Triangles:
    return _frustum(0.0, given["radius"], given["height"], int(given["segments"]))


def _frustum(top: float, bottom: float, height: float, segments: int) -> Triangles:
    down, around = _grid(1, segments)
    radius = top + (bottom - top) * down
    slope = np.hypot(height, bottom - top)
    normals = _spun(np.full_like(down, height / slope), np.full_like(down, (bottom - top) / slope), around)
    sides = _surface(_spun(radius, (0.5 - down) * height, around), normals, 1, segments)
    caps = [_cap(r, y, segments) for r, y in ((top, height / 2), (bottom, -height / 2)) if r > 0]
    return _joined(sides, *caps)


def _cap(radius: float, y: float, segments: int) -> Triangles:
    """A disc at height `y` that faces away from the origin."""
    inward, around = _grid(1, segments)
    # from the centre outwards when it faces up, from the rim inwards when it faces down: the winding follows
    distance = inward if y > 0 else 1 - inward
    positions = _spun(distance * radius, np.full_like(distance, y), around)
    normals = np.tile([0.0, 1.0 if y > 0 else -1.0, 0.0], (len(distance), 1))
    flat = _surface(positions, normals, 1, segments)
    unit = _spun(distance, np.zeros_like(distance), around)
    coordinates = np.stack([unit[:, 0], unit[:, 2]], axis=1) / 2 + 0.5
    return Triangles(flat.positions, flat.normals, coordinates.astype(np.float32), flat.indices)


def _torus(given: Mapping[str, Any]) -> Triangles:
    rows, columns = int(given["radial_segments"]), int(given["tubular_segments"])
    down, around = _grid(rows, columns)
    angle = np.pi - down * 2 * np.pi  # from the inside over the top, so that rows go down the outside
    normals = _spun(np.cos(angle), np.sin(angle), around)
    positions = _spun(given["radius"] + given["tube"] * np.cos(angle), given["tube"] * np.sin(angle), around)
    return _joined(_surface(positions, normals, rows, columns))


def _grid(rows: int, columns: int) -> tuple[Floats, Floats]:
    """Fractions down and around, one of each per vertex, row by row."""
    down, around = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    return down.ravel(), around.ravel()


def _spun(radius: Floats, y: Floats, around: Floats) -> Floats:
    """Points at a distance from the Y axis and at a height, turned about it."""
    angle = around * 2 * np.pi
    return np.stack([radius * np.sin(angle), y, radius * np.cos(angle)], axis=1)


def _surface(positions: Floats, normals: Floats, rows: int, columns: int) -> Triangles:
    """A grid of vertices as triangles, without those that a pole or an apex leaves no area."""
    down, around = _grid(rows, columns)
    start = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    below = start + columns + 1
    pairs = np.stack([start, below, start + 1, start + 1, below, below + 1], axis=1).reshape(-1, 3)
    return Triangles(
        positions.astype(np.float32),
        normals.astype(np.float32),
        np.stack([around, down], axis=1).astype(np.float32),
        pairs[_has_area(positions[pairs])].ravel().astype(np.uint32),
    )


def _has_area(corners: Floats) -> NDArray[np.bool_]:
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    found: NDArray[np.bool_] = area > area.max(initial=0) * 1e-9
    return found


def _joined(*parts: Triangles) -> Triangles:
    starts = np.cumsum([0, *(len(part.positions) for part in parts[:-1])]).astype(np.uint32)
    return Triangles(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.coordinates for part in parts]),
        np.concatenate([part.indices + start for part, start in zip(parts, starts, strict=True)]),
    )


_MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Triangles]] = {
    "box": _box,
    "sphere": _sphere,
    "cylinder": _cylinder,
    "cone": _cone,
    "plane": _plane,
    "torus": _torus,
}
