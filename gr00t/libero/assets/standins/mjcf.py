"""Write stand-ins and scenes as the descriptions that LIBERO loads.

Names, nesting and collision shapes are LIBERO's. Looks become one mesh per colour, written into the
description itself, in the group that is drawn and takes part in neither contact nor inertia.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from gr00t.libero.assets.standins.meshes import meshes
from gr00t.libero.assets.standins.parts import (
    CONTACT,
    Body,
    Box,
    Look,
    Panel,
    Site,
    Solid,
    Standin,
    StandinScene,
    Upright,
)

UNTOUCHED = {"group": "1", "contype": "0", "conaffinity": "0"}
# Shiny surfaces would mirror lamps and hide the colours by which objects are told apart.
_MATTE = {"specular": "0.1", "shininess": "0.1", "reflectance": "0"}


def object_xml(standin: Standin) -> bytes:
    """The description of an object or fixture."""
    root = ET.Element("mujoco", model=standin.name)
    assets = _add(root, "asset")
    outer = _add(_add(root, "worldbody"), "body")
    _body(outer, standin.body, standin.upright, assets)
    sites = {
        "bottom_site": f"0 0 {standin.bottom_site}",
        "top_site": f"0 0 {standin.top_site}",
        "horizontal_radius_site": f"{standin.radius_site} {standin.radius_site} 0",
    }
    for name, pos in sites.items():
        _add(outer, "site", name=name, pos=pos, size="0.005", rgba="0 0 0 0")
    return _bytes(root)


def scene_xml(scene: StandinScene) -> bytes:
    """The description of a room; LIBERO's code sets the size of its table, its cameras and its styles."""
    root = ET.Element("mujoco", model=scene.name)
    assets = _add(root, "asset")
    sky = {"rgb1": "0.85 0.87 0.9", "rgb2": "0.3 0.35 0.4", "width": "64", "height": "64"}
    _add(assets, "texture", type="skybox", builtin="gradient", **sky)
    for material, (texture, kind, repeat) in _MATERIALS.items():
        if material in scene.textures:
            file = f"../{scene.textures[material]}"
            _add(assets, "texture", name=texture, type=kind, file=file)
            uniform = "true" if kind == "2d" else "false"
            _add(
                assets,
                "material",
                name=material,
                texture=texture,
                texrepeat=repeat,
                texuniform=uniform,
                **_MATTE,
            )

    world = _add(root, "worldbody")
    floor = _add(world, "body", name=scene.floor, pos="0 0 0") if scene.floor else world
    plane = {"type": "plane", "pos": "0 0 0", "size": "3 3 0.125", "condim": "3", "group": "1"}
    _add(floor, "geom", name="floor", material="floorplane", **plane)
    for body in scene.bodies:
        _body(world, body, "z", assets)
    for geom in _mesh_geoms(world, "obstacle", scene.obstacle, "z", assets):
        geom.set("group", "1")
        geom.attrib.update(CONTACT)
    _looks(world, "background", scene.looks, "z", assets)
    for name, pos in (("light1", "1 1 4"), ("light2", "-3 -3 4")):
        light = {"dir": "0 -0.15 -1", "diffuse": "0.8 0.8 0.8", "specular": "0.2 0.2 0.2"}
        _add(world, "light", name=name, pos=pos, directional="false", castshadow="false", **light)
    if scene.ceiling_light:
        light = {"pos": "-1.75 0 1.6", "dir": "0 0 -1", "diffuse": "0.4 0.4 0.4", "specular": "0.2 0.2 0.2"}
        _add(world, "light", name="light_kitchen", directional="true", castshadow="false", **light)
    for name, pos, quat in (
        ("frontview", "1 0 1.45", "0.56 0.43 0.43 0.56"),
        ("agentview", "0.5 0 1.35", "0.65 0.27 0.27 0.65"),
    ):
        _add(world, "camera", name=name, mode="fixed", pos=pos, quat=quat)
    return _bytes(root)


# Material: its texture (LIBERO looks the first two up by name), how that is laid on, how often it repeats.
_MATERIALS = {
    "floorplane": ("texplane", "2d", "2 2"),
    "walls_mat": ("tex-wall", "2d", "1 1"),
    "table_texture": ("tex-table", "cube", "1 1"),
}


def _body(parent: ET.Element, body: Body, upright: Upright, assets: ET.Element) -> None:
    element = _add(parent, "body", name=body.name, **body.place)
    if body.inertial is not None:
        _add(element, "inertial", **body.inertial)
    if body.joint is not None:
        joint = body.joint
        numbers = {"axis": joint.axis, "range": joint.limits, "damping": joint.damping}
        _add(element, "joint", name=joint.name, type=joint.kind, limited="true", pos="0 0 0", **numbers)
    for site in body.sites:
        _site(element, site)
    for solid in body.solids:
        _solid(element, solid)
    for box in body.boxes:
        _add(element, "geom", type="box", group="0", rgba="0.8 0.8 0.8 0", **_pose(box), **CONTACT)
    _looks(element, body.name, body.looks, upright, assets)
    for part in body.bodies:
        _body(element, part, upright, assets)


def _site(element: ET.Element, site: Site) -> None:
    pose = _pose(site.box)
    if site.shape != "box":
        pose["size"] = _text(site.box[7 : {"cylinder": 9, "sphere": 8}[site.shape]])
    _add(element, "site", name=site.name, type=site.shape, group="0", rgba=site.rgba, **pose)


def _solid(element: ET.Element, solid: Solid) -> None:
    named = {"name": solid.name} if solid.name else {}
    seen = {"group": "1", "rgba": solid.rgba} if solid.rgba else {"group": "0", "rgba": "0.8 0.8 0.8 0"}
    _add(element, "geom", **named, **seen, **solid.attributes)


def _looks(
    element: ET.Element, name: str, looks: Iterable[Look], upright: Upright, assets: ET.Element
) -> None:
    for look in looks:
        if isinstance(look, Panel):
            named = {"name": look.name} if look.name else {}
            _add(element, "geom", type="box", material=look.material, **named, **_pose(look.box), **UNTOUCHED)
    for geom in _mesh_geoms(element, name, looks, upright, assets):
        geom.attrib.update(UNTOUCHED)


def _mesh_geoms(
    element: ET.Element, name: str, looks: Iterable[Look], upright: Upright, assets: ET.Element
) -> list[ET.Element]:
    """Add a mesh and its geom for each colour; the caller says whether they can be touched."""
    geoms = []
    for number, (rgb, mesh) in enumerate(meshes(looks, upright).items()):
        numbers = {"vertex": mesh.vertices, "normal": mesh.normals, "face": mesh.triangles}
        label = f"{name}_look{number}"
        _add(assets, "mesh", name=label, **{key: _rounded(rows) for key, rows in numbers.items()})
        geom = _add(element, "geom", type="mesh", mesh=label, rgba=_text((*rgb, 1.0)))
        geoms.append(geom)
    return geoms


def _pose(box: Box) -> dict[str, str]:
    return {"pos": _text(box[:3]), "quat": _text(box[3:7]), "size": _text(box[7:])}


def _rounded(rows: NDArray[Any]) -> str:
    """Numbers to a hundredth of a millimetre, so that the text is the same on every machine."""
    return " ".join(f"{round(float(number), 5) + 0.0:g}" for number in rows.ravel())


def _text(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _bytes(root: ET.Element) -> bytes:
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content
