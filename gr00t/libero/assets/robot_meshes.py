"""The robot's visual meshes with few triangles, made from robosuite's own into the user's cache.

Drawing without a GPU costs by the triangle, and most of a scene's triangles are screws and fillets of the arm
that no camera of LIBERO resolves: the shells of the arm have 13,000 each, the mount 33,000. They are thinned
out once per installation; nothing of robosuite's is changed or shipped. Collision meshes are left alone, and
robosuite takes mass and inertia from its collision group only, so physics does not notice.

The folder's name holds the hash of the source files, the settings below and the version of the package that
thins them out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gr00t.files.cached_folder import content_hash, differing, put_folder
from gr00t.libero.assets import triangle_mesh
from gr00t.libero.tasks.suites import LiberoError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detail:
    """How much of a model's meshes is kept, by how close cameras come to it.

    Attributes:
        least: Triangles that a mesh may keep whatever its size.
        per_m2: Further triangles per square metre of surface.
        most: The limit of both together.
        cell: Distance in metres within which vertices may be merged where collapsing edges is not possible.
    """

    least: int
    per_m2: float
    most: int
    cell: float

    def triangles(self, area: float) -> int:
        """How many triangles a mesh with a surface of `area` square metres may keep."""
        return min(self.least + int(self.per_m2 * area), self.most)


# What LIBERO's robots are built of; the one that stands on a table has a mount below. In the agent's view a
# pixel of 256 covers 3 mm of the arm and 5 mm of the mount; the wrist's camera has the fingers at 10 cm.
DETAILS = {
    "robots/panda/robot.xml": Detail(least=40, per_m2=30_000, most=2_000, cell=0.001),
    "grippers/panda_gripper.xml": Detail(least=700, per_m2=60_000, most=4_000, cell=0.001),
    "mounts/rethink_mount.xml": Detail(least=40, per_m2=1_000, most=2_000, cell=0.012),
    "mounts/rethink_minimal_mount.xml": Detail(least=40, per_m2=1_000, most=2_000, cell=0.012),
}
# Counted up when the code changes what it makes of the same settings.
_REVISION = 1
_INDEX = "index.json"
_PACKAGE = "fast-simplification"
# Robosuite's group of geoms that are drawn and neither collide nor weigh anything.
_VISUAL_GROUP = "1"
# Of the threads that start simulators, one makes the meshes and the others find them made.
_ONE_AT_A_TIME = threading.Lock()


class RobotMeshesError(LiberoError):
    """The light meshes cannot be made on this machine."""


def robosuite_assets() -> Path:
    """The folder with robosuite's own models, found without importing robosuite.

    Raises:
        RobotMeshesError: if robosuite is not installed.
    """
    spec = importlib.util.find_spec("robosuite")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / "models" / "assets"
        if folder.is_dir():
            return folder
    raise RobotMeshesError("robosuite is not installed in this Python; run: scripts/setup_env.sh libero")


def visual_meshes(root: ET.Element) -> set[str]:
    """Names of the meshes of an MJCF model that visual geoms use and no other geom does."""
    visual: set[str] = set()
    other: set[str] = set()
    for geom in root.iter("geom"):
        name = geom.get("mesh")
        if name is not None:
            (visual if geom.get("group") == _VISUAL_GROUP else other).add(name)
    return visual - other


def source_meshes(assets: Path) -> dict[str, Detail]:
    """Files of the robot's visual meshes, relative to robosuite's `assets`, with how much of them to keep."""
    files: dict[str, Detail] = {}
    for model, detail in DETAILS.items():
        root = ET.parse(assets / model).getroot()
        visual = visual_meshes(root)
        for mesh in root.iter("mesh"):
            if mesh.get("name") in visual:
                path = (assets / model).parent / str(mesh.get("file"))
                files[str(path.relative_to(assets))] = detail
    return files


def robot_meshes_folder(cache: Path) -> Path:
    """Where the light meshes of the installed robosuite belong below `cache`, whether they are there or not.

    Raises:
        RobotMeshesError: if robosuite or the package that thins meshes out is missing.
    """
    assets = robosuite_assets()
    return cache / f"robot-{_fingerprint(assets, source_meshes(assets))}"


def write_robot_meshes(cache: Path) -> Path:
    """Make sure that the light meshes exist below `cache`: the first call takes some seconds.

    Returns:
        The folder with the meshes, complete: each as `relative/path.obj` of its source.

    Raises:
        RobotMeshesError: if robosuite or the package that thins meshes out is missing.
        CacheError: if the cache cannot be written.
    """
    target = robot_meshes_folder(cache)
    with _ONE_AT_A_TIME:
        if triangle_counts(target) is None:
            if target.exists():
                logger.warning("the light meshes in %s are damaged or incomplete: made anew", target)
            _make(target)
    return target


def triangle_counts(folder: Path) -> tuple[int, int] | None:
    """Triangles of robosuite's meshes and of those in `folder`; None if it is not a complete, whole set."""
    try:
        hashed = json.loads((folder / _INDEX).read_bytes())
        index = hashed["index"]
        if hashed["hash"] != _index_hash(index) or differing(folder, index["hashes"]):
            return None
        before, after = index["triangles"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # gone, unreadable, or of an earlier form
    return before, after


def _index_hash(index: Mapping[str, object]) -> str:
    return content_hash(json.dumps(index, sort_keys=True).encode())


def _make(target: Path) -> None:
    assets = robosuite_assets()
    sources = source_meshes(assets)
    logger.info("thinning out %d meshes of the robot for faster drawing (once)", len(sources))
    started = time.perf_counter()
    before = after = 0
    files = {}
    for name, detail in sources.items():
        mesh = triangle_mesh.read_mesh(assets / name)
        budget = detail.triangles(triangle_mesh.surface(mesh))
        light = triangle_mesh.simplify(mesh, budget, detail.cell)
        before, after = before + len(mesh.triangles), after + len(light.triangles)
        files[light_name(name)] = triangle_mesh.obj_bytes(light)
    index = {
        "triangles": [before, after],
        "hashes": {name: content_hash(content) for name, content in files.items()},
    }
    hashed = {"index": index, "hash": _index_hash(index)}
    put_folder(target, {**files, _INDEX: json.dumps(hashed, indent=1).encode()})
    logger.info("%d triangles became %d in %.1f s: %s", before, after, time.perf_counter() - started, target)


def light_name(source: str) -> str:
    """The file of a light mesh by that of its source."""
    return str(Path(source).with_suffix(".obj"))


def _fingerprint(assets: Path, sources: Mapping[str, Detail]) -> str:
    try:
        package = version(_PACKAGE)
    except PackageNotFoundError:
        raise RobotMeshesError(
            f"light rendering needs the package {_PACKAGE}, which is not installed; "
            "run: scripts/setup_env.sh libero (or choose --rendering full)"
        ) from None
    settings = (triangle_mesh.CREASE_DEGREES, triangle_mesh.WELD_METRES, triangle_mesh.AGGRESSIVENESS)
    digest = hashlib.sha256(repr((_REVISION, package, settings, sources)).encode())
    for name in sources:
        digest.update(hashlib.sha256((assets / name).read_bytes()).digest())
    return digest.hexdigest()[:12]
