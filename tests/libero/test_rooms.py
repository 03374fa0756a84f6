"""The rooms of LIBERO's world, from the lowest to the highest. Oracle: the order written out below."""

from __future__ import annotations

from tests.test_layout import Graph, imports, neighbours
from tests.test_structure import library

ROOMS = ("wheels", "tasks", "assets", "expert", "simulator", "settled", "datagen")


def upward(graph: Graph) -> set[tuple[str, str]]:
    """Which room imports which above itself."""
    return {
        (room, other)
        for room, imported in graph.items()
        for other in imported
        if ROOMS.index(other) >= ROOMS.index(room)
    }


def test_rooms_import_downward_only() -> None:
    graph = neighbours(imports(library()))["gr00t.libero"]
    assert set(graph) == set(ROOMS)
    assert upward(graph) == set()


def test_an_import_upward_is_seen() -> None:
    files = [
        ("gr00t/libero/simulator/process.py", "from gr00t.libero.datagen.demonstrations import demonstrate"),
        ("gr00t/libero/datagen/demonstrations.py", "from gr00t.libero.expert.motion import Action"),
        ("gr00t/libero/expert/motion.py", ""),
    ]
    assert upward(neighbours(imports(files))["gr00t.libero"]) == {("simulator", "datagen")}
