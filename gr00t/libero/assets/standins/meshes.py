"""Turn looks into triangles, one small mesh per colour.

MuJoCo draws every box with 192 triangles and every cylinder with about a thousand, and software rendering
pays per vertex. The meshes here need 12 for a box and 40 per ring of a turned piece, so a scene of many
pieces stays cheap to draw, and hollow things such as cups are hollow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.assets.standins.parts import Blocks, Box, Layer, Look, Point, Rgb, Tube, Turned, Upright

# Two strips that meet at less than this angle are shaded as one curved wall.
_SMOOTH_COSINE = math.cos(math.radians(40.0))
_TUBE_SIDES = 8
# Latitudes of a rounded piece; enough to look round at the size of a bottle.
_LATITUDES = tuple(math.radians(angle) for angle in (-90, -65, -40, -20, 0, 20, 40, 65, 90))


@dataclass(frozen=True)
class ShadedMesh:
    """Vertices (V, 3), their unit normals (V, 3), and triangles (T, 3) of vertices, seen from outside."""

    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]
    triangles: NDArray[np.int64]


def meshes(looks: Iterable[Look], upright: Upright) -> dict[Rgb, ShadedMesh]:
    """One mesh per colour of all looks that are not textured."""
    pieces: dict[Rgb, list[ShadedMesh]] = {}
    for look in looks:
        if isinstance(look, Layer):
            turn = _UPRIGHT[upright]
            pieces.setdefault(look.rgb, []).append(_turned_by(_layer(look), turn))
        elif isinstance(look, Turned):
            for rgb, mesh in _strips(look):
                pieces.setdefault(rgb, []).append(_turned_by(mesh, _UPRIGHT[upright]))
        elif isinstance(look, Tube):
            pieces.setdefault(look.rgb, []).append(_tube(look))
        elif isinstance(look, Blocks):
            pieces.setdefault(look.rgb, []).extend(_box(box) for box in look.boxes)
    return {rgb: _joined(parts) for rgb, parts in pieces.items()}


# Width, height and depth of an upright frame (x, depth y, height z) in the object's own axes.
_UPRIGHT: dict[str, NDArray[np.float64]] = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}


def rotation(quaternion: Iterable[float]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of a quaternion w x y z of any length but zero."""
    w, x, y, z = np.array(list(quaternion)) / np.linalg.norm(list(quaternion))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _turned_by(mesh: ShadedMesh, turn: NDArray[np.float64]) -> ShadedMesh:
    return ShadedMesh(mesh.vertices @ turn.T, mesh.normals @ turn.T, mesh.triangles)


def _joined(parts: list[ShadedMesh]) -> ShadedMesh:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return ShadedMesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=True)]),
    )


