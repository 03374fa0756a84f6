"""Write the built-in stand-ins as an assets folder that LIBERO loads like its own.

LIBERO's meshes and textures come from a model hub. Without one, `write_standins` turns the table of
`standin_objects` into the same tree of descriptions, so that LIBERO's task files, predicates and initial
states work unchanged on any machine. Physics is identical (same bodies, sites, collision boxes, contacts);
pixels are not.

The folder lies in the user's cache under a name that contains the hash of its content: a changed table makes
a new folder, an unchanged one is reused, and two processes that write at once end with the same complete
folder.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gr00t.eval.libero.standin_objects import CONTACT, STANDINS, Box, Layer, Standin

logger = logging.getLogger(__name__)

STANDIN_SUITES = ("libero_object",)
SCENE = "scenes/libero_floor_base_style.xml"
FLOOR_TEXTURE = "textures/light-gray-floor-tile.png"
WALL_TEXTURE = "textures/light-gray-plaster.png"

# Turns MuJoCo's cylinder axis (z) into the y axis along which LIBERO's bottles and cans stand.
_QUAT_Z_TO_Y = "0.70710678 0.70710678 0 0"


def write_standins(cache: Path) -> Path:
    """Make sure the stand-in assets exist below `cache`.

    Returns:
        The assets folder, complete.

    Raises:
        OSError: if the cache cannot be written.
    """
    files = standin_files()
    target = cache / f"stand-ins-{fingerprint(files)}"
    if _is_complete(target, files):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".stand-ins-", dir=cache))
    try:
        for name, content in files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        staging.chmod(0o755)
        try:
            os.rename(staging, target)
        except OSError:
            # Another process was faster, or a cleaner took files from the folder: put all in their places.
            for name in files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, target / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    logger.info("wrote %d stand-in asset files to %s", len(files), target)
    return target


def _is_complete(folder: Path, files: dict[str, bytes]) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == len(content)
        for name, content in files.items()
    )


def fingerprint(files: dict[str, bytes]) -> str:
    """Short hash of names and contents; it names the cache folder and appears in every record."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()[:12]


def standin_files() -> dict[str, bytes]:
    """Every file of the stand-in folder by its relative path."""
    files = {standin.path: _xml(_object(standin)) for standin in STANDINS}
    files[SCENE] = _xml(_floor_scene())
    files[FLOOR_TEXTURE] = _png(_floor_image())
    files[WALL_TEXTURE] = _png(np.full((8, 8, 3), (226, 226, 224), np.uint8))
    return files


def _object(standin: Standin) -> ET.Element:
    root = ET.Element("mujoco", model=standin.name)
    outer = _add(_add(root, "worldbody"), "body")
    body = _add(outer, "body", name="object")
    if standin.region is not None:
        # Read by the containment predicate, never drawn.
        region = _box_pose(standin.region.box)
        _add(body, "site", name=standin.region.name, type="box", group="0", rgba="0 0 0 0", **region)
    for box in standin.boxes:
        _add(body, "geom", type="box", group="0", rgba="0.8 0.8 0.8 0", **_box_pose(box), **CONTACT)
    for layer in standin.layers:
        _add(body, "geom", group="1", contype="0", conaffinity="0", **_looks(layer, standin.upright))
    sites = {
        "bottom_site": f"0 0 {standin.bottom_site}",
        "top_site": f"0 0 {standin.top_site}",
        "horizontal_radius_site": f"{standin.radius_site} {standin.radius_site} 0",
    }
    for name, pos in sites.items():
        _add(outer, "site", name=name, pos=pos, size="0.005", rgba="0 0 0 0")
    return root


def _box_pose(box: Box) -> dict[str, str]:
    return {"pos": _text(box[:3]), "quat": _text(box[3:7]), "size": _text(box[7:])}


def _looks(layer: Layer, upright: str) -> dict[str, str]:
    """One layer as attributes of a geom; the visible group takes part in neither contact nor inertia."""
    middle, half_height = (layer.bottom + layer.top) / 2, (layer.top - layer.bottom) / 2
    (x, depth), (half_x, half_depth) = layer.at, layer.half
    looks = {"type": layer.shape, "rgba": _text((*layer.rgb, 1.0))}
    looks["pos"] = _text((x, middle, depth) if upright == "y" else (x, depth, middle))
    if layer.shape == "cylinder":
        looks["size"] = _text((half_x, half_height))
        if upright == "y":
            looks["quat"] = _QUAT_Z_TO_Y
    elif upright == "y":
        looks["size"] = _text((half_x, half_height, half_depth))
    else:
        looks["size"] = _text((half_x, half_depth, half_height))
    return looks


def _floor_scene() -> ET.Element:
    """The floor of libero_object with two walls; LIBERO's code places the cameras and picks the textures."""
    root = ET.Element("mujoco", model="floor_arena")
    asset = _add(root, "asset")
    sky = {"rgb1": "0.85 0.87 0.9", "rgb2": "0.3 0.35 0.4", "width": "64", "height": "64"}
    _add(asset, "texture", type="skybox", builtin="gradient", **sky)
    matte = {"texuniform": "true", "specular": "0.1", "shininess": "0.1", "reflectance": "0"}
    for texture, material, file, repeat in (
        ("texplane", "floorplane", FLOOR_TEXTURE, "1.2 1.2"),
        ("tex-wall", "walls_mat", WALL_TEXTURE, "1 1"),
    ):
        _add(asset, "texture", name=texture, type="2d", file=f"../{file}")
        _add(asset, "material", name=material, texture=texture, texrepeat=repeat, **matte)

    world = _add(root, "worldbody")
    floor = _add(world, "body", name="floor", pos="0 0 0")
    plane = {"type": "plane", "size": "3 3 0.125", "condim": "3", "group": "1", "material": "floorplane"}
    _add(floor, "geom", name="floor", **plane)
    unseen_by_physics = {"group": "1", "contype": "0", "conaffinity": "0"}
    for name, pos in (("rear", "-2 0 1.5"), ("front", "3 0 1.5")):
        wall = {"name": f"wall_{name}_visual", "pos": pos, "size": "0.01 3 1.5", "material": "walls_mat"}
        _add(world, "geom", type="box", **wall, **unseen_by_physics)
    for name, pos in (("light1", "1 1 4"), ("light2", "-3 -3 4")):
        light = {"dir": "0 -0.15 -1", "diffuse": "0.8 0.8 0.8", "specular": "0.2 0.2 0.2"}
        _add(world, "light", name=name, pos=pos, directional="false", castshadow="false", **light)
    for name, pos, quat in (
        ("frontview", "1 0 1.45", "0.56 0.43 0.43 0.56"),
        ("agentview", "0.5 0 1.35", "0.65 0.27 0.27 0.65"),
    ):
        _add(world, "camera", name=name, mode="fixed", pos=pos, quat=quat)
    return root


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _floor_image() -> NDArray[np.uint8]:
    """Planks with light seams, (256, 256, 3) uint8: something for the eye to measure distances by."""
    side, planks = 256, 4
    height = side // planks
    image = np.empty((side, side), np.uint8)
    for row, tone in enumerate((196, 188, 200, 191)):
        plank = image[row * height : (row + 1) * height]
        plank[:] = tone
        plank[:2] = 232
        start = row * 2 % planks * height + row * 16
        plank[:, start : start + 2] = 232
    return np.stack([image, image - 6, image - 14], axis=-1)


def _png(image: NDArray[np.uint8]) -> bytes:
    # Stored, not deflated: the bytes, and with them the fingerprint, do not depend on the zlib at hand.
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def _xml(root: ET.Element) -> bytes:
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _text(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
