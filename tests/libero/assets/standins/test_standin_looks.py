"""What stand-ins look like: their triangles are right, few, where contacts are, and tell objects apart."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gr00t.libero.assets.standins.folder import STANDINS
from gr00t.libero.assets.standins.meshes import ShadedMesh, around, meshes, rotation
from gr00t.libero.assets.standins.parts import Blocks, Body, Box, Layer, Look, Standin, Tube, Turned
from gr00t.libero.assets.standins.scenes import SCENES

WHITE, RED = (1.0, 1.0, 1.0), (1.0, 0.0, 0.0)
MUG = Turned(
    (0.0, 0.0),
    ((0.04, 0.0, WHITE), (0.04, 0.1, WHITE), (0.03, 0.1, WHITE), (0.03, 0.01, WHITE), (0.0, 0.01, WHITE)),
)


def volume(mesh: ShadedMesh) -> float:
    """Enclosed by the triangles, negative if they face inwards: a sum over signed tetrahedra."""
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]] for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def face_normals(mesh: ShadedMesh) -> NDArray[np.float64]:
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def polygon(sides: int) -> float:
    """Area of a regular polygon within the unit circle."""
    return sides / 2 * math.sin(2 * math.pi / sides)


SOLIDS: dict[str, tuple[Look, float]] = {
    "box layer": (Layer("box", 0.1, 0.3, (0.2, 0.4), WHITE, at=(1.0, 2.0)), 0.2 * 0.4 * 0.8),
    "cylinder layer": (Layer("cylinder", 0.1, 0.3, (0.2, 0.4), WHITE), 0.2 * polygon(20) * 0.2 * 0.4),
    "turned box": (
        Blocks(WHITE, ((1.0, 2.0, 3.0, 0.3, -0.5, 0.5, 0.5, 0.1, 0.2, 0.3),)),
        8 * 0.1 * 0.2 * 0.3,
    ),
    "mug": (MUG, polygon(20) * (0.04**2 * 0.1 - 0.03**2 * 0.09)),
    "straight tube": (Tube(((0.0, 0.0, 0.0), (0.3, 0.0, 0.4)), 0.05, WHITE), polygon(8) * 0.05**2 * 0.5),
}


@pytest.mark.parametrize("name", SOLIDS)
@pytest.mark.parametrize("upright", ["y", "z"])
def test_triangles_enclose_the_volume_of_the_solid_from_outside(name: str, upright: str) -> None:
    look, expected = SOLIDS[name]
    (mesh,) = meshes([look], upright).values()  # type: ignore[arg-type]
    assert volume(mesh) == pytest.approx(expected, rel=1e-9)


def test_an_ellipsoid_is_nearly_one() -> None:
    (mesh,) = meshes([Layer("ellipsoid", 0.0, 0.2, (0.2, 0.4), WHITE)], "z").values()
    exact = 4 / 3 * math.pi * 0.1 * 0.2 * 0.4
    # 20 sides and 8 strips lie inside the surface: 0.948 of its volume.
    assert 0.92 < volume(mesh) / exact < 1.0


def test_upright_objects_stand_along_y_with_their_width_along_x() -> None:
    layer = Layer("box", 0.1, 0.3, (0.2, 0.4), WHITE, at=(1.0, 2.0))
    (mesh,) = meshes([layer], "y").values()
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [0.8, 0.1, -2.4])
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [1.2, 0.3, -1.6])


def test_colours_of_one_turned_piece_become_one_mesh_each() -> None:
    strips = ((0.1, 0.0, WHITE), (0.1, 0.2, RED), (0.0, 0.2, WHITE))
    found = meshes(
        [Turned((0.0, 0.0), strips), Blocks(RED, ((0.0,) * 3 + (1.0,) + (0.0,) * 3 + (1.0,) * 3,))], "z"
    )
    # Two lids of 20 triangles; a wall of 40 and a box of 12.
    assert {rgb: len(mesh.triangles) for rgb, mesh in found.items()} == {WHITE: 40, RED: 52}


def test_gentle_bends_are_shaded_round_and_sharp_ones_sharp() -> None:
    bowl = Turned((0.0, 0.0), ((0.1, 0.0, WHITE), (0.2, 0.02, WHITE), (0.2, 0.2, WHITE)))
    (mesh,) = meshes([bowl], "z").values()
    heights = mesh.vertices[:, 2]
    slopes = [set(mesh.normals[np.isclose(heights, height), 2].round(3)) for height in (0.0, 0.02)]
    bend = math.atan2(0.02, 0.1)
    # At the first ring both strips share a normal halfway; at the second (79 degrees) each has its own.
    assert -round(math.cos(bend / 2), 3) in {round(float(slope), 3) for slope in slopes[0]}
    assert len(slopes[1]) == 2


def test_boxes_around_an_axis_face_outwards() -> None:
    for box in around(5, 2.0, 0.5, (0.1, 0.2, 0.3), (1.0, -1.0)):
        outwards = np.array(box[:2]) - [1.0, -1.0]
        np.testing.assert_allclose(rotation(box[3:7])[:2, 0], outwards / 2.0, atol=1e-12)
        assert box[2] == 0.5


def parts(body: Body) -> list[Body]:
    return [body, *(below for part in body.bodies for below in parts(part))]


def all_meshes() -> list[tuple[str, ShadedMesh]]:
    found = [
        (f"{standin.name} {body.name}", mesh)
        for standin in STANDINS
        for body in parts(standin.body)
        for mesh in meshes(body.looks, standin.upright).values()
    ]
    for scene in SCENES:
        found += [(scene.name, mesh) for mesh in meshes((*scene.looks, *scene.obstacle), "z").values()]
    return found


def test_every_triangle_s_vertices_are_shaded_on_its_outer_side() -> None:
    for name, mesh in all_meshes():
        facing = np.einsum("tk,tck->tc", face_normals(mesh), mesh.normals[mesh.triangles])
        # Measured: 0.57, at the right angles of the microwave's handle; a wrong side would be negative.
        assert facing.min() > 0.5, name
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-9)


def test_scenes_stay_cheap_to_draw() -> None:
    count = {
        standin.name: sum(
            len(mesh.triangles)
            for body in parts(standin.body)
            for mesh in meshes(body.looks, standin.upright).values()
        )
        for standin in STANDINS
    }
    # Largest: 712, the stove; MuJoCo draws a single cylinder of its own with about a thousand.
    largest = max(count, key=count.__getitem__)
    assert count[largest] < 1000, (largest, count[largest])


def corners(boxes: tuple[Box, ...]) -> NDArray[np.float64]:
    """Corners of all boxes in their body's frame, (8 N, 3)."""
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    return np.concatenate(
        [np.array(box[:3]) + (signs * np.array(box[7:])) @ rotation(box[3:7]).T for box in boxes]
    )


