"""Thinning out triangles. Oracles: a ball, a cube and sheets, whose surfaces and normals are known."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

from gr00t.libero.assets.triangle_mesh import (
    Mesh,
    border_edges,
    corner_normals,
    obj_bytes,
    read_mesh,
    simplify,
    surface,
)

RADIUS = 0.05


def sphere(rings: int) -> Mesh:
    """A closed ball of 5 cm with 2 * rings * (rings - 1) triangles, seen from outside."""
    polar, around = np.linspace(0, np.pi, rings + 1)[1:-1], np.linspace(0, 2 * np.pi, rings, endpoint=False)
    theta, phi = np.meshgrid(polar, around, indexing="ij")
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    vertices = RADIUS * np.concatenate([points.reshape(-1, 3), [[0, 0, 1], [0, 0, -1]]])
    north, south = len(vertices) - 2, len(vertices) - 1
    triangles = []
    for right in range(rings):
        left = (right - 1) % rings
        triangles += [[north, left, right], [south, (rings - 2) * rings + right, (rings - 2) * rings + left]]
        for ring in range(rings - 2):
            a, b = ring * rings + left, ring * rings + right
            triangles += [[a, a + rings, b], [b, a + rings, b + rings]]
    return Mesh(vertices, np.array(triangles, np.int64))


def cube_triangles() -> np.ndarray:
    """The 12 triangles of a cube of 1 m, corner by corner, (12, 3, 3)."""
    faces = []
    for axis in range(3):
        for side in (0.0, 1.0):
            square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)[:: 1 if side else -1]
            points = np.insert(square, 0, side, axis=1)[:, np.argsort([axis, (axis + 1) % 3, (axis + 2) % 3])]
            faces += [points[[0, 1, 2]], points[[0, 2, 3]]]
    return np.array(faces)


def write_stl(path: Path, triangles: np.ndarray) -> Path:
    records = [struct.pack("<12fH", *np.zeros(3), *triangle.reshape(-1), 0) for triangle in triangles]
    path.write_bytes(b"\0" * 80 + struct.pack("<I", len(triangles)) + b"".join(records))
    return path


def test_a_cube_from_stl_is_welded_and_keeps_its_edges(tmp_path: Path) -> None:
    cube = read_mesh(write_stl(tmp_path / "cube.stl", cube_triangles()))
    assert (len(cube.vertices), len(cube.triangles)) == (8, 12)
    assert surface(cube) == pytest.approx(6.0)
    assert len(border_edges(cube)) == 0
    normals = corner_normals(cube)
    # A triangle's middle lies 0.5 from the cube's along its normal and 0.17 across.
    outward = np.round(1.9 * (cube.vertices[cube.triangles].mean(axis=1) - 0.5))
    assert np.abs(normals - outward[:, None]).max() < 1e-12


def test_a_ball_is_smooth() -> None:
    ball = sphere(40)
    radial = ball.vertices[ball.triangles] / RADIUS
    # Measured 0.9997; with the triangles' own normals 0.996.
    assert (corner_normals(ball) * radial).sum(axis=-1).min() > 0.999


def test_a_mesh_survives_being_written_and_read(tmp_path: Path) -> None:
    ball = sphere(12)
    (tmp_path / "ball.obj").write_bytes(obj_bytes(ball))
    read = read_mesh(tmp_path / "ball.obj")
    ours, theirs = (np.sort(m.vertices[m.triangles].reshape(-1, 9), axis=0) for m in (ball, read))
    assert np.abs(ours - theirs).max() < 1e-6
    normals = [line for line in obj_bytes(ball).decode().splitlines() if line.startswith("vn ")]
    assert len(normals) == len(ball.vertices)


def test_a_thinned_ball_is_still_closed_and_round() -> None:
    pytest.importorskip("fast_simplification")
    ball = sphere(80)
    light = simplify(ball, 1000, cell=0.001)
    assert 900 < len(light.triangles) <= 1000
    assert len(border_edges(light)) == 0
    radii = np.linalg.norm(light.vertices, axis=1)
    # Measured within 0.2 mm of 50.
    assert np.abs(radii - RADIUS).max() < 5e-4
    assert surface(light) == pytest.approx(4 * np.pi * RADIUS**2, rel=0.01)
    radial = light.vertices[light.triangles] / radii[light.triangles][..., None]
    # Measured 0.992: seven degrees.
    assert (corner_normals(light) * radial).sum(axis=-1).min() > 0.98


def test_an_open_shell_keeps_its_border() -> None:
    pytest.importorskip("fast_simplification")
    ball = sphere(80)
    below = (ball.vertices[ball.triangles][..., 2] < 1e-9).all(axis=1)
    bowl = Mesh(ball.vertices, ball.triangles[below])
    light = simplify(bowl, 1000, cell=0.001)
    assert len(light.triangles) <= 1000
    assert len(border_edges(light)) == len(border_edges(bowl)) == 80


def test_a_small_mesh_is_left_alone() -> None:
    ball = sphere(12)
    assert simplify(ball, 1000, cell=0.001) is ball


def patches(count: int, steps: int, gap: float) -> Mesh:
    """A square of 10 cm from count * count patches of steps * steps squares, none of which touch."""
    corners = []
    for row, column in itertools.product(range(count), repeat=2):
        line = np.linspace(0, 1 - gap, steps + 1)
        for (x0, x1), (y0, y1) in itertools.product(itertools.pairwise(line), repeat=2):
            square = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])
            square += np.array([row, column, 0])
            corners += [square[[0, 1, 2]], square[[0, 2, 3]]]
    points = np.array(corners).reshape(-1, 3) * 0.1 / count
    places, index = np.unique(points.round(9), axis=0, return_inverse=True)
    return Mesh(places, index.reshape(-1, 3))


def test_sheets_with_borders_everywhere_are_merged_on_a_grid_and_keep_their_extent() -> None:
    # As in the mount's CAD file: patches of 10 mm with a hundredth of a gap between.
    sheet = patches(10, 10, gap=0.01)
    assert len(border_edges(sheet)) == 10 * 10 * 40
    light = simplify(sheet, 2000, cell=0.007)
    # Of 20,000; where neighbours meet in a cell there is no gap any more.
    assert 300 < len(light.triangles) < 500
    assert len(border_edges(light)) < 150  # of 4,000; measured 104
    # The vertices of a cell become their mean: every side loses half a cell at most.
    assert np.ptp(light.vertices, axis=0) == pytest.approx([0.1, 0.1, 0.0], abs=0.007)
    assert (corner_normals(light)[..., 2] == 1.0).all()


def test_pieces_smaller_than_the_grid_are_kept_as_they_are() -> None:
    debris = patches(20, 1, gap=0.5)
    assert simplify(debris, 100, cell=0.01) is debris


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mesh\.dae: expected an \.obj or \.stl mesh"):
        read_mesh(tmp_path / "mesh.dae")
    (tmp_path / "square.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"square\.obj: expected triangles, got a face of 4 corners"):
        read_mesh(tmp_path / "square.obj")
