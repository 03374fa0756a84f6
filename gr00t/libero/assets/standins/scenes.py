"""Rooms: the floor of libero_object and the tables of the other suites, with what stands behind the robot."""

from __future__ import annotations

import math

from gr00t.libero.assets.standins.parts import (
    STRAIGHT,
    Blocks,
    Body,
    Box,
    Look,
    Panel,
    Site,
    Solid,
    StandinScene,
    Tube,
    Turned,
)

# Names that LIBERO's styles ask for: the floors and walls of its suites.
GREY_FLOOR, CERAMIC_FLOOR, PLANK_FLOOR = (
    "textures/light-gray-floor-tile.png",
    "textures/gray_ceramic_tile.png",
    "textures/seamless_wood_planks_floor.png",
)
PLASTER, LINEN = "textures/light-gray-plaster.png", "textures/yellow_linen_wall_texture.png"
# Names of our own.
LIGHT_WOOD, DARK_WOOD, BROWN_WOOD = (
    "textures/light-wood.png",
    "textures/dark-wood.png",
    "textures/brown-wood.png",
)

CUPBOARD, GILT, STONE, SHELL, GLASS = (
    (0.13, 0.13, 0.11),
    (0.55, 0.45, 0.20),
    (0.05, 0.05, 0.05),
    (0.62, 0.62, 0.61),
    (0.08, 0.09, 0.10),
)
LEAF, TRUNK, POT, LAMP = (0.20, 0.38, 0.10), (0.35, 0.25, 0.14), (0.75, 0.75, 0.74), (0.10, 0.10, 0.11)

WALLS: tuple[Look, ...] = tuple(
    Panel("walls_mat", (x, 0.0, 1.5, *STRAIGHT, 0.01, 3.0, 1.5), f"wall_{name}_visual")
    for name, x in (("rear", -2.0), ("front", 3.0))
)


def _slab(x: float, y: float, z: float, half_x: float, half_y: float, half_z: float) -> Box:
    return (x, y, z, *STRAIGHT, half_x, half_y, half_z)


def _table() -> Body:
    """The table whose size LIBERO's code sets; it insists on legs, which no camera sees."""
    hidden = {"size": "0.05 0.1", "type": "cylinder", "contype": "0", "conaffinity": "0"}
    legs = tuple(Solid(hidden, f"table_leg{number}_visual", "0 0 0 0") for number in range(1, 5))
    top = {"pos": "0 0 0", "size": "0.4 0.4 0.4", "type": "box", "friction": "1 0.005 0.0001"}
    return Body(
        "table",
        place={"pos": "0 0 0.4"},
        solids=(Solid(top, "table_collision"), *legs),
        looks=(Panel("table_texture", _slab(0.0, 0.0, 0.0, 0.4, 0.4, 0.4), "table_visual"),),
        sites=(Site("table_top", (0.0, 0.0, 0.4, *STRAIGHT, 0.001, 0.001, 0.001), "sphere"),),
    )


LIVING_ROOM_TABLE: tuple[Box, ...] = (
    (-0.19761, 0.0, 0.42492, 0.70711, 0.0, 0.70711, 0.0, 0.01184, 0.44432, 0.67171),
    (0.54936, 0.0, 0.42492, 0.5, 0.5, 0.5, -0.5, 0.01184, 0.10133, 0.41675),
    (-0.97006, 0.0, 0.42492, 0.5, -0.5, -0.5, -0.5, 0.01184, 0.10133, 0.41675),
    (-0.19761, -0.51121, 0.42492, 0.70711, 0.0, 0.70711, 0.0, 0.01184, 0.07752, 0.67171),
    (-0.19761, 0.49665, 0.42492, 0.70711, 0.0, 0.70711, 0.0, 0.01184, 0.07752, 0.67171),
    (0.0, 0.0, 0.20414, 0.70711, 0.0, -0.70711, 0.0, 0.20884, 0.41162, 0.43516),
)
STUDY_TABLE: tuple[Box, ...] = (
    (0.0, 0.0, 0.84929, 0.5, -0.5, 0.5, 0.5, 0.03584, 0.68946, 1.39273),
    (-0.50048, -0.69064, 0.39431, 0.0, 0.0, 1.0, 0.0, 0.02002, 0.05031, 0.39407),
    (0.49617, -0.69064, 0.39431, 1.0, 0.0, 0.0, 0.0, 0.02002, 0.05031, 0.39407),
    (0.49617, 0.70968, 0.39431, 0.0, 0.0, 1.0, 0.0, 0.02002, 0.05032, 0.39407),
    (-0.50048, 0.71473, 0.39431, 1.0, 0.0, 0.0, 0.0, 0.02002, 0.05031, 0.39407),
    (-0.00488, 0.71473, 0.02528, 0.70811, 0.0, -0.7061, 0.0, 0.02002, 0.05031, 0.51262),
    (-0.00488, -0.69765, 0.02528, 0.70811, 0.0, -0.7061, 0.0, 0.02002, 0.05032, 0.51262),
)


def _kitchen() -> tuple[Look, ...]:
    """A row of dark cupboards with gilt edges below a worktop, as wide as the robot's background."""
    doors = 8
    width = 3.6 / doors
    edges = [_slab(-1.345, 0.0, height, 0.005, 1.8, 0.006) for height in (0.30, 0.62, 0.84)]
    edges += [_slab(-1.345, -1.8 + width * door, 0.55, 0.005, 0.006, 0.32) for door in range(doors + 1)]
    return (
        Blocks(CUPBOARD, (_slab(-1.65, 0.0, 0.44, 0.30, 1.8, 0.44), _slab(-1.75, 0.0, 2.0, 0.2, 1.8, 0.5))),
        Blocks(STONE, (_slab(-1.63, 0.0, 0.90, 0.33, 1.8, 0.02), _slab(-1.95, 0.0, 1.2, 0.01, 1.8, 0.3))),
        Blocks(GILT, tuple(edges)),
    )


