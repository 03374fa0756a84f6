"""Triangle meshes: read those of robosuite, thin them out, write what MuJoCo loads.

Thinning collapses edges by quadric error (Garland and Heckbert 1997, in the fast-simplification package).
Normals are made anew: a corner takes the mean over the faces that meet there within `CREASE_DEGREES` of its
own, so curved shells stay smooth and edges stay sharp. Without that a mesh of few triangles shows its facets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CREASE_DEGREES = 40.0
# Of the edge collapse: 0 keeps the shape at any cost of time, 10 is hasty; the package's default is 7.
AGGRESSIVENESS = 3.0
# Exporters split vertices at seams: within a hundredth of a millimetre they are one again, so that an edge
# collapse opens no crack there.
WELD_METRES = 1e-5
# A grid as coarse as the parts themselves would make them vanish: then the mesh stays as it is.
_KEPT_SURFACE = 0.5
_CREASE = math.cos(math.radians(CREASE_DEGREES))


@dataclass(frozen=True)
class Mesh:
    """Vertices (V, 3) float64 in metres and triangles (F, 3) int64 of indices into them."""

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]


def read_mesh(path: Path) -> Mesh:
    """Read positions and triangles of a Wavefront OBJ or a binary STL file, vertices at one place welded.

    Raises:
        ValueError: for another suffix, or an OBJ face that is no triangle.
    """
    if path.suffix == ".obj":
        return _weld(_read_obj(path))
    if path.suffix == ".stl":
        return _weld(_read_stl(path))
    raise ValueError(f"{path}: expected an .obj or .stl mesh")


def simplify(mesh: Mesh, triangles: int, cell: float) -> Mesh:
    """The mesh with about `triangles` triangles, if it has more; needs the fast-simplification package.

    Edges are collapsed with open borders kept as they are. Where borders alone exceed the wanted count (CAD
    sheets that touch without sharing vertices), a collapse would eat the sheets from their borders: there,
    vertices within one cell of a grid become one, which moves none of them by more than the cell's diagonal.

    Args:
        mesh: The original.
        triangles: Wanted.
        cell: Side of the grid's cells in metres.
    """
    if len(mesh.triangles) <= triangles:
        return mesh
    if len(border_edges(mesh)) > triangles:
        merged = _cluster(mesh, cell)
        return merged if surface(merged) > _KEPT_SURFACE * surface(mesh) else mesh
    from fast_simplification import simplify as collapse

    vertices, faces = collapse(
        mesh.vertices,
        mesh.triangles.astype(np.int32),
        target_count=triangles,
        agg=AGGRESSIVENESS,
        preserve_border=True,
    )
    return _weld(Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int64)))


def border_edges(mesh: Mesh) -> NDArray[np.int64]:
    """Edges that belong to one triangle only, (E, 2) int64."""
    edges = np.concatenate([mesh.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    edges, count = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    return edges[count == 1]


def surface(mesh: Mesh) -> float:
    """Area of all triangles in square metres."""
    return float(np.linalg.norm(_cross(mesh), axis=1).sum() / 2)


def corner_normals(mesh: Mesh) -> NDArray[np.float64]:
    """Unit normal of each triangle's corners, smooth but for creases: (F, 3, 3) float64.

    Triangles count by their area: a wide face keeps its own normal beside the thin strips of a chamfer.
    """
    areas = _cross(mesh)
    flat = areas / np.maximum(np.linalg.norm(areas, axis=1, keepdims=True), 1e-30)
    corners = mesh.triangles.reshape(-1)
    order = np.argsort(corners, kind="stable")
    starts = np.flatnonzero(np.diff(corners[order], prepend=-1))
    result = np.empty((len(corners), 3))
    for meeting in np.split(order, starts[1:]):  # the corners that meet at one vertex
        around = meeting // 3
        result[meeting] = (flat[around] @ flat[around].T >= _CREASE) @ areas[around]
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    return (result / np.maximum(lengths, 1e-30)).reshape(-1, 3, 3)


def obj_bytes(mesh: Mesh) -> bytes:
    """The mesh with its corner normals as a Wavefront OBJ file."""
    normals, index = np.unique(corner_normals(mesh).reshape(-1, 3).round(3), axis=0, return_inverse=True)
    index = index.reshape(-1, 3) + 1
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    lines += [f"vn {x:.3f} {y:.3f} {z:.3f}" for x, y, z in normals]
    lines += [
        "f " + " ".join(f"{vertex}//{normal}" for vertex, normal in zip(face, smooth, strict=True))
        for face, smooth in zip(mesh.triangles + 1, index, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode()


def _cross(mesh: Mesh) -> NDArray[np.float64]:
    """Along each triangle's normal, twice its area long: (F, 3)."""
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def _read_obj(path: Path) -> Mesh:
    vertices, triangles = [], []
    for line in path.read_text().splitlines():
        if line.startswith("v "):
            vertices.append(line.split()[1:4])
        elif line.startswith("f "):
            corners = [corner.partition("/")[0] for corner in line.split()[1:]]
            if len(corners) != 3:
                raise ValueError(f"{path}: expected triangles, got a face of {len(corners)} corners")
            triangles.append(corners)
    return Mesh(np.array(vertices, np.float64), np.array(triangles, np.int64) - 1)


def _read_stl(path: Path) -> Mesh:
    """A binary STL file: a header of 80 bytes, the count, then normal, corners and two spare bytes each."""
    content = path.read_bytes()
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])
    count = int(np.frombuffer(content, "<u4", 1, offset=80)[0])
    corners = np.frombuffer(content, record, count, offset=84)["corners"].astype(np.float64)
    return Mesh(corners.reshape(-1, 3), np.arange(3 * count, dtype=np.int64).reshape(-1, 3))


def _cluster(mesh: Mesh, cell: float) -> Mesh:
    """Merge the vertices within each cell of a grid into their mean; triangles that become equal are one."""
    places = np.floor(mesh.vertices / cell).astype(np.int64)
    _, merged, count = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    merged = merged.reshape(-1)
    means = np.stack([np.bincount(merged, axis) for axis in mesh.vertices.T], axis=1) / count[:, None]
    triangles = merged[mesh.triangles]
    # A triangle seen from its back is another one: its smallest index comes first by turning, not sorting.
    smallest = np.argmin(triangles, axis=1)
    turned = np.take_along_axis(triangles, (smallest[:, None] + np.arange(3)) % 3, axis=1)
    return _weld(Mesh(means, np.unique(turned, axis=0)))


def _weld(mesh: Mesh) -> Mesh:
    """Merge vertices that lie together; drop triangles that lost an edge by it, and vertices without one."""
    places = np.round(mesh.vertices / WELD_METRES).astype(np.int64)
    _, first, merged = np.unique(places, axis=0, return_index=True, return_inverse=True)
    triangles = merged.reshape(-1)[mesh.triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    used, triangles = np.unique(triangles, return_inverse=True)
    return Mesh(mesh.vertices[first][used], triangles.reshape(-1, 3).astype(np.int64))