SHAPED = [
    (standin, body) for standin in STANDINS for body in parts(standin.body) if body.boxes and body.looks
]


@pytest.mark.parametrize(("standin", "body"), SHAPED, ids=lambda thing: thing.name)
def test_what_is_seen_is_where_the_collision_boxes_are(standin: Standin, body: Body) -> None:
    # LIBERO's own meshes overhang the boxes by up to 10.0 mm (the ridge of the cartons); so do ours.
    boxes = corners(body.boxes)
    seen = np.concatenate([mesh.vertices for mesh in meshes(body.looks, standin.upright).values()])
    tolerance = 0.0105
    np.testing.assert_allclose(seen.min(axis=0), boxes.min(axis=0), atol=tolerance)
    np.testing.assert_allclose(seen.max(axis=0), boxes.max(axis=0), atol=tolerance)


def look(standin: Standin) -> NDArray[np.float64]:
    """Colour of what is seen, mean over the area, per centimetre of height above its foot: (32, 3)."""
    up = {"y": 1, "z": 2}[standin.upright]
    total, colour = np.zeros(32), np.zeros((32, 3))
    pieces = [
        (rgb, mesh)
        for body in parts(standin.body)
        for rgb, mesh in meshes(body.looks, standin.upright).items()
    ]
    floor = min(mesh.vertices[:, up].min() for _, mesh in pieces)
    for rgb, mesh in pieces:
        a, b, c = (mesh.vertices[mesh.triangles[:, corner]] for corner in range(3))
        areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        low = np.minimum(np.minimum(a[:, up], b[:, up]), c[:, up]) - floor
        high = np.maximum(np.maximum(a[:, up], b[:, up]), c[:, up]) - floor
        for row in range(32):
            height = (row + 0.5) / 100
            weight = areas[(low <= height) & (height <= high)].sum()
            total[row] += weight
            colour[row] += weight * np.array(rgb)
    return colour / np.maximum(total, 1e-12)[:, None]


def footprint(standin: Standin) -> float:
    """Diagonal of what is seen from above."""
    up = {"y": 1, "z": 2}[standin.upright]
    seen = np.concatenate(
        [
            mesh.vertices
            for body in parts(standin.body)
            for mesh in meshes(body.looks, standin.upright).values()
        ]
    )
    return float(np.linalg.norm(np.delete(np.ptp(seen, axis=0), up)))


def test_every_two_objects_look_different() -> None:
    looks = {standin.name: look(standin) for standin in STANDINS}
    widths = {standin.name: footprint(standin) for standin in STANDINS}
    distances = {
        pair: float(np.linalg.norm(looks[pair[0]] - looks[pair[1]], axis=1).sum())
        + 10 * abs(widths[pair[0]] - widths[pair[1]])
        for pair in itertools.combinations(looks, 2)
    }
    # Colours summed over centimetres of height, widths in decimetres; two copies would be at 0.
    # Nearest: chocolate pudding and cookies, both flat dark packets, at 0.93.
    nearest = min(distances, key=distances.__getitem__)
    assert distances[nearest] > 0.7, (nearest, distances[nearest])