def _living_room() -> tuple[Look, ...]:
    """A pale wall unit with a dark screen, and a picture beside it."""
    frame = (
        _slab(-1.7, 0.0, 0.20, 0.20, 1.15, 0.13),
        _slab(-1.8, -0.95, 0.85, 0.10, 0.20, 0.52),
        _slab(-1.8, 0.95, 0.85, 0.10, 0.20, 0.52),
        _slab(-1.8, 0.0, 1.48, 0.10, 1.15, 0.11),
    )
    return (
        Blocks(SHELL, frame),
        Blocks(GLASS, (_slab(-1.85, 0.0, 0.85, 0.04, 0.72, 0.50),)),
        Blocks((0.15, 0.40, 0.25), (_slab(-1.69, 0.95, 0.95, 0.01, 0.14, 0.22),)),
        Blocks((0.75, 0.62, 0.30), (_slab(-1.685, 0.95, 0.90, 0.01, 0.07, 0.10),)),
    )


def _study() -> tuple[Look, ...]:
    """A potted palm, a white shelf, a picture."""
    stem = (-1.85, 0.5)
    palm: list[Look] = [
        Turned((0.0, 0.0), ((0.14, 0.0, POT), (0.19, 0.30, POT), (0.0, 0.30, POT)), at=stem, sides=12),
        Tube(((*stem, 0.30), (*stem, 0.85)), 0.03, TRUNK),
    ]
    for leaf in range(9):
        x, y = math.cos(leaf * 2.4), math.sin(leaf * 2.4)
        height = 0.35 + 0.07 * leaf
        arc = ((0.0, 0.0), (0.12, 0.14), (0.26, 0.08))
        points = tuple((stem[0] + reach * x, stem[1] + reach * y, height + rise) for reach, rise in arc)
        palm.append(Tube(points, 0.014, LEAF))
    shelf = [_slab(-1.7, y, 0.9, 0.15, 0.015, 0.9) for y in (-1.60, -0.40)]
    shelf += [_slab(-1.7, -1.0, 0.02 + 0.35 * level, 0.15, 0.6, 0.015) for level in range(6)]
    return (
        *palm,
        Blocks(POT, tuple(shelf)),
        Blocks(
            LAMP, (_slab(-1.72, -0.50, 1.02, 0.05, 0.02, 0.10), _slab(-1.72, -0.45, 1.02, 0.05, 0.02, 0.10))
        ),
        Blocks((0.55, 0.60, 0.68), (_slab(-1.95, 0.5, 1.5, 0.02, 0.45, 0.45),)),
    )


def _lamp() -> tuple[Look, ...]:
    """The study's lamp, a foot, a bent arm and a shade; robots bump into its convex hull."""
    x, y, z = 0.3, -0.6, 0.9
    arm = tuple((x, y - reach, z + height) for reach, height in ((0.0, 0.02), (0.24, 0.42), (-0.28, 0.74)))
    rim = ((0.082, 0.70), (0.082, 0.72), (0.06, 0.7608), (0.0, 0.7608))
    return (
        Turned(
            (0.0, z),
            ((0.1255, z, LAMP), (0.1255, z + 0.019, LAMP), (0.0, z + 0.019, LAMP)),
            at=(x, y),
            sides=16,
        ),
        Tube(arm, 0.012, LAMP),
        Turned((0.0, z + 0.70), tuple((r, z + h, LAMP) for r, h in rim), at=(x, y + 0.35), sides=12),
    )


SCENES: tuple[StandinScene, ...] = (
    StandinScene(
        "libero_floor_base_style",
        floor="floor",
        textures={"floorplane": GREY_FLOOR, "walls_mat": PLASTER},
        looks=WALLS,
    ),
    StandinScene(
        "libero_tabletop_base_style",
        floor="",
        textures={"floorplane": GREY_FLOOR, "walls_mat": PLASTER, "table_texture": LIGHT_WOOD},
        bodies=(_table(),),
        looks=WALLS,
    ),
    StandinScene(
        "libero_kitchen_tabletop_base_style",
        floor="",
        textures={"floorplane": CERAMIC_FLOOR, "walls_mat": LINEN, "table_texture": LIGHT_WOOD},
        bodies=(_table(),),
        looks=(*WALLS, *_kitchen()),
        ceiling_light=True,
    ),
    StandinScene(
        "libero_living_room_tabletop_base_style",
        floor="floor",
        textures={"floorplane": PLANK_FLOOR, "walls_mat": PLASTER, "table_texture": DARK_WOOD},
        bodies=(
            Body(
                "living_room_table",
                place={"pos": "0 0 0"},
                bodies=(
                    Body(
                        "living_room_table_col",
                        place={"pos": "-0.25 0.25 0", "quat": "0.707 0.0 0.0 0.707"},
                        boxes=LIVING_ROOM_TABLE,
                        looks=tuple(Panel("table_texture", box) for box in LIVING_ROOM_TABLE),
                    ),
                ),
            ),
        ),
        looks=(*WALLS, *_living_room()),
    ),
    StandinScene(
        "libero_study_base_style",
        floor="",
        textures={"floorplane": GREY_FLOOR, "walls_mat": PLASTER, "table_texture": BROWN_WOOD},
        bodies=(
            Body(
                "study_table",
                place={"pos": "0 0 0"},
                boxes=STUDY_TABLE,
                looks=tuple(Panel("table_texture", box) for box in STUDY_TABLE),
            ),
        ),
        looks=(*WALLS, *_study()),
        obstacle=_lamp(),
    ),
)
