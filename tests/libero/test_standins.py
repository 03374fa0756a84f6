"""The stand-in assets: complete, written safely, and physically LIBERO's own objects."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gr00t.eval.libero.assets import missing_files
from gr00t.eval.libero.required_assets import required_files
from gr00t.eval.libero.standin_objects import STANDINS, Standin
from gr00t.eval.libero.standins import FLOOR_TEXTURE, WALL_TEXTURE, fingerprint, standin_files, write_standins

REAL_ASSETS = os.environ.get("LIBERO_ASSETS", "")
needs_real_assets = pytest.mark.skipif(
    not REAL_ASSETS, reason="compares with LIBERO's own files; enable with: LIBERO_ASSETS=FOLDER pytest"
)


def test_the_pack_holds_exactly_what_libero_object_loads(tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {*required_files("libero_object"), FLOOR_TEXTURE, WALL_TEXTURE}
    assert missing_files(folder, "libero_object") == []
    assert "scenes/libero_tabletop_base_style.xml" in missing_files(folder, "libero_goal")


def test_the_name_of_the_folder_is_the_hash_of_its_content(tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    content = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert folder.name == f"stand-ins-{fingerprint(content)}"
    assert fingerprint({**content, "more": b""}) != fingerprint(content)


def test_a_complete_pack_is_not_written_again(tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_standins(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_lost_and_truncated_files_are_put_back(tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    (folder / FLOOR_TEXTURE).unlink()
    (folder / STANDINS[0].path).write_bytes(b"")
    assert write_standins(tmp_path) == folder
    for name, content in standin_files().items():
        assert (folder / name).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_processes_that_write_at_once_end_with_one_complete_folder(tmp_path: Path) -> None:
    program = "import sys, pathlib\nfrom gr00t.eval.libero.standins import write_standins\n"
    program += "sys.stdin.readline(); print(write_standins(pathlib.Path(sys.argv[1])))"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    folders = {child.communicate()[0].strip() for child in children}
    assert all(child.returncode == 0 for child in children)
    assert folders == {str(write_standins(tmp_path))}
    assert len(list(tmp_path.iterdir())) == 1


def _corners(standin: Standin) -> NDArray[np.float64]:
    """Corners of all collision boxes in the object's frame, (8 N, 3)."""
    corners = []
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    for box in standin.boxes:
        w, x, y, z = np.array(box[3:7]) / np.linalg.norm(box[3:7])
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        corners.append(np.array(box[:3]) + (signs * np.array(box[7:])) @ rotation.T)
    return np.concatenate(corners)


@pytest.mark.parametrize("standin", STANDINS, ids=lambda standin: standin.name)
def test_what_is_seen_is_where_the_collision_boxes_are(standin: Standin) -> None:
    # LIBERO's own meshes overhang the boxes by up to 10.0 mm (the ridge of the cartons); so do ours.
    tolerance = 0.0105
    up = {"y": 1, "z": 2}[standin.upright]
    corners = _corners(standin)
    assert min(layer.bottom for layer in standin.layers) == pytest.approx(corners[:, up].min(), abs=tolerance)
    assert max(layer.top for layer in standin.layers) == pytest.approx(corners[:, up].max(), abs=tolerance)
    for axis, side in ((0, 0), (3 - up, 1)):
        reach = max(layer.at[side] + layer.half[side] for layer in standin.layers)
        assert reach == pytest.approx(corners[:, axis].max(), abs=tolerance)


def _look(standin: Standin) -> NDArray[np.float64]:
    """Colour of the outermost layer at 24 heights from 0 to 15 cm, black where there is none: (24, 3)."""
    floor = min(layer.bottom for layer in standin.layers)
    rows = []
    for height in floor + np.linspace(0.002, 0.148, 24):
        there = [layer for layer in standin.layers if layer.bottom <= height <= layer.top]
        rows.append(max(there, key=lambda layer: layer.half[0]).rgb if there else (0.0, 0.0, 0.0))
    return np.array(rows)


def test_every_two_objects_look_different() -> None:
    distances = {
        (first.name, second.name): float(np.linalg.norm(_look(first) - _look(second), axis=1).mean())
        for first, second in itertools.combinations(STANDINS, 2)
    }
    # Nearest: butter and chocolate pudding, both flat boxes, at 0.109; two copies would be at 0.
    nearest = min(distances, key=distances.__getitem__)
    assert distances[nearest] > 0.1, f"{nearest} look alike"


@needs_real_assets
@pytest.mark.parametrize("standin", STANDINS, ids=lambda standin: standin.name)
def test_collision_boxes_and_sites_are_those_of_libero_s_description(standin: Standin) -> None:
    def facts(root: ET.Element) -> list[tuple[str, ...]]:
        kept = [element for element in root.iter("geom") if element.get("group") == "0"]
        kept += list(root.iter("site"))
        numbers = ("pos", "quat", "size", "density", "friction", "solref", "solimp")
        return [
            (
                element.get("name", ""),
                element.get("type", "sphere"),
                *(str((np.array(element.get(key, "").split(), float) + 0.0).tolist()) for key in numbers),
            )
            for element in kept
        ]

    theirs = facts(ET.parse(Path(REAL_ASSETS) / standin.path).getroot())
    ours = facts(ET.fromstring(standin_files()[standin.path]))
    assert [fact for fact in ours if fact[0] == ""] == [fact for fact in theirs if fact[0] == ""]
    assert sorted(ours) == sorted(theirs)