def _box(box: Box) -> ShadedMesh:
    """Six faces with vertices of their own, so that edges stay sharp."""
    vertices: list[NDArray[np.float64]] = []
    normals: list[NDArray[np.float64]] = []
    triangles: list[tuple[int, int, int]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            first, second = np.eye(3)[(axis + 1) % 3], sign * np.eye(3)[(axis + 2) % 3]
            start = len(vertices)
            vertices += [normal - first - second, normal + first - second]
            vertices += [normal + first + second, normal - first + second]
            normals += [normal] * 4
            triangles += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    turn = rotation(box[3:7])
    corners = np.array(vertices) * np.array(box[7:]) @ turn.T + np.array(box[:3])
    return ShadedMesh(corners, np.array(normals) @ turn.T, np.array(triangles))


def _layer(layer: Layer) -> ShadedMesh:
    """A layer in an upright frame: x, depth y, height z."""
    (x, y), (half_x, half_y) = layer.at, layer.half
    middle, half_height = (layer.bottom + layer.top) / 2, (layer.top - layer.bottom) / 2
    if layer.shape == "box":
        return _box((x, y, middle, 1.0, 0.0, 0.0, 0.0, half_x, half_y, half_height))
    if layer.shape == "cylinder":
        rings = [(0.0, -1.0), (1.0, -1.0), (1.0, 1.0), (0.0, 1.0)]
    else:
        rings = [(math.cos(angle), math.sin(angle)) for angle in _LATITUDES]
    unit = Turned(rings[0], tuple((radius, height, layer.rgb) for radius, height in rings[1:]))
    mesh = _joined([mesh for _, mesh in _strips(unit)])
    scale = np.array([half_x, half_y, half_height])
    normals = mesh.normals / scale
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return ShadedMesh(mesh.vertices * scale + np.array([x, y, middle]), normals, mesh.triangles)


def _strips(turned: Turned) -> list[tuple[Rgb, ShadedMesh]]:
    """Each strip of a turned piece with its colour, in an upright frame; smooth where strips meet gently."""
    rings = np.array([turned.start, *((radius, height) for radius, height, _ in turned.strips)])
    along = np.diff(rings, axis=0)
    lengths = np.linalg.norm(along, axis=1, keepdims=True)
    flat = np.stack([along[:, 1], -along[:, 0]], axis=1) / lengths
    angles = 2 * math.pi * np.arange(turned.sides) / turned.sides
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    shift = np.array([*turned.at, 0.0])
    result = []
    for index, (_, _, rgb) in enumerate(turned.strips):
        vertices, normals = [], []
        for end, neighbour in ((index, index - 1), (index + 1, index + 1)):
            radius, height = rings[end]
            normal = flat[index]
            if 0 <= neighbour < len(flat) and flat[neighbour] @ normal > _SMOOTH_COSINE:
                normal = normal + flat[neighbour]
                normal = normal / np.linalg.norm(normal)
            vertices.append(np.column_stack([radius * circle, np.full(turned.sides, height)]))
            normals.append(np.column_stack([normal[0] * circle, np.full(turned.sides, normal[1])]))
        mesh = _ribbon(np.concatenate(vertices) + shift, np.concatenate(normals), turned.sides)
        result.append((rgb, mesh))
    return result


def _ribbon(vertices: NDArray[np.float64], normals: NDArray[np.float64], sides: int) -> ShadedMesh:
    """Triangles between two rings of `sides` vertices each, leaving out those that have no area."""
    here = np.arange(sides)
    there = (here + 1) % sides
    pairs = ((here, there, sides + there), (here, sides + there, sides + here))
    triangles = np.concatenate([np.column_stack(pair) for pair in pairs])
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    return ShadedMesh(vertices, normals, triangles[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-12])


def _tube(tube: Tube) -> ShadedMesh:
    """A rod with an eight-sided section, which bends halfway at each inner point, closed at its ends."""
    points = np.array(tube.points)
    along = np.diff(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    tangents = np.concatenate([along[:1], along[:-1] + along[1:], along[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    before = tangents[0]
    side = _perpendicular(before)
    rings, normals = [], []
    angles = 2 * math.pi * np.arange(_TUBE_SIDES) / _TUBE_SIDES
    for point, tangent in zip(points, tangents, strict=True):
        # The smallest turn that takes the last direction to this one keeps the rod from twisting.
        side = side - (side @ tangent) / (1 + before @ tangent) * (before + tangent)
        before = tangent
        circle = np.outer(np.cos(angles), side) + np.outer(np.sin(angles), np.cross(tangent, side))
        rings.append(point + tube.radius * circle)
        normals.append(circle)
    parts = [
        _ribbon(np.concatenate(rings[i : i + 2]), np.concatenate(normals[i : i + 2]), _TUBE_SIDES)
        for i in range(len(rings) - 1)
    ]
    for ring, outwards in ((rings[0][::-1], -tangents[0]), (rings[-1], tangents[-1])):
        fan = np.array([(0, i, i + 1) for i in range(1, _TUBE_SIDES - 1)])
        parts.append(ShadedMesh(ring, np.tile(outwards, (_TUBE_SIDES, 1)), fan))
    return _joined(parts)


def _perpendicular(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    across = np.cross(direction, np.eye(3)[int(np.argmin(np.abs(direction)))])
    return np.asarray(across / np.linalg.norm(across))


def around(count: int, radius: float, height: float, half: Point, at: tuple[float, float]) -> tuple[Box, ...]:
    """`count` boxes on a circle around an upright axis through `at`, x axes pointing outwards."""
    boxes: list[Box] = []
    for index in range(count):
        angle = 2 * math.pi * index / count
        place = (at[0] + radius * math.cos(angle), at[1] + radius * math.sin(angle), height)
        boxes.append((*place, math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2), *half))
    return tuple(boxes)
