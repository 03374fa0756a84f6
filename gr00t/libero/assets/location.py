"""Where the simulator's meshes and textures come from, and what to say when there are none.

Order: a folder that the user names, the folder of an installed LIBERO, the model hub (cached or reachable),
the built-in stand-ins, which cover all suites but libero_90. Every run logs and records which one it used:
pixels differ between them, so success rates over different assets do not belong in one table.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gr00t.files.private_folder import CacheError, home_cache, private_folder, user_cache
from gr00t.libero.assets.required import required_files
from gr00t.libero.assets.standins.folder import STANDIN_SUITES, write_standins
from gr00t.libero.tasks.perturbations import listed
from gr00t.libero.tasks.suites import LiberoError, Suite

logger = logging.getLogger(__name__)

HUB_DATASET = "lerobot/libero-assets"
_PROBE_SECONDS = 5.0


class AssetsError(LiberoError):
    """No usable assets; the message lists what was tried and what would help."""


@dataclass(frozen=True)
class Assets:
    """An assets folder that was found complete for a suite.

    Attributes:
        kind: `folder`, `installed`, `hub` or `stand-ins`.
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


def hub_folder(environ: Mapping[str, str]) -> Path:
    """Where hf-libero keeps the assets that it downloads; for a user without a home, where ours would be."""
    try:
        cache = home_cache(environ)
    except CacheError:
        cache = user_cache(environ).parent
    return cache / "libero" / "assets"


def resolve_assets(
    suite: Suite, *, package: Path, environ: Mapping[str, str], choice: str = "auto"
) -> Assets:
    """Find assets that are complete for `suite`.

    Args:
        suite: The suite to be run.
        package: Folder of the installed `libero.libero`.
        environ: Looked at for LIBERO_ASSETS, HF_HUB_OFFLINE, HOME and XDG_CACHE_HOME.
        choice: `auto` (the order above), `stand-ins`, `hub`, or a folder, which then takes LIBERO_ASSETS'
            place.

    Raises:
        AssetsError: nothing usable, with what was tried.
    """
    if choice == "stand-ins":
        return _standins(suite, environ)
    if choice == "hub":
        return _hub(suite, environ)
    named, source = (
        (environ.get("LIBERO_ASSETS", ""), "LIBERO_ASSETS") if choice == "auto" else (choice, "--assets")
    )
    if named:
        return _folder(Path(named).expanduser(), suite, source)

    installed = package / "assets"
    if installed.is_dir() and not missing_files(installed, suite.name):
        return Assets("installed", installed, _fingerprint(installed, suite.name))
    try:
        return _hub(suite, environ)
    except AssetsError as error:
        if suite.name in STANDIN_SUITES:
            logger.info("%s", error)
            return _standins(suite, environ)
        raise AssetsError(
            f"no assets for {suite.name}: LIBERO_ASSETS is not set; {error}; the built-in stand-ins cover "
            f"only {listed(STANDIN_SUITES)}. Set LIBERO_ASSETS to a folder with LIBERO's assets (the one "
            f"that holds scenes/ and stable_scanned_objects/), or run where the hub can be reached."
        ) from None


def missing_files(folder: Path, suite: str) -> list[str]:
    """Files that `suite` needs and `folder` lacks: descriptions, and the meshes and textures they name."""
    missing: dict[str, None] = {}
    for name in required_files(suite):
        path = folder / name
        if not path.is_file():
            missing[name] = None
            continue
        for reference in _references(path):
            if not (path.parent / reference).is_file():
                missing[_relative(path.parent / reference, folder)] = None
    return list(missing)


def _references(description: Path) -> list[str]:
    """Files that a description names. Floor and wall textures are left out: LIBERO replaces them by style."""
    return [
        element.attrib["file"]
        for element in ET.parse(description).getroot().iter()
        if "file" in element.attrib and element.get("name") not in ("texplane", "tex-wall")
    ]


def _relative(path: Path, folder: Path) -> str:
    resolved, root = path.resolve(), folder.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else str(path)


def _fingerprint(folder: Path, suite: str) -> str:
    """Of every byte that a scene of the suite is made from: a flipped bit makes other assets of them."""
    digest = hashlib.sha256()
    for name in required_files(suite):
        digest.update((folder / name).read_bytes())
        for reference in _references(folder / name):
            content = hashlib.sha256(((folder / name).parent / reference).read_bytes()).hexdigest()
            digest.update(f"{reference} {content}\n".encode())
    return digest.hexdigest()[:12]


def _folder(folder: Path, suite: Suite, source: str) -> Assets:
    if not folder.is_dir():
        raise AssetsError(f"{source}={folder}: no such folder")
    inner = folder / "assets"
    if not (folder / "scenes").is_dir() and (inner / "scenes").is_dir():
        folder = inner
    missing = missing_files(folder, suite.name)
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise AssetsError(f"{source}={folder} is not complete for {suite.name}: missing {shown}")
    return Assets("folder", folder.resolve(), _fingerprint(folder, suite.name))


def _standins(suite: Suite, environ: Mapping[str, str]) -> Assets:
    if suite.name not in STANDIN_SUITES:
        raise AssetsError(f"the built-in stand-ins cover only {listed(STANDIN_SUITES)}, not {suite.name}")
    folder = write_standins(private_folder(environ, "libero", is_verified=True), suite.name)
    return Assets("stand-ins", folder, folder.name.removeprefix("stand-ins-"))


def _hub(suite: Suite, environ: Mapping[str, str]) -> Assets:
    """The assets as hf-libero itself would download them, into the folder that it uses too."""
    folder = hub_folder(environ)
    if folder.is_dir() and not missing_files(folder, suite.name):
        return Assets("hub", folder, _fingerprint(folder, suite.name))
    if importlib.util.find_spec("huggingface_hub") is None:
        raise AssetsError("the hub needs the huggingface_hub package, which is not installed")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE or environ.get("HF_HUB_OFFLINE", "") in ("1", "ON", "YES", "TRUE"):
        raise AssetsError(f"the hub is switched off (HF_HUB_OFFLINE) and {folder} holds no complete copy")
    unreachable = _probe(constants.ENDPOINT)
    if unreachable:
        raise AssetsError(f"the hub at {constants.ENDPOINT} cannot be reached ({unreachable})")
    logger.info("downloading LIBERO's assets from the hub (%s) to %s", HUB_DATASET, folder)
    # The bases of the hub's own error are those of its HTTP library, which also raises for a lost connection.
    bases = [base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)]
    failures: tuple[type[Exception], ...] = (OSError, HfHubHTTPError, *bases)
    try:
        snapshot_download(HUB_DATASET, repo_type="dataset", local_dir=folder, etag_timeout=_PROBE_SECONDS)
    except failures as error:
        raise AssetsError(f"the hub gave no {HUB_DATASET}: {error}") from error
    missing = missing_files(folder, suite.name)
    if missing:
        raise AssetsError(
            f"{HUB_DATASET} on the hub lacks {', '.join(missing[:5])}, which {suite.name} needs"
        )
    return Assets("hub", folder, _fingerprint(folder, suite.name))


def _probe(endpoint: str) -> str:
    """Why `endpoint` does not answer within seconds, or an empty string: a hub client retries for minutes."""
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # an answer, whatever it says, is a server that is there
    except OSError as error:
        return str(getattr(error, "reason", error))
    return ""
