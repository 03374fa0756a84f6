"""LIBERO's assets on the model hub, as hf-libero itself downloads them, in the folder that it uses too."""

from __future__ import annotations

import importlib.util
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from gr00t.files.private_folder import CacheError, home_cache, user_cache
from gr00t.libero.assets.completeness import AssetsError

logger = logging.getLogger(__name__)

HUB_DATASET = "lerobot/libero-assets"
_PROBE_SECONDS = 5.0


def hub_folder(environ: Mapping[str, str]) -> Path:
    """Where hf-libero keeps the assets that it downloads; for a user without a home, where ours would be."""
    try:
        cache = home_cache(environ)
    except CacheError:
        cache = user_cache(environ).parent
    return cache / "libero" / "assets"


def is_switched_off(environ: Mapping[str, str]) -> bool:
    """Whether the user wants nothing from the hub."""
    return environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def download_from_hub(folder: Path, environ: Mapping[str, str]) -> None:
    """Download the assets from the hub to `folder`.

    Raises:
        AssetsError: the hub is switched off, cannot be reached, or does not have them.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise AssetsError("the hub needs the huggingface_hub package, which is not installed")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE or is_switched_off(environ):
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
