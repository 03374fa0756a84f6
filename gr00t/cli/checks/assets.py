"""Which kinds of assets are on this machine, each with the suites that it is complete for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gr00t.cli.checks.check import Check, split_advice
from gr00t.files.private_folder import CacheError
from gr00t.libero.assets.completeness import fingerprint, what_is_wrong
from gr00t.libero.assets.hub import hub_folder
from gr00t.libero.assets.location import inner_folder, named_choice
from gr00t.libero.assets.packages import DOWNLOAD, SETUP, packages_folder, packages_problem
from gr00t.libero.assets.required import required_files
from gr00t.libero.assets.standins.folder import STANDIN_SUITES, standin_files
from gr00t.libero.assets.standins.folder import fingerprint as standins_fingerprint
from gr00t.libero.tasks.perturbations import listed, split_suite
from gr00t.libero.tasks.suites import SUITES, libero_package
from gr00t.libero.wheels import LIBERO_PRO, kept_wheel


@dataclass(frozen=True)
class AssetsSource:
    """What an evaluation of a suite would draw.

    Attributes:
        kind: `LIBERO_ASSETS`, or as `Assets.kind`.
        fingerprint: Short hash of the files that the suite uses.
    """

    kind: str
    fingerprint: str

    def __str__(self) -> str:
        """As the verdict tells it."""
        return f"{self.kind} {self.fingerprint}"


def check_assets(environ: Mapping[str, str]) -> tuple[list[Check], dict[str, AssetsSource]]:
    """Look for every kind, and for the one that each suite would use without downloading."""
    named = named_choice("auto", environ)[0]
    if named not in ("auto", "packages", "hub", "stand-ins"):
        # A folder that is named is used or refused: nothing takes its place.
        check, sources = _look_into("LIBERO_ASSETS", inner_folder(Path(named).expanduser()))
        if not sources:
            check = replace(check, needed=True, next="unset LIBERO_ASSETS")
        return [check], sources
    found = [_packages(), _look_into("installed", libero_package() / "assets"), _hub(environ), _standins()]
    usable = [sources for check, sources in found if named in ("auto", check.name.removeprefix("assets: "))]
    first = {name: source for sources in reversed(usable) for name, source in sources.items()}
    return [check for check, _ in found], {name: first[name] for name in SUITES if name in first}


def check_libero_pro(environ: Mapping[str, str]) -> Check:
    """Whether the task files of the perturbed suites are here already."""
    try:
        path = kept_wheel(LIBERO_PRO, environ)
    except CacheError as error:
        return Check("LIBERO-PRO", "missing", str(error))
    if path is None:
        told = f"its tasks are fetched by the first run that plays them ({LIBERO_PRO.size / 1e6:.1f} MB)"
        return Check("LIBERO-PRO", "missing", told)
    return Check("LIBERO-PRO", "ok", f"tasks and initial states in {path}")


def _packages() -> tuple[Check, dict[str, AssetsSource]]:
    folder = packages_folder()
    wrong = packages_problem(next(iter(SUITES)))
    if folder is None or wrong:
        told, command = split_advice(ValueError(wrong))
        return Check("assets: packages", "missing", f"{told} ({DOWNLOAD} to download)", command or SETUP), {}
    return _look_into("packages", folder)


def _hub(environ: Mapping[str, str]) -> tuple[Check, dict[str, AssetsSource]]:
    try:
        return _look_into("hub", hub_folder(environ))
    except CacheError as error:
        return Check("assets: hub", "missing", str(error)), {}


def _standins() -> tuple[Check, dict[str, AssetsSource]]:
    # The objects of other looks are in a folder of their own.
    files = {has_variants: standin_files(has_variants) for has_variants in (False, True)}
    hashed = {which: standins_fingerprint(found) for which, found in files.items()}
    size = sum(map(len, files[True].values()))
    told = f"built in, {_megabytes(size)}: complete for {listed(STANDIN_SUITES)}"
    return Check("assets: stand-ins", "ok", told), {
        suite: AssetsSource("stand-ins", hashed[split_suite(suite)[1] == "object"])
        for suite in STANDIN_SUITES
    }


def _look_into(kind: str, folder: Path) -> tuple[Check, dict[str, AssetsSource]]:
    """What `folder` holds, and the suites that it is complete for."""
    name = f"assets: {kind}"
    if not folder.is_dir():
        return Check(name, "missing", f"{folder}: no such folder"), {}
    wrong = {suite: what_is_wrong(folder, suite) for suite in SUITES}
    complete = [suite for suite, found in wrong.items() if not found]
    if not complete:
        return Check(name, "missing", f"{folder} {next(iter(wrong.values()))}"), {}
    told = f"{folder}, {_megabytes(_size(folder))}: complete for {listed(complete)}"
    # Several suites are made from the same files.
    hashed = {required_files(suite): suite for suite in complete}
    hashes = {required: fingerprint(folder, suite) for required, suite in hashed.items()}
    return Check(name, "ok", told), {
        suite: AssetsSource(kind, hashes[required_files(suite)]) for suite in complete
    }


def _size(folder: Path) -> int:
    """What the files of a folder take, in bytes."""
    return sum(
        os.stat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
