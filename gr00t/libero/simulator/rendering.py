"""How a scene is drawn: with robosuite's own robot or a light one, with multisampling or without.

Without a GPU, drawing is most of an evaluation's time outside the policy, and nearly all of it goes into the
robot's triangles and into multisampling. Pixels change a little with either, so a run records its choice, and
results over different ones do not belong in one table. Physics never changes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gr00t.libero.assets.robot_meshes import light_name, robosuite_assets, visual_meshes
from gr00t.libero.tasks.suites import LiberoError
from gr00t.spelling import did_you_mean


@dataclass(frozen=True)
class Rendering:
    """What is drawn how.

    Attributes:
        light_robot: The robot's visual meshes with few triangles (`robot_meshes`) instead of robosuite's own.
        msaa: Smooth edges by drawing four samples per pixel.
    """

    light_robot: bool = False
    msaa: bool = True

    @property
    def label(self) -> str:
        """`full`, `light`, `fast` or `full without MSAA`: what records and tables say."""
        for name, rendering in RENDERINGS.items():
            if rendering == self:
                return name
        return "full without MSAA"

    @classmethod
    def parse(cls, name: str) -> Rendering:
        """Look up `full`, `light` or `fast`.

        Raises:
            LiberoError: for any other name.
        """
        try:
            return RENDERINGS[name]
        except KeyError:
            raise LiberoError(f"unknown rendering {name!r}: {did_you_mean(name, RENDERINGS)}") from None


FULL = Rendering()
RENDERINGS = {
    "full": FULL,
    "light": Rendering(light_robot=True),
    "fast": Rendering(light_robot=True, msaa=False),
}
RENDERING_CHOICES = ("auto", *RENDERINGS)


def choose_rendering(choice: str, assets_kind: str) -> Rendering:
    """The rendering of a run.

    Args:
        choice: `auto`, `full`, `light` or `fast`. `auto` is full with LIBERO's own meshes, since that is
            what published checkpoints saw, and fast with the stand-ins, whose looks are simplified anyway.
        assets_kind: `Assets.kind`.

    Raises:
        LiberoError: for any other choice.
    """
    if choice == "auto":
        return RENDERINGS["fast" if assets_kind == "stand-ins" else "full"]
    if choice not in RENDERINGS:
        raise LiberoError(f"unknown rendering {choice!r}: {did_you_mean(choice, RENDERING_CHOICES)}")
    return RENDERINGS[choice]


class SceneEditor:
    """Changes a scene's MJCF text as a rendering asks; robosuite calls it before it compiles the scene.

    Args:
        rendering: What to draw how.
        robot_meshes: Folder of light meshes, from `write_robot_meshes`; needed for a light robot.

    Raises:
        LiberoError: for a light robot without its meshes.
    """

    def __init__(self, rendering: Rendering, robot_meshes: Path | None = None) -> None:
        if rendering.light_robot and robot_meshes is None:
            raise LiberoError("a light robot needs the folder of its meshes (write_robot_meshes)")
        self._msaa = rendering.msaa
        # Absolute: MuJoCo looks for other paths below a folder of its own.
        self._meshes = robot_meshes.resolve() if rendering.light_robot and robot_meshes else None
        self._assets = robosuite_assets() if self._meshes is not None else None

    def __call__(self, mjcf: str) -> str:
        """The scene `mjcf` with other visual meshes and settings."""
        if self._msaa and self._meshes is None:
            return mjcf
        root = ET.fromstring(mjcf)
        if self._meshes is not None and self._assets is not None:
            visual = visual_meshes(root)
            for mesh in root.iter("mesh"):
                source = Path(mesh.get("file", ""))
                if mesh.get("name") in visual and source.is_relative_to(self._assets):
                    light = self._meshes / light_name(str(source.relative_to(self._assets)))
                    if light.is_file():
                        mesh.set("file", str(light))
        if not self._msaa:
            visual_settings = root.find("visual")
            if visual_settings is None:
                visual_settings = ET.SubElement(root, "visual")
            quality = visual_settings.find("quality")
            if quality is None:
                quality = ET.SubElement(visual_settings, "quality")
            quality.set("offsamples", "0")
        return ET.tostring(root, encoding="unicode")


def draw(env: Any, camera: str, size: int) -> NDArray[np.uint8]:
    """What a camera sees now, (size, size, 3), the way round that published checkpoints are used to.

    OpenGL's rows run upwards; those checkpoints were trained on images that are rotated, not flipped.

    Args:
        env: LIBERO's `ControlEnv`, with a renderer.
        camera: its name in the model.
        size: side of the image.
    """
    pixels = env.sim.render(camera_name=camera, width=size, height=size)
    return np.ascontiguousarray(pixels[::-1, ::-1])
