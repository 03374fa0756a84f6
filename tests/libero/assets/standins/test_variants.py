"""Stand-ins for LIBERO-PRO's objects: physically those, in other colours or larger."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from gr00t.libero.assets.completeness import missing_files
from gr00t.libero.assets.required import required_files
from gr00t.libero.assets.standins.folder import STANDINS, standin_files, write_standins
from gr00t.libero.assets.standins.mjcf import object_xml
from gr00t.libero.assets.standins.variants import variants
from gr00t.libero.tasks.perturbations import PERTURBED, VARIANTS, perturbed
from tests.libero.assets.standins.test_standins import physics
from tests.libero.real_assets import REAL_ASSETS, needs_real_assets

MADE = {standin.name: standin for standin in variants(STANDINS)}
MODELS = {standin.name: standin for standin in STANDINS}


def test_the_folder_with_variants_is_complete_for_other_looks_and_another_folder(tmp_path: Path) -> None:
    usual = write_standins(tmp_path, "libero_object_swap")
    folder = write_standins(tmp_path, "libero_object_object")
    assert usual == write_standins(tmp_path) != folder
    suites = [perturbed(base, "object") for base in PERTURBED]
    for suite in suites:
        assert missing_files(folder, suite) == []
    assert missing_files(usual, "libero_spatial_object") == [
        "stable_scanned_objects/black_bowl/black_bowl.xml",
        "stable_scanned_objects/yellow_plate/yellow_plate.xml",
    ]
    # What is written is needed, and no variant is written for nothing.
    needed = {name for suite in suites for name in required_files(suite)}
    assert {MADE[name].path for name in VARIANTS} == needed - standin_files().keys()


@pytest.mark.libero
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_weighs_and_touches_like_its_model_unless_it_is_larger(name: str) -> None:
    ours, model = (
        physics(ET.fromstring(object_xml(standin))) for standin in (MADE[name], MODELS[VARIANTS[name]])
    )
    # Of a body 1.5 times as long in all directions the mass is 3.375 times as much.
    larger = 3.375 if name.startswith("bigger") else 1.0
    # The rounding of lengths to 0.01 mm moves the mass of thin walls by up to 0.3 %.
    np.testing.assert_allclose(ours.body_mass, larger * model.body_mass, rtol=0.005 if larger > 1 else 0)
    np.testing.assert_allclose(ours.geom_size, larger ** (1 / 3) * model.geom_size, atol=6e-6)
    np.testing.assert_allclose(ours.geom_pos, larger ** (1 / 3) * model.geom_pos, atol=6e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_looks_otherwise_than_its_model(name: str) -> None:
    seen, before = (
        {geom.get("rgba") for geom in ET.fromstring(object_xml(standin)).iter("geom") if geom.get("mesh")}
        for standin in (MADE[name], MODELS[VARIANTS[name]])
    )
    if name.startswith("bigger"):
        assert seen == before
        return
    assert not seen & before
    red, green, blue = np.mean([list(map(float, (rgba or "").split()[:3])) for rgba in seen], axis=0)
    colour = "white" if name == "black_bowl" else name.split("_")[0]
    assert {
        "red": red > 3 * max(green, blue),
        "green": green > 2 * max(red, blue),
        "blue": blue > 0.5 and max(red, green) == 0,
        "yellow": min(red, green) > 2.5 * blue,
        "white": min(red, green, blue) > 0.6,
        "brown": red > 1.8 * green > 3 * blue,
    }[colour]


def test_physics_is_what_was_last_compared_with_libero_pro_s_files() -> None:
    # As in test_standins.py: run the test below with LIBERO's own, then put the new value here.
    digest = hashlib.sha256()
    for name, standin in MADE.items():
        for element in ET.fromstring(object_xml(standin)).iter():
            touched = (element.get("contype"), element.get("conaffinity")) != ("0", "0")
            if element.tag in ("body", "joint", "inertial", "site") or (element.tag == "geom" and touched):
                facts = {key: value for key, value in element.attrib.items() if key != "rgba"}
                digest.update(f"{name} {element.tag} {sorted(facts.items())}\n".encode())
    assert digest.hexdigest()[:12] == "bc76bac8f04a"


@needs_real_assets
@pytest.mark.libero
@pytest.mark.parametrize("name", VARIANTS)
def test_physics_is_that_of_libero_pro_s_description_number_by_number(name: str) -> None:
    path = Path(REAL_ASSETS) / MADE[name].path
    if not path.is_file():
        pytest.skip(f"{REAL_ASSETS} holds LIBERO's own assets only; those of LIBERO-PRO are on the index")
    theirs, ours = physics(ET.parse(path).getroot()), physics(ET.fromstring(object_xml(MADE[name])))
    compared = (
        "body_parentid body_pos body_quat body_mass body_inertia body_ipos body_iquat "
        "jnt_type jnt_pos jnt_axis jnt_range dof_damping "
        "geom_type geom_bodyid geom_pos geom_quat geom_size geom_friction geom_solref geom_solimp "
        "geom_margin geom_condim geom_contype geom_conaffinity site_bodyid site_pos site_quat"
    )
    for field in compared.split():
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
