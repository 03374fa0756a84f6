"""Write the built-in stand-ins as an assets folder that LIBERO loads like its own.

LIBERO's meshes and textures come from a model hub. Without one, `write_standins` turns our own tables (one
module per family) into the same tree of descriptions, so that LIBERO's task files, predicates and
initial states work unchanged on any machine. Physics is identical (same bodies, joints, sites, collision
shapes and contacts); pixels are not.

The folder lies in the user's cache under a name that contains the hash of its content: a changed table makes
a new folder, an unchanged one is reused.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from gr00t.files.cached_folder import content_hash, differing, put_folder
from gr00t.libero.assets.standins.fixtures import FIXTURE_STANDINS
from gr00t.libero.assets.standins.groceries import GROCERY_STANDINS
from gr00t.libero.assets.standins.kitchenware import KITCHENWARE_STANDINS
from gr00t.libero.assets.standins.mjcf import object_xml, scene_xml
from gr00t.libero.assets.standins.mugs import MUG_STANDINS
from gr00t.libero.assets.standins.parts import Standin
from gr00t.libero.assets.standins.scenes import SCENES
from gr00t.libero.assets.standins.tableware import TABLEWARE_STANDINS
from gr00t.libero.assets.standins.textures import texture_files
from gr00t.libero.assets.standins.variants import variants
from gr00t.libero.tasks.perturbations import PERTURBATIONS, PERTURBED, perturbed, split_suite

logger = logging.getLogger(__name__)

STANDIN_SUITES = (
    *PERTURBED,
    "libero_object_prompts",
    *(perturbed(base, perturbation) for base in PERTURBED for perturbation in PERTURBATIONS),
)
STANDINS: tuple[Standin, ...] = (
    *GROCERY_STANDINS,
    *TABLEWARE_STANDINS,
    *KITCHENWARE_STANDINS,
    *MUG_STANDINS,
    *FIXTURE_STANDINS,
)


def write_standins(cache: Path, suite: str = "") -> Path:
    """Make sure the stand-in assets exist below `cache`.

    Args:
        cache: Folder of folders such as this one.
        suite: For which they are to be complete, where that is one with objects of other looks. The folder of
            all other suites does without these, lest its name change with them.

    Returns:
        The assets folder, complete.

    Raises:
        CacheError: if the cache cannot be written.
    """
    files = standin_files(has_variants=split_suite(suite)[1] == "object")
    target = cache / f"stand-ins-{fingerprint(files)}"
    wrong = differing(target, {name: content_hash(content) for name, content in files.items()})
    if wrong:
        if target.exists():
            logger.warning("%d stand-in asset files were damaged or gone, %s first", len(wrong), wrong[0])
        put_folder(target, files)
        logger.info("wrote %d stand-in asset files to %s", len(files), target)
    return target


def fingerprint(files: dict[str, bytes]) -> str:
    """Short hash of names and contents; it names the cache folder and appears in every record."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()[:12]


def standin_files(has_variants: bool = False) -> dict[str, bytes]:
    """Every file of the stand-in folder by its relative path, with LIBERO-PRO's objects if asked."""
    standins = (*STANDINS, *(variants(STANDINS) if has_variants else ()))
    files = {standin.path: object_xml(standin) for standin in standins}
    files.update({scene.path: scene_xml(scene) for scene in SCENES})
    files.update(texture_files())
    return files
