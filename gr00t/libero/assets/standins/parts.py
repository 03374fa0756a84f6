"""What a stand-in is made of: bodies with LIBERO's numbers, and looks of our own.

Collision shapes, joints, masses and sites are facts of LIBERO's descriptions: BDDL placement, predicates and
recorded initial states only mean something for these very shapes. Looks are free, because robosuite computes
inertia from collision shapes alone and looks touch nothing.

Lengths are metres, angles radians, quaternions w x y z, colours red green blue in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Position, quaternion, half sizes.
Box = tuple[float, float, float, float, float, float, float, float, float, float]
Point = tuple[float, float, float]
Rgb = tuple[float, float, float]
Upright = Literal["y", "z"]

# The contact model of nearly all objects: density 100 kg/m3, (sliding, torsional, rolling) friction,
# near-rigid contacts.
CONTACT = {
    "density": "100",
    "friction": "0.95 0.3 0.1",
    "solref": "0.001 1",
    "solimp": "0.998 0.998 0.001",
}
STRAIGHT = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Layer:
    """One visible piece between two heights, with half width and half depth, centred `at` (width, depth)."""

    shape: Literal["box", "cylinder", "ellipsoid"]
    bottom: float
    top: float
    half: tuple[float, float]
    rgb: Rgb
    at: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Turned:
    """A surface of revolution around an upright axis through `at` (width, depth).

    Attributes:
        start: Radius and height of the first ring.
        strips: Radius and height of each next ring, and the colour of the strip that leads to it. Seen with
            the axis to the left, the outside is on the right of the way: up along an outer wall, over the
            rim, down along the inner one.
        sides: Few make a visible prism.
    """

    start: tuple[float, float]
    strips: tuple[tuple[float, float, Rgb], ...]
    at: tuple[float, float] = (0.0, 0.0)
    sides: int = 20


@dataclass(frozen=True)
class Tube:
    """A bent rod along points of the body's own frame: handles, wires, stems."""

    points: tuple[Point, ...]
    radius: float
    rgb: Rgb


@dataclass(frozen=True)
class Blocks:
    """Boxes of one colour in the body's own frame; often the collision boxes themselves."""

    rgb: Rgb
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Panel:
    """A box covered with one of the scene's materials."""

    material: str
    box: Box
    name: str = ""


Look = Layer | Turned | Tube | Blocks | Panel


@dataclass(frozen=True)
class Solid:
    """A collision shape that is more than a plain box with the usual contacts.

    Attributes:
        attributes: All of the geom's attributes but its name and group, as MuJoCo spells them.
        name: LIBERO's name for it, if it has one.
        rgba: A colour makes it visible (group 1), as some of LIBERO's collision shapes are.
    """

    attributes: Mapping[str, str]
    name: str = ""
    rgba: str = ""


@dataclass(frozen=True)
class Site:
    """A region that a predicate asks about, or a mark that LIBERO shows and hides."""

    name: str
    box: Box
    shape: Literal["box", "cylinder", "sphere"] = "box"
    rgba: str = "0 0 0 0"


@dataclass(frozen=True)
class StandinJoint:
    """How a part of a fixture moves against the body above it."""

    name: str
    kind: Literal["hinge", "slide"]
    axis: str
    limits: str
    damping: str


@dataclass(frozen=True)
class Body:
    """A rigid part.

    Attributes:
        name: LIBERO's name for it.
        place: Position and quaternion against the body above, as MuJoCo spells them.
        joint: None for a part that is fixed to the body above.
        inertial: Mass and inertia where LIBERO states them instead of deriving them from the shapes.
        solids: Collision shapes that are special; they come before `boxes`.
        boxes: Collision boxes with the usual contacts.
        looks: What the camera sees.
        sites: Regions for predicates.
        bodies: Parts that hang on this one.
    """

    name: str
    place: Mapping[str, str] = field(default_factory=dict)
    joint: StandinJoint | None = None
    inertial: Mapping[str, str] | None = None
    solids: tuple[Solid, ...] = ()
    boxes: tuple[Box, ...] = ()
    looks: tuple[Look, ...] = ()
    sites: tuple[Site, ...] = ()
    bodies: tuple[Body, ...] = ()


@dataclass(frozen=True)
class Standin:
    """One object or fixture: where LIBERO looks for it, its upright axis and its measuring sites.

    Attributes:
        name: LIBERO's name for it.
        folder: LIBERO's family of objects; fixtures lie in `articulated_objects`, without a folder of their
            own.
        upright: The axis that points up when the object stands; heights of layers are along it.
        bottom_site: Where the object touches what it stands on.
        top_site: Where something stands on it.
        radius_site: How far it reaches sideways, for placement.
        body: The part that LIBERO calls `object`. The free joint comes from LIBERO's code.
    """

    name: str
    folder: str
    upright: Upright
    bottom_site: float
    top_site: float
    radius_site: float
    body: Body

    @property
    def path(self) -> str:
        """Where LIBERO's object class expects the description, relative to the assets folder."""
        if self.folder == FIXTURES:
            return f"{self.folder}/{self.name}.xml"
        return f"{self.folder}/{self.name}/{self.name}.xml"


@dataclass(frozen=True)
class StandinScene:
    """A room with its table.

    Attributes:
        name: Name of LIBERO's description.
        floor: Name of the body that holds the floor, empty where the world does.
        textures: Material to image file; LIBERO's code replaces those of the floor and the walls by style.
        bodies: Tables, with LIBERO's numbers.
        looks: Walls and what stands in front of them.
        obstacle: Looks of one thing that is touched as their convex hull.
        ceiling_light: A third light from straight above.
    """

    name: str
    floor: str
    textures: Mapping[str, str]
    bodies: tuple[Body, ...] = ()
    looks: tuple[Look, ...] = ()
    obstacle: tuple[Look, ...] = ()
    ceiling_light: bool = False

    @property
    def path(self) -> str:
        """Where LIBERO expects the description, relative to the assets folder."""
        return f"scenes/{self.name}.xml"


GROCERIES = "stable_hope_objects"
TABLEWARE = "stable_scanned_objects"
KITCHENWARE = "turbosquid_objects"
FIXTURES = "articulated_objects"


def simple(
    name: str,
    folder: str,
    upright: Upright,
    *,
    boxes: tuple[Box, ...],
    looks: tuple[Look, ...],
    measures: tuple[float, float, float] = (-0.06, 0.04, 0.025),
    sites: tuple[Site, ...] = (),
    place: Mapping[str, str] | None = None,
) -> Standin:
    """An object of one body; `measures` are its bottom, top and radius site."""
    body = Body("object", place=place or {}, boxes=boxes, looks=looks, sites=sites)
    return Standin(name, folder, upright, *measures, body)
