"""The stand-in assets: complete, written safely, and physically LIBERO's own objects."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr00t.libero.assets.completeness import missing_files
from gr00t.libero.assets.required import required_files
from gr00t.libero.assets.standins.folder import (
    STANDIN_SUITES,
    STANDINS,
    fingerprint,
    standin_files,
    texture_files,
    write_standins,
)
from tests.libero.real_assets import REAL_ASSETS, needs_real_assets
from tests.shell import REPO

FILES = standin_files()
DESCRIPTIONS = sorted(name for name in FILES if name.endswith(".xml"))

# What LIBERO's code, predicates and task files refer to by name, and how many shapes can be touched.
# File: bodies below the root, joints with their ranges, sites besides the measuring ones, collision shapes.
_DRAWERS = dict.fromkeys(("top_level", "middle_level", "bottom_level"), "-0.16 0.01")
_CABINET = (
    "object base cabinet_top cabinet_middle cabinet_bottom",
    _DRAWERS,
    "top_side top_region middle_region bottom_region",
    36,
)
EXPECTED: dict[str, tuple[str, dict[str, str], str, int]] = {
    "flat_stove": (
        "object base burner burner_plate button",
        {"button": "-0.005 2.1"},
        "cook_region burner",
        21,
    ),
    "microwave": ("object microdoorroot", {"microjoint": "-2.094 0"}, "top_side heating_region", 10),
    "white_cabinet": _CABINET,
    "wooden_cabinet": _CABINET,
    "libero_floor_base_style": ("floor", {}, "", 1),
    "libero_tabletop_base_style": ("table", {}, "table_top", 2),
    "libero_kitchen_tabletop_base_style": ("table", {}, "table_top", 2),
    "libero_living_room_tabletop_base_style": (
        "floor living_room_table living_room_table_col",
        {},
        "",
        7,
    ),
    "libero_study_base_style": ("study_table", {}, "", 9),
    "basket": ("object", {}, "contain_region", 5),
    "desk_caddy": (
        "object",
        {},
        "right_contain_region left_contain_region back_contain_region front_contain_region",
        17,
    ),
    "wine_rack": ("object", {}, "top_region", 9),
    **{
        name: ("object", {}, "", shapes)
        for name, shapes in {
            "alphabet_soup": 21,
            "bbq_sauce": 3,
            "butter": 1,
            "chocolate_pudding": 1,
            "cookies": 1,
            "cream_cheese": 1,
            "ketchup": 12,
            "milk": 4,
            "orange_juice": 4,
            "salad_dressing": 15,
            "tomato_sauce": 24,
            "akita_black_bowl": 40,
            "chefmate_8_frypan": 25,
            "glazed_rim_porcelain_ramekin": 25,
            "plate": 10,
            "black_book": 1,
            "moka_pot": 15,
            "porcelain_mug": 22,
            "red_coffee_mug": 11,
            "white_yellow_mug": 39,
            "wine_bottle": 21,
        }.items()
    },
}
MEASURING_SITES = ("bottom_site", "top_site", "horizontal_radius_site")


def test_the_pack_holds_exactly_what_the_four_suites_load(tmp_path: Path) -> None:
    folder = write_standins(tmp_path)
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    ours = [suite for suite in STANDIN_SUITES if not suite.endswith("_object") or suite == "libero_object"]
    needed = {name for suite in ours for name in required_files(suite)}
    assert len(needed) == 33
    assert written == needed | set(texture_files())
    for suite in ours:
        assert missing_files(folder, suite) == []
    assert missing_files(folder, "libero_90") == [
        "stable_hope_objects/new_salad_dressing/new_salad_dressing.xml",
        "stable_scanned_objects/white_bowl/white_bowl.xml",
        "turbosquid_objects/wooden_tray/wooden_tray.xml",
        "turbosquid_objects/wooden_two_layer_shelf/wooden_two_layer_shelf.xml",
        "turbosquid_objects/yellow_book/yellow_book.xml",
    ]


def test_every_texture_that_libero_s_styles_ask_for_is_there(tmp_path: Path) -> None:
    # The styles that LIBERO's problems choose for the scenes of the four suites, as they run.
    folder = write_standins(tmp_path)
    for floor in ("light-gray-floor-tile", "gray_ceramic_tile", "seamless_wood_planks_floor"):
        assert (folder / "textures" / f"{floor}.png").is_file()
    for wall in ("light-gray-plaster", "yellow_linen_wall_texture"):
        assert (folder / "textures" / f"{wall}.png").is_file()


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
    (folder / next(iter(texture_files()))).unlink()
    (folder / STANDINS[0].path).write_bytes(b"")
    assert write_standins(tmp_path) == folder
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_processes_that_write_at_once_end_with_one_complete_folder(tmp_path: Path) -> None:
    program = "import sys, pathlib\nfrom gr00t.libero.assets.standins.folder import write_standins\n"
    program += "sys.stdin.readline(); print(write_standins(pathlib.Path(sys.argv[1])))"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPO)},
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


def description(name: str) -> ET.Element:
    return ET.fromstring(FILES[name])


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_names_that_libero_refers_to_are_there(name: str) -> None:
    bodies, joints, sites, shapes = EXPECTED[Path(name).stem]
    world = description(name).find("worldbody")
    assert world is not None
    assert " ".join(body.get("name", "") for body in world.iter("body")).split() == bodies.split()
    assert {joint.get("name"): joint.get("range") for joint in world.iter("joint")} == joints
    found = [site.get("name") for site in world.iter("site") if site.get("name") not in MEASURING_SITES]
    assert found == sites.split()
    if not name.startswith("scenes/"):
        outer = [site.get("name") for site in world.findall("body/site")]
        assert outer == list(MEASURING_SITES)
        # Robosuite takes what hangs below this very path, and needs the group of every shape.
        assert world.find("body/body[@name='object']") is not None
    touched = [
        geom for geom in world.iter("geom") if (geom.get("contype"), geom.get("conaffinity")) != ("0", "0")
    ]
    assert len(touched) == shapes


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_looks_are_out_of_reach_of_contacts_and_inertia(name: str) -> None:
    for geom in description(name).iter("geom"):
        if geom.get("type") == "mesh" and "obstacle" not in geom.get("mesh", ""):
            assert (geom.get("group"), geom.get("contype"), geom.get("conaffinity")) == ("1", "0", "0")
        assert geom.get("group") in ("0", "1")


def test_physics_is_what_was_last_compared_with_libero_s_files() -> None:
    # Guards the numbers where LIBERO's files are absent. After a change, run the test below with
    # LIBERO's own, then put the new value here.
    digest = hashlib.sha256()
    for name in DESCRIPTIONS:
        for element in description(name).iter():
            touched = (element.get("contype"), element.get("conaffinity")) != ("0", "0")
            if element.tag in ("body", "joint", "inertial", "site") or (element.tag == "geom" and touched):
                facts = {key: value for key, value in element.attrib.items() if key != "rgba"}
                digest.update(f"{name} {element.tag} {sorted(facts.items())}\n".encode())
    assert digest.hexdigest()[:12] == "d64a7162a521"


def physics(root: ET.Element) -> Any:
    """A description compiled with nothing but what can be touched or measured."""
    import mujoco

    for asset in root.findall("asset"):
        root.remove(asset)
    for compiler in root.findall("compiler"):
        root.remove(compiler)
    # Robosuite's own settings: radians, and inertia from the collision shapes alone.
    ET.SubElement(root, "compiler", angle="radian", inertiagrouprange="0 0")
    for parent in root.iter():
        for geom in parent.findall("geom"):
            geom.attrib.pop("material", None)
            untouched = (geom.get("contype"), geom.get("conaffinity")) == ("0", "0")
            if parent.tag != "default" and (
                untouched or geom.get("class") == "microwave" or geom.get("type") == "mesh"
            ):
                parent.remove(geom)
        for useless in ("light", "camera"):
            for element in parent.findall(useless):
                parent.remove(element)
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))


@needs_real_assets
@pytest.mark.libero
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_physics_is_that_of_libero_s_description_number_by_number(name: str) -> None:
    theirs = physics(ET.parse(Path(REAL_ASSETS) / name).getroot())
    ours = physics(description(name))
    compared = (
        "body_parentid body_pos body_quat body_mass body_inertia body_ipos body_iquat "
        "jnt_type jnt_pos jnt_axis jnt_range jnt_limited jnt_stiffness jnt_margin jnt_solref jnt_solimp "
        "dof_damping dof_armature dof_frictionloss "
        "geom_type geom_bodyid geom_pos geom_quat geom_size geom_friction geom_solref geom_solimp "
        "geom_solmix geom_margin geom_gap geom_condim geom_contype geom_conaffinity geom_priority "
        "site_type site_bodyid site_pos site_quat exclude_signature eq_type"
    )
    for field in compared.split():
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
    for kind, count in (
        ("body", ours.nbody),
        ("joint", ours.njnt),
        ("site", ours.nsite),
        ("geom", ours.ngeom),
    ):
        names = [[getattr(model, kind)(i).name for i in range(count)] for model in (ours, theirs)]
        assert names[0] == names[1]
    measured = [ours.site(i).name not in MEASURING_SITES for i in range(ours.nsite)]
    used = {"sphere": 1, "cylinder": 2, "box": 3}
    for index in np.flatnonzero(measured):
        sizes = {2: used["sphere"], 5: used["cylinder"], 6: used["box"]}[int(ours.site_type[index])]
        np.testing.assert_array_equal(ours.site_size[index][:sizes], theirs.site_size[index][:sizes])
