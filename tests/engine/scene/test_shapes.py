"""The parametric shapes as triangles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maquette.engine.errors import InvalidInput
from maquette.engine.scene.schema import SHAPES
from maquette.engine.scene.shapes import Triangles, triangulate

SOLIDS: dict[str, dict[str, Any]] = {
    "box": {"shape": "box", "width": 2, "height": 3, "depth": 4},
    "sphere": {"shape": "sphere", "radius": 2},
    "cylinder": {"shape": "cylinder", "radius_top": 0.25, "height": 3},
    "pipe end": {"shape": "cylinder", "radius_bottom": 0, "height": 3},
    "cone": {"shape": "cone"},
    "torus": {"shape": "torus"},
}


def corners(mesh: Triangles) -> np.ndarray[Any, Any]:
    return mesh.positions.astype(np.float64)[mesh.indices.reshape(-1, 3)]


def volume(mesh: Triangles) -> float:
    """By the divergence theorem: positive when the triangles of a closed surface wind outwards."""
    a, b, c = np.moveaxis(corners(mesh), 1, 0)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("box", 2 * 3 * 4),
        ("sphere", 4 / 3 * np.pi * 2**3),
        ("cylinder", np.pi * 3 / 3 * (0.25**2 + 0.25 * 0.5 + 0.5**2)),
        ("cone", np.pi * 0.5**2 / 3),
        ("torus", 2 * np.pi**2 * 0.5 * 0.2**2),
    ],
)
def test_a_solid_has_its_volume_and_winds_outwards(shape: str, expected: float) -> None:
    assert volume(triangulate(SOLIDS[shape])) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("shape", SOLIDS)
def test_a_solid_is_closed(shape: str) -> None:
    mesh = triangulate(SOLIDS[shape])
    triangles = np.round(corners(mesh), 5) + 0.0
    edges = [
        (tuple(one), tuple(two))
        for triangle in triangles
        for one, two in zip(triangle, np.roll(triangle, -1, axis=0), strict=True)
    ]
    assert sorted(edges) == sorted((two, one) for one, two in edges)


@pytest.mark.parametrize("shape", [*SOLIDS.values(), {"shape": "plane"}])
def test_normals_are_unit_and_on_the_side_of_the_winding(shape: dict[str, Any]) -> None:
    mesh = triangulate(shape)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
    a, b, c = np.moveaxis(corners(mesh), 1, 0)
    faces = np.cross(b - a, c - a)
    assert (np.einsum("ij,ikj->ik", faces, mesh.normals[mesh.indices.reshape(-1, 3)]) > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_texture_coordinates_stay_within_the_texture(shape: str) -> None:
    coordinates = triangulate({"shape": shape}).coordinates
    assert (coordinates.min(axis=0) == 0).all()
    assert (coordinates.max(axis=0) == 1).all()


def test_the_box_has_its_size() -> None:
    positions = triangulate(SOLIDS["box"]).positions
    assert positions.max(axis=0).tolist() == [1, 1.5, 2]
    assert positions.min(axis=0).tolist() == [-1, -1.5, -2]


def test_a_plane_faces_up() -> None:
    mesh = triangulate({"shape": "plane", "width": 4})
    assert mesh.normals.tolist() == [[0, 1, 0]] * 4
    assert mesh.positions[:, 0].max() == 2


def test_counts_follow_the_segments() -> None:
    assert len(triangulate({"shape": "torus", "radial_segments": 3, "tubular_segments": 4}).indices) == 3 * 4 * 2 * 3
    sphere = triangulate({"shape": "sphere", "width_segments": 3, "height_segments": 2})
    assert len(sphere.indices) == (3 + 3) * 3  # the poles' degenerate halves are left out


def test_an_unknown_shape_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"expected one of box, sphere.*got 'teapot'"):
        triangulate({"shape": "teapot"})
